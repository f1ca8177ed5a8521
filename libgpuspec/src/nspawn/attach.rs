//! Devices for a machine that runs already, without a restart, and all of it taken back.
//!
//! The tree is built on this host, as for a start, on the file system of the machine's state. Clones of its mounts
//! are then mounted in the machine's own mount namespace, where they go with the machine: nothing in a tree that
//! outlives it is changed, and so its loader's cache is not. The loader finds the libraries by a read-only
//! overlay on its own directories, for as long as they are attached.
//!
//! What is done in the machine is an [`errand`](errand::run) for a process that becomes the machine's own root: this
//! one, which is the host's and has the machine's lock, never goes there.

mod carry;
pub mod errand;
mod leader;
mod record;
mod seen;

use super::guest::MAX_NOTICES;
use super::manifest::Manifest;
use super::prepare::planned;
use super::state::{State, check_name, state_directory};
use super::{Failed, Options, Order, Preparation, RootKind};
use crate::error::{Error, Result};
use crate::notice::shortened;
use crate::{Notice, Root};

use carry::carry_out;
use errand::{Messenger, Work};
use record::Record;
use seen::Seen;

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

/// Attaches devices to a machine that runs; whatever fails, nothing of it is left, or it is told what is.
///
/// What an attachment that was cut short has left is taken back first. After [`Error::Lost`] the caller is to end its
/// process: what was done is taken back by the next attachment or detachment.
pub fn attach(
    host: &Root,
    wanted: &Attachment<'_>,
    grant: Granting<'_>,
    gate: Gatekeeper<'_>,
    messenger: Messenger,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Attached, Failed> {
    check_name(wanted.order.machine).map_err(Failed::Machine)?;
    let state = State::open(host, wanted.order.machine)?;
    let done = attach_to(&state, wanted, grant, gate, messenger, notices);
    let is_lost = matches!(done, Err(Failed::Step(Error::Lost(_))));
    leave(state, is_lost, notices);
    done
}

fn attach_to(
    state: &State<'_>,
    wanted: &Attachment<'_>,
    grant: Granting<'_>,
    gate: Gatekeeper<'_>,
    messenger: Messenger,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Attached, Failed> {
    match earlier(state)? {
        Earlier::Nothing => {}
        Earlier::Prepared => return Ok(Attached::Prepared),
        Earlier::Attached(record) if record.done && record.leader == wanted.leader.identity => {
            return Ok(Attached::Before(record.devices));
        }
        Earlier::Attached(mut record) => {
            take_back(state, &mut record, gate, messenger, notices)?;
        }
    }
    let preparation = decide(state.host(), wanted, messenger, notices)?;
    let grant = grant().map_err(Error::Machine)?;
    let mut record = Record::new(wanted.leader, wanted.devices, grant);
    let done = carry_out(state, wanted.leader, &mut record, &preparation, gate, messenger, notices);
    match &done {
        Ok(()) | Err(Error::Lost(_)) => {}
        Err(_) => {
            let back = take_back(state, &mut record, gate, messenger, notices);
            notices.extend(back.err().map(Notice::from));
        }
    }
    done?;
    Ok(Attached::Now(Box::new(preparation)))
}

/// Leaves the machine to the next; where work in it may go on, that comes with the end of this process.
fn leave(state: State<'_>, is_lost: bool, notices: &mut Vec<Notice>) {
    match is_lost {
        true => std::mem::forget(state),
        false => notices.extend(state.close().err().map(Notice::from)),
    }
}

/// The devices that are attached to a machine, or were until it ended; `None` of one that was prepared for its start.
pub fn attached(host: &Root, machine: &str) -> Result<Option<Vec<String>>> {
    let state = state_directory(machine);
    if host.directory(&state)?.is_none() {
        return Ok(None);
    }
    Ok(Record::read(&Root::open(&host.outside(&state))?)?.map(|record| record.devices))
}

/// Takes back what was attached to a machine, which may have ended; [`Error::Lost`] is as for [`attach`].
///
/// A machine that runs and whose unit could not be told stays attached, by an error; the next detachment tries again.
pub fn detach(
    host: &Root,
    machine: &str,
    gate: Gatekeeper<'_>,
    messenger: Messenger,
    notices: &mut Vec<Notice>,
) -> Result<Detached> {
    let state = State::open(host, machine)?;
    let done = earlier(&state).and_then(|earlier| match earlier {
        Earlier::Nothing => Ok(Detached::Nothing),
        Earlier::Prepared => Ok(Detached::Prepared),
        Earlier::Attached(mut record) => {
            take_back(&state, &mut record, gate, messenger, notices).map(Detached::Now)
        }
    });
    leave(state, matches!(done, Err(Error::Lost(_))), notices);
    done
}

/// What is told of the attachment that a state is of, its machine having ended; one that runs keeps it, by an error.
pub(super) fn ended(state: &State<'_>, earlier: &Root) -> Result<Option<Notice>> {
    let record = match Record::read(earlier) {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(None),
        Err(error) => return Ok(Some(error.into())),
    };
    if Leader::again(&record.leader).is_some() {
        let (name, devices) = (state.name(), record.devices.join(", "));
        let reason = format!("{name} runs with {devices} attached: `cdi-gen nspawn detach {name}` first");
        return Err(Error::Machine(reason));
    }
    let Some(grant) = record.grant.filter(|grant| !grant.rules.is_empty()) else { return Ok(None) };
    let is_kept = state.host().entry(&grant.kept_in)?.is_some();
    Ok(is_kept.then(|| {
        Notice(format!(
            "{}: {} may still use what was attached: take out DeviceAllow= of {}, then systemctl daemon-reload",
            grant.kept_in,
            grant.unit,
            grant.rules.join(", ")
        ))
    }))
}

/// What the state of a machine is of.
enum Earlier {
    Nothing,
    Prepared,
    Attached(Box<Record>),
}

fn earlier(state: &State<'_>) -> Result<Earlier> {
    let Some(earlier) = state.earlier()? else { return Ok(Earlier::Nothing) };
    if let Some(record) = Record::read(&earlier)? {
        return Ok(Earlier::Attached(Box::new(record)));
    }
    if Manifest::read(&earlier)?.is_some() {
        return Ok(Earlier::Prepared);
    }
    // Somebody was killed before anything was written down, and so before anything else was done.
    drop(earlier);
    state.remove()?;
    Ok(Earlier::Nothing)
}

/// Its unit comes first: a machine that keeps others out of its mounts is not to keep the devices by that.
fn take_back(
    state: &State<'_>,
    record: &mut Record,
    gate: Gatekeeper<'_>,
    messenger: Messenger,
    notices: &mut Vec<Notice>,
) -> Result<Alive> {
    let was_done = std::mem::take(&mut record.done);
    if was_done {
        // From here on it is not all there, whoever goes on with the work.
        notices.extend(state.earlier().and_then(|earlier| record.rewrite(earlier)).err().map(Notice::from));
    }
    let alive = if Leader::again(&record.leader).is_some() { Alive::Yes } else { Alive::No };
    let closed = record.grant.as_ref().map_or(Ok(()), |grant| gate(grant, Gate::Close(alive)));
    notices.extend(shortened(record.take_out(was_done, messenger)?, MAX_NOTICES));
    match (closed, alive) {
        (Err(reason), Alive::Yes) => return Err(still_open(state.name(), &reason)),
        (closed, _) => notices.extend(closed.err().map(Notice)),
    }
    state.remove()?;
    Ok(alive)
}

/// While the machine may use them it counts as one that has them.
fn still_open(machine: &str, reason: &str) -> Error {
    Error::Machine(format!(
        "{reason}: {machine} may still use the devices, and counts as having them; `cdi-gen nspawn detach {machine}` again, \
         or stop it"
    ))
}

fn decide(
    host: &Root,
    wanted: &Attachment<'_>,
    messenger: Messenger,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Preparation, Failed> {
    let seen: Seen = errand::send(messenger, wanted.leader, Work::Inspect)?;
    let (guest, told) = seen.told();
    // What a process in the machine says of it: counted here again.
    notices.extend(shortened(told, MAX_NOTICES));
    let options = Options {
        loader: wanted.order.loader,
        // Nothing of it may stay, and so its cache is not extended.
        root: RootKind::Ephemeral,
        user_namespace: wanted.leader.users().map_err(Failed::Machine)?.is_some(),
        runs: true,
        allowed_hooks: wanted.order.allowed_hooks.to_vec(),
    };
    Ok(planned(host, wanted.order, &guest, &options, notices)?.1)
}
