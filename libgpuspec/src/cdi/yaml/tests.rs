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

/// The tree as JSON text would show it.
fn show(node: &Node<'_>) -> String {
    match &node.value {
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let shown = entries.iter().map(|entry| format!("{}:{}", entry.key, show(&entry.value)));
            format!("{{{}}}", shown.collect::<Vec<_>>().join(","))
        }
        Value::Text(text) => format!("{text:?}"),
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => node.value.as_text().unwrap().into_owned(),
    }
}

/// What the Go library's reader makes of the same text; `Err` where it refuses it.
fn agrees(name: &str, text: &str, expected: Result<&str, ()>) {
    let read = parse(text).map(|node| show(&node));
    assert_eq!(read.as_deref().map_err(|_| ()), expected, "{name}: {read:?}");
}

#[test]
fn merge_keys() {
    let accepted = [
        ("one", "x: &a {p: 1}\nz:\n  <<: *a\n  r: 3\n", "{x:{p:1},z:{p:1,r:3}}"),
        ("list", "x: &a {p: 1}\nw: &b {q: 2}\nz:\n  <<: [*a, *b]\n", "{x:{p:1},w:{q:2},z:{p:1,q:2}}"),
        ("two", "x: &a {p: 1}\nw: &b {q: 2}\nz:\n  <<: *a\n  <<: *b\n", "{x:{p:1},w:{q:2},z:{p:1,q:2}}"),
        ("inline", "z:\n  <<: {p: 1}\n", "{z:{p:1}}"),
        ("tag", "x: &a {p: 1}\nz:\n  !!merge \"<<\": *a\n", "{x:{p:1},z:{p:1}}"),
        ("quoted", "z:\n  \"<<\": {p: 1}\n", "{z:{<<:{p:1}}}"),
    ];
    for (name, text, expected) in accepted {
        agrees(name, text, Ok(expected));
    }
    for (name, value) in [("scalar", "5"), ("null", "~"), ("list", "[5]"), ("nested", "[[{p: 1}]]")] {
        agrees(name, &format!("z:\n  <<: {value}\n"), Err(()));
    }
    agrees("alias of a list", "s: &s [{p: 1}]\nz:\n  <<: *s\n", Err(()));
}

#[test]
fn anchors_and_aliases() {
    agrees("redefined", "a: &x 1\nb: &x 2\nc: *x\n", Ok("{a:1,b:2,c:2}"));
    agrees("as a key", "a: &x k\n*x : v\n", Ok("{a:\"k\",k:\"v\"}"));
    agrees("on a key", "&k a: b\nc: *k\n", Ok("{a:\"b\",c:\"a\"}"));
    agrees("unknown", "a: *x\n", Err(()));
    agrees("itself", "a: &x [*x]\n", Err(()));
}

#[test]
fn only_the_first_document_is_read() {
    agrees("another", "a: 1\n---\nb: 2\n", Ok("{a:1}"));
    agrees("garbage", "a: 1\n---\n{{{\n", Ok("{a:1}"));
    agrees("after flow", "{\"a\": 1} x\n", Ok("{a:1}"));
    agrees("an empty first one", "---\n---\na: 1\n", Ok("null"));
}

