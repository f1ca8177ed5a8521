//! Documents, and the verdict of the Go library's newest version on each.

use super::*;

/// A valid document; cases replace one part of it.
const VALID: &str = "\
cdiVersion: \"1.1.0\"
kind: v.com/c
devices:
- name: a
  containerEdits:
    env: [A=B]
";

fn violations(text: &str) -> Vec<String> {
    match read(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}

/// The edits that a device has when its `containerEdits` are this flow mapping.
fn edits(flow: &str) -> crate::cdi::ContainerEdits {
    let spec = read(VALID.replace("env: [A=B]", flow).as_bytes());
    let mut devices = spec.unwrap_or_else(|found| panic!("{flow}: {found:?}")).devices;
    devices.remove(0).container_edits
}

/// What is wrong with a device whose edits are these.
fn wrong(flow: &str) -> Vec<String> {
    violations(&VALID.replace("env: [A=B]", flow))
}

#[test]
fn yaml_and_json_give_the_same_spec() {
    let json = r#"{"cdiVersion":"1.1.0","kind":"v.com/c",
        "devices":[{"name":"a","containerEdits":{"env":["A=B"]}}]}"#;
    let spec = read(VALID.as_bytes()).unwrap();
    assert_eq!(read(json.as_bytes()).unwrap(), spec);
    assert_eq!((spec.kind.as_str(), spec.devices[0].container_edits.env[0].as_str()), ("v.com/c", "A=B"));
}

#[test]
fn every_field_is_read() {
    let node = "deviceNodes: [{path: /a, hostPath: /b, type: c, major: 1, minor: 2, fileMode: 0666, \
                permissions: rw, uid: 3, gid: 4}]";
    let node = &edits(node).device_nodes[0];
    assert_eq!((node.path.as_str(), node.host_path.as_str(), node.node_type.as_str()), ("/a", "/b", "c"));
    assert_eq!((node.major, node.minor, node.file_mode), (1, 2, Some(438)));
    assert_eq!((node.permissions.as_str(), node.uid, node.gid), ("rw", Some(3), Some(4)));
    let mount = &edits("mounts: [{hostPath: /a, containerPath: /b, options: [ro, x], type: t}]").mounts[0];
    assert_eq!((mount.host_path.as_str(), mount.container_path.as_str()), ("/a", "/b"));
    assert_eq!((mount.options.join(" ").as_str(), mount.mount_type.as_str()), ("ro x", "t"));
    let hook =
        &edits("hooks: [{hookName: poststop, path: /h, args: [h, x], env: [A=B], timeout: 5}]").hooks[0];
    assert_eq!((hook.hook_name.as_str(), hook.path.as_str(), hook.args.len()), ("poststop", "/h", 2));
    assert_eq!((hook.env.len(), hook.timeout), (1, Some(5)));
    let net = &edits("netDevices: [{hostInterfaceName: e0, name: e1}]").net_devices[0];
    assert_eq!((net.host_interface_name.as_str(), net.name.as_str()), ("e0", "e1"));
    let all = "{closID: x, l3CacheSchema: a, memBwSchema: b, schemata: [c], enableMonitoring: on}";
    let rdt = edits(&format!("intelRdt: {all}")).intel_rdt.unwrap();
    assert_eq!((rdt.clos_id.as_str(), rdt.l3_cache_schema.as_str()), ("x", "a"));
    assert_eq!(
        (rdt.mem_bw_schema.as_str(), rdt.schemata, rdt.enable_monitoring),
        ("b", Some(vec!["c".into()]), true)
    );
    assert_eq!(edits("additionalGids: [0, 5]").additional_gids, [0, 5]);
    let noted = format!("{VALID}annotations: {{on: 010, x: ~}}\n");
    let noted = read(noted.as_bytes()).unwrap().annotations;
    assert_eq!(
        noted.into_iter().collect::<Vec<_>>(),
        [("true".into(), "8".into()), ("x".into(), String::new())]
    );
}

#[test]
fn unknown_fields_name_themselves_their_line_and_column() {
    let nested = wrong("mounts: [{hostPath: /a, containerPath: /b, hostpth: /c}]");
    assert_eq!(nested.len(), 1);
    let start = "line 6, column 48: devices[0].containerEdits.mounts[0].hostpth: unknown field \"hostpth\"";
    assert!(nested[0].starts_with(start), "{nested:?}");
    assert!(violations(&format!("{VALID}extra: 1\n"))[0].starts_with("line 7, column 1: extra: unknown"));
    for gone in ["enableCMT", "enableMBM"] {
        let gone = wrong(&format!("intelRdt: {{{gone}: true}}"));
        assert!(gone[0].contains("left the specification"), "{gone:?}");
    }
}

#[test]
fn keys_match_whatever_their_case() {
    let text = VALID.replace("kind", "KIND").replace("containerEdits", "containeredits");
    assert_eq!(read(text.as_bytes()).unwrap(), read(VALID.as_bytes()).unwrap());
    assert_eq!(edits("additionalGIDs: [5]").additional_gids, [5]);
}

