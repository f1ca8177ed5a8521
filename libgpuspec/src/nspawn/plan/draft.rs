//! A preparation under way: what has its place, by the paths that a container would have.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::reason::{self, Reason};
use crate::Notice;
use crate::ldcache::Abi;
use crate::nspawn::{Bind, Content, Guest, Loader, Node, Preparation, TreeEntry};

/// What has been decided so far.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) guest: &'a Guest,
    pub(super) tree: BTreeMap<Utf8PathBuf, Content>,
    /// Where in the tree a container's paths are.
    pub(super) placed: BTreeMap<Utf8PathBuf, Utf8PathBuf>,
    /// Container paths that were left out for a reason which is told already.
    pub(super) left_out: BTreeSet<Utf8PathBuf>,
    /// The names of the tree's libraries by which a loader is asked for them.
    pub(super) libraries: BTreeSet<(Abi, Utf8PathBuf)>,
    pub(super) nodes: BTreeSet<Node>,
    pub(super) binds: BTreeSet<Bind>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) notices: Vec<Notice>,
    pub(super) usual: Vec<Notice>,
    left: BTreeMap<Reason, BTreeSet<Utf8PathBuf>>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(guest: &'a Guest) -> Draft<'a> {
        Draft {
            guest,
            tree: BTreeMap::new(),
            placed: BTreeMap::new(),
            left_out: BTreeSet::new(),
            libraries: BTreeSet::new(),
            nodes: BTreeSet::new(),
            binds: BTreeSet::new(),
            environment: BTreeMap::new(),
            notices: Vec::new(),
            usual: Vec::new(),
            left: BTreeMap::new(),
        }
    }

    /// Gives a name of the tree its content and a container's path its place; whether that could be.
    pub(super) fn put(&mut self, path: &Utf8Path, at: Utf8PathBuf, content: Content) -> bool {
        if !self.add(at.clone(), content) {
            self.leave(Reason::Taken, path);
            return false;
        }
        self.placed.insert(path.to_owned(), at);
        true
    }

    /// Gives a name of the tree its content, where neither it nor one above or below it has another.
    pub(super) fn add(&mut self, at: Utf8PathBuf, content: Content) -> bool {
        let above = at.ancestors().skip(1).any(|above| self.tree.contains_key(above));
        // Component-wise order: what lies below a name follows it at once.
        let next = self.tree.range(at.clone()..).find(|(name, _)| **name != at);
        let below = next.is_some_and(|(name, _)| name.starts_with(&at));
        if above || below {
            return false;
        }
        match self.tree.entry(at) {
            Entry::Occupied(there) => *there.get() == content,
            Entry::Vacant(free) => {
                free.insert(content);
                true
            }
        }
    }

    /// Leaves something out.
    pub(super) fn leave(&mut self, reason: Reason, path: &Utf8Path) {
        self.left_out.insert(path.to_owned());
        self.tell(reason, path);
    }

    /// Tells of something that is not left out.
    pub(super) fn tell(&mut self, reason: Reason, path: &Utf8Path) {
        self.left.entry(reason).or_default().insert(path.to_owned());
    }

    /// Whether anything of the tree lies below this directory.
    pub(super) fn has(&self, directory: &str) -> bool {
        let directory = Utf8Path::new(directory);
        self.tree.keys().any(|name| name.starts_with(directory))
    }

    pub(super) fn finish(mut self, loader: Loader) -> Preparation {
        for (reason, paths) in &self.left {
            let list = if reason.is_usual() { &mut self.usual } else { &mut self.notices };
            list.push(reason::notice(reason, paths));
        }
        for list in [&mut self.notices, &mut self.usual] {
            list.sort();
            list.dedup();
        }
        Preparation {
            tree: self.tree.into_iter().map(|(at, content)| TreeEntry { at, content }).collect(),
            loader,
            nodes: self.nodes.into_iter().collect(),
            binds: self.binds.into_iter().collect(),
            environment: self.environment.into_iter().collect(),
            notices: self.notices,
            usual: self.usual,
        }
    }
}