#[test]
fn json_is_read_as_yaml() {
    agrees("no spaces", "{\"a\":1,\"b\":[true,null]}", Ok("{a:1,b:[true,null]}"));
    agrees("trailing commas", "{\"a\": [1,2,],}", Ok("{a:[1,2]}"));
    agrees("tabs", "{\n\t\"a\": 1,\n\t\"b\": [\n\t\t2\n\t]\n}\n", Ok("{a:1,b:[2]}"));
    agrees("a comment", "{\"a\": 1, // no\n \"b\": 2}\n", Ok("{a:1,// no \"b\":2}"));
    agrees("two commas", "{\"a\": [1,,2]}", Err(()));
    agrees("escaped slash", r#"{"a": "x\/y"}"#, Err(()));
    agrees("surrogates", r#"{"a": "\ud83d\uDE00"}"#, Err(()));
    agrees("other escapes", r#"{"a": "\u0041\\/\x41"}"#, Ok("{a:\"A\\\\/A\"}"));
}

#[test]
fn characters_line_ends_and_directives() {
    agrees("byte order mark", "\u{feff}a: 1\n", Ok("{a:1}"));
    agrees("CRLF", "a: 1\r\nb:\r\n  - c\r\n", Ok("{a:1,b:[\"c\"]}"));
    agrees("CR", "a: 1\rb: 2\r", Ok("{a:1,b:2}"));
    agrees("emoji", "a: \u{1f600}\n", Ok("{a:\"\u{1f600}\"}"));
    agrees("tab after colon", "a:\tb\n", Ok("{a:\"b\"}"));
    agrees("tab as indentation", "a:\n\tb: 1\n", Err(()));
    for odd in ['\0', '\u{1}', '\u{7f}', '\u{fffe}'] {
        agrees("control character", &format!("a: b{odd}c\n"), Err(()));
    }
    agrees("YAML 1.1", "%YAML 1.1\n---\na: 1\n", Ok("{a:1}"));
    agrees("YAML 1.2", "# c\n%YAML 1.2\n---\na: 1\n", Err(()));
    agrees("unknown directive", "%FOO bar\n---\na: 1\n", Err(()));
    agrees("block scalar without end", "a: |\n  x", Ok("{a:\"x\"}"));
}

#[test]
fn tabs_do_not_indent() {
    for text in [
        "a: 1\n\t\nb: 2\n",
        "a: 1\n\t\n",
        "a: [1]\n\t\n",
        "a: [1]\n  \t\nb: 2\n",
        "a: 1\n\t# c\nb: 2\n",
        "a: 1 # c\n  \t\nb: 2\n",
        "\t\na: 1\n",
        "\t\n---\na: 1\n",
        "\t{\"a\": 1}\n",
        "  \t{\"a\": 1}\n",
        "a:\n  \t\n  b: 1\n",
        "a:\n- 1\n\t\n- 2\n",
        "a:\n- [1]\n    \t\n- 2\n",
        "a:\n  b: 1\n  \t\nc: 2\n",
        "a:\n  - 1\n  \t\n  - 2\n",
        "a: b\n\tc\n",
        "a: [b\n\t]\n",
        "a: |\n  x\n\t\n",
        "{\"a\": 1}\n\t\n",
        "{\"a\": 1}\n# c\n  \t# c\n",
    ] {
        agrees(text, text, Err(()));
    }
    agrees("spaces first", "a: 1\n  \t\nb: 2\n", Ok("{a:1,b:2}"));
    agrees("a comment", "a: 1\n  \t# c\nb: 2\n", Ok("{a:1,b:2}"));
    agrees("after a value", "a: 1\t\nb: 2\t# c\n", Ok("{a:1,b:2}"));
    agrees("after the start", "---\t\na: 1\n", Ok("{a:1}"));
    agrees("in brackets", "{\n\ta: [\n\t1,\n\t'b'\n\t]}\n", Ok("{a:[1,\"b\"]}"));
    agrees("in quotes", "a: 'b\n\tc'\n", Ok("{a:\"b c\"}"));
    agrees("as text", "a: |\n  x\n  \ty\n", Ok("{a:\"x\\n\\ty\\n\"}"));
    agrees("behind it on its line", "{\"a\": 1}\t\n# c\n---\n\t\n", Ok("{a:1}"));
}

#[test]
fn tags() {
    agrees("string", "a: !!str 5\n", Ok("{a:\"5\"}"));
    agrees("integer", "a: !!int \"5\"\n", Ok("{a:5}"));
    agrees("float", "a: !!float 5\n", Ok("{a:5}"));
    agrees("bool", "a: !!bool \"yes\"\n", Ok("{a:true}"));
    agrees("own", "a: !foo 5\n", Ok("{a:\"5\"}"));
    agrees("unfit", "a: !!int x\n", Err(()));
    agrees("unfit null", "a: !!null x\n", Err(()));
}

#[test]
fn keys_become_strings() {
    agrees("scalars", "on: a\n1: b\n1.50: c\n.inf: d\n", Ok("{true:\"a\",1:\"b\",1.5:\"c\",.inf:\"d\"}"));
    agrees("null", "~: a\n", Err(()));
    agrees("list", "[a]: b\n", Err(()));
}

#[test]
fn nesting_and_aliases_are_bounded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let block = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>();
    assert!(parse(&deep).is_err());
    assert!(parse(&block).is_err());
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let alias = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    let refused = parse(&bomb).unwrap_err();
    assert!(matches!(refused.problem, Problem::TooMuch { .. }), "{refused}");
    let many = "[".to_owned() + &"1,".repeat(MAX_NODES) + "1]";
    assert!(matches!(parse(&many).unwrap_err().problem, Problem::TooMuch { .. }));
}

/// What engines refuse is refused, so that a file that is valid here starts containers there.
#[test]
fn anchors_and_colons_are_read_as_engines_do() {
    agrees("an anchor", "a: &x_1-Y 5\nb: *x_1-Y\n", Ok("{a:5,b:5}"));
    for anchor in ["a/b", "a.b", "ä", "a:b"] {
        agrees("an odd anchor", &format!("a: &{anchor} 5\n"), Err(()));
        agrees("an odd anchor of a list", &format!("a: &{anchor}\n- 5\n"), Err(()));
    }
    agrees("a line end before a colon", "{\"a\"\n: 1}", Err(()));
    agrees("deeper", "x: [{\"a\": 1, \"b\"\r\n  : 1}]", Err(()));
    agrees(
        "behind it",
        "{\"a\":\n 1, \"b\" : 2,\n\"c\":\n[{\"d\":\n: 3}]}".replace("\n: 3", "\n 3").as_str(),
        Ok("{a:1,b:2,c:[{d:3}]}"),
    );
    agrees("an explicit key", "{? a\n: 1}", Ok("{a:1}"));
    agrees("an explicit key of a block", "? a\n: 1\n", Ok("{a:1}"));
    agrees("a key alone", "{a\n, b: 1}", Ok("{a:null,b:1}"));
}
