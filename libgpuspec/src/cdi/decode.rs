//! From a document's tree to a spec: every field by name and type, everything amiss noted with its place.

use super::place::{At, Position};
use super::problem::{Problem, Violations};
use super::spec::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, NetDevice, Spec};
use super::tree::{Entry, Node, Value, same_key};

const SPEC: &[&str] = &["cdiVersion", "kind", "annotations", "devices", "containerEdits"];
const DEVICE: &[&str] = &["name", "annotations", "containerEdits"];
const EDITS: &[&str] = &["env", "deviceNodes", "netDevices", "hooks", "mounts", "intelRdt", "additionalGids"];
const NODE: &[&str] =
    &["path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"];
const MOUNT: &[&str] = &["hostPath", "containerPath", "options", "type"];
const HOOK: &[&str] = &["hookName", "path", "args", "env", "timeout"];
const NET: &[&str] = &["hostInterfaceName", "name"];
const RDT: &[&str] = &["closID", "l3CacheSchema", "memBwSchema", "schemata", "enableMonitoring"];

/// The spec as far as it can be read, and what could not; the walk ends where the list of mistakes is full.
pub(crate) fn decode(tree: &Node<'_>) -> (Spec, Violations) {
    let mut decoder = Decoder { found: Violations::default() };
    let spec = decoder.spec(tree);
    (spec, decoder.found)
}

struct Decoder {
    found: Violations,
}

impl Decoder {
    fn spec(&mut self, tree: &Node<'_>) -> Spec {
        let mut spec = Spec::default();
        self.object(tree, &At::TOP, SPEC, |this, field, node, at| match field {
            "cdiVersion" => spec.version = this.text(node, at),
            "kind" => spec.kind = this.text(node, at),
            "annotations" => spec.annotations = this.annotations(node, at),
            "devices" => spec.devices = this.list(node, at, Decoder::device),
            _ => spec.container_edits = this.edits(node, at),
        });
        spec
    }

    fn device(&mut self, node: &Node<'_>, at: &At<'_>) -> Device {
        let mut device = Device::default();
        self.object(node, at, DEVICE, |this, field, node, at| match field {
            "name" => device.name = this.text(node, at),
            "annotations" => device.annotations = this.annotations(node, at),
            _ => device.container_edits = this.edits(node, at),
        });
        device
    }

    fn edits(&mut self, node: &Node<'_>, at: &At<'_>) -> ContainerEdits {
        let mut edits = ContainerEdits::default();
        self.object(node, at, EDITS, |this, field, node, at| match field {
            "env" => edits.env = this.list(node, at, Decoder::text),
            "deviceNodes" => edits.device_nodes = this.list(node, at, Decoder::device_node),
            "netDevices" => edits.net_devices = this.list(node, at, Decoder::net_device),
            "hooks" => edits.hooks = this.list(node, at, Decoder::hook),
            "mounts" => edits.mounts = this.list(node, at, Decoder::mount),
            "intelRdt" => edits.intel_rdt = present(node).map(|node| this.intel_rdt(node, at)),
            _ => edits.additional_gids = this.list(node, at, Decoder::number),
        });
        edits
    }

    fn device_node(&mut self, node: &Node<'_>, at: &At<'_>) -> DeviceNode {
        let mut made = DeviceNode::default();
        self.object(node, at, NODE, |this, field, node, at| match field {
            "path" => made.path = this.text(node, at),
            "hostPath" => made.host_path = this.text(node, at),
            "type" => made.node_type = this.text(node, at),
            "major" => made.major = this.number(node, at),
            "minor" => made.minor = this.number(node, at),
            "fileMode" => made.file_mode = present(node).map(|node| this.number(node, at)),
            "permissions" => made.permissions = this.text(node, at),
            "uid" => made.uid = present(node).map(|node| this.number(node, at)),
            _ => made.gid = present(node).map(|node| this.number(node, at)),
        });
        made
    }

    fn mount(&mut self, node: &Node<'_>, at: &At<'_>) -> Mount {
        let mut mount = Mount::default();
        self.object(node, at, MOUNT, |this, field, node, at| match field {
            "hostPath" => mount.host_path = this.text(node, at),
            "containerPath" => mount.container_path = this.text(node, at),
            "options" => mount.options = this.list(node, at, Decoder::text),
            _ => mount.mount_type = this.text(node, at),
        });
        mount
    }

    fn hook(&mut self, node: &Node<'_>, at: &At<'_>) -> Hook {
        let mut hook = Hook::default();
        self.object(node, at, HOOK, |this, field, node, at| match field {
            "hookName" => hook.hook_name = this.text(node, at),
            "path" => hook.path = this.text(node, at),
            "args" => hook.args = this.list(node, at, Decoder::text),
            "env" => hook.env = this.list(node, at, Decoder::text),
            _ => hook.timeout = present(node).map(|node| this.number(node, at)),
        });
        hook
    }

    fn net_device(&mut self, node: &Node<'_>, at: &At<'_>) -> NetDevice {
        let mut device = NetDevice::default();
        self.object(node, at, NET, |this, field, node, at| match field {
            "hostInterfaceName" => device.host_interface_name = this.text(node, at),
            _ => device.name = this.text(node, at),
        });
        device
    }

