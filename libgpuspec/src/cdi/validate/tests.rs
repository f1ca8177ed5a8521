//! Every validation rule by name, over values; documents are judged in `read`'s tests.

use super::*;
use crate::cdi::name::PartError;

/// A valid spec that each case breaks in one place.
fn spec() -> Spec {
    let container_edits = ContainerEdits { env: vec!["A=B".into()], ..Default::default() };
    let device = Device { name: "a".into(), container_edits, ..Default::default() };
    Spec { version: "1.1.0".into(), kind: "v.com/c".into(), devices: vec![device], ..Default::default() }
}

fn found(change: impl Fn(&mut Spec)) -> Vec<(String, Problem)> {
    let mut spec = spec();
    change(&mut spec);
    validate(&spec).into_iter().map(|it| (it.path.to_string(), it.problem)).collect()
}

/// What is found when the same edits stand in the device, paths given below its edits.
fn found_in(change: impl Fn(&mut ContainerEdits)) -> Vec<(String, Problem)> {
    let top = found(|spec| change(&mut spec.container_edits));
    let device = found(|spec| change(&mut spec.devices[0].container_edits));
    let below = |found: &[(String, Problem)], prefix: &str| -> Vec<(String, Problem)> {
        let strip = |path: &str| path.strip_prefix(prefix).expect("a path below the edits").to_owned();
        found.iter().map(|(path, problem)| (strip(path), problem.clone())).collect()
    };
    let top = below(&top, "containerEdits.");
    assert_eq!(top, below(&device, "devices[0].containerEdits."));
    top
}

fn one(path: &str, problem: Problem) -> Vec<(String, Problem)> {
    vec![(path.to_owned(), problem)]
}

#[test]
fn the_version_must_be_known() {
    assert_eq!(found(|_| {}), vec![]);
    assert_eq!(found(|spec| spec.version = "v1.1.0".into()), vec![]);
    assert_eq!(found(|spec| spec.version.clear()), one("cdiVersion", Problem::Missing));
    let unknown = Problem::Version(crate::cdi::UnknownVersion("1.2.0".into()));
    assert_eq!(found(|spec| spec.version = "1.2.0".into()), one("cdiVersion", unknown));
}

#[test]
fn the_version_must_suffice_for_the_content() {
    let low = |declared, needed| Problem::VersionTooLow { declared, needed };
    for old in [Version::V0_1_0, Version::V0_2_0] {
        let problem = low(old, Version::V0_3_0);
        assert_eq!(found(|spec| spec.version = old.to_string()), one("cdiVersion", problem));
    }
    let digit = |spec: &mut Spec| {
        spec.version = "0.4.0".into();
        spec.devices[0].name = "0".into();
    };
    assert_eq!(found(digit), one("devices[0].name", low(Version::V0_4_0, Version::V0_5_0)));
}

#[test]
fn the_kind_is_vendor_slash_class() {
    for kind in ["v.com", "/c", "v.com/", "/"] {
        assert_eq!(found(|spec| spec.kind = kind.into()), one("kind", Problem::Kind(kind.into())), "{kind}");
    }
    assert_eq!(found(|spec| spec.kind.clear()), one("kind", Problem::Missing));
    let digit = Problem::Vendor("3dfx.com".into(), PartError::Start('3', "a letter"));
    assert_eq!(found(|spec| spec.kind = "3dfx.com/c".into()), one("kind", digit));
    let class = Problem::Class("c/d".into(), PartError::Inside('/'));
    assert_eq!(found(|spec| spec.kind = "v.com/c/d".into()), one("kind", class));
    for kind in ["v/c", "a..b/c", "UP/Case", "nodot/c.d"] {
        assert_eq!(found(|spec| spec.kind = kind.into()), vec![], "{kind}");
    }
}

#[test]
fn annotations_are_not_judged_on_loading() {
    let odd = || std::collections::BTreeMap::from([("no good key!".to_owned(), String::new())]);
    assert_eq!(found(|spec| spec.annotations = odd()), vec![]);
    assert_eq!(found(|spec| spec.devices[0].annotations = odd()), vec![]);
}

