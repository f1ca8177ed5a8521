//! Where a machine's preparation lies while it runs: one directory a machine, a file system of its own, one at a time.
//!
//! All that was made for the machine on this host is on that file system, so that a single unmount takes it back.

use camino::{Utf8Path, Utf8PathBuf};

use crate::Root;
use crate::error::{Error, Result};
use crate::root::{Directory, Lock, Owners};

/// The states of all machines.
pub const STATES: &str = "/run/gpuspec/nspawn";

/// Its pages are used as files are written: room for a loader's cache twice, beside links and empty files.
const SIZE: u64 = 48 << 20;
/// As the kernel has it for host names, and so systemd for machines.
const LONGEST_NAME: usize = 64;

/// The mode of the directory of all states.
const CLOSED: u32 = 0o700;

/// What the names of runs begin with.
const RUN: &str = "run_";

/// The state of one machine, which nobody else works on meanwhile.
#[derive(Debug)]
pub(super) struct State<'a> {
    host: &'a Root,
    name: &'a str,
    states: Directory,
    #[allow(dead_code)] // held
    lock: Lock,
}

/// Where the state of this machine is.
pub fn state_directory(name: &str) -> Utf8PathBuf {
    Utf8Path::new(STATES).join(name)
}

impl<'a> State<'a> {
    /// The state of the machine `name`, as soon as nobody else works on it.
    pub(super) fn open(host: &'a Root, name: &'a str) -> Result<State<'a>> {
        check_state_name(name)?;
        loop {
            let states = host.make_directory(STATES.into())?;
            // Whoever worked on another machine may just have removed the directory, being the last.
            if let Some(lock) = states.lock_file(&lock_name(name))? {
                return State { host, name, states, lock }.closed();
            }
        }
    }

    /// The same once the directory of all states is closed to users of this host: views, sockets and nodes in a state
    /// are for its root and the machine. A directory that an earlier version made is closed too.
    fn closed(self) -> Result<State<'a>> {
        match self.owned().and_then(|()| self.states.set_mode(CLOSED)) {
            Ok(()) => Ok(self),
            Err(error) => self.close().and(Err(error)),
        }
    }

    /// An error if another user could rename or replace states.
    fn owned(&self) -> Result<()> {
        match self.host.exposed(STATES.into(), &Owners::caller())? {
            None => Ok(()),
            Some((part, exposure)) => {
                Err(Error::Machine(format!("{part} {exposure}; states of machines are root's alone")))
            }
        }
    }

    /// The host.
    pub(super) fn host(&self) -> &'a Root {
        self.host
    }

    /// The machine's name.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// Its path.
    pub(super) fn path(&self) -> Utf8PathBuf {
        state_directory(self.name)
    }

    /// What is there of an earlier preparation.
    pub(super) fn earlier(&self) -> Result<Option<Root>> {
        match self.states.entry(self.name)? {
            Some(_) => Root::open(&self.host.outside(&self.path())).map(Some),
            None => Ok(None),
        }
    }

    /// Makes it, empty.
    pub(super) fn make(&self) -> Result<Directory> {
        self.states.make_directory(self.name)?;
        self.host.cover_with_memory(&self.path(), SIZE)
    }

    /// Removes it with all that is in it, in use or not.
    pub(super) fn remove(&self) -> Result<()> {
        self.host.uncover(&self.path())?;
        match self.states.remove_empty(self.name)? {
            true => Ok(()),
            false => {
                let reason = "holds what is none of a machine's preparation; left as it is".to_owned();
                Err(Error::Format { path: self.path(), reason })
            }
        }
    }

    /// Gives the lock away, and the directory of all states if this was the last.
    pub(super) fn close(self) -> Result<()> {
        if self.states.entry(self.name)?.is_none() {
            self.states.remove(&lock_name(self.name))?;
            let states = Utf8Path::new(STATES);
            let parent = states.parent().map(|parent| self.host.directory(parent)).transpose()?.flatten();
            if let (Some(parent), Some(name)) = (parent, states.file_name()) {
                parent.remove_empty(name)?;
            }
        }
        Ok(())
    }
}

/// Whether a machine can have this name.
pub fn check_name(name: &str) -> Result<()> {
    if is_machine_name(name) {
        return Ok(());
    }
    let reason = format!(
        "`{name}` is no machine's name: up to {LONGEST_NAME} letters, digits, `-` and `.`, no label of it empty \
         or with `-` at its ends"
    );
    Err(Error::Machine(reason))
}

/// Whether something can be prepared by this name: a machine, or a run.
pub(super) fn check_state_name(name: &str) -> Result<()> {
    process_of_run(name).map_or_else(|| check_name(name), |_| Ok(()))
}

/// The name by which what this process runs is prepared; no machine can have it.
pub fn name_of_run(process: u32) -> String {
    format!("{RUN}{process}")
}

/// The process whose run has this name.
pub fn process_of_run(name: &str) -> Option<u32> {
    name.strip_prefix(RUN)?.parse().ok().filter(|process| name_of_run(*process) == name)
}

/// No machine's name begins with a dot.
fn lock_name(name: &str) -> String {
    format!(".{name}.lock")
}

fn is_machine_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= LONGEST_NAME && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_nspawn_takes() {
        for name in ["m", "debian-12", "A.b.c", "run-42-1", &"x".repeat(64)] {
            assert!(is_machine_name(name), "{name}");
        }
        let long = "x".repeat(65);
        for name in [
            "", ".", "..", ".x", "x.", "a..b", "a/b", "../x", "-x", "x-", "a_b", "a b", "a\n", "ä", "%i",
            "a@b", &long,
        ] {
            assert!(!is_machine_name(name), "{name:?}");
        }
    }

    #[test]
    fn no_machine_has_the_name_of_a_run() {
        let name = name_of_run(42);
        assert!(check_state_name(&name).is_ok() && check_name(&name).is_err());
        assert_eq!(process_of_run(&name), Some(42));
        for name in ["run-42", "run_", "run_x", "run_+42", "run_042", "run_42/..", "xrun_42"] {
            assert_eq!(process_of_run(name), None, "{name}");
        }
    }
}
