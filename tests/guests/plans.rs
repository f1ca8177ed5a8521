//! What a driver's spec becomes for each machine: the reference host's for all, and single questions by value.

use expect_test::expect_file;
use libgpuspec::apply::{DeviceFiles, Profile, Request};
use libgpuspec::cdi::{self, ContainerEdits, Hook};
use libgpuspec::nspawn::{Content, Guest, Options, Preparation, Refused, RootKind, Sources, Wanted, plan};

use crate::tree::Tree;
use crate::{inspect, machine};

/// What the reference host has besides its driver.
const MORE: &str = r#"
    etc/group                   "root:x:0:\nvideo:x:44:\nrender:x:105:\n"
    proc/driver/nvidia/params   "ResmanDebugLevel: 1\nModifyDeviceFiles: 1\n""#;

/// The reference host's devices on this machine.
fn prepared(guest: &Guest, options: &Options) -> Preparation {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(checkout.join("tests/hosts/debian.tree")).unwrap();
    let host = Tree::build(&format!("{page}\n{MORE}"));
    let text = std::fs::read_to_string(checkout.join("specs/nvidia-debian.yaml")).unwrap();
    let spec = cdi::read(text.as_bytes()).unwrap();
    let mut edits = spec.container_edits.clone();
    edits.append(&spec.devices.iter().find(|device| device.name == "all").unwrap().container_edits);
    given(&host, &edits, guest, options).unwrap()
}

fn given(
    host: &Tree,
    edits: &ContainerEdits,
    guest: &Guest,
    options: &Options,
) -> Result<Preparation, Refused> {
    let (sources, notices) = Sources::read(&host.host().dev, edits);
    assert_eq!(notices, Vec::new());
    let requests: Vec<Request> = edits.hooks.iter().map(meaning).collect();
    let wanted = Wanted { edits, requests: &requests, unknown_hooks: &[], sources: &sources };
    plan::plan(&wanted, guest, options)
}

/// What a hook of ours is told to do.
fn meaning(hook: &Hook) -> Request {
    let mut request = Request::default();
    for pair in hook.args.windows(2) {
        match pair[0].as_str() {
            "--link" => request.links.push(pair[1].parse().unwrap()),
            "--device-link" => request.device_links.push(pair[1].parse().unwrap()),
            "--libraries" => request.libraries.push(pair[1].parse().unwrap()),
            _ => {}
        }
    }
    if hook.args.iter().any(|word| word == "--hide-device-files") {
        request.device_files = DeviceFiles::Hide;
    }
    if hook.args.iter().any(|word| word == "--application-profile") {
        request.profile = Profile::Write;
    }
    request
}

/// A preparation on one page.
fn page(preparation: &Preparation) -> String {
    let mut page = String::new();
    for entry in &preparation.tree {
        let content = match &entry.content {
            Content::File(source) => format!("<- {source}"),
            Content::Directory(source) => format!("<= {source}"),
            Content::Link(text) => format!("-> {text}"),
            Content::Text(text) => format!("{text:?}"),
        };
        page.push_str(&format!("{} {content}\n", entry.at));
    }
    page.push_str(&format!("\n{:#?}\n\n", preparation.loader));
    preparation.nodes.iter().for_each(|node| page.push_str(&format!("{node:?}\n")));
    preparation.binds.iter().for_each(|bind| page.push_str(&format!("{bind:?}\n")));
    preparation.environment.iter().for_each(|(name, value)| page.push_str(&format!("{name}={value}\n")));
    preparation.notices.iter().for_each(|notice| page.push_str(&format!("notice: {notice}\n")));
    page
}

#[test]
fn the_reference_host_gives_each_machine_what_is_listed() {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cases = [
        ("debian", RootKind::Directory, false),
        ("split", RootKind::ReadOnly, true),
        ("fedora", RootKind::Volatile, true),
        ("arch", RootKind::Directory, true),
        ("nixos", RootKind::Directory, false),
        ("alpine", RootKind::Directory, false),
    ];
    for (name, root, user_namespace) in cases {
        let (guest, _) = inspect(&machine(name));
        let preparation = prepared(&guest, &Options { root, user_namespace, ..Options::default() });
        expect_file![checkout.join(format!("tests/machines/{name}.txt"))].assert_eq(&page(&preparation));
    }
}
