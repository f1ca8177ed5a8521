//! Container edits done to an OCI config: on the JSON document itself, so that all else stays as it is.

#[cfg(feature = "oci")]
mod typed;

use serde_json::{Map, Value, json};

use crate::Root;
use crate::cdi::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice, NodeError, fill};

#[cfg(feature = "oci")]
pub use typed::inject_spec;

/// Most edits of one sort; a driver's have 150. Each is held against all that are there, as the rules demand.
const MAX_EDITS: usize = 4096;

/// Why edits could not be done.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// A device node cannot be made.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The config is not what the runtime specification says.
    #[error("the config's {path} is not {expected}")]
    Shape {
        /// Where in the config.
        path: String,
        /// What ought to be there.
        expected: &'static str,
    },
    /// There are more edits than any device needs.
    #[error("{count} {what} to add; at most {MAX_EDITS} are allowed")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
    },
    /// The runtime types cannot hold the result.
    #[error("the config does not fit the runtime specification's types")]
    Types(#[source] serde_json::Error),
}

/// Does the edits to a config, device nodes filled in from `host`; on an error nothing is changed.
///
/// Sections are made only where an edit needs them, and nothing else is added: neither defaults nor
/// mount options. Fields that nobody knows stay.
///
/// ```
/// use libgpuspec::{Root, cdi::ContainerEdits, render::oci};
/// use serde_json::json;
///
/// let mut config = json!({"ociVersion": "1.0.2", "process": {"env": ["A=1", "B=2"], "new": true}});
/// let edits = ContainerEdits { env: vec!["A=3".to_owned()], ..ContainerEdits::default() };
/// oci::inject(&mut config, &edits, &Root::open("/".into())?)?;
/// assert_eq!(config, json!({"ociVersion": "1.0.2", "process": {"env": ["A=3", "B=2"], "new": true}}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn inject(config: &mut Value, edits: &ContainerEdits, host: &Root) -> Result<(), InjectError> {
    limit(edits)?;
    let nodes = fill(&edits.device_nodes, host)?;
    check(config, edits, &nodes)?;
    env(config, &edits.env)?;
    device_nodes(config, &nodes)?;
    net_devices(config, &edits.net_devices)?;
    mounts(config, &edits.mounts)?;
    hooks(config, &edits.hooks)?;
    intel_rdt(config, edits.intel_rdt.as_ref())?;
    additional_gids(config, &edits.additional_gids)
}

fn limit(edits: &ContainerEdits) -> Result<(), InjectError> {
    let counts = [
        ("variables", edits.env.len()),
        ("device nodes", edits.device_nodes.len()),
        ("mounts", edits.mounts.len()),
        ("groups", edits.additional_gids.len()),
    ];
    match counts.into_iter().find(|(_, count)| *count > MAX_EDITS) {
        Some((what, count)) => Err(InjectError::TooMany { what, count }),
        None => Ok(()),
    }
}

/// Whether every place that the edits touch is what it ought to be: from here on nothing can fail.
fn check(config: &Value, edits: &ContainerEdits, nodes: &[DeviceNode]) -> Result<(), InjectError> {
    let places: [(bool, &[&str], Shape); 7] = [
        (!edits.env.is_empty(), &["process", "env"], Shape::List),
        (!nodes.is_empty(), &["linux", "devices"], Shape::List),
        (nodes.iter().any(has_cgroup_rule), &["linux", "resources", "devices"], Shape::List),
        (!edits.net_devices.is_empty(), &["linux", "netDevices"], Shape::Object),
        (!edits.mounts.is_empty(), &["mounts"], Shape::List),
        (edits.intel_rdt.is_some(), &["linux"], Shape::Object),
        (
            edits.additional_gids.iter().any(|&gid| gid != 0),
            &["process", "user", "additionalGids"],
            Shape::List,
        ),
    ];
    for (_, path, shape) in places.into_iter().filter(|(touched, _, _)| *touched) {
        has_shape(config, path, shape)?;
    }
    edits.hooks.iter().try_for_each(|hook| has_shape(config, &["hooks", &hook.hook_name], Shape::List))
}

#[derive(Clone, Copy)]
enum Shape {
    Object,
    List,
}

