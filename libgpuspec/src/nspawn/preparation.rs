//! What a machine is given, as values: the tree, nodes, binds, variables, and what the loader is told.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::Notice;
use crate::apply::Libraries;

/// All that is done for one machine. Lists are sorted and without doubles; paths are absolute but for those in the tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Preparation {
    /// What [`TREE`](super::TREE) holds, each parent before what is in it.
    pub tree: Vec<TreeEntry>,
    /// How the machine's loader finds the tree's libraries.
    pub loader: Loader,
    /// Device nodes.
    pub nodes: Vec<Node>,
    /// What is bound by itself, besides the tree.
    pub binds: Vec<Bind>,
    /// Variables of the machine's services and shells.
    pub environment: Vec<(String, String)>,
    /// What the machine does not get, and why.
    pub notices: Vec<Notice>,
    /// The same of what no machine gets of these devices: nothing that would be news at each start.
    pub usual: Vec<Notice>,
}

/// One name of the tree. Directories that hold one are made, mode 0755.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TreeEntry {
    /// Its path below the tree's top, e.g. `lib/libcuda.so.1`.
    pub at: Utf8PathBuf,
    /// What it is.
    #[serde(flatten)]
    pub content: Content,
}

/// What stands at a name of the tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// This machine's file, read-only: itself, since copies in /run cannot be mapped (noexec).
    File(Utf8PathBuf),
    /// This machine's directory, read-only with all below it.
    Directory(Utf8PathBuf),
    /// A symbolic link with this text.
    Link(Utf8PathBuf),
    /// A new file, mode 0444, of this text.
    Text(String),
}

/// How a machine's loader finds the tree's libraries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Loader {
    /// By its own cache, which is extended before the start and restored after the stop.
    Cache(Vec<Libraries>),
    /// Where it looks anyway, by read-only overlays on these directories.
    Overlay(Vec<Farm>),
    /// By LD_LIBRARY_PATH, which is among the variables.
    Environment,
    /// It is told nothing: it finds them by itself, or not at all.
    #[default]
    Nothing,
}

/// A directory of links that is laid over one of the machine's directories of libraries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Farm {
    /// The machine's directory, no link on the way to it.
    pub directory: Utf8PathBuf,
    /// The links: name and text.
    pub links: BTreeMap<String, Utf8PathBuf>,
}

/// A device node that the machine sees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// Where it is in the machine.
    pub path: Utf8PathBuf,
    /// Where it is on this machine.
    pub source: Utf8PathBuf,
    /// What it is.
    pub kind: NodeKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// How it gets there.
    pub way: Way,
}

/// The two kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// A character device.
    Char,
    /// A block device.
    Block,
}

impl NodeKind {
    /// The kernel's word for it, as in /dev/char and /proc/devices.
    pub fn word(self) -> &'static str {
        match self {
            NodeKind::Char => "char",
            NodeKind::Block => "block",
        }
    }
}

/// How a node gets into a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// This machine's own node is bound: everyone may use it, or the machine's groups are this machine's.
    Plain,
    /// A second node of the same numbers is made on a file system of ours: in a user namespace this machine's
    /// own belongs to nobody there is, and its group may have another number in the machine.
    Cloned {
        /// Owner in the machine.
        uid: u32,
        /// Group in the machine.
        gid: u32,
        /// Permission bits.
        mode: u32,
        /// Whether the machine's user namespace stands between its numbers and this machine's: then it is bound
        /// with `idmap`, which fails where there is none.
        mapped: bool,
    },
}

/// Something that is bound to a place of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Bind {
    /// Where it appears in the machine.
    pub at: Utf8PathBuf,
    /// What.
    pub source: BindSource,
    /// Whether nothing can be written through it.
    pub read_only: bool,
}

/// Where the source of a bind is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BindSource {
    /// On this machine.
    Host(Utf8PathBuf),
    /// The same, held by a mount in the machine's state: it may vanish, or be exchanged by another user.
    Held(Utf8PathBuf),
    /// In the tree, below its top; empty is the top itself.
    Tree(Utf8PathBuf),
    /// In the machine, once the tree is bound there: nspawn looks up what it binds below /proc so.
    Machine(Utf8PathBuf),
}
