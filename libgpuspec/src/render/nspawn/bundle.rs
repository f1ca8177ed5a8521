//! An OCI config as systemd-nspawn takes it (`--oci-bundle=`), with what a machine is given in it.
//!
//! nspawn reads version 1.0.0 only, refuses what it does not know, runs no hooks, and knows one mount option of a
//! bind. So the config is made simpler, with every loss told, and gets binds of what has been made ready: files are
//! read-only there, since a bundle's binds never are. Tables by systemd's nspawn-oci.c, 252 to 262.

use camino::Utf8Path;
use serde_json::{Map, Value, json};

use crate::Notice;
use crate::nspawn::{Loader, Node, NodeKind, Places, Preparation, TREE, Way};
use crate::render::oci::InjectError;

/// The fields that nspawn reads, by where they stand; elsewhere it reads what it finds.
const KNOWN: [(&str, &[&str]); 6] = [
    ("", &["ociVersion", "process", "root", "hostname", "mounts", "linux", "annotations"]),
    (
        "/process",
        &[
            "terminal",
            "consoleSize",
            "cwd",
            "env",
            "args",
            "rlimits",
            "apparmorProfile",
            "capabilities",
            "noNewPrivileges",
            "oomScoreAdj",
            "selinuxLabel",
            "user",
        ],
    ),
    ("/process/user", &["uid", "gid", "additionalGids"]),
    ("/root", &["path", "readonly"]),
    (
        "/linux",
        &[
            "namespaces",
            "uidMappings",
            "gidMappings",
            "devices",
            "cgroupsPath",
            "resources",
            "intelRdt",
            "sysctl",
            "seccomp",
            "rootfsPropagation",
            "maskedPaths",
            "readonlyPaths",
            "mountLabel",
        ],
    ),
    (
        "/linux/resources",
        &["devices", "memory", "cpu", "blockIO", "hugepageLimits", "network", "pids", "rdma"],
    ),
];
/// Those of a mount.
const KNOWN_OF_MOUNTS: [&str; 4] = ["destination", "source", "options", "type"];
/// Options by which a mount is a bind.
const BINDS: [&str; 2] = ["bind", "rbind"];

/// Makes the config one that nspawn takes; what is lost is told.
pub fn fit(config: &mut Value) -> Result<Vec<Notice>, InjectError> {
    let whole = config.as_object_mut().ok_or(shape("root", "an object"))?;
    let mut notices = Vec::new();
    whole.insert("ociVersion".into(), json!("1.0.0"));
    if let Some(Value::Object(hooks)) = whole.shift_remove("hooks") {
        let given = hooks.iter().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty()));
        notices.extend(given.map(|(name, _)| lost(&format!("hooks.{name}"), "systemd-nspawn runs no hooks")));
    }
    for (place, known) in KNOWN {
        if let Some(Value::Object(fields)) = config.pointer_mut(place) {
            leave_out(fields, known, place, &mut notices);
        }
    }
    drop_denials(config);
    for (index, mount) in mounts(config)?.iter_mut().enumerate() {
        let place = format!("mounts[{index}]");
        let mount = mount.as_object_mut().ok_or(shape(&place, "an object"))?;
        leave_out(mount, &KNOWN_OF_MOUNTS, &place, &mut notices);
        fit_mount(mount, &mut notices);
    }
    Ok(notices)
}

/// nspawn begins with all devices denied and overlooks further denials, but asks the bus for an empty list too.
fn drop_denials(config: &mut Value) {
    let Some(Value::Object(resources)) = config.pointer_mut("/linux/resources") else { return };
    let Some(Value::Array(rules)) = resources.get_mut("devices") else { return };
    rules.retain(|rule| rule.get("allow") != Some(&Value::Bool(false)));
    if rules.is_empty() {
        resources.shift_remove("devices");
    }
}

fn leave_out(fields: &mut Map<String, Value>, known: &[&str], place: &str, notices: &mut Vec<Notice>) {
    let unknown: Vec<String> =
        fields.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect();
    for name in unknown {
        fields.shift_remove(&name);
        let place = place.trim_start_matches('/').replace('/', ".");
        let path = if place.is_empty() { name } else { format!("{place}.{name}") };
        notices.push(lost(&path, "systemd-nspawn does not know it"));
    }
}

fn lost(what: &str, why: &str) -> Notice {
    Notice(format!("{what}: left out, {why}"))
}