/// Whether there is nothing or this at a path, and above it nothing or objects.
fn has_shape(config: &Value, path: &[&str], shape: Shape) -> Result<(), InjectError> {
    let mut value = Some(config);
    for (index, name) in path.iter().enumerate() {
        let Some(above) = value else { return Ok(()) };
        if !(above.is_object() || above.is_null() && index > 0) {
            return Err(misshapen(path.get(..index).unwrap_or_default(), Shape::Object));
        }
        value = above.get(name);
    }
    let fits = match (value, shape) {
        (None | Some(Value::Null), _) => true,
        (Some(value), Shape::Object) => value.is_object(),
        (Some(value), Shape::List) => value.is_array(),
    };
    if fits { Ok(()) } else { Err(misshapen(path, shape)) }
}

fn misshapen(path: &[&str], shape: Shape) -> InjectError {
    let path = if path.is_empty() { "root".to_owned() } else { path.join(".") };
    let expected = match shape {
        Shape::Object => "an object",
        Shape::List => "a list",
    };
    InjectError::Shape { path, expected }
}

/// A variable takes the place of the last one of its name, else it comes last.
fn env(config: &mut Value, entries: &[String]) -> Result<(), InjectError> {
    if entries.is_empty() {
        return Ok(());
    }
    let list = list(config, &["process", "env"])?;
    for entry in entries {
        let name = name_of(entry);
        match list.iter_mut().rev().find(|old| old.as_str().is_some_and(|old| name_of(old) == name)) {
            Some(old) => *old = json!(entry),
            None => list.push(json!(entry)),
        }
    }
    Ok(())
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn device_nodes(config: &mut Value, nodes: &[DeviceNode]) -> Result<(), InjectError> {
    if nodes.is_empty() {
        return Ok(());
    }
    let (uid, gid) = (owner(config, "/process/user/uid"), owner(config, "/process/user/gid"));
    for node in nodes {
        let device = device(node, uid, gid);
        let devices = list(config, &["linux", "devices"])?;
        remove_first(devices, "path", &node.path);
        match devices.iter_mut().find(|old| text(old, "path") == Some(&node.path)) {
            Some(old) => *old = device,
            None => devices.push(device),
        }
        if has_cgroup_rule(node) {
            list(config, &["linux", "resources", "devices"])?.push(cgroup_rule(node));
        }
    }
    Ok(())
}

/// The container's own user or group, unless it is root.
fn owner(config: &Value, pointer: &str) -> Option<u32> {
    let id = config.pointer(pointer)?.as_u64()?;
    u32::try_from(id).ok().filter(|&id| id > 0)
}

fn device(node: &DeviceNode, uid: Option<u32>, gid: Option<u32>) -> Value {
    let mut device = Map::new();
    device.insert("path".into(), json!(node.path));
    device.insert("type".into(), json!(node.node_type));
    device.insert("major".into(), json!(node.major));
    device.insert("minor".into(), json!(node.minor));
    for (field, number) in
        [("fileMode", node.file_mode), ("uid", node.uid.or(uid)), ("gid", node.gid.or(gid))]
    {
        if let Some(number) = number {
            device.insert(field.into(), json!(number));
        }
    }
    Value::Object(device)
}

fn has_cgroup_rule(node: &DeviceNode) -> bool {
    matches!(node.node_type.as_str(), "b" | "c")
}

fn cgroup_rule(node: &DeviceNode) -> Value {
    let mut rule = Map::new();
    rule.insert("allow".into(), json!(true));
    rule.insert("type".into(), json!(node.node_type));
    rule.insert("major".into(), json!(node.major));
    rule.insert("minor".into(), json!(node.minor));
    match node.permissions.as_str() {
        "none" => {}
        "" => drop(rule.insert("access".into(), json!("rwm"))),
        access => drop(rule.insert("access".into(), json!(access))),
    }
    Value::Object(rule)
}

fn net_devices(config: &mut Value, devices: &[NetDevice]) -> Result<(), InjectError> {
    for device in devices {
        let made = object(config, &["linux", "netDevices"])?;
        made.insert(device.host_interface_name.clone(), json!({"name": device.name}));
    }
    Ok(())
}

/// A mount takes the place of the first one at its destination; then all are sorted by depth, so
/// that none is made before the one it lies in.
fn mounts(config: &mut Value, mounts: &[Mount]) -> Result<(), InjectError> {
    if mounts.is_empty() {
        return Ok(());
    }
    let user_namespace = has_user_namespace(config);
    let list = list(config, &["mounts"])?;
    for mount in mounts {
        remove_first(list, "destination", &mount.container_path);
        list.push(oci_mount(mount, user_namespace));
    }
    list.sort_by_key(|mount| depth(text(mount, "destination").unwrap_or_default()));
    Ok(())
}

fn has_user_namespace(config: &Value) -> bool {
    let namespaces = config.pointer("/linux/namespaces").and_then(Value::as_array);
    namespaces.is_some_and(|all| all.iter().any(|namespace| text(namespace, "type") == Some("user")))
}

fn oci_mount(mount: &Mount, user_namespace: bool) -> Value {
    let mut made = Map::new();
    made.insert("destination".into(), json!(mount.container_path));
    if !mount.mount_type.is_empty() {
        made.insert("type".into(), json!(mount.mount_type));
    }
    made.insert("source".into(), json!(mount.host_path));
    let mut options = mount.options.clone();
    if user_namespace {
        options.extend(id_mapping(mount).map(str::to_owned));
    }
    if !options.is_empty() {
        made.insert("options".into(), json!(options));
    }
    Value::Object(made)
}

/// The option without which a bind mount's files belong to nobody in a user namespace.
fn id_mapping(mount: &Mount) -> Option<&'static str> {
    let has = |option: &str| mount.options.iter().any(|it| it == option);
    if has("idmap") || has("ridmap") {
        None
    } else if has("rbind") {
        Some("ridmap")
    } else {
        (has("bind") || mount.mount_type == "bind").then_some("idmap")
    }
}

