//! `DeviceAllow=` rules: what a machine's device cgroup must let through, exactly and whatever exists when.

use std::collections::BTreeMap;
use std::fmt;

use camino::Utf8Path;

use super::quote::{self, Unwritable};
use crate::cdi::DeviceNode;
use crate::nspawn::NodeKind;

/// One rule of a unit (systemd.resource-control(5)), and for which nodes it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// What it lets through: `/dev/char/MAJOR:MINOR`, `char-NAME`, or a node's path.
    pub device: String,
    /// Letters of `r`, `w` and `m`.
    pub access: String,
    /// The nodes' names on the host, without `/dev/`.
    pub names: Vec<String>,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.device, self.access)
    }
}

/// What stands before a rule.
const KEY: &str = "DeviceAllow=";

/// The assignment of a rule, `DEVICE ACCESS`.
pub fn assignment(rule: &str) -> String {
    format!("{KEY}{rule}")
}

/// The rule that a unit's line assigns; an empty one takes back those before it.
pub fn assigned(line: &str) -> Option<&str> {
    line.strip_prefix(KEY)
}

/// What a rule lets through by its numbers, whenever it is made and whatever it is called.
pub fn by_number(kind: NodeKind, major: i64, minor: i64) -> String {
    format!("/dev/{}/{major}:{minor}", kind.word())
}

/// Major numbers that are the same on every machine (Documentation/admin-guide/devices.txt of Linux): NVIDIA, DRM.
const FIXED: [i64; 2] = [195, 226];

/// The rules for these nodes, filled in from the host as far as they are there, each with the mode that it has
/// there; `majors` are the host's, by their numbers, as [`majors`] reads them.
///
/// A rule by number holds for a node that is made later. Numbers of other drivers change from boot to boot: a
/// driver that has one name for one node and its kin is let through by it, which holds once it is loaded; else the
/// node's path stands, and systemd looks it up when the unit starts.
pub fn device_allow(
    nodes: &[DeviceNode],
    majors: &BTreeMap<i64, String>,
) -> Result<Vec<DeviceRule>, Unwritable> {
    let mut rules: Vec<DeviceRule> = Vec::new();
    for node in nodes.iter().filter(|node| node.permissions != "none" && node.node_type != "p") {
        let path = node.source().as_str();
        let name = path.strip_prefix("/dev/").unwrap_or(path);
        quote::line_safe(name)?;
        let access = access(node);
        // A rule without letters lets everything through.
        if access.is_empty() {
            continue;
        }
        let device = device(node, path, majors)?;
        match rules.iter_mut().find(|rule| rule.device == device) {
            Some(rule) => {
                rule.access =
                    "rwm".chars().filter(|&one| rule.access.contains(one) || access.contains(one)).collect();
                if !rule.names.iter().any(|known| known == name) {
                    rule.names.push(name.to_owned());
                }
            }
            None => rules.push(DeviceRule { device, access, names: vec![name.to_owned()] }),
        }
    }
    Ok(rules)
}

fn device(node: &DeviceNode, path: &str, majors: &BTreeMap<i64, String>) -> Result<String, Unwritable> {
    let known = node.major != 0;
    let is_block = node.node_type == "b";
    let kind = if is_block { NodeKind::Block } else { NodeKind::Char };
    let by_number = by_number(kind, node.major, node.minor);
    if known && !is_block && FIXED.contains(&node.major) {
        return Ok(by_number);
    }
    let driver = majors.get(&node.major).filter(|_| known && !is_block);
    if let Some(driver) = driver.filter(|driver| is_named_after(path, driver)) {
        return Ok(format!("char-{driver}"));
    }
    if path.starts_with("/dev/") {
        return Ok(path.to_owned());
    }
    // systemd takes no other path, and so the number of this boot has to do.
    match known {
        true => Ok(by_number),
        false => Err(Unwritable { text: path.to_owned(), why: "a device outside /dev, and without numbers" }),
    }
}

