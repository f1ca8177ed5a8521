//! What a preparation has on this host, made on the file system of the machine's state: tree, farms, nodes.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::{BindSource, Content, Farm, Loader, Node, NodeKind, Places, Preparation, Way};
use crate::error::{Error, Result};
use crate::root::{Directory, Durability, Entry, Kind, Restrictions, Views};
use crate::{Notice, Root, apply};

/// What a machine may not do with this host's files. Root of a machine without a user namespace of its own has the
/// rights to undo that (mount(2), MS_REMOUNT), as with every bind of systemd-nspawn: what keeps it from writing to
/// them is the file system that they are seen through ([`Views`]).
pub(super) const RESTRICTIONS: Restrictions =
    Restrictions { read_only: true, no_suid: true, no_devices: true, no_exec: false };

/// Where views of this host's directories are attached.
const VIEWS: &str = "view";
/// Where [`Places::clone_of`] has the nodes that are made.
const CLONES: &str = "dev";

/// Makes all that the preparation has, in the empty directory `state`; what has no view is told.
pub(super) fn make(host: &Root, state: &Directory, preparation: &Preparation) -> Result<Option<Notice>> {
    let mut views = Views::new(host, state.make_directory(VIEWS)?)?;
    let places = Places("".into());
    let mut directories = Directories { top: state, below: BTreeMap::new() };
    for entry in &preparation.tree {
        add(host, &mut views, &mut directories, &places.tree().join(&entry.at), &entry.content)?;
    }
    if let Loader::Overlay(farms) = &preparation.loader {
        for (index, farm) in farms.iter().enumerate() {
            let directory = directories.directory(places.farm(index).as_str())?;
            farm.links.iter().try_for_each(|(name, text)| directory.symlink(name, text))?;
        }
    }
    for node in &preparation.nodes {
        if let Way::Cloned { uid, gid, mode, .. } = node.way {
            // Its group's number is the machine's, and on this host perhaps somebody else's.
            directories.directory(CLONES)?.set_mode(0o700)?;
            let path = places.clone_of(node);
            let (directory, name) = directories.place(&path)?;
            directory.make_node(name, &entry(node, uid, gid, mode))?;
            let (link, text) = places.link_to_clone(node);
            let (directory, name) = directories.place(&link)?;
            directory.symlink(name, &text)?;
        }
    }
    for bind in &preparation.binds {
        if let BindSource::Held(source) = &bind.source {
            let path = places.held(source);
            let (directory, name) = directories.place(&path)?;
            hold_one(host, directory, name, source, bind.read_only)?;
        }
    }
    Ok(bare(views.bare()))
}

/// Holds a file of the host's that comes and goes; one that has gone since it was looked at is an empty file.
fn hold_one(
    host: &Root,
    directory: &Directory,
    name: &str,
    source: &Utf8Path,
    read_only: bool,
) -> Result<()> {
    match host.find_trusted(source).ok().flatten() {
        Some(found) => {
            let restrictions = Restrictions { read_only, ..apply::OPTIONAL_RESTRICTIONS };
            directory.attach(name, &found.clone_mount()?, restrictions)
        }
        None => directory.replace_file(name, b"", 0o444, None, Durability::Lazy),
    }
}

/// Mounts, in the state, the machine's directories that links are laid over. systemd-nspawn follows a path to them with
/// the rights of this host's root, and the machine could make it lead to this host's files.
///
/// A directory that is gone by now, or is something else, gets no links; the notices say so.
pub(super) fn hold(machine: &Root, state: &Directory, farms: &mut Vec<Farm>) -> Result<Vec<Notice>> {
    let places = Places("".into());
    let mut directories = Directories { top: state, below: BTreeMap::new() };
    let (mut held, mut notices) = (Vec::new(), Vec::new());
    for farm in farms.drain(..) {
        match machine.find(&farm.directory)?.filter(|found| found.entry.kind == Kind::Directory) {
            Some(found) => {
                let place = places.below(held.len());
                let (above, name) = directories.place(&place)?;
                above.attach(name, &found.clone_mount()?, RESTRICTIONS)?;
                held.push(farm);
            }
            None => {
                let path = machine.outside(&farm.directory);
                notices.push(Notice(format!(
                    "{path}: changed while the machine was prepared; no links are laid over it"
                )));
            }
        }
    }
    *farms = held;
    Ok(notices)
}

/// What is told of what has no view.
fn bare(paths: &BTreeSet<Utf8PathBuf>) -> Option<Notice> {
    let paths: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
    let why = "no overlay can be laid over it; root of a machine without a user namespace could write to it";
    (!paths.is_empty()).then(|| Notice(format!("{}: {why}", paths.join(", "))))
}

fn add(
    host: &Root,
    views: &mut Views<'_>,
    directories: &mut Directories<'_>,
    path: &Utf8Path,
    content: &Content,
) -> Result<()> {
    let (directory, name) = directories.place(path)?;
    match content {
        Content::File(source) | Content::Directory(source) => {
            directory.attach(name, &views.clone_of(&found(host, source)?)?, RESTRICTIONS)
        }
        Content::Link(text) => directory.symlink(name, text),
        Content::Text(text) => directory.replace_file(name, text.as_bytes(), 0o444, None, Durability::Lazy),
    }
}

pub(super) fn found<'a>(host: &'a Root, source: &'a Utf8Path) -> Result<crate::root::Found<'a>> {
    let gone = || Error::Machine(format!("{source}: in the spec, and not on this host: make the spec anew"));
    host.find_trusted(source)?.ok_or_else(gone)
}

fn entry(node: &Node, uid: u32, gid: u32, mode: u32) -> Entry {
    let kind = match node.kind {
        NodeKind::Char => Kind::CharDevice,
        NodeKind::Block => Kind::BlockDevice,
    };
    let (major, minor) = (node.major, node.minor);
    Entry { kind, mode, uid, gid, size: 0, major, minor, identity: (0, 0) }
}

/// The directories that are being made, each opened once.
#[derive(Debug)]
struct Directories<'a> {
    top: &'a Directory,
    below: BTreeMap<String, Directory>,
}

impl Directories<'_> {
    /// The directory of a path, made where it is missing, and the name in it.
    fn place<'a>(&mut self, path: &'a Utf8Path) -> Result<(&Directory, &'a str)> {
        let split = path.parent().zip(path.file_name()).filter(|(parent, _)| !parent.as_str().is_empty());
        let (parent, name) = split.ok_or_else(|| nameless(path.as_str()))?;
        Ok((self.directory(parent.as_str())?, name))
    }

    fn directory(&mut self, path: &str) -> Result<&Directory> {
        if !self.below.contains_key(path) {
            let mut names = path.split('/');
            let mut directory = self.top.make_directory(names.next().unwrap_or_default())?;
            for name in names {
                directory = directory.make_directory(name)?;
            }
            self.below.insert(path.to_owned(), directory);
        }
        self.below.get(path).ok_or_else(|| nameless(path))
    }
}

fn nameless(path: &str) -> Error {
    Error::Machine(format!("`{path}`: no place in a machine's state"))
}
