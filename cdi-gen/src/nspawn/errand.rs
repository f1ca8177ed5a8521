//! `cdi-gen nspawn errand`: work in a machine that runs, in a process of its own.
//!
//! It holds nothing of the program that waits for it: where the machine holds it up for good, that program ends without it.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use libgpuspec::nspawn::attach::errand;
use libgpuspec::{Error, Root};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::sandbox;
use crate::output::Status;

/// A few system calls; a file system of the machine's own that never answers holds them up.
const DEADLINE: Duration = Duration::from_secs(10);

/// For this program itself.
#[derive(Debug, Args)]
pub(crate) struct ErrandCommand {}

impl ErrandCommand {
    #[allow(clippy::unused_self)] // as all commands
    pub(crate) fn run(&self) -> Result<Status> {
        let mut errand = Vec::new();
        io::stdin().read_to_end(&mut errand)?;
        let answer = errand::run(&Root::open("/".into())?, &errand, sandbox::sandbox)?;
        io::stdout().write_all(&answer)?;
        Ok(Status::Done)
    }
}

/// Has an errand run, and brings back what comes of it.
pub(super) fn messenger(errand: &[u8]) -> libgpuspec::error::Result<Vec<u8>> {
    let failed = |error: io::Error| Error::Machine(format!("starting work in the machine: {error}"));
    let mut command = Command::new("/proc/self/exe");
    command.args(["nspawn", "errand"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(failed)?;
    let number = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::Other.into());
    let process = pidfd_open(number.map_err(failed)?, PidfdFlags::empty());
    let process = process.map_err(|errno| failed(errno.into()))?;
    let (sender, receiver) = mpsc::channel();
    let errand = errand.to_vec();
    // Whoever waited too long for it is gone.
    thread::spawn(move || drop(sender.send(answer(child, &errand))));
    let Ok(output) = receiver.recv_timeout(DEADLINE) else {
        // Held up by the machine it does not end before that answers, and does nothing more then.
        let _ = pidfd_send_signal(process, Signal::KILL);
        return Err(Error::Lost(format!(
            "work in the machine: not done after {DEADLINE:?}; the next attach or detach takes back what was done"
        )));
    };
    let Output { status, stdout, stderr } = output.map_err(failed)?;
    if status.success() {
        return Ok(stdout);
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(Error::Machine(format!(
        "work in the machine: {status}: {}",
        said.trim().trim_start_matches("cdi-gen: ")
    )))
}

fn answer(mut child: Child, errand: &[u8]) -> io::Result<Output> {
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(errand)?;
    }
    child.wait_with_output()
}
