//! An attachment carried out: made on this host, looked up in the machine, written down, mounted.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::leader::{Leader, Users, outside};
use super::record::{Place, Record};
use super::{Gate, Gatekeeper};
use crate::error::{Error, Result};
use crate::nspawn::state::State;
use crate::nspawn::{Content, Farm, Loader, Node, Places, Preparation, TREE, TreeEntry, Way, tree};
use crate::root::{ClonedMount, Directory, Kind, Restrictions};
use crate::{Notice, Root};

/// Where the state has what is mounted in the machine, restricted as it is to be there.
const STAGE: &str = "inside";
/// Where the tree has the links that are laid over the machine's directories of libraries.
const LINKS: &str = "loader";
/// The variables of services and shells, which no running machine can be given, as a file for who wants them.
const ENVIRONMENT: &str = "environment";

const OF_A_NODE: Restrictions =
    Restrictions { read_only: false, no_suid: true, no_devices: false, no_exec: true };

/// Does what was decided; the record holds how far it got.
pub(super) fn carry_out(
    state: &State<'_>,
    leader: &Leader,
    record: &mut Record,
    preparation: &Preparation,
    gate: Gatekeeper<'_>,
    notices: &mut Vec<Notice>,
) -> Result<()> {
    let (mut preparation, farms) = in_the_tree(preparation.clone());
    let users = leader.users()?;
    if let Some((uids, gids)) = &users {
        preparation.nodes.iter_mut().try_for_each(|node| owned_outside(node, uids, gids))?;
    }
    let host = state.host();
    let directory = state.make()?;
    record.write(&directory)?;
    let bare = tree::make(host, &directory, &preparation)?;
    // Elsewhere its root has no right to write to that.
    notices.extend(bare.filter(|_| users.is_none()));
    let stage = Stage { host, state: state.path(), directory: directory.make_directory(STAGE)? };
    let clones = stage.all(&preparation)?;
    if let Some(grant) = &record.grant {
        gate(grant, Gate::Open).map_err(Error::Machine)?;
    }
    let clones = look(leader, clones, record, notices)?;
    record.write(&directory)?;
    put(leader, clones, record)?;
    for (index, farm) in farms.into_iter().enumerate() {
        lay_over(leader, index, farm.directory, record, &directory)?;
    }
    record.done = true;
    record.write(&directory)
}

/// Gives a node that is made here the owner who is the machine's there.
fn owned_outside(node: &mut Node, uids: &Users, gids: &Users) -> Result<()> {
    if let Way::Cloned { uid, gid, .. } = &mut node.way {
        let (Some(owner), Some(group)) = (outside(uids, *uid), outside(gids, *gid)) else {
            let reason = format!("{}: the machine has no user {uid} or group {gid}", node.path);
            return Err(Error::Machine(reason));
        };
        (*uid, *gid) = (owner, group);
    }
    Ok(())
}

/// The preparation with the links and variables in its tree, where the machine can reach them; and the former besides.
fn in_the_tree(mut preparation: Preparation) -> (Preparation, Vec<Farm>) {
    let loader = std::mem::take(&mut preparation.loader);
    let farms = match loader {
        Loader::Overlay(farms) => farms,
        Loader::Cache(_) | Loader::Environment | Loader::Nothing => Vec::new(),
    };
    for (index, farm) in farms.iter().enumerate() {
        for (name, text) in &farm.links {
            let at = Utf8Path::new(LINKS).join(index.to_string()).join(name);
            preparation.tree.push(TreeEntry { at, content: Content::Link(text.clone()) });
        }
    }
    if !preparation.environment.is_empty() {
        let line = |(name, value): &(String, String)| {
            let value =
                value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('`', "\\`");
            format!("{name}=\"{value}\"\n")
        };
        let text = preparation.environment.iter().map(line).collect();
        preparation.tree.push(TreeEntry { at: ENVIRONMENT.into(), content: Content::Text(text) });
    }
    (preparation, farms)
}

/// Where mounts get their restrictions: those of a clone cannot be changed once it is the machine's.
struct Stage<'a> {
    host: &'a Root,
    state: Utf8PathBuf,
    directory: Directory,
}

