//! Why a machine does not get something, in words with the remedy.

use std::collections::BTreeSet;
use std::fmt;

use camino::Utf8PathBuf;

use super::draft::Draft;
use crate::Notice;
use crate::apply::Profile;
use crate::elf::Version;
use crate::ldcache::Abi;
use crate::nspawn::missing::OF_NODES;
use crate::nspawn::{TREE, Wanted};

/// Why something is left out, or is of less use than in a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// It is not on this machine, and below /run: else the whole is refused.
    Missing,
    /// The same of a node.
    NoNode,
    /// No program of the guest can load it.
    Abi(Option<Abi>),
    /// The guest's glibc is too old for it.
    Glibc { floor: Version, guest: Version },
    /// Another file stands where it would.
    Taken,
    /// It is no file that is bound.
    NoBind,
    /// Nothing is bound over the kernel's own files.
    Kernel,
    /// The kernel loads it, and from this machine.
    Firmware,
    /// It is in the tree, and nothing looks for it there.
    FixedPath,
    /// A link leads to what the machine does not get.
    Nowhere,
    /// A link among nodes lies where nodes are.
    DeviceLink,
    /// A node lies where nspawn would make a file for it that stays.
    NodePlace,
    /// The guest has no such group; what is to be done once it has.
    NoGroup { name: String, again: &'static str },
    /// Which groups the guest has is not known.
    UnknownGroups,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Missing => write!(
                formatter,
                "not on this host: its service does not run; start it, and then the machine"
            ),
            Reason::NoNode => write!(formatter, "not on this host: {OF_NODES}"),
            Reason::Abi(Some(abi)) => write!(formatter, "for {abi} programs, of which the machine has none"),
            Reason::Abi(None) => write!(formatter, "for programs of a kind that is not known here"),
            Reason::Glibc { floor, guest } => {
                write!(formatter, "needs glibc {floor}, and the machine has {guest}; left out")
            }
            Reason::Taken => write!(formatter, "another file of the spec has its place; left out"),
            Reason::NoBind => write!(formatter, "no file, directory or socket at a plain path; left out"),
            Reason::Kernel => write!(formatter, "nothing is mounted over /proc and /sys; left out"),
            Reason::Firmware => write!(formatter, "the kernel loads firmware from the host; left out"),
            Reason::FixedPath => write!(
                formatter,
                "looked for at that path, where a bind would leave an empty file in the machine; it is below {TREE} \
                 instead, and a link in the machine can lead there"
            ),
            Reason::Nowhere => write!(formatter, "leads to nothing that the machine gets; left out"),
            Reason::DeviceLink => write!(formatter, "a link beside device nodes, which nspawn cannot make"),
            Reason::NodePlace => {
                write!(formatter, "a node outside /dev would leave an empty file in the machine; left out")
            }
            Reason::NoGroup { name, again } => write!(
                formatter,
                "for the machine's root alone, since it has no group {name}; after `groupadd -r {name}` in it, {again}"
            ),
            Reason::UnknownGroups => write!(
                formatter,
                "for the machine's root alone: an image's groups are not known before it starts"
            ),
        }
    }
}

impl Reason {
    /// Whether it holds for every machine.
    pub(super) fn is_usual(&self) -> bool {
        match self {
            Reason::Firmware | Reason::FixedPath => true,
            Reason::Missing
            | Reason::NoNode
            | Reason::Abi(_)
            | Reason::Glibc { .. }
            | Reason::Taken
            | Reason::NoBind
            | Reason::Kernel
            | Reason::Nowhere
            | Reason::DeviceLink
            | Reason::NodePlace
            | Reason::NoGroup { .. }
            | Reason::UnknownGroups => false,
        }
    }
}

/// All that there is one reason for.
pub(super) fn notice(reason: &Reason, paths: &BTreeSet<Utf8PathBuf>) -> Notice {
    let paths: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
    Notice(format!("{}: {reason}", paths.join(", ")))
}

/// What is no file, node or link, and what nspawn has no means for.
pub(super) fn tell_rest(draft: &mut Draft<'_>, wanted: &Wanted<'_>, allowed: &[&String]) {
    if wanted.requests.iter().any(|request| request.profile == Profile::Write) {
        draft.usual.push(Notice(
            "no application profile is written: EGL may list GPUs of which the machine has no node"
                .to_owned(),
        ));
    }
    if let Some(compat) = wanted.requests.iter().find_map(|request| request.cuda_compat.as_ref()) {
        draft.usual.push(Notice(format!(
            "{}: CUDA compatibility libraries of the machine's own are not chosen; a program that needs them names that \
             directory by LD_LIBRARY_PATH",
            compat.directory
        )));
    }
    let mut tell = |text: String| draft.notices.push(Notice(text));
    for name in allowed {
        tell(format!("{name}: a hook that was not run"));
    }
    let modes = wanted.requests.iter().flat_map(|request| &request.modes);
    // nspawn makes directories with this mode.
    for (path, mode) in modes.filter(|(_, mode)| *mode != 0o755) {
        tell(format!("{path}: a directory of the machine, whose mode {mode:o} is its own affair"));
    }
    // The group of a node has its number in the machine, and what is missing of it is reported with the node.
    let of_a_node = |gid: &&u32| wanted.sources.nodes.values().any(|node| node.entry.gid == **gid);
    for gid in wanted.edits.additional_gids.iter().filter(|gid| !of_a_node(gid)) {
        tell(format!("group {gid}: processes of a machine join groups by its own /etc/group"));
    }
    for device in &wanted.edits.net_devices {
        let name = &device.host_interface_name;
        tell(format!("network device {name}: give it with Interface={name} or --network-interface={name}"));
    }
    if wanted.edits.intel_rdt.is_some() {
        tell("resource director technology: systemd has no setting for it".to_owned());
    }
}