/// A bind has no options but the one that says with or without what is mounted below.
fn fit_mount(mount: &mut Map<String, Value>, notices: &mut Vec<Notice>) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let options: Vec<String> = match mount.get("options") {
        Some(Value::Array(options)) => options.iter().filter_map(text).collect(),
        _ => Vec::new(),
    };
    let kind = mount.get("type").and_then(Value::as_str).unwrap_or_default();
    let is_bind =
        matches!(kind, "" | "bind") || options.iter().any(|option| BINDS.contains(&option.as_str()));
    if !is_bind {
        return;
    }
    let has = |name: &str| options.iter().any(|option| option == name);
    if has("ro") {
        let at = mount.get("destination").and_then(Value::as_str).unwrap_or_default();
        notices.push(Notice(format!(
            "{at}: can be written to, since systemd-nspawn makes no bind of a bundle read-only"
        )));
    }
    let way = if has("norbind") || has("bind") && !has("rbind") { "norbind" } else { "rbind" };
    mount.shift_remove("type");
    mount.insert("options".into(), json!([way]));
}

/// Gives the machine of a config that [fits](fit) what has been made ready in `state`, the directories that
/// links are laid over among it: nspawn would follow links of the machine's out of it.
///
/// Its own mounts and variables of the same places and names go.
pub fn give(config: &mut Value, preparation: &Preparation, state: &Utf8Path) -> Result<(), InjectError> {
    let places = Places(state);
    let mut added = Vec::new();
    if !preparation.tree.is_empty() {
        added.push(bind(&places.tree(), TREE.into()));
    }
    added.extend(preparation.nodes.iter().map(|node| node_bind(places, node)));
    added.extend(preparation.binds.iter().map(|given| bind(&places.bind(&given.source), &given.at)));
    if let Loader::Overlay(farms) = &preparation.loader {
        added.extend(farms.iter().enumerate().map(|(index, farm)| overlay(places, index, &farm.directory)));
    }
    let list = mounts(config)?;
    list.retain(|mount| added.iter().all(|new| new.get("destination") != mount.get("destination")));
    list.extend(added);
    rules(config, preparation)?;
    variables(config, preparation)
}

fn bind(source: &Utf8Path, at: &Utf8Path) -> Value {
    json!({"destination": at, "source": source, "options": ["rbind"]})
}

/// systemd-nspawn takes its own word here for numbers that its user namespace maps (parse_mount_bind_options).
fn node_bind(places: Places<'_>, node: &Node) -> Value {
    let options: &[&str] = match node.way {
        Way::Cloned { mapped: true, .. } => &["rbind", "idmap"],
        Way::Cloned { mapped: false, .. } | Way::Plain => &["rbind"],
    };
    json!({"destination": node.path, "source": places.node(node), "options": options})
}

/// Lets second nodes through: systemd-nspawn finds by itself those alone that are bound as they are.
fn rules(config: &mut Value, preparation: &Preparation) -> Result<(), InjectError> {
    let cloned = preparation.nodes.iter().filter(|node| node.way != Way::Plain);
    let rule = |node: &Node| {
        let kind = if node.kind == NodeKind::Block { "b" } else { "c" };
        json!({"allow": true, "type": kind, "major": node.major, "minor": node.minor, "access": "rw"})
    };
    let rules: Vec<Value> = cloned.map(rule).collect();
    if rules.is_empty() {
        return Ok(());
    }
    let whole = config.as_object_mut().ok_or(shape("root", "an object"))?;
    let linux = whole.entry("linux").or_insert(json!({}));
    let linux = linux.as_object_mut().ok_or(shape("linux", "an object"))?;
    let resources = linux.entry("resources").or_insert(json!({}));
    let resources = resources.as_object_mut().ok_or(shape("linux.resources", "an object"))?;
    let list = resources.entry("devices").or_insert(json!([]));
    list.as_array_mut().ok_or(shape("linux.resources.devices", "a list"))?.extend(rules);
    Ok(())
}

/// Without an upper directory it is read-only.
fn overlay(places: Places<'_>, index: usize, at: &Utf8Path) -> Value {
    let options = format!("lowerdir={}:{}", places.farm(index), places.below(index));
    json!({"destination": at, "type": "overlay", "source": "overlay", "options": [options]})
}

fn variables(config: &mut Value, preparation: &Preparation) -> Result<(), InjectError> {
    if preparation.environment.is_empty() {
        return Ok(());
    }
    let whole = config.as_object_mut().ok_or(shape("root", "an object"))?;
    let process = whole.entry("process").or_insert(json!({}));
    let process = process.as_object_mut().ok_or(shape("process", "an object"))?;
    let list = process.entry("env").or_insert(json!([]));
    let list = list.as_array_mut().ok_or(shape("process.env", "a list"))?;
    for (name, value) in &preparation.environment {
        let is_it = |old: &Value| {
            old.as_str().and_then(|old| old.split_once('=')).is_some_and(|(old, _)| old == name)
        };
        list.retain(|old| !is_it(old));
        list.push(json!(format!("{name}={value}")));
    }
    Ok(())
}

fn mounts(config: &mut Value) -> Result<&mut Vec<Value>, InjectError> {
    let whole = config.as_object_mut().ok_or(shape("root", "an object"))?;
    let list = whole.entry("mounts").or_insert(json!([]));
    list.as_array_mut().ok_or(shape("mounts", "a list"))
}