#[test]
fn duplicate_keys_are_refused() {
    let twice = violations(&format!("{VALID}kind: v.com/d\n"));
    assert_eq!(twice, ["line 7, column 1: kind: the key \"kind\" stands here twice"]);
    assert_eq!(
        violations(&format!("{VALID}Kind: v.com/d\n")).len(),
        1,
        "deliberate: Go takes one of the two"
    );
    assert_eq!(violations(&format!("{VALID}annotations: {{a: b, a: c}}\n")).len(), 1);
    let merged = wrong("mounts:\n    - &m {hostPath: /a, containerPath: /b}\n    - {<<: *m, hostPath: /c}");
    assert_eq!(merged.len(), 1, "{merged:?}");
    let fine = edits("mounts:\n    - &m {hostPath: /a, containerPath: /b}\n    - {<<: *m, type: c}");
    assert_eq!(fine.mounts[1].host_path, "/a");
}

#[test]
fn scalars_become_the_strings_other_readers_see() {
    let named = |name: &str| {
        let spec = read(VALID.replace("name: a", &format!("name: {name}")).as_bytes());
        spec.map(|spec| spec.devices[0].name.clone()).unwrap_or_else(|found| panic!("{name}: {found:?}"))
    };
    for (name, read) in [
        ("0", "0"),
        ("on", "true"),
        ("010", "8"),
        ("1e3", "1000"),
        ("1.50", "1.5"),
        ("0x10", "16"),
        ("1_0", "10"),
        ("\"on\"", "on"),
        ("'010'", "010"),
        ("1:0", "1:0"),
        ("!!str 010", "010"),
    ] {
        assert_eq!(named(name), read, "{name}");
    }
}

#[test]
fn numbers_are_read_as_the_go_library_does() {
    let major = |text: &str| wrong(&format!("deviceNodes: [{{path: /a, major: {text}}}]")).is_empty();
    for text in ["1", "-1", "1e2", "1.0", "0x10", "010", "~", "9223372036854775807", "1_0"] {
        assert!(major(text), "{text}");
    }
    for text in ["\"1\"", "1.5", "on", "[]", "9223372036854775808", "1e19", "x", "1:0"] {
        assert!(!major(text), "{text}");
    }
    let mode = |text: &str| wrong(&format!("deviceNodes: [{{path: /a, fileMode: {text}}}]")).is_empty();
    for text in ["0666", "438", "0o666", "0x1b6", "~", "4294967295"] {
        assert!(mode(text), "{text}");
    }
    for text in ["\"0666\"", "-1", "4294967296", "-0.0"] {
        assert!(!mode(text), "{text}");
    }
    let mode = |text: &str| {
        edits(&format!("deviceNodes: [{{path: /a, fileMode: {text}}}]")).device_nodes[0].file_mode
    };
    assert_eq!(
        [mode("0666"), mode("0o666"), mode("0x1b6"), mode("~")],
        [Some(438), Some(438), Some(438), None]
    );
}

#[test]
fn types_must_fit() {
    for (flow, path) in [
        ("env: A=B", "env"),
        ("env: {}", "env"),
        ("env: [[a]]", "env[0]"),
        ("env: [A=B]\n    deviceNodes: {}", "deviceNodes"),
        ("env: [A=B]\n    mounts: [x]", "mounts[0]"),
        ("intelRdt: x", "intelRdt"),
        ("intelRdt: {enableMonitoring: \"true\"}", "intelRdt.enableMonitoring"),
        ("additionalGids: [a]", "additionalGids[0]"),
        ("additionalGids: [-1]", "additionalGids[0]"),
    ] {
        let wrong = wrong(flow);
        assert!(
            wrong.len() == 1 && wrong[0].contains(&format!("containerEdits.{path}: ")),
            "{flow}: {wrong:?}"
        );
    }
    // The form of an example in the specification's own text.
    assert!(!violations(&VALID.replace("    env: [A=B]", "  - env: [A=B]")).is_empty());
    for text in ["[]", "x", "- a", "5", "\"x\""] {
        assert!(!violations(text).is_empty(), "{text}");
    }
}

#[test]
fn null_is_as_good_as_absent_but_in_lists() {
    for flow in ["env: [A=B]\n    mounts: ~", "env: [A=B]\n    intelRdt: null", "intelRdt: {schemata: ~}"] {
        assert_eq!(wrong(flow), Vec::<String>::new(), "{flow}");
    }
    assert_eq!(violations(&format!("{VALID}containerEdits: ~\nannotations: ~\n")), Vec::<String>::new());
    for list in ["deviceNodes", "mounts", "hooks", "netDevices", "env", "additionalGids"] {
        let wrong = wrong(&format!("env: [A=B]\n    {list}: [~]").replace("env: [A=B]\n    env", "env"));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains(&format!("{list}[0]: a null list entry")), "{wrong:?}");
    }
    assert_eq!(violations(&VALID.replace("devices:\n", "devices:\n- ~\n")).len(), 1);
}

