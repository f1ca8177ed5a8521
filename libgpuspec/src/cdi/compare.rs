//! What is different between two specs in meaning, whatever their text looks like.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::spec::{ContainerEdits, DeviceNode, Spec};

/// One difference.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Difference {
    /// Where, with devices, nodes, mounts and variables by name: `devices.0.env.NAME`.
    pub path: String,
    /// What the first spec has there.
    pub before: Option<Value>,
    /// What the second has.
    pub after: Option<Value>,
}

/// All differences in meaning, sorted by place.
///
/// The order of devices, nodes, mounts, groups and of variables of different names means nothing;
/// that of hooks and of a mount's options does. What a reader fills in by rule is filled in:
/// `permissions: mwr` is the same as none given, and a `hostPath` equal to the path as no `hostPath`.
pub fn compare(before: &Spec, after: &Spec) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", Some(&meaning(before)), Some(&meaning(after)), &mut found);
    found
}

fn walk(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let (one, two) = match (before, after) {
        (Some(Value::Object(one)), Some(Value::Object(two))) => (one, two),
        _ => {
            let difference =
                Difference { path: path.to_owned(), before: before.cloned(), after: after.cloned() };
            return found.push(difference);
        }
    };
    for key in one.keys().chain(two.keys()).collect::<BTreeSet<_>>() {
        let dot = if path.is_empty() { "" } else { "." };
        walk(&format!("{path}{dot}{key}"), one.get(key), two.get(key), found);
    }
}

/// A spec as nested mappings in which every entry has a name of its own.
fn meaning(spec: &Spec) -> Value {
    let devices = spec.devices.iter().map(|device| {
        let mut made = edits(&device.container_edits);
        made.insert("annotations".into(), json!(device.annotations));
        (device.name.clone(), Value::Object(made))
    });
    let version = spec.version.strip_prefix('v').unwrap_or(&spec.version);
    json!({
        "cdiVersion": version,
        "kind": spec.kind,
        "annotations": spec.annotations,
        "containerEdits": edits(&spec.container_edits),
        "devices": devices.collect::<Map<_, _>>(),
    })
}

fn edits(edits: &ContainerEdits) -> Map<String, Value> {
    let mut made = Map::new();
    made.insert("env".into(), Value::Object(env(&edits.env)));
    let nodes = edits.device_nodes.iter().map(|node| (node.path.clone(), json!(plain(node))));
    made.insert("deviceNodes".into(), Value::Object(numbered(nodes)));
    let mounts = edits.mounts.iter().map(|mount| (mount.container_path.clone(), json!(mount)));
    made.insert("mounts".into(), Value::Object(numbered(mounts)));
    let net = edits.net_devices.iter().map(|device| (device.host_interface_name.clone(), json!(device)));
    made.insert("netDevices".into(), Value::Object(numbered(net)));
    let hooks = edits.hooks.iter().map(|hook| (hook.hook_name.clone(), json!(hook)));
    made.insert("hooks".into(), Value::Object(numbered(hooks)));
    made.insert("intelRdt".into(), json!(edits.intel_rdt));
    made.insert("additionalGids".into(), json!(edits.additional_gids.iter().collect::<BTreeSet<_>>()));
    made
}