#[test]
fn a_spec_has_devices_with_edits_and_names_of_their_own() {
    assert_eq!(found(|spec| spec.devices.clear()), one("devices", Problem::NoDevices));
    let twice = |spec: &mut Spec| spec.devices.push(spec.devices[0].clone());
    assert_eq!(found(twice), one("devices[1].name", Problem::DuplicateDevice("a".into())));
    let empty = |spec: &mut Spec| spec.devices[0].container_edits.env.clear();
    assert_eq!(found(empty), one("devices[0].containerEdits", Problem::NoEdits));
    let rdt = |spec: &mut Spec| {
        empty(spec);
        spec.devices[0].container_edits.intel_rdt = Some(IntelRdt::default());
    };
    assert_eq!(found(rdt), vec![]);
    let name = Problem::DeviceName("a_".into(), PartError::End('_'));
    assert_eq!(found(|spec| spec.devices[0].name = "a_".into()), one("devices[0].name", name));
}

#[test]
fn env_has_a_name_before_its_equals_and_no_other_rule() {
    for entry in ["", "A", "=B", "="] {
        let wrong = one("env[0]", Problem::Env(entry.into()));
        assert_eq!(found_in(|edits| edits.env = vec![entry.into()]), wrong, "{entry:?}");
        let hook = Hook {
            hook_name: "poststop".into(),
            path: "/h".into(),
            env: vec![entry.into()],
            ..Default::default()
        };
        let wrong = one("hooks[0].env[0]", Problem::Env(entry.into()));
        assert_eq!(found_in(|edits| edits.hooks = vec![hook.clone()]), wrong, "{entry:?}");
    }
    for entry in ["A=", "A=B=C", "A B=\n", "\0=\0", "é=è"] {
        assert_eq!(found_in(|edits| edits.env = vec![entry.into()]), vec![], "{entry:?}");
    }
}

#[test]
fn device_nodes_have_a_path_a_type_and_permissions() {
    let node = |change: fn(&mut DeviceNode)| {
        let mut node = DeviceNode { path: "relative".into(), ..Default::default() };
        change(&mut node);
        found_in(|edits| edits.device_nodes = vec![node.clone()])
    };
    assert_eq!(node(|_| {}), vec![]);
    assert_eq!(node(|node| node.path.clear()), one("deviceNodes[0].path", Problem::Missing));
    for good in ["", "b", "c", "u", "p"] {
        let nodes = DeviceNode { path: "/a".into(), node_type: good.into(), ..Default::default() };
        assert_eq!(found_in(|edits| edits.device_nodes = vec![nodes.clone()]), vec![], "{good}");
    }
    for bad in ["C", "cc", "bc", " ", "f"] {
        let nodes = DeviceNode { path: "/a".into(), node_type: bad.into(), ..Default::default() };
        let wrong = one("deviceNodes[0].type", Problem::NodeType(bad.into()));
        assert_eq!(found_in(|edits| edits.device_nodes = vec![nodes.clone()]), wrong, "{bad}");
    }
    for good in ["", "r", "rwm", "mwr", "rrr", "none"] {
        let nodes = DeviceNode { path: "/a".into(), permissions: good.into(), ..Default::default() };
        assert_eq!(found_in(|edits| edits.device_nodes = vec![nodes.clone()]), vec![], "{good}");
    }
    for bad in ["x", "rwx", "None", "none ", "rnone", "R"] {
        let nodes = DeviceNode { path: "/a".into(), permissions: bad.into(), ..Default::default() };
        let wrong = one("deviceNodes[0].permissions", Problem::Permissions(bad.into()));
        assert_eq!(found_in(|edits| edits.device_nodes = vec![nodes.clone()]), wrong, "{bad}");
    }
    // Neither signs nor sizes of the numbers have a rule.
    assert_eq!(node(|node| (node.major, node.minor) = (-1, i64::MAX)), vec![]);
}

#[test]
fn hooks_have_a_known_name_and_a_path() {
    for name in HOOK_NAMES {
        let hook = Hook { hook_name: name.into(), path: "h".into(), timeout: Some(-1), ..Default::default() };
        assert_eq!(found_in(|edits| edits.hooks = vec![hook.clone()]), vec![], "{name}");
    }
    for name in ["", "Prestart", "createcontainer", "poststop "] {
        let hook = Hook { hook_name: name.into(), path: "/h".into(), ..Default::default() };
        let wrong = one("hooks[0].hookName", Problem::HookName(name.into()));
        assert_eq!(found_in(|edits| edits.hooks = vec![hook.clone()]), wrong, "{name:?}");
    }
    let pathless = Hook { hook_name: "prestart".into(), ..Default::default() };
    let wrong = one("hooks[0].path", Problem::Missing);
    assert_eq!(found_in(|edits| edits.hooks = vec![pathless.clone()]), wrong);
}