fn shape(path: &str, expected: &'static str) -> InjectError {
    InjectError::Shape { path: path.to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nspawn::{Bind, BindSource, Content, Farm, TreeEntry};

    #[test]
    fn what_nspawn_refuses_is_left_out_and_told() {
        let mut config = json!({
            "ociVersion": "1.2.0", "domainname": "x", "hostname": "h",
            "process": {"args": ["sh"], "user": {"uid": 0, "gid": 0, "umask": 18}, "scheduler": {}},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
                {"destination": "/a", "type": "bind", "source": "/s", "options": ["rbind", "ro", "rprivate"], "uidMappings": []},
                {"destination": "/b", "type": "none", "source": "/s", "options": ["bind", "nosuid"]},
                {"destination": "/c", "source": "/s"},
                {"destination": "/d", "type": "tmpfs", "source": "t", "options": ["ro", "size=1m"]},
            ],
            "linux": {"namespaces": [], "netDevices": {}, "resources": {"unified": {}, "devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 1}}},
            "hooks": {"prestart": [], "createContainer": [{"path": "/x"}]},
            "annotations": {"a": "b"},
        });
        let notices = fit(&mut config).unwrap();
        let expected = json!({
            "ociVersion": "1.0.0", "hostname": "h",
            "process": {"args": ["sh"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
                {"destination": "/a", "source": "/s", "options": ["rbind"]},
                {"destination": "/b", "source": "/s", "options": ["norbind"]},
                {"destination": "/c", "source": "/s", "options": ["rbind"]},
                {"destination": "/d", "type": "tmpfs", "source": "t", "options": ["ro", "size=1m"]},
            ],
            "linux": {"namespaces": [], "resources": {"pids": {"limit": 1}}},
            "annotations": {"a": "b"},
        });
        assert_eq!(config, expected);
        let told: Vec<&str> = notices.iter().filter_map(|notice| notice.0.split(": ").next()).collect();
        let expected = [
            "hooks.createContainer",
            "domainname",
            "process.scheduler",
            "process.user.umask",
            "linux.netDevices",
            "linux.resources.unified",
            "mounts[1].uidMappings",
            "/a",
        ];
        assert_eq!(told, expected);
        let again = config.clone();
        assert_eq!((fit(&mut config).unwrap(), config), (vec![], again));
    }

    #[test]
    fn a_machine_is_given_binds_of_what_is_ready() {
        let cloned = Way::Cloned { uid: 0, gid: 44, mode: 0o660, mapped: true };
        let node = |path: &str, way| Node {
            path: path.into(),
            source: path.into(),
            kind: NodeKind::Char,
            major: 1,
            minor: 3,
            way,
        };
        let preparation = Preparation {
            tree: vec![TreeEntry { at: "lib/x".into(), content: Content::File("/x".into()) }],
            loader: Loader::Overlay(vec![Farm { directory: "/usr/lib64".into(), links: BTreeMap::new() }]),
            nodes: vec![node("/dev/n", Way::Plain), node("/dev/d/r", cloned)],
            binds: vec![Bind {
                at: "/run/s".into(),
                source: BindSource::Tree("lib".into()),
                read_only: true,
            }],
            environment: vec![("A".into(), "1".into())],
            ..Preparation::default()
        };
        let mut config = json!({
            "process": {"env": ["A=0", "AA=2", "A=3"]},
            "mounts": [{"destination": "/dev/n", "source": "/old"}, {"destination": "/kept"}],
        });
        give(&mut config, &preparation, "/state".into()).unwrap();
        let expected = json!({
            "process": {"env": ["AA=2", "A=1"]},
            "mounts": [
                {"destination": "/kept"},
                {"destination": "/run/gpuspec", "source": "/state/tree", "options": ["rbind"]},
                {"destination": "/dev/n", "source": "/dev/n", "options": ["rbind"]},
                {"destination": "/dev/d/r", "source": "/state/link/dev/d/r", "options": ["rbind", "idmap"]},
                {"destination": "/run/s", "source": "/state/tree/lib", "options": ["rbind"]},
                {"destination": "/usr/lib64", "type": "overlay", "source": "overlay", "options": ["lowerdir=/state/farm/0:/state/below/0"]},
            ],
            "linux": {"resources": {"devices": [{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}]}},
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn a_config_of_another_shape_is_an_error() {
        for mut config in [json!([]), json!({"mounts": {}}), json!({"mounts": [1]})] {
            assert!(fit(&mut config).is_err(), "{config}");
        }
        let preparation =
            Preparation { environment: vec![("A".into(), "1".into())], ..Preparation::default() };
        for mut config in [json!([]), json!({"process": 1}), json!({"process": {"env": 1}})] {
            assert!(give(&mut config, &preparation, "/s".into()).is_err(), "{config}");
        }
    }
}
