//! Each step of the injection, held against what the Go library makes of the same config.

use std::collections::BTreeMap;

use super::*;
use crate::root::{Entry, Kind};

fn host() -> Root {
    let entry = |major, minor| Entry {
        kind: Kind::CharDevice,
        mode: 0o666,
        uid: 0,
        gid: 0,
        size: 0,
        major,
        minor,
        identity: (0, 0),
    };
    let nodes = BTreeMap::from([("/dev/null".into(), entry(1, 3)), ("/dev/zero".into(), entry(1, 5))]);
    Root::open("/".into()).unwrap().with_recorded_nodes(nodes)
}

/// The config after these edits, given as the flow text of a spec's `containerEdits`.
fn injected(config: &Value, edits: &str) -> Value {
    let mut config = config.clone();
    inject(&mut config, &parsed(edits), &host()).unwrap();
    config
}

fn parsed(edits: &str) -> ContainerEdits {
    let text = format!(
        "cdiVersion: 1.1.0\nkind: v.com/cc\ndevices: [{{name: d, containerEdits: {{env: [A=B]}}}}]\n\
                 containerEdits: {{{edits}}}\n"
    );
    crate::cdi::read(text.as_bytes()).unwrap().container_edits
}

/// A config with fields at every level that nobody knows.
fn foreign() -> Value {
    json!({
        "ociVersion": "1.0.2", "futureTop": {"a": [1, 2.5, null]},
        "process": {"user": {"uid": 0, "gid": 0, "future": 1}, "env": ["PATH=/bin"], "cwd": "/", "future": 1},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "future": true}],
        "hooks": {"prestart": [{"path": "/old", "future": 1}], "futureHook": []},
        "linux": {
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1, "future": 1}],
            "resources": {"devices": [{"allow": false, "access": "rwm", "future": 1}], "future": 18446744073709551615_u64},
            "future": 1
        },
        "annotations": {"x": "y"}
    })
}

#[test]
fn no_edits_change_nothing() {
    for config in [json!({}), json!({"ociVersion": "1.0.2"}), foreign()] {
        let text = serde_json::to_string(&config).unwrap();
        let same = injected(&config, "");
        assert_eq!(serde_json::to_string(&same).unwrap(), text, "order included");
    }
}

#[test]
fn foreign_fields_stay_at_every_level() {
    let edits = "env: [A=1], deviceNodes: [{path: /dev/null}], mounts: [{hostPath: /h, containerPath: /c}], \
                 hooks: [{hookName: prestart, path: /h}], additionalGids: [5], intelRdt: {closID: x}, \
                 netDevices: [{hostInterfaceName: e0, name: e1}]";
    let mut after = injected(&foreign(), edits);
    let pop = |value: &mut Value, pointer: &str| {
        value.pointer_mut(pointer).unwrap().as_array_mut().unwrap().pop().unwrap()
    };
    for pointer in
        ["/process/env", "/linux/devices", "/linux/resources/devices", "/mounts", "/hooks/prestart"]
    {
        pop(&mut after, pointer);
    }
    after["process"]["user"].as_object_mut().unwrap().remove("additionalGids").unwrap();
    after["linux"].as_object_mut().unwrap().remove("intelRdt").unwrap();
    after["linux"].as_object_mut().unwrap().remove("netDevices").unwrap();
    assert_eq!(after, foreign(), "only our additions differ");
}

#[test]
fn env_replaces_the_last_of_its_name_in_place() {
    let config = json!({"process": {"env": ["PATH=/bin", "A=1", "B", "A=2", "AA=1"]}});
    let after = injected(&config, "env: [A=3, C=1, A=4, B=5]");
    assert_eq!(after, json!({"process": {"env": ["PATH=/bin", "A=1", "B=5", "A=4", "AA=1", "C=1"]}}));
    assert_eq!(injected(&json!({}), "env: [A=1, A=2]"), json!({"process": {"env": ["A=2"]}}));
    assert_eq!(
        injected(&json!({"process": {"env": null}}), "env: [A=1]"),
        json!({"process": {"env": ["A=1"]}})
    );
}

#[test]
fn device_nodes_replace_the_one_of_their_path_and_are_allowed() {
    let devices = json!([
        {"path": "/dev/null", "type": "c", "major": 9, "minor": 9},
        {"path": "/dev/x", "type": "c", "major": 1, "minor": 1}
    ]);
    let after = injected(&json!({"linux": {"devices": devices}}), "deviceNodes: [{path: /dev/null}]");
    let expected = json!({"linux": {
        "devices": [
            {"path": "/dev/x", "type": "c", "major": 1, "minor": 1},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438}
        ],
        "resources": {"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]}
    }});
    assert_eq!(after, expected);
}

