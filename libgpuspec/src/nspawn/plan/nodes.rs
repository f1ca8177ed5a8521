//! The device nodes, each as it is or as a clone that the guest's users can open, and the links among them.

use camino::{Utf8Path, Utf8PathBuf};

use super::draft::Draft;
use super::place;
use super::reason::Reason;
use crate::apply::{self, DeviceFiles, Link};
use crate::cdi::DeviceNode;
use crate::nspawn::guest::Libc;
use crate::nspawn::sources::HostNode;
use crate::nspawn::{Bind, BindSource, Content, Node, NodeKind, Options, TREE, Wanted, Way};
use crate::root::Kind;

const PARAMS: &str = "params";
/// Everyone may read and write.
const FOR_ALL: u32 = 0o006;

/// Places nodes, the links among them, and the driver's parameters that keep programs from making more.
pub(super) fn place(draft: &mut Draft<'_>, wanted: &Wanted<'_>, options: &Options) {
    for node in &wanted.edits.device_nodes {
        let source = node.source();
        let path = Utf8Path::new(&node.path);
        match wanted.sources.nodes.get(source) {
            None => draft.leave(Reason::NoNode, path),
            Some(found) => place_one(draft, node, source, found, options),
        }
    }
    for link in wanted.requests.iter().flat_map(|request| &request.device_links) {
        place_link(draft, link);
    }
    let hides = wanted.requests.iter().any(|request| request.device_files == DeviceFiles::Hide);
    if let Some(text) = wanted.sources.params.as_ref().filter(|_| hides) {
        let source = BindSource::Machine(Utf8Path::new(TREE).join(PARAMS));
        if draft.put(Utf8Path::new(apply::PARAMS), PARAMS.into(), Content::Text(text.clone())) {
            draft.binds.insert(Bind { at: apply::PARAMS.into(), source, read_only: true });
        }
    }
}

fn place_one(
    draft: &mut Draft<'_>,
    node: &DeviceNode,
    source: &Utf8Path,
    found: &HostNode,
    options: &Options,
) {
    let Ok(path) = apply::directory(&node.path) else {
        return draft.leave(Reason::NoBind, Utf8Path::new(&node.path));
    };
    let Some(path) = place::volatile(&path) else { return draft.leave(Reason::NodePlace, &path) };
    let kind = match found.entry.kind {
        Kind::CharDevice => NodeKind::Char,
        Kind::BlockDevice => NodeKind::Block,
        Kind::File | Kind::Directory | Kind::Symlink | Kind::Fifo | Kind::Socket | Kind::Unknown => {
            return draft.leave(Reason::NoBind, &path);
        }
    };
    let way = way(draft, &path, node, found, options);
    let (major, minor) = (found.entry.major, found.entry.minor);
    // Two devices of a spec share nodes, and the first says how.
    if draft.nodes.iter().all(|other| other.path != path) {
        draft.nodes.insert(Node { path, source: source.to_owned(), kind, major, minor, way });
    }
}

/// A node that is not for all belongs to a group, which the guest knows by the same name and another number; in a user
/// namespace it belongs to nobody at all.
fn way(
    draft: &mut Draft<'_>,
    path: &Utf8Path,
    node: &DeviceNode,
    found: &HostNode,
    options: &Options,
) -> Way {
    let mode = node.file_mode.unwrap_or(found.entry.mode) & 0o777;
    // A generated spec repeats this host's group; its number means nothing in the machine, and its name does.
    let other_group = node.gid.filter(|&gid| gid != found.entry.gid);
    let asked =
        node.uid.is_some_and(|uid| uid != 0) || other_group.is_some() || mode != found.entry.mode & 0o777;
    let for_all = mode & FOR_ALL == FOR_ALL;
    let guests = found.group.as_ref().and_then(|name| draft.guest.groups.get(name)).copied();
    // A group without a name means the same number everywhere, if it means anything.
    let guests = match found.entry.gid {
        // Root's is the same everywhere.
        0 => Some(0),
        gid if found.group.is_none() => Some(gid),
        _ => guests,
    };
    let (uid, gid) = (node.uid.unwrap_or(0), other_group.or(guests));
    let same = found.entry.uid == uid && Some(found.entry.gid) == gid;
    if !asked && (for_all || same && !options.user_namespace) {
        return Way::Plain;
    }
    if let (None, Some(name), false) = (gid, &found.group, for_all) {
        let again = if options.runs { "detach and attach again" } else { "start it again" };
        let reason = match draft.guest.libc {
            Libc::Unknown => Reason::UnknownGroups,
            Libc::Glibc | Libc::Musl | Libc::Absent => Reason::NoGroup { name: name.clone(), again },
        };
        draft.tell(reason, path);
    }
    Way::Cloned { uid, gid: gid.unwrap_or(0), mode, mapped: options.user_namespace }
}

/// A link among nodes, in a directory of its own that is bound from the tree; a runtime would make it where its end is.
fn place_link(draft: &mut Draft<'_>, link: &Link) {
    let directory = Utf8Path::new(&link.directory);
    let end = place::led_to(directory, &link.target);
    if draft.nodes.iter().all(|node| node.path != end) {
        return;
    }
    let path = directory.join(&link.name);
    let of_nodes =
        draft.nodes.iter().any(|node| node.path.starts_with(directory) || directory.starts_with(&node.path));
    let own = directory.strip_prefix("/dev").ok().filter(|below| !below.as_str().is_empty() && !of_nodes);
    let Some(below) = own else { return draft.leave(Reason::DeviceLink, &path) };
    let at: Utf8PathBuf = Utf8Path::new("dev").join(below);
    if draft.put(&path, at.join(&link.name), Content::Link(link.target.clone())) {
        draft.binds.insert(Bind { at: directory.to_owned(), source: BindSource::Tree(at), read_only: true });
    }
}
