//! A container's config of any bytes, as precreate reads it: what it asks for is of kinds that it may ask for,
//! and what is put into it is all of that or nothing.
//!
//! What is no JSON is taken as lines: `@KEY VALUE` an annotation, all others variables, since bytes at random would
//! hardly ever get to a variable that counts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libgpuspec::Root;
use libgpuspec::cdi::{ContainerEdits, DeviceNode, Hook, Mount, QualifiedName};
use libgpuspec::render::oci;
use libgpuspec::request::{self, Fact, Facts, Rules};
use serde_json::{Map, Value, json};

const KINDS: [&str; 3] = ["nvidia.com/gpu", "amd.com/gpu", "v.com/c"];

fuzz_target!(|bytes: &[u8]| {
    let Some(mut config) = serde_json::from_slice(bytes).ok().or_else(|| of_lines(bytes)) else { return };
    let kinds: Vec<String> = KINDS.map(str::to_owned).to_vec();
    let rules = Rules { devices: Vec::new(), annotations: kinds.clone(), environment: kinds, ..Rules::default() };
    if let Ok((request, _)) = request::read(&rules, &config) {
        for device in &request.devices {
            let name: QualifiedName = device.parse().expect("a device");
            assert!(KINDS.contains(&name.kind()), "{device}");
        }
        for (name, value) in &request.conditions {
            let _ = request::check(name, value, &facts());
        }
    }
    let before = config.clone();
    let root = Root::open("/".into()).expect("a root");
    match oci::inject(&mut config, &edits(), &root) {
        Ok(()) => {
            let has = |pointer: &str| {
                config.pointer(pointer).and_then(Value::as_array).is_some_and(|it| !it.is_empty())
            };
            let all = [
                "/process/env",
                "/linux/devices",
                "/mounts",
                "/hooks/createContainer",
                "/process/user/additionalGids",
            ];
            assert!(all.into_iter().all(has), "{config}");
        }
        Err(_) => assert_eq!(config, before),
    }
});

fn of_lines(bytes: &[u8]) -> Option<Value> {
    let (mut annotations, mut env) = (Map::new(), Vec::new());
    for line in str::from_utf8(bytes).ok()?.lines() {
        match line.strip_prefix('@').and_then(|line| line.split_once(' ')) {
            Some((key, value)) => drop(annotations.insert(format!("cdi.k8s.io/{key}"), value.into())),
            None => env.push(Value::from(line)),
        }
    }
    Some(json!({"annotations": annotations, "process": {"env": env}}))
}

fn facts() -> Facts {
    let values = |text: &str| Fact::Values(vec![text.to_owned()]);
    Facts {
        driver: values("550.163.01"),
        cuda: Fact::AtLeast("12.4".to_owned()),
        arch: values("8.6"),
        brand: Fact::Unknown("not told".to_owned()),
    }
}

fn edits() -> ContainerEdits {
    let node = DeviceNode {
        path: "/dev/x0".to_owned(),
        node_type: "c".to_owned(),
        major: 195,
        ..DeviceNode::default()
    };
    let mount = Mount { host_path: "/x".to_owned(), container_path: "/y".to_owned(), ..Mount::default() };
    let hook = Hook { hook_name: "createContainer".to_owned(), path: "/hook".to_owned(), ..Hook::default() };
    ContainerEdits {
        env: vec!["A=B".to_owned()],
        device_nodes: vec![node],
        mounts: vec![mount],
        hooks: vec![hook],
        additional_gids: vec![44],
        ..ContainerEdits::default()
    }
}