#[test]
fn mounts_have_two_paths_and_no_other_rule() {
    let mount = Mount {
        host_path: "a".into(),
        container_path: "b".into(),
        options: vec!["".into()],
        mount_type: "odd".into(),
    };
    assert_eq!(found_in(|edits| edits.mounts = vec![mount.clone(), mount.clone()]), vec![]);
    let both = vec![
        ("mounts[0].hostPath".to_owned(), Problem::Missing),
        ("mounts[0].containerPath".to_owned(), Problem::Missing),
    ];
    assert_eq!(found_in(|edits| edits.mounts = vec![Mount::default()]), both);
}

#[test]
fn a_class_of_service_is_a_directory_name() {
    let rdt = |id: &str| {
        let rdt = IntelRdt { clos_id: id.into(), ..Default::default() };
        found_in(|edits| edits.intel_rdt = Some(rdt.clone()))
    };
    for good in ["", "/", "a", "...", "a b", &"x".repeat(4095)] {
        assert_eq!(rdt(good), vec![], "{good:?}");
    }
    for bad in [".", "..", "a/b", "//", "/a", "a\n", &"x".repeat(4096)] {
        assert_eq!(rdt(bad), one("intelRdt.closID", Problem::ClosId(bad.into())), "{bad:?}");
    }
}

#[test]
fn net_devices_have_two_names_unique_within_one_set_of_edits() {
    let net = |host: &str, name: &str| NetDevice { host_interface_name: host.into(), name: name.into() };
    let pair = |one: NetDevice, two: NetDevice| {
        found_in(move |edits| edits.net_devices = vec![one.clone(), two.clone()])
    };
    assert_eq!(pair(net("a", "b"), net("b", "a")), vec![]);
    let host = one("netDevices[1].hostInterfaceName", Problem::DuplicateNetDevice("a".into()));
    assert_eq!(pair(net("a", "b"), net("a", "c")), host);
    let name = one("netDevices[1].name", Problem::DuplicateNetDevice("b".into()));
    assert_eq!(pair(net("a", "b"), net("c", "b")), name);
    let missing = vec![
        ("netDevices[0].hostInterfaceName".to_owned(), Problem::Missing),
        ("netDevices[0].name".to_owned(), Problem::Missing),
    ];
    assert_eq!(pair(net("", ""), net("a", "b")), missing);
    let across = |spec: &mut Spec| {
        spec.container_edits.net_devices = vec![net("a", "b")];
        spec.devices[0].container_edits.net_devices = vec![net("a", "b")];
    };
    assert_eq!(found(across), vec![]);
}

#[test]
fn all_violations_are_found_at_once() {
    let wrong = |spec: &mut Spec| {
        spec.version = "9".into();
        spec.kind = "x".into();
        spec.devices.clear();
        spec.container_edits.env = vec!["".into()];
    };
    let paths: Vec<String> = found(wrong).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["cdiVersion", "kind", "containerEdits.env[0]", "devices"]);
}

#[test]
fn one_letter_vendors_and_classes_are_read_but_not_written() {
    let mut spec = spec();
    assert_eq!(validate_to_write(&spec).len(), 1, "the class of v.com/c");
    spec.kind = "v/c".into();
    assert_eq!(validate(&spec), vec![]);
    assert_eq!(validate_to_write(&spec).len(), 2);
    spec.kind = "vv/cc".into();
    assert_eq!(validate_to_write(&spec), vec![]);
}

#[test]
fn annotations_are_judged_on_writing() {
    let mut spec = spec();
    spec.kind = "vv/cc".into();
    spec.annotations.insert("no good key!".into(), String::new());
    spec.devices[0].annotations.insert("v.com/fine".into(), String::new());
    let found = validate_to_write(&spec);
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0].problem, Problem::Annotations(_)));
    assert_eq!(found[0].path.to_string(), "annotations");
}
