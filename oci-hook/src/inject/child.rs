//! Work that must end in time and needs a process of one thread: setns(2) takes no other into a user namespace.

#![forbid(unsafe_code)]

use std::process::{self, ExitCode};
use std::time::Duration;

use oci_hook::kernel::{self, Forked};
use oci_hook::sandbox::DEADLINE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getppid, pidfd_open, set_parent_process_death_signal,
    waitpid,
};

/// How much longer than its own limit a child is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Does the work in a child, and returns its status, or why there is none.
///
/// Where no process can be had, this one does the work, and the kernel ends it at the deadline.
pub(crate) fn run(work: impl FnOnce() -> u8) -> Result<ExitCode, String> {
    match kernel::fork() {
        Ok(Forked::Parent(child)) => wait(child),
        Ok(Forked::Child) => {
            end_with_parent();
            kernel::end_after(DEADLINE);
            process::exit(work().into())
        }
        Err(_) => {
            kernel::end_after(DEADLINE);
            Ok(work().into())
        }
    }
}

/// A runtime that ends the hook ends its child too. The kernel forgets it when a process becomes another user.
pub(crate) fn end_with_parent() {
    // Without it the child still ends at the deadline.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Before the call above the parent may have ended.
    if getppid().is_none() {
        process::exit(1);
    }
}

fn wait(child: i32) -> Result<ExitCode, String> {
    let failed = |errno: rustix::io::Errno| format!("waiting for its own child: {errno}");
    let pid = Pid::from_raw(child).ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
    let ended = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    let limit = Timespec::try_from(DEADLINE + GRACE).map_err(|error| error.to_string())?;
    let late = || format!("not done after {DEADLINE:?}");
    // What cannot be killed is left to the kernel.
    if poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&limit)).map_err(failed)? == 0 {
        return Err(late());
    }
    let status = waitpid(Some(pid), WaitOptions::empty()).map_err(failed)?.map(|(_, status)| status);
    let signal = status.and_then(WaitStatus::terminating_signal);
    match (status.and_then(WaitStatus::exit_status), signal) {
        (Some(status), _) => Ok(u8::try_from(status).unwrap_or(u8::MAX).into()),
        (None, Some(signal)) if signal == Signal::ALARM.as_raw() => Err(late()),
        (None, signal) => Err(format!("ended by signal {}", signal.unwrap_or_default())),
    }
}
