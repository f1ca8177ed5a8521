//! The text as other readers see it.

use super::*;
use crate::cdi::spec::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, NetDevice};

/// A spec that fills every field.
fn full() -> Spec {
    let edits = ContainerEdits {
        env: vec!["A=B".into()],
        device_nodes: vec![DeviceNode {
            path: "/dev/a".into(),
            host_path: "/dev/b".into(),
            node_type: "c".into(),
            major: 195,
            minor: 255,
            file_mode: Some(0o666),
            permissions: "rw".into(),
            uid: Some(0),
            gid: Some(44),
        }],
        net_devices: vec![NetDevice { host_interface_name: "eth0".into(), name: "on".into() }],
        hooks: vec![Hook {
            hook_name: "createContainer".into(),
            path: "/hook".into(),
            args: vec!["hook".into(), "1:0".into()],
            env: vec!["LC_ALL=C".into()],
            timeout: Some(10),
        }],
        mounts: vec![Mount {
            host_path: "/a b".into(),
            container_path: "/c".into(),
            options: vec!["ro".into(), "bind".into()],
            mount_type: "bind".into(),
        }],
        intel_rdt: Some(IntelRdt {
            clos_id: "x".into(),
            l3_cache_schema: "L3:0=1".into(),
            mem_bw_schema: "MB:0=1".into(),
            schemata: Some(vec!["L2:0=1".into()]),
            enable_monitoring: true,
        }),
        additional_gids: vec![0, 44],
    };
    let note = std::collections::BTreeMap::from([("k".to_owned(), "no".to_owned())]);
    Spec {
        version: "1.1.0".into(),
        kind: "v.com/c".into(),
        annotations: note.clone(),
        devices: vec![Device { name: "0".into(), annotations: note, container_edits: edits.clone() }],
        container_edits: edits,
    }
}

const EDITS: &str = r#"
env:
- A=B
deviceNodes:
- path: /dev/a
  hostPath: /dev/b
  type: c
  major: 195
  minor: 255
  fileMode: 438
  permissions: rw
  uid: 0
  gid: 44
netDevices:
- hostInterfaceName: eth0
  name: "on"
hooks:
- hookName: createContainer
  path: /hook
  args:
  - hook
  - "1:0"
  env:
  - LC_ALL=C
  timeout: 10
mounts:
- hostPath: /a b
  containerPath: /c
  options:
  - ro
  - bind
  type: bind
intelRdt:
  closID: x
  l3CacheSchema: L3:0=1
  memBwSchema: MB:0=1
  schemata:
  - L2:0=1
  enableMonitoring: true
additionalGids:
- 0
- 44
"#;

#[test]
fn every_field_is_written_by_its_name_in_the_specifications_order() {
    let indent = |by: &str| EDITS.trim().lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    let expected = format!(
        "cdiVersion: \"1.1.0\"\nkind: v.com/c\nannotations:\n  k: \"no\"\ndevices:\n- name: \"0\"\n  \
         annotations:\n    k: \"no\"\n  containerEdits:\n{}containerEdits:\n{}",
        indent("    "),
        indent("  ")
    );
    assert_eq!(to_string(&full()).unwrap(), expected);
}

#[test]
fn names_that_yaml_1_1_reads_as_something_else_are_quoted() {
    let tricky = [
        "on",
        "off",
        "yes",
        "no",
        "y",
        "n",
        "Y",
        "N",
        "true",
        "false",
        "null",
        "NULL",
        "0",
        "00",
        "010",
        "0o10",
        "0x10",
        "0b1",
        "1_0",
        "1e3",
        "1E3",
        "1.50",
        "1.",
        "1:0",
        "190:20:30",
        "2001-12-14",
        "0.5.0",
        "1e1000",
        "0:1",
    ];
    for name in tricky {
        let device = Device { name: name.to_owned(), ..Device::default() };
        let spec = Spec { devices: vec![device], ..Spec::default() };
        let text = to_string(&spec).unwrap();
        let line = text.lines().find(|line| line.starts_with("- name:")).unwrap();
        let quoted = line == format!("- name: \"{name}\"");
        // `0:1` is a string to every reader: a base-60 number starts with another digit.
        assert!(quoted || name == "0:1", "{line}");
    }
}

#[test]
fn long_and_odd_strings_stay_on_one_line() {
    let env =
        vec![format!("LONG={}", "a b ".repeat(60)), "LINES=a\nb\n\n".to_owned(), "TAB=\t#: ".to_owned()];
    let edits = ContainerEdits { env, ..ContainerEdits::default() };
    let spec = Spec { container_edits: edits, ..Spec::default() };
    assert_eq!(to_string(&spec).unwrap().lines().count(), 8);
}
