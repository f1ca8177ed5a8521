//! The first process of a machine that runs: looked at before it is believed, and the way into its mounts.

use std::os::fd::{AsFd, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Gid, Pid, PidfdFlags, Uid, fchdir, pidfd_open};
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::root::{ClonedMount, Peers};
use crate::{Root, apply};

/// Of what /proc says of one process; the maps of users are the longest, with 340 lines (user_namespaces(7)).
const MAX_TEXT: u64 = 64 << 10;

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

    /// The mounts of a process, by its directory in /proc.
    fn peers(&self, who: &str) -> Result<Peers> {
        Peers::read(&self.proc, who)?.ok_or_else(ended)
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

    /// Its root directory, for this process, which from here on is the machine's root, but sees this host's mounts.
    pub(super) fn seen_by_its_root(&self) -> Result<Root> {
        let root = self.root()?;
        self.be_its_root()?;
        Ok(root)
    }

    /// Goes into its mounts, for good, as its own root; what is mounted at these names of the `stage` comes along.
    pub(super) fn enter(self, stage: Option<&Root>, names: &[String]) -> Result<Inside> {
        let (root, hosts) = (self.root()?, self.peers("self")?);
        if let Some(stage) = stage {
            fchdir(stage.descriptor()).map_err(not_gone)?;
        }
        self.be_its_root()?;
        let clones = names.iter().map(|name| ClonedMount::here(name)).collect::<Result<_>>()?;
        self.join(ThreadNameSpaceType::MOUNT)?;
        fchdir(self.proc.descriptor()).map_err(not_gone)?;
        Ok(Inside { root, clones, hosts, leader: self })
    }

    /// Makes this process, which must have one thread, the machine's root, for good.
    ///
    /// It sees a copy of this host's mounts that belongs to the machine's user namespace, where all restrictions of a
    /// mount are locked (mount_namespaces(7)), and stay so in a clone.
    fn be_its_root(&self) -> Result<()> {
        // What makes the call unsafe is to part from other threads' files, which is not asked for.
        #[allow(deprecated)]
        let part_from = |others| rustix::thread::unshare(others).map_err(not_gone);
        part_from(UnshareFlags::FS)?;
        set_thread_groups(&[]).map_err(not_gone)?;
        if self.users()?.is_some() {
            self.join(ThreadNameSpaceType::USER)?;
            set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(not_gone)?;
            set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(not_gone)?;
            part_from(UnshareFlags::NEWNS)?;
        }
        Ok(())
    }

    fn join(&self, namespace: ThreadNameSpaceType) -> Result<()> {
        move_into_thread_name_spaces(self.pidfd.as_fd(), namespace).map_err(not_gone)
    }
}

/// This process as the machine's root, in its mounts, with this host's /proc as working directory.
#[derive(Debug)]
pub(super) struct Inside {
    /// The machine's root directory.
    pub(super) root: Root,
    /// What came along.
    pub(super) clones: Vec<ClonedMount>,
    /// The host's mounts.
    pub(super) hosts: Peers,
    leader: Leader,
}

impl Inside {
    /// The machine's mounts, as they are now.
    pub(super) fn own(&self) -> Result<Peers> {
        let own = Peers::read_here(&self.leader.identity.pid.to_string());
        own.map_err(|error| Error::Machine(format!("the machine's mounts: {error}")))
    }
}

fn not_gone(errno: Errno) -> Error {
    Error::Machine(format!("going into the machine: {errno}"))
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