#[test]
fn empty_documents_hold_no_spec() {
    for text in ["", "# only a comment\n", "null", "~", "---\n", "---\n---\nkind: a\n", "\u{feff}", " \n"] {
        assert_eq!(violations(text).len(), 1, "{text:?}");
        assert!(violations(text)[0].contains("no spec in it"), "{text:?}: {:?}", violations(text));
    }
    assert!(violations("{}").len() > 1);
}

#[test]
fn all_violations_of_a_file_come_at_once_in_its_order() {
    let text = "cdiVersion: \"0.5.0\"\nkind: 3v/c\ndevices:\n- name: a\n  containerEdits:\n    mounts:\n    \
                - containerPath: /b\n    additionalGids: [1]\n    foo: 1\n- name: a\n";
    let found: Vec<_> = read(text.as_bytes()).unwrap_err();
    let places: Vec<_> =
        found.iter().map(|it| (it.position.map_or(0, |place| place.line), it.path.to_string())).collect();
    let expected = [
        (2, "kind"),
        (7, "devices[0].containerEdits.mounts[0].hostPath"),
        (8, "devices[0].containerEdits.additionalGids"),
        (9, "devices[0].containerEdits.foo"),
        (10, "devices[1].containerEdits"),
        (10, "devices[1].name"),
    ];
    assert_eq!(places, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn one_letter_vendors_are_read() {
    assert_eq!(violations(&VALID.replace("v.com/c", "v/c")), Vec::<String>::new());
}

#[test]
fn size_and_encoding_are_bounded() {
    let big = format!("{VALID}{}", " ".repeat(MAX_BYTES));
    assert!(matches!(read(big.as_bytes()).unwrap_err()[0].problem, Problem::TooMuch { what: "bytes", .. }));
    assert!(matches!(read(b"a: \xff\n").unwrap_err()[0].problem, Problem::Syntax(_)));
}

#[test]
fn what_is_written_reads_back() {
    let spec = read(VALID.as_bytes()).unwrap();
    let yaml = crate::cdi::yaml::to_string(&spec).unwrap();
    let json = crate::cdi::json::to_string(&spec).unwrap();
    assert_eq!(read(yaml.as_bytes()).as_ref(), Ok(&spec));
    assert_eq!(read(json.as_bytes()), Ok(spec));
}

#[test]
fn any_version_can_be_read_past() {
    for version in ["0.1.0", "9.9.9", "nonsense"] {
        let text = VALID.replace("\"1.1.0\"", version);
        assert_eq!(violations(&text).len(), 1, "{version}");
        assert_eq!(read_any_version(text.as_bytes()).unwrap().version, version);
    }
    assert_eq!(read_any_version(VALID.replace("kind", "kinds").as_bytes()).unwrap_err().len(), 2);
}

/// H5: 120 KB of mistakes once kept every reader busy for a minute.
#[test]
fn h5_mistakes_beyond_the_limit_are_not_listed() {
    let text = format!("{{\"devices\": [{}1]}}", "1,".repeat(60_000));
    let found = read(text.as_bytes()).unwrap_err();
    assert_eq!(found.len(), 101);
    assert_eq!(found.last().unwrap().to_string(), "more than 100 mistakes; the others are not listed");
    let few = format!("{{\"devices\": [{}1]}}", "1,".repeat(90));
    assert!(read(few.as_bytes()).unwrap_err().len() < 100);
}

/// H5: an alias costs a few bytes, and what it repeats may be large.
#[test]
fn h5_text_that_aliases_repeat_is_limited() {
    for value in ["A".repeat(60_000), format!("\"\\t{}\"", "A".repeat(60_000))] {
        let aliases = |count: usize| format!("x: &x {value}\ny: [{}]\n", vec!["*x"; count].join(", "));
        let found = |count| violations(&aliases(count)).join("\n");
        assert!(found(20_000).contains("bytes of text that aliases repeat"));
        assert!(!found(50).contains("aliases repeat"));
        let keys = format!("x: &x {value}\n{}", "? *x\n: 1\n".repeat(1_000));
        assert!(violations(&keys).join("").contains("aliases repeat"));
    }
}

/// The Go library checks the last device only, or all, by the Go version that built it: no engine can be relied on.
#[test]
fn a_version_too_low_for_any_device_is_refused() {
    let node = "{name: a, containerEdits: {deviceNodes: [{path: /a, hostPath: /b}]}}";
    let mount = "{name: a, containerEdits: {mounts: [{hostPath: /a, containerPath: /b, type: bind}]}}";
    let plain = "{name: b, containerEdits: {env: [A=B]}}";
    for feature in [node, mount] {
        for devices in [format!("{feature}, {plain}"), format!("{plain}, {feature}")] {
            let found = violations(&format!("cdiVersion: 0.3.0\nkind: v.com/c\ndevices: [{devices}]\n"));
            assert!(found.len() == 1 && found[0].contains("but the spec declares 0.3.0"), "{found:?}");
        }
    }
}
