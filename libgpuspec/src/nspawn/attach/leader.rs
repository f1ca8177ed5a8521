//! The first process of a machine that runs: looked at before it is believed, and the way into its mounts.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, fchdir, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::root::Peers;
use crate::{Root, apply};

/// Of what /proc says of one process; the maps of users are the longest, with 340 lines (user_namespaces(7)).
const MAX_TEXT: u64 = 64 << 10;
/// A few system calls; a file system of the machine's own that never answers holds them up.
const DEADLINE: Duration = Duration::from_secs(10);

/// A process that leads a machine, held by a descriptor.
#[derive(Debug)]
pub struct Leader {
    pidfd: OwnedFd,
    proc: Root,
    /// Who it is.
    pub(super) identity: Identity,
}

/// What tells a process from any other since the host's boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pid: i32,
    /// In the kernel's ticks (proc_pid_stat(5)).
    start: u64,
    /// Its mount namespace.
    mounts: String,
}

/// How the users of a machine read on this host: one's first there, its first here, and how many.
pub(super) type Users = Vec<(u32, u32, u32)>;

impl Leader {
    /// The process of this number, if it is in a mount namespace that is not this process's own.
    ///
    /// # Errors
    ///
    /// There is none, or it is no machine's.
    pub fn open(pid: i32) -> Result<Leader> {
        let odd = |why: &str| Error::Machine(format!("the process {pid} {why}"));
        let number =
            Some(pid).filter(|&pid| pid > 1).and_then(Pid::from_raw).ok_or_else(|| odd("is no machine's"))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())
            .map_err(|errno| odd(&format!("cannot be opened: {errno}")))?;
        let proc = Root::proc()?;
        let link = |of: &str| -> Result<String> {
            let text = proc.read_link(Utf8Path::new(&format!("{of}/ns/mnt")))?;
            text.map(Utf8PathBuf::into_string).ok_or_else(|| odd("has ended"))
        };
        let mounts = link(&pid.to_string())?;
        if mounts == link("self")? {
            return Err(odd("has this process's own mounts, and so is no machine's"));
        }
        let stat = proc.read_text(Utf8Path::new(&format!("{pid}/stat")), MAX_TEXT)?.unwrap_or_default();
        let start = start(&stat).ok_or_else(|| odd("has ended"))?;
        let leader = Leader { pidfd, proc, identity: Identity { pid, start, mounts } };
        // A number that changed hands meanwhile has told nothing of this process.
        if leader.is_alive() { Ok(leader) } else { Err(odd("has ended")) }
    }

    /// That process, if it still runs.
    pub(super) fn again(identity: &Identity) -> Option<Leader> {
        Leader::open(identity.pid).ok().filter(|leader| leader.identity == *identity)
    }

    fn is_alive(&self) -> bool {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut ended, Some(&Timespec::default())), Ok(0))
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<Root> {
        let root = apply::container::open(Utf8Path::new(&format!("/proc/{}/root", self.identity.pid)))?;
        if self.is_alive() { Ok(root) } else { Err(ended()) }
    }

    fn text(&self, of: &str, name: &str) -> Result<String> {
        let text = self.proc.read_text(Utf8Path::new(&format!("{of}/{name}")), MAX_TEXT)?;
        text.ok_or_else(ended)
    }

    /// Which of its mounts pass on what is mounted there, and which of this host's.
    pub(super) fn peers(&self) -> Result<(Peers, Peers)> {
        let of = |who: &str| Peers::read(&self.proc, who)?.ok_or_else(ended);
        Ok((of(&self.identity.pid.to_string())?, of("self")?))
    }

    /// Its users' and its groups' numbers on this host; `None` where they are the host's own.
    pub(super) fn users(&self) -> Result<Option<(Users, Users)>> {
        let pid = self.identity.pid.to_string();
        let link = |of: &str| self.proc.read_link(Utf8Path::new(&format!("{of}/ns/user")));
        if link(&pid)? == link("self")? {
            return Ok(None);
        }
        Ok(Some((parse(&self.text(&pid, "uid_map")?), parse(&self.text(&pid, "gid_map")?))))
    }

    /// The result of work on its root, in its mount namespace, from this host's /proc as working directory; without one
    /// in time [`Error::Lost`].
    pub(super) fn within<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Root) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let failed = |why: String| Error::Machine(format!("going into the machine's mounts: {why}"));
        let root = self.root()?;
        let proc = Root::proc()?;
        let pidfd = self.pidfd.try_clone().map_err(|error| failed(error.to_string()))?;
        let enter = move || {
            // What makes the call unsafe is to part from other threads' files, which is not asked for.
            #[allow(deprecated)]
            rustix::thread::unshare(UnshareFlags::FS)?;
            move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::MOUNT)?;
            fchdir(proc.descriptor())
        };
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            let done = enter().map(|()| work(&root));
            // Whoever waited too long for it is gone.
            let _ = sender.send(done);
        });
        thread.map_err(|error| failed(error.to_string()))?;
        let done = receiver.recv_timeout(DEADLINE).map_err(|why| match why {
            RecvTimeoutError::Timeout => Error::Lost(format!(
                "going into the machine's mounts: not done after {DEADLINE:?}; the next attach or detach takes back what was done"
            )),
            RecvTimeoutError::Disconnected => failed("no result".to_owned()),
        });
        done?.map_err(|errno| failed(errno.to_string()))?
    }
}

fn ended() -> Error {
    Error::Machine("the machine has ended".to_owned())
}

/// The start time in /proc/PID/stat: its 22nd field, the second being a name that can hold anything.
fn start(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

fn parse(map: &str) -> Users {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    map.lines().filter_map(line).collect()
}

/// A number of the machine as it reads on this host.
pub(super) fn outside(users: &Users, inside: u32) -> Option<u32> {
    users.iter().find_map(|&(first, here, count)| {
        let offset = inside.checked_sub(first).filter(|&offset| offset < count)?;
        here.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_process_but_a_machines_is_believed() {
        let own = i32::try_from(std::process::id()).unwrap();
        for pid in [1, 0, -1, i32::MAX, own] {
            assert!(Leader::open(pid).is_err(), "{pid}");
        }
    }

    #[test]
    fn a_start_is_told_whatever_a_process_calls_itself() {
        let stat = "7 (a) 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 10\n";
        assert_eq!(start(stat), Some(4242));
        assert_eq!(start("7 (a"), None);
    }

    #[test]
    fn numbers_of_a_machine_are_told_as_the_hosts() {
        let users = parse("         0     524288      65536\n     70000          7          1\nx\n");
        assert_eq!(
            [0, 44, 65535, 65536, 70000].map(|id| outside(&users, id)),
            [Some(524_288), Some(524_332), Some(589_823), None, Some(7)]
        );
    }
}
