//! Standard input, read whole within a limit of bytes and of time.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use libgpuspec::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A runtime writes the state at once and closes its end.
const DEADLINE: Duration = Duration::from_secs(5);

/// All bytes up to the end, or one more than `limit` of them.
pub(crate) fn read(limit: u64) -> Result<Vec<u8>> {
    let failed =
        |source: io::Error| Error::Io { path: "/dev/stdin".into(), action: "reading the state", source };
    let own = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let mut input = File::from(own).take(limit + 1);
    let mut bytes = Vec::with_capacity(4096);
    let mut buffer = [0; 4096];
    let started = Instant::now();
    loop {
        wait(input.get_ref(), DEADLINE.saturating_sub(started.elapsed())).map_err(failed)?;
        match input.read(&mut buffer).map_err(failed)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn wait(input: &File, left: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&timeout))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "no end of it within 5 seconds")),
        _ => Ok(()),
    }
}
