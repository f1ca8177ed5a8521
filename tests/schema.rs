//! The schema in specs/ as a judge of what is generated, and of whether it and the validation agree.

// The lints' leave for tests does not reach helper functions, and these files are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use libgpuspec::cdi;
use serde_json::{Value, json};

fn specs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("specs")
}

fn schema() -> Validator {
    let text = fs::read_to_string(specs().join("cdi-schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    assert!(jsonschema::meta::is_valid(&schema), "the schema itself");
    jsonschema::validator_for(&schema).unwrap()
}

#[test]
fn every_reference_spec_fits_the_schema() {
    let schema = schema();
    let mut judged = 0;
    for entry in fs::read_dir(specs()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let spec = cdi::read(&fs::read(&path).unwrap()).unwrap();
        let document = serde_json::to_value(&spec).unwrap();
        let errors: Vec<String> = schema
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
        judged += 1;
    }
    assert!(judged >= 4, "only {judged} specs");
}

/// A valid document of every field.
fn full() -> Value {
    let edits = json!({
        "env": ["A=B"],
        "deviceNodes": [{"path": "/dev/a", "hostPath": "/dev/b", "type": "c", "major": 1, "minor": 2, "fileMode": 438,
            "permissions": "rw", "uid": 0, "gid": 44}],
        "netDevices": [{"hostInterfaceName": "e0", "name": "e1"}],
        "hooks": [{"hookName": "createContainer", "path": "/h", "args": ["h"], "env": ["A=B"], "timeout": 1}],
        "mounts": [{"hostPath": "/a", "containerPath": "/b", "options": ["bind"], "type": "none"}],
        "intelRdt": {"closID": "a", "l3CacheSchema": "b", "memBwSchema": "c", "schemata": ["d"], "enableMonitoring": true},
        "additionalGids": [44]
    });
    json!({
        "cdiVersion": "1.1.0", "kind": "v.com/cc", "annotations": {"a": "b"}, "containerEdits": edits,
        "devices": [{"name": "d", "annotations": {"a": "b"}, "containerEdits": edits}]
    })
}

/// A place in the full document, and a value to put there; null takes what is there away.
fn changes() -> Vec<(&'static str, Value)> {
    let edits = "/devices/0/containerEdits";
    let mut changes = vec![
        ("/cdiVersion", json!("0.6")),
        ("/cdiVersion", json!("v1.1.0")),
        ("/cdiVersion", Value::Null),
        ("/kind", json!("v.com")),
        ("/kind", json!("3v/c")),
        ("/kind", json!("v/c")),
        ("/kind", json!("a..b/C_c")),
        ("/kind", json!("v./c")),
        ("/kind", json!("v/c/d")),
        ("/kind", Value::Null),
        ("/devices", json!([])),
        ("/devices", Value::Null),
        ("/annotations", json!({"a": {}})),
        ("/annotations", Value::Null),
        ("/unknown", json!(1)),
        ("/containerEdits", json!({})),
        ("/containerEdits", json!([])),
        ("/containerEdits", Value::Null),
        ("/devices/0/name", json!("")),
        ("/devices/0/name", json!("a:b")),
        ("/devices/0/name", json!("a_")),
        ("/devices/0/name", json!("0")),
        ("/devices/0/unknown", json!(1)),
        ("/devices/0/containerEdits", json!({})),
        ("/devices/0/containerEdits", json!({"env": []})),
        ("/devices/0/containerEdits", json!({"intelRdt": {}})),
        ("/devices/0/containerEdits", Value::Null),
    ];
    let inside = [
        ("/env", json!(["A"])),
        ("/env", json!(["=B"])),
        ("/env", json!(["A="])),
        ("/env", json!("A=B")),
        ("/deviceNodes/0/path", json!("")),
        ("/deviceNodes/0/path", Value::Null),
        ("/deviceNodes/0/type", json!("x")),
        ("/deviceNodes/0/type", json!("")),
        ("/deviceNodes/0/type", json!("u")),
        ("/deviceNodes/0/major", json!(-1)),
        ("/deviceNodes/0/major", json!("1")),
        ("/deviceNodes/0/major", json!(1.5)),
        ("/deviceNodes/0/fileMode", json!("0666")),
        ("/deviceNodes/0/fileMode", json!(4_294_967_296_u64)),
        ("/deviceNodes/0/permissions", json!("none")),
        ("/deviceNodes/0/permissions", json!("rx")),
        ("/deviceNodes/0/permissions", json!("mmm")),
        ("/deviceNodes/0/uid", json!(-1)),
        ("/mounts/0/hostPath", json!("")),
        ("/mounts/0/containerPath", Value::Null),
        ("/mounts/0/options", json!("ro")),
        ("/mounts/0/type", json!("")),
        ("/mounts/0/unknown", json!("")),
        ("/hooks/0/hookName", json!("Prestart")),
        ("/hooks/0/hookName", json!("poststop")),
        ("/hooks/0/path", json!("")),
        ("/hooks/0/env", json!(["A"])),
        ("/hooks/0/timeout", json!(-5)),
        ("/hooks/0/timeout", json!("5")),
        ("/netDevices/0/name", json!("")),
        ("/netDevices/0/hostInterfaceName", Value::Null),
        ("/additionalGids", json!([-1])),
        ("/additionalGids", json!(["a"])),
        ("/intelRdt/closID", json!("/")),
        ("/intelRdt/closID", json!("a/b")),
        ("/intelRdt/closID", json!("..")),
        ("/intelRdt/closID", json!("a\n")),
        ("/intelRdt/enableCMT", json!(true)),
        ("/intelRdt/enableMonitoring", json!("true")),
        ("/intelRdt/schemata", json!("a")),
    ];
    changes.extend(inside.into_iter().map(|(path, value)| (&*format!("{edits}{path}").leak(), value)));
    changes
}

fn changed(pointer: &str, value: Value) -> Value {
    let mut document = full();
    let (above, name) = pointer.rsplit_once('/').unwrap();
    let above = document.pointer_mut(above).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        above.remove(name).unwrap();
    } else {
        above.insert(name.to_owned(), value);
    }
    document
}

#[test]
fn schema_and_validation_agree() {
    let schema = schema();
    let judge =
        |document: &Value| (schema.is_valid(document), cdi::read(document.to_string().as_bytes()).is_ok());
    assert_eq!(judge(&full()), (true, true));
    let (mut good, mut bad) = (0, 0);
    for (pointer, value) in changes() {
        let (by_schema, by_rules) = judge(&changed(pointer, value.clone()));
        assert_eq!(by_schema, by_rules, "{pointer}: {value}");
        *if by_rules { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 15 && bad > 30, "{good} good, {bad} bad");
}
