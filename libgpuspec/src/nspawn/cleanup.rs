//! What takes back all that was done for a machine, however far that got: by its manifest, then by one unmount.

use camino::Utf8Path;

use super::changes::Changes;
use super::machine::{Machine, MachineRoot};
use super::manifest::{Manifest, Tree, Whose};
use super::sandbox::{Sandbox, confined};
use super::state::{State, check_state_name, state_directory};
use super::{attach, loader, settings};
use crate::apply::container;
use crate::error::{Error, Result, chain};
use crate::{Notice, Root};

/// Takes back what is there of a machine's preparation; nothing to be there is no error.
///
/// What cannot be taken back, in a tree that is gone for example, is told: it is no reason to leave the rest. A machine
/// that runs with devices attached keeps them, by an error; so does one whose settings file could not be taken back keep
/// its state, for the next.
pub fn cleanup(host: &Root, machine: &str, sandbox: Sandbox) -> Result<Vec<Notice>> {
    check_state_name(machine)?;
    let state = match State::open(host, machine) {
        // A /run that is full, for example: who is to be prepared is told, and there is nothing to take back.
        Err(_) if host.entry(&state_directory(machine))?.is_none() => return Ok(Vec::new()),
        state => state?,
    };
    let is_known = state.earlier()?.is_some();
    let mut notices = take_back(&state, sandbox)?;
    if !is_known {
        // In a tree that cannot be looked into nothing of ours is known; the start that comes next has to tell why.
        notices.extend(forget(host, machine, sandbox).unwrap_or_default());
    }
    notices.extend(state.close().err().map(Notice::from));
    Ok(notices)
}

/// Takes out of the machine's tree what a power cut left there: its state was in memory.
fn forget(host: &Root, machine: &str, sandbox: Sandbox) -> Result<Vec<Notice>> {
    let Ok(Machine { root: MachineRoot::Directory(path), .. }) = Machine::find(host, machine) else {
        return Ok(Vec::new());
    };
    let root = container::open(&host.outside(&path))?;
    confined(sandbox, root, |root| Ok(loader::left_behind(root)?.take_back(root).notices().collect()))?
}

/// The same for whoever has the state. A block of ours in a settings file goes in any case: what it names is no more.
pub(super) fn take_back(state: &State<'_>, sandbox: Sandbox) -> Result<Vec<Notice>> {
    let mut notices = take_back_state(state, sandbox)?;
    notices.extend(settings::remove_block(state.host(), state.name()).err().map(Notice::from));
    Ok(notices)
}

fn take_back_state(state: &State<'_>, sandbox: Sandbox) -> Result<Vec<Notice>> {
    let Some(earlier) = state.earlier()? else { return Ok(Vec::new()) };
    let mut notices: Vec<Notice> = attach::ended(state, &earlier)?.into_iter().collect();
    match Manifest::read(&earlier) {
        Ok(Some(manifest)) => notices.extend(undo(&earlier, manifest, sandbox, state.name())?),
        Ok(None) => {}
        Err(error) => notices.push(error.into()),
    }
    drop(earlier);
    state.remove()?;
    Ok(notices)
}

fn undo(state: &Root, mut manifest: Manifest, sandbox: Sandbox, machine: &str) -> Result<Vec<Notice>> {
    let mut notices = Vec::new();
    if manifest.done {
        for tree in &mut manifest.trees {
            let renewed = tree.with(sandbox, |root, mut changes| {
                let renewed = changes.renew_times(root);
                (changes, renewed)
            });
            // What keeps from this keeps from the rest of the work too, and is told there.
            if let Ok(Some((changes, renewed))) = renewed {
                tree.changes = changes;
                notices.extend(renewed.err().map(Notice::from));
            }
        }
        // From here on directories get these times, whoever goes on with the work.
        manifest.done = false;
        let written = state.directory(Utf8Path::new("/")).and_then(|state| match state {
            Some(state) => manifest.update(&state),
            None => Ok(()),
        });
        notices.extend(written.err().map(Notice::from));
    }
    let mut kept = Vec::new();
    for tree in manifest.trees.iter().rev() {
        match tree.with(sandbox, |root, changes| changes.take_back(root)) {
            Ok(left) => {
                let mut left = left.unwrap_or_default();
                if tree.whose == Whose::Host {
                    kept.append(&mut left.files);
                }
                notices.extend(left.notices());
            }
            Err(error) => notices.push(error.into()),
        }
    }
    if kept.is_empty() { Ok(notices) } else { Err(still_ours(machine, &kept, &notices)) }
}

/// What of this host's files has something of ours still, and why.
fn still_ours(machine: &str, kept: &[Error], notices: &[Notice]) -> Error {
    let reasons = kept.iter().map(|error| chain(error)).chain(notices.iter().map(ToString::to_string));
    let reasons: Vec<String> = reasons.collect();
    Error::Machine(format!(
        "{}: not as it was before {machine} was prepared; once that is remedied, its next start or stop takes it back",
        reasons.join("; ")
    ))
}

impl Tree {
    /// The result of work on the tree with its changes; `None` where it is gone.
    pub(super) fn with<T: Send + 'static>(
        &self,
        sandbox: Sandbox,
        work: impl FnOnce(&Root, Changes) -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let root = match Root::open(&self.path) {
            Ok(root) => root,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if root.target(Utf8Path::new("/"))?.map(|entry| entry.identity) != Some(self.identity) {
            let reason = "another tree than the one that was changed; left as it is".to_owned();
            return Err(Error::Format { path: self.path.clone(), reason });
        }
        let changes = self.changes.clone();
        match self.whose {
            Whose::Host => Ok(Some(work(&root, changes))),
            Whose::Guest => confined(sandbox, root, move |root| work(root, changes)).map(Some),
        }
    }
}