/// The last value of each variable counts.
fn env(entries: &[String]) -> Map<String, Value> {
    entries
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// A node with what every reader fills in by rule.
fn plain(node: &DeviceNode) -> DeviceNode {
    let mut plain = node.clone();
    if plain.host_path == plain.path {
        plain.host_path.clear();
    }
    if plain.permissions.is_empty() {
        plain.permissions = "rwm".to_owned();
    } else if plain.permissions != "none" {
        plain.permissions = "rwm".chars().filter(|letter| node.permissions.contains(*letter)).collect();
    }
    plain
}

/// Entries by name; of several of one name the later ones are numbered.
fn numbered(entries: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut made = Map::new();
    for (name, value) in entries {
        let number = count.entry(name.clone()).or_default();
        *number += 1;
        made.insert(if *number == 1 { name } else { format!("{name}#{number}") }, value);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::read;

    fn spec(text: &str) -> Spec {
        read(format!("cdiVersion: 1.1.0\nkind: v.com/cc\n{text}").as_bytes()).unwrap()
    }

    fn device(edits: &str) -> Spec {
        spec(&format!("devices: [{{name: d, containerEdits: {{{edits}}}}}]"))
    }

    fn paths(before: &Spec, after: &Spec) -> Vec<String> {
        compare(before, after).into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn the_same_meaning_in_another_text_is_no_difference() {
        let same = [
            ("env: [A=1, B=2]", "env: [B=2, A=0, A=1]"),
            ("deviceNodes: [{path: /a}]", "deviceNodes: [{path: /a, hostPath: /a, permissions: mwr}]"),
            ("deviceNodes: [{path: /a}, {path: /b}]", "deviceNodes: [{path: /b}, {path: /a}]"),
            (
                "mounts: [{hostPath: /a, containerPath: /b}, {hostPath: /c, containerPath: /d}]",
                "mounts: [{hostPath: /c, containerPath: /d}, {hostPath: /a, containerPath: /b}]",
            ),
            ("additionalGids: [1, 2]", "additionalGids: [2, 1, 1]"),
        ];
        for (one, other) in same {
            assert_eq!(paths(&device(one), &device(other)), Vec::<String>::new(), "{other}");
        }
        let two = |one: &str, other: &str| {
            spec(&format!(
                "devices: [{{name: {one}, containerEdits: {{env: [A=B]}}}}, {{name: {other}, containerEdits: {{env: [A=B]}}}}]"
            ))
        };
        assert_eq!(paths(&two("a", "b"), &two("b", "a")), Vec::<String>::new());
    }

    #[test]
    fn each_difference_has_its_place_and_both_values() {
        let before = device("env: [A=1, B=2], hooks: [{hookName: prestart, path: /h}]");
        let after = device("env: [A=1, B=3, C=4]");
        let found = compare(&before, &after);
        let expected = [
            ("devices.d.env.B", Some(json!("2")), Some(json!("3"))),
            ("devices.d.env.C", None, Some(json!("4"))),
            ("devices.d.hooks.prestart", Some(json!({"hookName": "prestart", "path": "/h"})), None),
        ];
        let expected =
            expected.map(|(path, before, after)| Difference { path: path.to_owned(), before, after });
        assert_eq!(found, expected);
    }

    #[test]
    fn order_counts_for_hooks_and_mount_options() {
        let hooks = |one: &str, two: &str| {
            device(&format!(
                "hooks: [{{hookName: prestart, path: {one}}}, {{hookName: prestart, path: {two}}}]"
            ))
        };
        assert_eq!(
            paths(&hooks("/a", "/b"), &hooks("/b", "/a")),
            ["devices.d.hooks.prestart.path", "devices.d.hooks.prestart#2.path"]
        );
        let mount = |options: &str| {
            device(&format!("mounts: [{{hostPath: /a, containerPath: /b, options: [{options}]}}]"))
        };
        assert_eq!(paths(&mount("ro, rw"), &mount("rw, ro")), ["devices.d.mounts./b.options"]);
    }

    #[test]
    fn versions_kinds_annotations_and_devices_are_compared() {
        let one = spec("devices: [{name: a, containerEdits: {env: [A=B]}}]");
        let mut other = one.clone();
        other.version = "v1.1.0".into();
        assert_eq!(paths(&one, &other), Vec::<String>::new());
        other.version = "1.0.0".into();
        other.kind = "v.com/dd".into();
        other.annotations.insert("x".into(), "y".into());
        other.devices[0].name = "b".into();
        assert_eq!(paths(&one, &other), ["annotations.x", "cdiVersion", "devices.a", "devices.b", "kind"]);
    }
}
