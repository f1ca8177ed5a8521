//! What an attachment has changed and how it is taken back, in the machine's state: written before it is done.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::errand::{self, Messenger, Work};
use super::leader::{Identity, Leader};
use crate::error::{Error, Result};
use crate::root::{Directory, Durability};
use crate::{Notice, Root};

const NAME: &str = "attached.json";
/// Larger than any record; one has some KiB.
const MAX_RECORD: u64 = 1 << 20;
const VERSION: u32 = 1;

/// An attachment, as far as it got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The machine's first process.
    pub(super) leader: Identity,
    /// The devices, as they were asked for.
    pub(super) devices: Vec<String>,
    /// What its unit was told.
    pub(super) grant: Option<Grant>,
    /// What is mounted in the machine, in this order.
    pub(super) places: Vec<Place>,
    /// Whether all of it was done.
    pub(super) done: bool,
}

/// What a machine's unit lets through for an attachment, and what it did before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The unit.
    pub unit: String,
    /// The rules that it needs and does not have, as `DEVICE ACCESS`.
    pub rules: Vec<String>,
    /// Those that it has had.
    pub rules_before: Vec<String>,
    /// The file in which the unit's own systemd keeps what it is told while it runs.
    pub kept_in: Utf8PathBuf,
    /// The text of that file, if it was there.
    pub before: Option<String>,
}

/// Something mounted in a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Where.
    pub(super) at: Utf8PathBuf,
    /// Device and inode of what is mounted; of an overlay, which is made there, nobody knows them before.
    pub(super) identity: Option<(u64, u64)>,
    /// What was made for it, outermost first.
    pub(super) made: Vec<Utf8PathBuf>,
}

impl Record {
    pub(super) fn new(leader: &Leader, devices: &[String], grant: Option<Grant>) -> Record {
        let (leader, devices) = (leader.identity.clone(), devices.to_vec());
        Record { version: VERSION, leader, devices, grant, places: Vec::new(), done: false }
    }

    /// Writes it into the state.
    pub(super) fn write(&self, state: &Directory) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| unusable(state.path(), &error.to_string()))?;
        state.replace_file(NAME, &text, 0o600, None, Durability::Lazy)
    }

    /// Reads it; `None` in the state of a machine that was prepared before its start.
    pub(super) fn read(state: &Root) -> Result<Option<Record>> {
        let Some(bytes) = state.read(NAME.into(), MAX_RECORD)? else { return Ok(None) };
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| unusable(state.path(), &error.to_string()))?;
        match record.version {
            VERSION => Ok(Some(record)),
            _ => Err(unusable(state.path(), "of a version not known here")),
        }
    }

    /// Writes it into a state that is there.
    pub(super) fn rewrite(&self, state: Option<Root>) -> Result<()> {
        let directory = state.map(|state| state.directory("/".into())).transpose()?.flatten();
        directory.map_or(Ok(()), |directory| self.write(&directory))
    }

    /// Takes out of the machine what is there of it, if the machine still runs; what cannot be is told, and what is not
    /// there if all of it `was_done`. The error is that nothing was taken out, or nobody knows.
    pub(super) fn take_out(&self, was_done: bool, messenger: Messenger) -> Result<Vec<Notice>> {
        let Some(leader) = Leader::again(&self.leader) else { return Ok(Vec::new()) };
        if self.places.is_empty() {
            return Ok(Vec::new());
        }
        let places = self.places.clone();
        match errand::send(messenger, &leader, Work::TakeOut { places, is_there: was_done }) {
            // One that has ended meanwhile has nothing any more.
            Err(error) if !matches!(error, Error::Lost(_)) && Leader::again(&self.leader).is_none() => {
                Ok(vec![error.into()])
            }
            told => told,
        }
    }
}

fn unusable(state: &Utf8Path, reason: &str) -> Error {
    Error::Format { path: state.join(NAME), reason: format!("no record that can be used: {reason}") }
}
