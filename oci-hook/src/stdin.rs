//! Standard input, read whole within a limit of bytes and of time.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use libgpuspec::{Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A runtime writes the state at once and closes its end.
const DEADLINE: Duration = Duration::from_secs(3);

/// All bytes up to the end, or one more than `limit` of them.
pub fn read(limit: u64) -> Result<Vec<u8>> {
    let own = io::stdin().as_fd().try_clone_to_owned();
    let bytes = own.and_then(|own| read_within(File::from(own), limit, DEADLINE));
    bytes.map_err(|source| Error::Io { path: "/dev/stdin".into(), action: "reading the state", source })
}

fn read_within(input: File, limit: u64, deadline: Duration) -> io::Result<Vec<u8>> {
    let mut input = input.take(limit + 1);
    let mut bytes = Vec::with_capacity(4096);
    let mut buffer = [0; 4096];
    let started = Instant::now();
    loop {
        wait(input.get_ref(), deadline.saturating_sub(started.elapsed()))?;
        match input.read(&mut buffer)? {
            0 => return Ok(bytes),
            count => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
}

fn wait(input: &File, left: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&timeout))? {
        0 => Err(io::Error::new(io::ErrorKind::TimedOut, "no end of it in time")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe(written: &[u8]) -> (File, io::PipeWriter) {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(written).unwrap();
        (OwnedFd::from(reader).into(), writer)
    }

    #[test]
    fn all_bytes_are_read_up_to_the_limit() {
        let cases: [(&[u8], &[u8]); 3] =
            [(b"", b""), (b"12345678", b"12345678"), (b"123456789abc", b"123456789")];
        for (written, expected) in cases {
            let (reader, writer) = pipe(written);
            drop(writer);
            assert_eq!(read_within(reader, 8, DEADLINE).unwrap(), expected);
        }
    }

    #[test]
    fn an_input_without_end_is_not_waited_for() {
        let (reader, _writer) = pipe(b"{");
        let error = read_within(reader, 8, Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