#[test]
fn of_two_devices_of_one_path_the_second_is_replaced_in_place() {
    let device = |path: &str, major: i64| json!({"path": path, "major": major});
    let config =
        json!({"linux": {"devices": [device("/a", 1), device("/b", 1), device("/a", 2), device("/c", 1)]}});
    let after = injected(&config, "deviceNodes: [{path: /a, type: p}]");
    let paths: Vec<&str> = after["linux"]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|device| text(device, "path").unwrap())
        .collect();
    assert_eq!(paths, ["/b", "/a", "/c"]);
    assert_eq!(after["linux"]["devices"][1], json!({"path": "/a", "type": "p", "major": 0, "minor": 0}));
}

#[test]
fn cgroup_rules_are_for_block_and_character_devices_and_never_deduplicated() {
    let edits = "deviceNodes: [{path: /a, type: c, major: 1, permissions: r}, {path: /b, type: b, major: 2}, \
                 {path: /c, type: p}, {path: /d, type: u, major: 3}, {path: /e, type: c, major: 4, permissions: none}, \
                 {path: /a, type: c, major: 1, permissions: r}]";
    let after = injected(&json!({}), edits);
    let expected = json!([
        {"allow": true, "type": "c", "major": 1, "minor": 0, "access": "r"},
        {"allow": true, "type": "b", "major": 2, "minor": 0, "access": "rwm"},
        {"allow": true, "type": "c", "major": 4, "minor": 0},
        {"allow": true, "type": "c", "major": 1, "minor": 0, "access": "r"}
    ]);
    assert_eq!(after["linux"]["resources"]["devices"], expected);
    assert_eq!(after["linux"]["devices"].as_array().unwrap().len(), 5);
}

#[test]
fn nodes_belong_to_the_containers_user_unless_they_say_otherwise() {
    let nodes = "deviceNodes: [{path: /a, type: p}, {path: /b, type: p, uid: 0, gid: 7}]";
    let owners = |user: Value| {
        let after = injected(&json!({"process": {"user": user}}), nodes);
        let devices = after["linux"]["devices"].as_array().unwrap().clone();
        devices.iter().map(|it| (it["uid"].as_u64(), it["gid"].as_u64())).collect::<Vec<_>>()
    };
    assert_eq!(owners(json!({"uid": 1000, "gid": 5})), [(Some(1000), Some(5)), (Some(0), Some(7))]);
    assert_eq!(owners(json!({"uid": 0, "gid": 0})), [(None, None), (Some(0), Some(7))]);
    assert_eq!(owners(json!({})), [(None, None), (Some(0), Some(7))]);
}

#[test]
fn mounts_replace_the_first_at_their_destination_and_gain_no_options() {
    let mount = |destination: &str, source: &str| json!({"destination": destination, "source": source});
    let config = json!({"mounts": [mount("/m", "1"), mount("/k", "k"), mount("/m", "2"), mount("/l", "l")]});
    let after = injected(&config, "mounts: [{hostPath: /n, containerPath: /m}]");
    let expected =
        json!({"mounts": [mount("/k", "k"), mount("/m", "2"), mount("/l", "l"), mount("/m", "/n")]});
    assert_eq!(after, expected);
    let full = injected(&json!({}), "mounts: [{hostPath: /a, containerPath: /b, type: t, options: [ro, x]}]");
    assert_eq!(
        full["mounts"],
        json!([{"destination": "/b", "type": "t", "source": "/a", "options": ["ro", "x"]}])
    );
}

