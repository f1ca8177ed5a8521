//! Devices for a machine that runs already, without a restart, and all of it taken back.
//!
//! The tree is built on this host, as for a start, on the file system of the machine's state. Clones of its mounts
//! are then mounted in the machine's own mount namespace, where they go with the machine: nothing in a tree that
//! outlives it is changed, and so its loader's cache is not. The loader finds the libraries by a read-only
//! overlay on its own directories, for as long as they are attached.

mod carry;
mod leader;
mod record;

use super::manifest::Manifest;
use super::missing::all_there;
use super::sandbox::{Sandbox, confined};
use super::state::{State, check_name, state_directory};
use super::{Failed, Options, Order, Preparation, RootKind, Sources, Wanted, Way, cleanup, guest, plan};
use crate::error::{Error, Result};
use crate::{Notice, Root};

use carry::carry_out;
use leader::outside;
use record::Record;

pub use leader::Leader;
pub use record::Grant;

/// What is to be attached to what.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    /// The machine's name, what is given to it and how; what is said of its root and its settings does not count.
    pub order: &'a Order<'a>,
    /// Its first process.
    pub leader: &'a Leader,
    /// The devices, as they were asked for.
    pub devices: &'a [String],
}

/// Who knows what a machine's unit must be told, if anything, as it is now.
pub type Granting<'a> = &'a dyn Fn() -> std::result::Result<Option<Grant>, String>;

/// What a machine's unit is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// To let the devices through.
    Open,
    /// To let through what it did before.
    Close(Alive),
}

/// Who tells a machine's unit; the error is why it could not be told.
pub type Gatekeeper<'a> = &'a dyn Fn(&Grant, Gate) -> std::result::Result<(), String>;

/// Whether the machine still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alive {
    /// It does.
    Yes,
    /// It has ended.
    No,
}

/// What an attachment came to.
#[derive(Debug)]
pub enum Attached {
    /// It is there, and this is what was planned.
    Now(Box<Preparation>),
    /// These devices are attached already.
    Before(Vec<String>),
    /// The machine was prepared for its start.
    Prepared,
}

/// What a detachment came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detached {
    /// All of it is taken back; whether the machine ran.
    Now(Alive),
    /// Nothing was attached.
    Nothing,
    /// The machine was prepared for its start, and keeps that until its end.
    Prepared,
}

/// Attaches devices to a machine that runs; whatever fails, nothing of it is left.
///
/// What an attachment that was cut short has left is taken back first.
pub fn attach(
    host: &Root,
    wanted: &Attachment<'_>,
    grant: Granting<'_>,
    gate: Gatekeeper<'_>,
    sandbox: Sandbox,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Attached, Failed> {
    check_name(wanted.order.machine).map_err(Failed::Machine)?;
    let state = State::open(host, wanted.order.machine)?;
    match earlier(&state, notices)? {
        Earlier::Nothing => {}
        Earlier::Prepared => return Ok(Attached::Prepared),
        Earlier::Attached(record) if record.done && record.leader == wanted.leader.identity => {
            return Ok(Attached::Before(record.devices));
        }
        Earlier::Attached(record) => {
            take_back(&state, &record, gate, notices)?;
        }
    }
    let done = decide(host, wanted, sandbox, notices).and_then(|preparation| {
        let grant = grant().map_err(Error::Machine)?;
        let mut record = Record::new(wanted.leader, wanted.devices, grant);
        let done = carry_out(host, &state, wanted.leader, &mut record, &preparation, gate, notices);
        if done.is_err() {
            let back = take_back(&state, &record, gate, notices);
            notices.extend(back.err().map(Notice::from));
        }
        done?;
        Ok(preparation)
    });
    state.close()?;
    done.map(|preparation| Attached::Now(Box::new(preparation)))
}

/// The devices that are attached to a machine, or were until it ended; `None` of one that was prepared for its start.
pub fn attached(host: &Root, machine: &str) -> Result<Option<Vec<String>>> {
    let state = state_directory(machine);
    if host.directory(&state)?.is_none() {
        return Ok(None);
    }
    Ok(Record::read(&Root::open(&host.outside(&state))?)?.map(|record| record.devices))
}

/// Takes back what was attached to a machine, which may have ended.
pub fn detach(
    host: &Root,
    machine: &str,
    gate: Gatekeeper<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Detached> {
    let state = State::open(host, machine)?;
    let done = match earlier(&state, notices)? {
        Earlier::Nothing => Detached::Nothing,
        Earlier::Prepared => Detached::Prepared,
        Earlier::Attached(record) => Detached::Now(take_back(&state, &record, gate, notices)?),
    };
    state.close()?;
    Ok(done)
}

/// What the state of a machine is of.
enum Earlier {
    Nothing,
    Prepared,
    Attached(Box<Record>),
}

fn earlier(state: &State<'_>, notices: &mut Vec<Notice>) -> Result<Earlier> {
    let Some(earlier) = state.earlier()? else { return Ok(Earlier::Nothing) };
    if let Some(record) = Record::read(&earlier)? {
        return Ok(Earlier::Attached(Box::new(record)));
    }
    if Manifest::read(&earlier)?.is_some() {
        return Ok(Earlier::Prepared);
    }
    // Somebody was killed before anything was written down, and so before anything else was done.
    drop(earlier);
    notices.extend(cleanup::take_back(state, |_, _| Ok(()))?);
    Ok(Earlier::Nothing)
}

fn take_back(
    state: &State<'_>,
    record: &Record,
    gate: Gatekeeper<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Alive> {
    let alive = if Leader::again(&record.leader).is_some() { Alive::Yes } else { Alive::No };
    notices.extend(record.take_out());
    if let Some(grant) = &record.grant {
        notices.extend(gate(grant, Gate::Close(alive)).err().map(Notice));
    }
    notices.extend(cleanup::take_back(state, |_, _| Ok(()))?);
    Ok(alive)
}

fn decide(
    host: &Root,
    wanted: &Attachment<'_>,
    sandbox: Sandbox,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Preparation, Failed> {
    let root = wanted.leader.root().map_err(Failed::Machine)?;
    let (guest, told) = confined(sandbox, root, guest::inspect).map_err(Failed::Machine)?;
    notices.extend(told);
    let (sources, told) = Sources::read(host, wanted.order.edits, wanted.order.requests);
    notices.extend(told);
    all_there(wanted.order.edits, &sources)?;
    let users = wanted.leader.users().map_err(Failed::Machine)?;
    let options = Options {
        loader: wanted.order.loader,
        // Nothing of it may stay, and so its cache is not extended.
        root: RootKind::Ephemeral,
        user_namespace: users.is_some(),
        runs: true,
        allowed_hooks: wanted.order.allowed_hooks.to_vec(),
    };
    let all = Wanted {
        edits: wanted.order.edits,
        requests: wanted.order.requests,
        unknown_hooks: wanted.order.unknown_hooks,
        sources: &sources,
    };
    let mut preparation = plan(&all, &guest, &options)?;
    notices.append(&mut preparation.notices);
    if let Some((uids, gids)) = users {
        for node in &mut preparation.nodes {
            if let Way::Cloned { uid, gid, .. } = &mut node.way {
                let nobody = || {
                    let reason = format!("{}: the machine has no user {uid} or group {gid}", node.path);
                    Failed::Machine(Error::Machine(reason))
                };
                let (Some(owner), Some(group)) = (outside(&uids, *uid), outside(&gids, *gid)) else {
                    return Err(nobody());
                };
                (*uid, *gid) = (owner, group);
            }
        }
    }
    Ok(preparation)
}
