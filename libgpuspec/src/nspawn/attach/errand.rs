//! Work in a machine that runs, for a process that is the machine's own root while it does it.
//!
//! The machine's root can hold up, or turn elsewhere, whatever is done in its mounts. So it is done by a process
//! that holds nothing of this host, with no more rights than the machine's root has.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::leader::{Identity, Inside, Leader};
use super::record::Place;
use super::seen::Seen;
use crate::error::{Error, Result, chain};
use crate::nspawn::sandbox::{Sandbox, confined};
use crate::nspawn::{TREE, guest};
use crate::root::Kind;
use crate::{Notice, Root};

/// How often the machine may have bound over itself what it was given.
const MAX_LAYERS: usize = 64;

/// Has an errand run by [`run`] in a process of its own, which has one thread and inherits no descriptor, and brings
/// back what that says; without that in time, [`Error::Lost`].
pub type Messenger = fn(&[u8]) -> Result<Vec<u8>>;

#[derive(Debug, Serialize, Deserialize)]
struct Errand {
    /// The process that waits for it.
    sender: u32,
    leader: Identity,
    work: Work,
}

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    /// To look at what is installed.
    Inspect,
    /// To look what is at these paths.
    Look(Vec<Utf8PathBuf>),
    /// To mount what has these names in the stage, then to lay each of these directories over the other.
    Put { stage: Utf8PathBuf, mounts: Vec<(String, Place)>, layers: Vec<(Utf8PathBuf, Utf8PathBuf)> },
    /// To take out what was put there.
    TakeOut { places: Vec<Place>, is_there: bool },
}

/// What was found where something is to be mounted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ground {
    /// What must be made for it, outermost first.
    pub(super) made: Vec<Utf8PathBuf>,
    /// Whether that can be made there.
    pub(super) fits: bool,
    /// Whether what is mounted there appears on this host too.
    pub(super) spreads: bool,
}

/// What comes of work in the machine.
pub(super) fn send<T: DeserializeOwned>(messenger: Messenger, leader: &Leader, work: Work) -> Result<T> {
    let odd = |error: serde_json::Error| Error::Machine(format!("work in the machine: {error}"));
    let errand = Errand { sender: std::process::id(), leader: leader.identity.clone(), work };
    let answer = messenger(&serde_json::to_vec(&errand).map_err(odd)?)?;
    let answer: std::result::Result<T, String> = serde_json::from_slice(&answer).map_err(odd)?;
    answer.map_err(Error::Machine)
}

/// Runs an errand: this process goes into the machine, for good. The caller passes on what this says, and ends.
pub fn run(host: &Root, errand: &[u8], sandbox: Sandbox) -> Result<Vec<u8>> {
    let odd = |error: serde_json::Error| Error::Machine(format!("an errand: {error}"));
    let errand: Errand = serde_json::from_slice(errand).map_err(odd)?;
    let answer = errand.run(host, sandbox).map_err(|error| chain(&error));
    serde_json::to_vec(&answer).map_err(odd)
}

impl Errand {
    fn run(self, host: &Root, sandbox: Sandbox) -> Result<serde_json::Value> {
        let Errand { sender, leader, work } = self;
        let leader =
            Leader::again(&leader).ok_or_else(|| Error::Machine("the machine has ended".to_owned()))?;
        end_with(sender)?;
        let enter = |leader: Leader, stage: Option<&Root>, names: &[String]| {
            let inside = leader.enter(stage, names)?;
            // Forgotten by the kernel when a process becomes another user.
            end_with(sender)?;
            Ok::<Inside, Error>(inside)
        };
        let answer = match work {
            Work::Inspect => {
                let root = leader.seen_by_its_root()?;
                end_with(sender)?;
                let (guest, told) = confined(sandbox, root, guest::inspect)?;
                serde_json::to_value(Seen::of(guest, told))
            }
            Work::Look(at) => serde_json::to_value(enter(leader, None, &[])?.look(&at)?),
            Work::Put { stage, mounts, layers } => {
                let stage = Root::open(&host.outside(&stage))?;
                let names: Vec<String> = mounts.iter().map(|(name, _)| name.clone()).collect();
                serde_json::to_value(enter(leader, Some(&stage), &names)?.put(&mounts, &layers)?)
            }
            Work::TakeOut { places, is_there } => {
                serde_json::to_value(enter(leader, None, &[])?.take_out(&places, is_there)?)
            }
        };
        answer.map_err(|error| Error::Machine(error.to_string()))
    }
}

/// Nobody would know of work that goes on after its sender.
fn end_with(sender: u32) -> Result<()> {
    let lost = |reason: String| Error::Machine(format!("work in the machine: {reason}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|errno| lost(errno.to_string()))?;
    let sender = i32::try_from(sender).ok().and_then(Pid::from_raw);
    match getppid() == sender {
        true => Ok(()),
        false => Err(lost("nobody waits for it".to_owned())),
    }
}

impl Inside {
    fn look(&self, at: &[Utf8PathBuf]) -> Result<Vec<Ground>> {
        let own = self.own()?;
        let one = |at: &Utf8PathBuf| {
            let made = self.root.missing(at)?;
            let ground = made.first().and_then(|first| first.parent()).unwrap_or(at);
            let fits = made.is_empty() || self.root.is_transient(ground, &self.hosts)?;
            let spreads = self.root.spreads(ground, &own, &self.hosts)?;
            Ok(Ground { fits, spreads, made })
        };
        at.iter().map(one).collect()
    }

    fn put(&self, mounts: &[(String, Place)], layers: &[(Utf8PathBuf, Utf8PathBuf)]) -> Result<()> {
        let own = self.own()?;
        for ((_, place), clone) in mounts.iter().zip(&self.clones) {
            for path in &place.made {
                let kind = if *path == place.at { clone.kind() } else { Kind::Directory };
                self.root.make_place(path, kind, &self.hosts)?;
            }
            self.root.put(clone, &place.at, &own, &self.hosts)?;
        }
        for (over, links) in layers {
            let mount = self.root.overlay(over, links)?;
            self.root.put(&mount, over, &own, &self.hosts)?;
        }
        Ok(())
    }

    fn take_out(&self, places: &[Place], is_there: bool) -> Result<Vec<Notice>> {
        let mut notices = Vec::new();
        for place in places.iter().rev() {
            match self.take(place) {
                Ok(false) if is_there => notices.push(Notice(format!(
                    "{}: something else is there in the machine by now; it is left, and goes with the machine",
                    place.at
                ))),
                Ok(_) => {}
                Err(error) => notices.push(error.into()),
            }
            for path in place.made.iter().rev() {
                notices.extend(self.root.remove_place(path, &self.hosts).err().map(Notice::from));
            }
        }
        // All that we make is on the device of the tree, which is the first of the places where there is one.
        let device = places
            .first()
            .filter(|place| place.at == TREE)
            .and_then(|place| place.identity)
            .map(|(device, _)| device);
        notices.extend(self.own()?.ours(device).map(left));
        Ok(notices)
    }

    /// The machine's root may have bound it over itself.
    fn take(&self, place: &Place) -> Result<bool> {
        let mut taken = 0;
        while taken < MAX_LAYERS && self.root.take(&place.at, place.identity, &self.own()?)? {
            taken += 1;
        }
        Ok(taken > 0)
    }
}

fn left(at: &Utf8Path) -> Notice {
    Notice(format!(
        "{at}: what was attached is mounted there in the machine too; it is left, and goes with the machine"
    ))
}