    fn intel_rdt(&mut self, node: &Node<'_>, at: &At<'_>) -> IntelRdt {
        let mut rdt = IntelRdt::default();
        self.object(node, at, RDT, |this, field, node, at| match field {
            "closID" => rdt.clos_id = this.text(node, at),
            "l3CacheSchema" => rdt.l3_cache_schema = this.text(node, at),
            "memBwSchema" => rdt.mem_bw_schema = this.text(node, at),
            "schemata" => rdt.schemata = present(node).map(|node| this.list(node, at, Decoder::text)),
            _ => rdt.enable_monitoring = this.truth(node, at),
        });
        rdt
    }

    /// Walks a mapping whose keys are fields; `take` gets each known one under its proper name.
    fn object(
        &mut self,
        node: &Node<'_>,
        at: &At<'_>,
        fields: &'static [&'static str],
        mut take: impl FnMut(&mut Decoder, &'static str, &Node<'_>, &At<'_>),
    ) {
        let mut seen = Vec::new();
        for entry in self.entries(node, at) {
            if self.found.is_full() {
                return;
            }
            let Some(field) = fields.iter().find(|field| same_key(&entry.key, field)) else {
                let problem = unknown(&entry.key, fields);
                self.note(entry.position, &at.field(&entry.key), problem);
                continue;
            };
            if seen.contains(&field) {
                self.note(entry.position, &at.field(field), Problem::DuplicateKey(entry.key.to_string()));
                continue;
            }
            seen.push(field);
            take(self, field, &entry.value, &at.field(field));
        }
    }

    fn entries<'n, 'a>(&mut self, node: &'n Node<'a>, at: &At<'_>) -> &'n [Entry<'a>] {
        if let Value::Map(entries) = &node.value {
            return entries;
        }
        self.unless_null(node, at, "a mapping");
        &[]
    }

    fn list<T: Default>(
        &mut self,
        node: &Node<'_>,
        at: &At<'_>,
        item: fn(&mut Decoder, &Node<'_>, &At<'_>) -> T,
    ) -> Vec<T> {
        let Value::List(items) = &node.value else {
            self.unless_null(node, at, "a list");
            return Vec::new();
        };
        let mut made = Vec::with_capacity(items.len());
        for (index, node) in items.iter().enumerate() {
            if self.found.is_full() {
                break;
            }
            let at = at.index(index);
            if node.value == Value::Null {
                self.note(node.position, &at, Problem::NullEntry);
                made.push(T::default());
            } else {
                made.push(item(self, node, &at));
            }
        }
        made
    }

    fn annotations(&mut self, node: &Node<'_>, at: &At<'_>) -> std::collections::BTreeMap<String, String> {
        let mut made = std::collections::BTreeMap::new();
        for entry in self.entries(node, at) {
            if self.found.is_full() {
                break;
            }
            let at = at.field(&entry.key);
            let text = self.text(&entry.value, &at);
            if made.insert(entry.key.to_string(), text).is_some() {
                self.note(entry.position, &at, Problem::DuplicateKey(entry.key.to_string()));
            }
        }
        made
    }

    /// A string; any scalar becomes one, null the empty one.
    fn text(&mut self, node: &Node<'_>, at: &At<'_>) -> String {
        if let Some(text) = node.value.as_text() {
            return text.into_owned();
        }
        self.unless_null(node, at, "a string");
        String::new()
    }

    /// A whole number in the range of `T`; null is 0, and `1e2` is one like 100.
    fn number<T: std::str::FromStr + Default>(&mut self, node: &Node<'_>, at: &At<'_>) -> T {
        let number = match &node.value {
            Value::Int(value) => value.to_string().parse().ok(),
            Value::Float(value) => value.to_string().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
        };
        if number.is_none() {
            self.unless_null(node, at, number_words::<T>());
        }
        number.unwrap_or_default()
    }

    fn truth(&mut self, node: &Node<'_>, at: &At<'_>) -> bool {
        if let Value::Bool(value) = node.value {
            return value;
        }
        self.unless_null(node, at, "true or false");
        false
    }

    /// Notes that a value is not what is wanted; null is as good as absent everywhere.
    fn unless_null(&mut self, node: &Node<'_>, at: &At<'_>, expected: &'static str) {
        if node.value != Value::Null {
            self.note(node.position, at, Problem::Type { expected, found: node.value.words() });
        }
    }

    fn note(&mut self, position: Position, at: &At<'_>, problem: Problem) {
        self.found.note(at, Some(position), problem);
    }
}

/// A field's value where it is not null, which is as good as absent.
fn present<'n, 'a>(node: &'n Node<'a>) -> Option<&'n Node<'a>> {
    (node.value != Value::Null).then_some(node)
}

fn number_words<T>() -> &'static str {
    if size_of::<T>() == size_of::<u32>() { "a whole number from 0 to 4294967295" } else { "a whole number" }
}

fn unknown(key: &str, fields: &[&str]) -> Problem {
    let hint = match key {
        "enableCMT" | "enableMBM" => {
            "; it left the specification with 1.1.0, enableMonitoring took its place".into()
        }
        _ => format!("; known here: {}", fields.join(", ")),
    };
    Problem::UnknownField { name: key.to_owned(), hint }
}