/// The number of slashes in a path once `.`, `..` and doubled slashes are gone from it.
fn depth(path: &str) -> usize {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match parts.last() {
            Some(&last) if part == ".." && last != ".." => drop(parts.pop()),
            None if part == ".." && absolute => {}
            _ => parts.push(part),
        }
    }
    if absolute { parts.len().max(1) } else { parts.len().saturating_sub(1) }
}

fn hooks(config: &mut Value, hooks: &[Hook]) -> Result<(), InjectError> {
    for hook in hooks {
        let mut made = Map::new();
        made.insert("path".into(), json!(hook.path));
        for (field, texts) in [("args", &hook.args), ("env", &hook.env)] {
            if !texts.is_empty() {
                made.insert(field.into(), json!(texts));
            }
        }
        if let Some(timeout) = hook.timeout {
            made.insert("timeout".into(), json!(timeout));
        }
        list(config, &["hooks", &hook.hook_name])?.push(Value::Object(made));
    }
    Ok(())
}

fn intel_rdt(config: &mut Value, rdt: Option<&IntelRdt>) -> Result<(), InjectError> {
    let Some(rdt) = rdt else { return Ok(()) };
    let mut made = Map::new();
    let texts = [
        ("closID", &rdt.clos_id),
        ("l3CacheSchema", &rdt.l3_cache_schema),
        ("memBwSchema", &rdt.mem_bw_schema),
    ];
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        made.insert(field.into(), json!(text));
    }
    if let Some(schemata) = rdt.schemata.as_ref().filter(|schemata| !schemata.is_empty()) {
        made.insert("schemata".into(), json!(schemata));
    }
    if rdt.enable_monitoring {
        made.insert("enableMonitoring".into(), json!(true));
    }
    object(config, &["linux"])?.insert("intelRdt".into(), Value::Object(made));
    Ok(())
}

fn additional_gids(config: &mut Value, gids: &[u32]) -> Result<(), InjectError> {
    for gid in gids.iter().filter(|&&gid| gid != 0) {
        let list = list(config, &["process", "user", "additionalGids"])?;
        if !list.contains(&json!(gid)) {
            list.push(json!(gid));
        }
    }
    Ok(())
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

fn remove_first(list: &mut Vec<Value>, field: &str, wanted: &str) {
    if let Some(index) = list.iter().position(|item| text(item, field) == Some(wanted)) {
        list.remove(index);
    }
}

/// The object at a path, made where it or one above it is missing or null.
fn object<'a>(config: &'a mut Value, path: &[&str]) -> Result<&'a mut Map<String, Value>, InjectError> {
    let mut value = config;
    for (index, name) in path.iter().enumerate() {
        let above = as_object(value, path.get(..index).unwrap_or_default())?;
        value = above.entry(*name).or_insert(Value::Null);
    }
    as_object(value, path)
}

fn as_object<'a>(value: &'a mut Value, path: &[&str]) -> Result<&'a mut Map<String, Value>, InjectError> {
    if value.is_null() && !path.is_empty() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| misshapen(path, Shape::Object))
}

/// The list at a path, made likewise.
fn list<'a>(config: &'a mut Value, path: &[&str]) -> Result<&'a mut Vec<Value>, InjectError> {
    let (last, above) = path.split_last().unwrap_or((&"", &[]));
    let value = object(config, above)?.entry(*last).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().ok_or_else(|| misshapen(path, Shape::List))
}

#[cfg(test)]
mod tests;
