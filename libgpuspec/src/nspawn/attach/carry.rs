//! An attachment carried out: made on this host, looked up in the machine, written down, mounted.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::errand::{self, Ground, Messenger, Work};
use super::leader::{Leader, Users, outside};
use super::record::{Place, Record};
use super::{Gate, Gatekeeper};
use crate::error::{Error, Result};
use crate::nspawn::state::State;
use crate::nspawn::{Content, Farm, Loader, Node, Places, Preparation, TREE, TreeEntry, Way, tree};
use crate::root::{Directory, Restrictions};
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
    messenger: Messenger,
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
    let staged = stage.all(&preparation)?;
    if let Some(grant) = &record.grant {
        gate(grant, Gate::Open).map_err(Error::Machine)?;
    }
    let mounts = look(messenger, leader, staged, record, notices)?;
    let links = |index: usize| Utf8Path::new(TREE).join(LINKS).join(index.to_string());
    let layers: Vec<_> =
        farms.into_iter().enumerate().map(|(index, farm)| (farm.directory, links(index))).collect();
    let overlay = |at: &Utf8PathBuf| Place { at: at.clone(), identity: None, made: Vec::new() };
    record.places.extend(layers.iter().map(|(over, _)| overlay(over)));
    record.write(&directory)?;
    let work = Work::Put { stage: state.path().join(STAGE), mounts, layers };
    errand::send::<()>(messenger, leader, work)?;
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

/// Where mounts get their restrictions, and are taken into the machine from.
struct Stage<'a> {
    host: &'a Root,
    state: Utf8PathBuf,
    directory: Directory,
}

/// What goes into the machine: its name in the stage, where it goes, and what it is.
struct Staged {
    name: String,
    at: Utf8PathBuf,
    identity: (u64, u64),
}

impl Stage<'_> {
    /// The tree, then nodes, then what is bound by itself.
    fn all(&self, preparation: &Preparation) -> Result<Vec<Staged>> {
        let places = Places(&self.state);
        let mut staged = Vec::new();
        let mut add = |at: &Utf8Path, source: &Utf8Path, restrictions| {
            let name = staged.len().to_string();
            let identity = self.restricted(&name, source, restrictions)?;
            staged.push(Staged { name, at: at.to_owned(), identity });
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
        Ok(staged)
    }

    fn restricted(&self, name: &str, source: &Utf8Path, restrictions: Restrictions) -> Result<(u64, u64)> {
        let clone = tree::found(self.host, source)?.clone_mounts()?;
        self.directory.attach(name, &clone, restrictions)?;
        Ok(tree::found(self.host, &self.state.join(STAGE).join(name))?.entry.identity)
    }
}

/// Looks where everything goes, and records it; what has no place there is left out and told.
fn look(
    messenger: Messenger,
    leader: &Leader,
    staged: Vec<Staged>,
    record: &mut Record,
    notices: &mut Vec<Notice>,
) -> Result<Vec<(String, Place)>> {
    let at = staged.iter().map(|staged| staged.at.clone()).collect();
    let grounds: Vec<Ground> = errand::send(messenger, leader, Work::Look(at))?;
    let mut planned = BTreeSet::new();
    let mut kept = Vec::new();
    for (Staged { name, at, identity }, Ground { made, fits, spreads }) in staged.into_iter().zip(grounds) {
        let reason = match (fits, spreads) {
            (_, true) => "what is mounted there in the machine appears on this host too",
            (false, false) => "in a part of the machine's tree that stays, and so not made there",
            (true, false) => {
                let made = made.into_iter().filter(|path| planned.insert(path.clone())).collect();
                let place = Place { identity: Some(identity), at, made };
                record.places.push(place.clone());
                kept.push((name, place));
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