#[test]
fn mounts_are_sorted_by_depth_and_else_stay_in_order() {
    let destinations = ["/proc", "/a/b/c", "/a/b", "/b/../c", "/", "rel/path", "//x///y/", "rel", "/../d"];
    let mounts: Vec<Value> = destinations.iter().map(|it| json!({"destination": it})).collect();
    let sorted = |edits| {
        let after = injected(&json!({"mounts": mounts}), edits);
        let sorted = after["mounts"].as_array().unwrap().clone();
        sorted.iter().map(|mount| text(mount, "destination").unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sorted("env: [A=B]"), destinations, "not without a mount of ours");
    let expected =
        ["rel", "/proc", "/b/../c", "/", "rel/path", "/../d", "/new", "/a/b", "//x///y/", "/a/b/c"];
    assert_eq!(sorted("mounts: [{hostPath: /h, containerPath: /new}]"), expected);
}

#[test]
fn many_mounts_of_one_depth_stay_in_order() {
    let deep = |index: usize| index * 37 % 5;
    let destination = |index: usize| format!("{}/{index}", "/x".repeat(deep(index)));
    let mounts: Vec<Value> = (0..200).map(|index| json!({"destination": destination(index)})).collect();
    let after = injected(&json!({"mounts": mounts}), "mounts: [{hostPath: /h, containerPath: /new}]");
    let mut expected: Vec<(usize, String)> =
        (0..200).map(|index| (deep(index), destination(index))).collect();
    expected.push((0, "/new".to_owned()));
    expected.sort_by_key(|(depth, _)| *depth);
    let sorted = after["mounts"].as_array().unwrap().iter().map(|mount| text(mount, "destination").unwrap());
    assert!(sorted.eq(expected.iter().map(|(_, destination)| destination)));
}

#[test]
fn the_depth_of_a_path_is_that_of_its_clean_form() {
    for (path, slashes) in [
        ("", 0),
        (".", 0),
        ("/", 1),
        ("/a", 1),
        ("/a/", 1),
        ("a", 0),
        ("a/b", 1),
        ("/a/b", 2),
        ("//a//b//", 2),
        ("/a/../b", 1),
        ("/..", 1),
        ("..", 0),
        ("../..", 1),
        ("../a", 1),
        ("a/..", 0),
        ("/a/./b/../c", 2),
        ("a/../../b", 1),
    ] {
        assert_eq!(depth(path), slashes, "{path:?}");
    }
}

#[test]
fn bind_mounts_are_id_mapped_in_a_user_namespace() {
    let options = |namespaces: Value, mount: &str| {
        let config = json!({"linux": {"namespaces": namespaces}});
        let after = injected(&config, &format!("mounts: [{{hostPath: /a, containerPath: /b, {mount}}}]"));
        after["mounts"][0].get("options").cloned().unwrap_or(Value::Null)
    };
    let user = || json!([{"type": "mount"}, {"type": "user"}]);
    assert_eq!(options(user(), "options: [rbind, ro]"), json!(["rbind", "ro", "ridmap"]));
    assert_eq!(options(user(), "options: [bind]"), json!(["bind", "idmap"]));
    assert_eq!(options(user(), "type: bind"), json!(["idmap"]));
    assert_eq!(options(user(), "options: [bind, idmap]"), json!(["bind", "idmap"]));
    assert_eq!(options(user(), "options: [rbind, idmap]"), json!(["rbind", "idmap"]));
    assert_eq!(options(user(), "options: [rbind, ridmap]"), json!(["rbind", "ridmap"]));
    assert_eq!(options(user(), "options: [ro], type: tmpfs"), json!(["ro"]));
    assert_eq!(options(json!([{"type": "mount"}]), "options: [bind]"), json!(["bind"]));
}

#[test]
fn hooks_are_appended_to_their_kind() {
    let config = json!({"hooks": {"prestart": [{"path": "/old"}]}});
    let edits = "hooks: [{hookName: prestart, path: /new, args: [a], env: [X=Y], timeout: 0}, {hookName: poststop, path: /p}]";
    let expected = json!({"hooks": {
        "prestart": [{"path": "/old"}, {"path": "/new", "args": ["a"], "env": ["X=Y"], "timeout": 0}],
        "poststop": [{"path": "/p"}]
    }});
    assert_eq!(injected(&config, edits), expected);
}

#[test]
fn rdt_is_replaced_and_net_devices_are_named_by_their_host_interface() {
    let config = json!({"linux": {"intelRdt": {"closID": "old", "enableCMT": true}, "netDevices": {"e9": {"name": "x"}}}});
    let edits = "intelRdt: {l3CacheSchema: a, memBwSchema: b, schemata: [s], enableMonitoring: true}, \
                 netDevices: [{hostInterfaceName: e0, name: e1}]";
    let expected = json!({"linux": {
        "intelRdt": {"l3CacheSchema": "a", "memBwSchema": "b", "schemata": ["s"], "enableMonitoring": true},
        "netDevices": {"e9": {"name": "x"}, "e0": {"name": "e1"}}
    }});
    assert_eq!(injected(&config, edits), expected);
    assert_eq!(injected(&json!({}), "intelRdt: {schemata: []}"), json!({"linux": {"intelRdt": {}}}));
}

#[test]
fn additional_gids_skip_root_and_those_there() {
    let config = json!({"process": {"user": {"uid": 0, "additionalGids": [5]}}});
    let after = injected(&config, "additionalGids: [0, 5, 7, 7]");
    assert_eq!(after, json!({"process": {"user": {"uid": 0, "additionalGids": [5, 7]}}}));
    assert_eq!(injected(&json!({}), "additionalGids: [0]"), json!({}));
}

#[test]
fn an_error_changes_nothing() {
    let shapes = [
        (json!({"process": []}), "process is not an object"),
        (json!({"process": {"env": {}}}), "process.env is not a list"),
        (json!([]), "root is not an object"),
        (json!(null), "root is not an object"),
    ];
    for (config, expected) in shapes {
        let mut edited = config.clone();
        let error = inject(&mut edited, &parsed("env: [A=B]"), &host()).unwrap_err();
        assert_eq!((error.to_string(), edited), (format!("the config's {expected}"), config));
    }
    let mut config = json!({"hooks": 1});
    let edits = parsed("env: [A=B], hooks: [{hookName: prestart, path: /h}]");
    assert!(inject(&mut config, &edits, &host()).is_err());
    assert_eq!(config, json!({"hooks": 1}));
    // Whatever stands where an edit goes: all or nothing.
    let all = parsed(
        "env: [A=1], deviceNodes: [{path: /dev/null}], mounts: [{hostPath: /h, containerPath: /c}], \
         hooks: [{hookName: prestart, path: /h}], additionalGids: [5], intelRdt: {closID: x}, \
         netDevices: [{hostInterfaceName: e0, name: e1}]",
    );
    for pointer in [
        "/process",
        "/process/env",
        "/process/user",
        "/process/user/additionalGids",
        "/linux",
        "/linux/devices",
        "/linux/resources",
        "/linux/resources/devices",
        "/linux/netDevices",
        "/mounts",
        "/hooks",
        "/hooks/prestart",
    ] {
        let mut config = json!({"process": {"user": {}}, "linux": {"resources": {}}, "hooks": {}});
        let (above, name) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(above).unwrap()[name] = json!("nonsense");
        let before = config.clone();
        let error = inject(&mut config, &all, &host()).unwrap_err();
        assert!(error.to_string().contains(&pointer[1..].replace('/', ".")), "{pointer}: {error}");
        assert_eq!(config, before, "{pointer}");
    }
    let missing = inject(&mut config, &parsed("deviceNodes: [{path: /dev/no-such-node}]"), &host());
    assert!(matches!(missing, Err(InjectError::Node(NodeError::Missing(_)))));
}

#[cfg(feature = "oci")]
#[test]
fn the_runtime_types_get_the_same_edits() {
    let edits = "env: [A=1], deviceNodes: [{path: /dev/null}, {path: /p, type: p}, {path: /u, type: u, major: 1}], \
                 mounts: [{hostPath: /h, containerPath: /c, options: [bind]}], additionalGids: [5], \
                 hooks: [{hookName: createContainer, path: /h, args: [h], env: [X=Y], timeout: 3}], \
                 intelRdt: {closID: x, enableMonitoring: true}, netDevices: [{hostInterfaceName: e0, name: e1}]";
    let mut spec = oci_spec::runtime::Spec::default();
    let mut document = serde_json::to_value(&spec).unwrap();
    inject_spec(&mut spec, &parsed(edits), &host()).unwrap();
    inject(&mut document, &parsed(edits), &host()).unwrap();
    // Their sets have no order: the values are compared.
    assert_eq!(spec, serde_json::from_value(document).unwrap());
    assert_eq!(spec.process().as_ref().unwrap().env().as_ref().unwrap().last().unwrap(), "A=1");

    let mut empty: oci_spec::runtime::Spec = serde_json::from_str("{\"ociVersion\": \"1.0.2\"}").unwrap();
    let before = empty.clone();
    inject_spec(&mut empty, &parsed(""), &host()).unwrap();
    assert_eq!(empty, before, "no default is added");
    inject_spec(&mut empty, &parsed("env: [A=B]"), &host()).unwrap();
    let process = json!({"user": {"uid": 0, "gid": 0}, "cwd": "", "env": ["A=B"]});
    let made = serde_json::to_value(&empty).unwrap();
    assert_eq!(made, json!({"ociVersion": "1.0.2", "process": process}));
}

/// H5: the edits of one device are held against each other, so there is a limit to them.
#[test]
fn h5_too_many_edits_are_refused() {
    let edits = |count: usize| ContainerEdits {
        env: (0..count).map(|index| format!("A{index}=B")).collect(),
        ..ContainerEdits::default()
    };
    let inject = |count| inject(&mut json!({}), &edits(count), &Root::open("/".into()).unwrap());
    assert!(inject(100).is_ok());
    let refused = inject(100_000).unwrap_err().to_string();
    assert_eq!(refused, "100000 variables to add; at most 4096 are allowed");
}
