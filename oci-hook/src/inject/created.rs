//! A container that a runtime has created and not started: its process, looked at before it is believed.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use libgpuspec::Root;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Gid, Pid, PidfdFlags, Uid, pidfd_open};
use rustix::thread::{
    ThreadNameSpaceType, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// More than any file of /proc that is read here has.
pub(crate) const MAX_TEXT: u64 = 64 << 10;

/// The container's first process.
#[derive(Debug)]
pub(crate) struct Created {
    pidfd: OwnedFd,
    pid: i32,
    proc: Root,
    users: Users,
}

/// Whose user namespace the container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// This machine's: root there is root here.
    Machine,
    /// One of its own.
    Own,
}

impl Created {
    /// The process of this number, if it is one that this runtime made for a container.
    pub(crate) fn new(pid: i64, runtime: Option<Pid>) -> Result<Created, String> {
        let odd = |why: &str| format!("the state's pid {pid} {why}; this stage is prestart or createRuntime");
        // In createContainer runc says 1 and crun 0, which here are the machine's.
        let number = i32::try_from(pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw);
        let number = number.ok_or_else(|| odd("is no container's"))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())
            .map_err(|errno| odd(&format!("cannot be opened: {errno}")))?;
        let proc = Root::proc().map_err(|error| error.to_string())?;
        let pid = number.as_raw_nonzero().get();
        let mut created = Created { pidfd, pid, proc, users: Users::Machine };
        if created.parent()? != runtime.map(|parent| parent.as_raw_nonzero().get()) {
            return Err(odd("is not the runtime's child"));
        }
        if !created.has_own("mnt")? {
            return Err(odd("has no mount namespace of its own"));
        }
        if created.has_own("user")? {
            created.users = Users::Own;
        }
        // A number that changed hands meanwhile has told nothing of this process.
        created.is_alive().then_some(created).ok_or_else(|| odd("has ended"))
    }

    /// Whose user namespace it has.
    pub(crate) fn users(&self) -> Users {
        self.users
    }

    /// A file of its directory in /proc.
    pub(crate) fn text(&self, name: &str) -> Result<String, String> {
        let path = format!("{}/{name}", self.pid);
        let text = self.proc.read_text(path.as_str().into(), MAX_TEXT).map_err(|error| error.to_string())?;
        text.ok_or_else(|| format!("/proc/{path}: not there"))
    }

    fn parent(&self) -> Result<Option<i32>, String> {
        let status = self.text("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        Ok(line.and_then(|number| number.trim().parse().ok()))
    }

    fn has_own(&self, namespace: &str) -> Result<bool, String> {
        let link = |of: &str| {
            let path = format!("{of}/ns/{namespace}");
            let text = self.proc.read_link(path.as_str().into()).map_err(|error| error.to_string())?;
            text.ok_or_else(|| format!("/proc/{path}: not there"))
        };
        Ok(link(&self.pid.to_string())? != link("self")?)
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it runs still, so that what /proc says of its number is said of it.
    pub(crate) fn is_alive(&self) -> bool {
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut ended, Some(&Timespec::default())), Ok(0))
    }

    /// Goes into its mount namespace, and stays there, with this machine's rights.
    pub(crate) fn enter(&self) -> Result<(), String> {
        let entered = move_into_thread_name_spaces(self.pidfd.as_fd(), ThreadNameSpaceType::MOUNT);
        entered.map_err(|errno| format!("going into the container's mount namespace: {errno}"))
    }

    /// Becomes root of its user namespace where it has one, for good: what is made from then on is that root's.
    ///
    /// This process has one thread so far, as setns(2) wants it.
    pub(crate) fn become_root(&self) -> Result<(), String> {
        if self.users == Users::Machine {
            return Ok(());
        }
        let entered = move_into_thread_name_spaces(self.pidfd.as_fd(), ThreadNameSpaceType::USER);
        entered.map_err(|errno| format!("going into the container's user namespace: {errno}"))?;
        // Where groups may not be set, none of them means anything in there.
        let _ = set_thread_groups(&[]);
        let (uid, gid) = (Some(Uid::ROOT), Some(Gid::ROOT));
        let became = set_thread_res_gid(gid, gid, gid).and_then(|()| set_thread_res_uid(uid, uid, uid));
        became.map_err(|errno| format!("becoming root of the container's user namespace: {errno}"))
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getppid;

    use super::*;

    #[test]
    fn no_process_but_a_containers_is_believed() {
        let own = i64::from(std::process::id());
        for pid in [1, 0, -1, i64::from(i32::MAX), 1 << 40, own] {
            assert!(Created::new(pid, getppid()).is_err(), "{pid}");
        }
    }
}
