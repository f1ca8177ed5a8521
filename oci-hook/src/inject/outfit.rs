//! What is put into a container's tree: nodes and mounts, their sources held by descriptors of this machine.
//!
//! A node is made. In a user namespace nobody may make one, so there this machine's own is bound, with its owner and
//! mode. Where the user has mounted something, a directory of this machine perhaps, nothing is made.

#![forbid(unsafe_code)]

use camino::Utf8Path;
use libgpuspec::cdi::{DeviceNode, Mount};
use libgpuspec::root::{ClonedMount, Entry, Kind, Restrictions};
use libgpuspec::{Error, Notice, Root, apply};

use crate::created::Users;
use crate::{Class, Failure};

/// What a container gets, in the order of the spec, nodes first.
#[derive(Debug)]
pub(crate) struct Outfit<'a> {
    items: Vec<(&'a Utf8Path, Item)>,
    left_out: Vec<Notice>,
}

#[derive(Debug)]
enum Item {
    Node(Entry),
    Mount(ClonedMount, Restrictions),
}

/// A node is there to be opened, and for nothing else that a mount can allow.
const OF_A_NODE: Restrictions =
    Restrictions { read_only: false, no_suid: true, no_devices: false, no_exec: true };

impl<'a> Outfit<'a> {
    /// Takes hold of the sources, in this machine's mount namespace.
    pub(crate) fn new(
        host: &Root,
        dev: &Root,
        nodes: &'a [DeviceNode],
        mounts: &'a [Mount],
        users: Users,
    ) -> Result<Outfit<'a>, Failure> {
        let mut outfit =
            Outfit { items: Vec::with_capacity(nodes.len() + mounts.len()), left_out: Vec::new() };
        for node in nodes {
            let path = Utf8Path::new(&node.path);
            match entry(node)? {
                None => {
                    outfit.left_out.push(Notice(format!("{path}: no device, and not made at this stage")))
                }
                Some(entry) if users == Users::Machine => outfit.items.push((path, Item::Node(entry))),
                Some(entry) => outfit.items.push((path, Item::Mount(bound(dev, node, &entry)?, OF_A_NODE))),
            }
        }
        for mount in mounts {
            let path = Utf8Path::new(&mount.host_path);
            let missing = || Error::Container(format!("{path}: to be mounted, and not there"));
            let clone = host.find_trusted(path).and_then(|found| found.ok_or_else(missing)?.clone_mount());
            let clone = clone.map_err(|error| Failure::new(Class::Machine, &error))?;
            let item = Item::Mount(clone, restrictions(mount));
            outfit.items.push((Utf8Path::new(&mount.container_path), item));
        }
        Ok(outfit)
    }

    /// Puts all of it into the container's tree, in the container's mount namespace; what was left out is told.
    pub(crate) fn put(self, root: &Root) -> libgpuspec::Result<Vec<Notice>> {
        let mut left_out = self.left_out;
        for (path, item) in &self.items {
            let there = match item {
                Item::Node(node) => root.entry(path)?.is_some_and(|there| is_same_device(&there, node)),
                Item::Mount(..) => root.find(path)?.is_some(),
            };
            if !there && !apply::is_own_place(root, path)? {
                let place = root.outside(path);
                left_out.push(Notice(format!(
                    "{place}: on another mount than the container's root; nothing is made there"
                )));
                continue;
            }
            match item {
                Item::Node(_) if there => {}
                Item::Node(node) => root.make_node(path, node)?,
                Item::Mount(clone, restrictions) => root.attach(clone, path, *restrictions)?,
            }
        }
        Ok(left_out)
    }
}

fn is_same_device(one: &Entry, other: &Entry) -> bool {
    (one.kind, one.major, one.minor) == (other.kind, other.major, other.minor)
}

/// The node as it is to be; `None` for a FIFO, which is no device.
fn entry(node: &DeviceNode) -> Result<Option<Entry>, Failure> {
    let kind = match node.node_type.as_str() {
        "b" => Kind::BlockDevice,
        "c" | "u" => Kind::CharDevice,
        _ => return Ok(None),
    };
    let (Ok(major), Ok(minor)) = (u32::try_from(node.major), u32::try_from(node.minor)) else {
        let reason = format!("{}: no device has the numbers {}:{}", node.path, node.major, node.minor);
        return Err(Failure { class: Class::Edit, reason });
    };
    let (uid, gid) = (node.uid.unwrap_or(0), node.gid.unwrap_or(0));
    let mode = node.file_mode.unwrap_or(0o666);
    Ok(Some(Entry { kind, mode, uid, gid, size: 0, major, minor, identity: (0, 0) }))
}

/// A mount of this machine's node, if it is the one that is meant.
fn bound(dev: &Root, node: &DeviceNode, wanted: &Entry) -> Result<ClonedMount, Failure> {
    let path = node.source();
    let found = dev.find_itself(path).map_err(|error| Failure::new(Class::Machine, &error))?;
    let Some(found) = found.filter(|found| is_same_device(&found.entry, wanted)) else {
        let reason = format!(
            "{}: not this machine's {}:{}, which a container with a user namespace gets no other way",
            dev.outside(path),
            wanted.major,
            wanted.minor
        );
        return Err(Failure { class: Class::Edit, reason });
    };
    found.clone_mount().map_err(|error| Failure::new(Class::Machine, &error))
}

fn restrictions(mount: &Mount) -> Restrictions {
    let has = |option: &str| mount.options.iter().any(|it| it == option);
    Restrictions {
        read_only: has("ro"),
        no_suid: has("nosuid"),
        no_devices: has("nodev"),
        no_exec: has("noexec"),
    }
}