/// Whether a node is its driver's own, as `/dev/nvidia-uvm` and `/dev/nvidia-uvm-tools` are of `nvidia-uvm`.
fn is_named_after(path: &str, driver: &str) -> bool {
    let name = Utf8Path::new(path).file_name().unwrap_or_default();
    name.strip_prefix(driver).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// What the spec says, but for making nodes: that is for those whose file does not let everybody in, of which a
/// machine in a user namespace gets a copy that does.
fn access(node: &DeviceNode) -> String {
    let given = if node.permissions.is_empty() { "rw" } else { &node.permissions };
    let is_closed = node.file_mode.is_some_and(|mode| mode & 0o006 != 0o006);
    let letters = [('r', given.contains('r')), ('w', given.contains('w')), ('m', is_closed)];
    letters.iter().filter(|(_, has)| *has).map(|(letter, _)| letter).collect()
}

/// The character devices of `/proc/devices` (proc(5)): names by their major numbers.
pub fn majors(text: &str) -> BTreeMap<i64, String> {
    let lines = text.lines().take_while(|line| !line.starts_with("Block"));
    lines
        .filter_map(|line| {
            let (number, name) = line.trim().split_once(' ')?;
            Some((number.parse().ok()?, name.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n226 drm\n235 nvidia-caps\n239 nvidia-uvm\n\
                           242 kfd\n\nBlock devices:\n  8 sd\n";

    fn node(path: &str, numbers: (i64, i64), mode: u32) -> DeviceNode {
        DeviceNode {
            path: path.to_owned(),
            node_type: "c".to_owned(),
            major: numbers.0,
            minor: numbers.1,
            file_mode: Some(mode),
            ..DeviceNode::default()
        }
    }

    #[test]
    fn each_node_has_the_rule_that_holds_longest() {
        let unknown = DeviceNode { path: "/dev/nvidia-uvm".to_owned(), ..DeviceNode::default() };
        let cases: [(&str, DeviceNode, &str); 11] = [
            ("a fixed major", node("/dev/nvidia0", (195, 0), 0o666), "/dev/char/195:0 rw"),
            ("a driver's own", node("/dev/nvidia-uvm", (239, 0), 0o666), "char-nvidia-uvm rw"),
            ("its kin", node("/dev/nvidia-uvm-tools", (239, 1), 0o666), "char-nvidia-uvm rw"),
            (
                "one driver, many nodes",
                node("/dev/nvidia-caps/nvidia-cap1", (235, 1), 0o666),
                "/dev/nvidia-caps/nvidia-cap1 rw",
            ),
            (
                "one that must be copied",
                node("/dev/dri/renderD128", (226, 128), 0o660),
                "/dev/char/226:128 rwm",
            ),
            ("a driver's own, to be copied", node("/dev/kfd", (242, 0), 0o660), "char-kfd rwm"),
            (
                "read only",
                DeviceNode { permissions: "r".into(), ..node("/dev/nvidia0", (195, 0), 0o666) },
                "/dev/char/195:0 r",
            ),
            (
                "all that a spec can say",
                DeviceNode { permissions: "rwm".into(), ..node("/dev/nvidia0", (195, 0), 0o666) },
                "/dev/char/195:0 rw",
            ),
            ("not there", unknown, "/dev/nvidia-uvm rw"),
            (
                "a block device",
                DeviceNode { node_type: "b".into(), ..node("/dev/sdx", (195, 1), 0o666) },
                "/dev/sdx rw",
            ),
            (
                "elsewhere on the host",
                DeviceNode { host_path: "/srv/dev/x".into(), ..node("/dev/x", (240, 3), 0o666) },
                "/dev/char/240:3 rw",
            ),
        ];
        for (name, node, expected) in cases {
            let rules = device_allow(&[node], &majors(DEVICES)).unwrap();
            let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
            assert_eq!(rules, [expected], "{name}");
        }
    }

    #[test]
    fn a_rule_stands_once() {
        let tools = DeviceNode { permissions: "r".into(), ..node("/dev/nvidia-uvm-tools", (239, 1), 0o666) };
        let nodes = [tools.clone(), node("/dev/nvidia-uvm", (239, 0), 0o666), tools];
        let names = vec!["nvidia-uvm-tools".to_owned(), "nvidia-uvm".to_owned()];
        let expected = DeviceRule { device: "char-nvidia-uvm".into(), access: "rw".into(), names };
        assert_eq!(device_allow(&nodes, &majors(DEVICES)), Ok(vec![expected]));
    }

    #[test]
    fn what_is_for_no_cgroup_has_no_rule() {
        let none = DeviceNode { permissions: "none".into(), ..node("/dev/nvidia0", (195, 0), 0o666) };
        let fifo = DeviceNode { path: "/dev/fifo".into(), node_type: "p".into(), ..DeviceNode::default() };
        let made = DeviceNode { permissions: "m".into(), ..node("/dev/nvidia0", (195, 0), 0o666) };
        assert_eq!(device_allow(&[none, fifo, made], &majors(DEVICES)), Ok(vec![]));
        for path in ["/dev/x\nDeviceAllow=/dev/sda", "/srv/x"] {
            let node = DeviceNode { path: path.into(), ..DeviceNode::default() };
            assert!(device_allow(&[node], &majors(DEVICES)).is_err(), "{path:?}");
        }
    }
}