impl Stage<'_> {
    /// The tree, then nodes, then what is bound by itself; each with where it goes.
    fn all(&self, preparation: &Preparation) -> Result<Vec<(Utf8PathBuf, ClonedMount)>> {
        let places = Places(&self.state);
        let mut clones = Vec::new();
        let mut add = |at: &Utf8Path, source: &Utf8Path, restrictions| {
            let clone = self.restricted(&clones.len().to_string(), source, restrictions)?;
            clones.push((at.to_owned(), clone));
            Ok::<(), Error>(())
        };
        if !preparation.tree.is_empty() {
            add(TREE.into(), &places.tree(), tree::RESTRICTIONS)?;
        }
        for node in &preparation.nodes {
            add(&node.path, &places.node(node), OF_A_NODE)?;
        }
        for bind in &preparation.binds {
            let restrictions = Restrictions { read_only: bind.read_only, ..tree::RESTRICTIONS };
            add(&bind.at, &places.bind_here(&bind.source), restrictions)?;
        }
        Ok(clones)
    }

    fn restricted(&self, name: &str, source: &Utf8Path, restrictions: Restrictions) -> Result<ClonedMount> {
        let clone = tree::found(self.host, source)?.clone_mounts()?;
        self.directory.attach(name, &clone, restrictions)?;
        tree::found(self.host, &self.state.join(STAGE).join(name))?.clone_mounts()
    }
}

/// Looks where everything goes, and records it; what has no place there is left out and told.
fn look(
    leader: &Leader,
    clones: Vec<(Utf8PathBuf, ClonedMount)>,
    record: &mut Record,
    notices: &mut Vec<Notice>,
) -> Result<Vec<ClonedMount>> {
    let at: Vec<Utf8PathBuf> = clones.iter().map(|(at, _)| at.clone()).collect();
    let (own, hosts) = leader.peers()?;
    let found = leader.within(move |root| {
        let one = |at: &Utf8PathBuf| {
            let made = root.missing(at)?;
            let ground = made.first().and_then(|first| first.parent()).unwrap_or(at);
            let fits = made.is_empty() || root.is_transient(ground)?;
            Ok((made.clone(), fits, root.spreads(ground, &own, &hosts)?))
        };
        at.iter().map(one).collect::<Result<Vec<_>>>()
    })?;
    let mut kept = Vec::new();
    let mut planned = BTreeSet::new();
    for ((at, clone), (made, fits, spreads)) in clones.into_iter().zip(found) {
        let reason = match (fits, spreads) {
            (_, true) => "what is mounted there in the machine appears on this host too",
            (false, false) => "in a part of the machine's tree that stays, and so not made there",
            (true, false) => {
                let made = made.into_iter().filter(|path| planned.insert(path.clone())).collect();
                record.places.push(Place { identity: clone.identity()?, at, made });
                kept.push(clone);
                continue;
            }
        };
        if at == TREE {
            return Err(Error::Machine(format!("{at}: {reason}")));
        }
        notices.push(Notice(format!("{at}: {reason}; left out")));
    }
    Ok(kept)
}

/// Mounts in the machine what was recorded.
fn put(leader: &Leader, clones: Vec<ClonedMount>, record: &Record) -> Result<()> {
    let (places, users) = (record.places.clone(), leader.users()?);
    let (own, hosts) = leader.peers()?;
    let owner = match &users {
        Some((uids, gids)) => (outside(uids, 0).unwrap_or(0), outside(gids, 0).unwrap_or(0)),
        None => (0, 0),
    };
    leader.within(move |root| {
        for (place, clone) in places.iter().zip(&clones) {
            for path in &place.made {
                let is_last = *path == place.at;
                let kind = if is_last { clone.kind() } else { Kind::Directory };
                root.make_place(path, kind, owner)?;
            }
            root.put(clone, &place.at, &own, &hosts)?;
        }
        Ok(())
    })
}

/// Lays the links that the tree has under this number over one of the machine's directories.
fn lay_over(
    leader: &Leader,
    index: usize,
    over: Utf8PathBuf,
    record: &mut Record,
    state: &Directory,
) -> Result<()> {
    let (own, hosts) = leader.peers()?;
    let links = Utf8Path::new(TREE).join(LINKS).join(index.to_string());
    let at = over.clone();
    let (mount, identity) = leader.within(move |root| {
        let mount = root.overlay(&at, &links)?;
        let identity = mount.identity()?;
        Ok((mount, identity))
    })?;
    record.places.push(Place { at: over.clone(), identity, made: Vec::new() });
    record.write(state)?;
    leader.within(move |root| root.put(&mount, &over, &own, &hosts))
}
