//! Words about what was not done, to where somebody may read them: crun drops what hooks write.

#![forbid(unsafe_code)]

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use libgpuspec::{Notice, Result, Root};

const JOURNAL: &str = "/run/systemd/journal/socket";
const RUN: &str = "/run";
const LOG_DIRECTORY: &str = "gpuspec";
const LOG: &str = "hook.log";
const MAX_LOG: u64 = 1 << 20;

/// How bad it is, as syslog(3) counts.
#[derive(Debug, Clone, Copy)]
pub enum Priority {
    /// The container does not start.
    Error = 3,
    /// It starts with less than was asked for.
    Warning = 4,
}

/// Where words go beside standard error: held by descriptors, so that a hook that has gone into a container's
/// mount namespace still speaks to this machine.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    sink: Option<Sink>,
}

#[derive(Debug)]
enum Sink {
    Journal(UnixDatagram),
    Run(Root),
}

impl Report {
    /// The journal, or where there is none /run/gpuspec/hook.log; best effort.
    pub fn open(program: &'static str) -> Report {
        let journal = journal().map(Sink::Journal).ok();
        Report { program, sink: journal.or_else(|| Root::open(RUN.into()).map(Sink::Run).ok()) }
    }

    /// Standard error alone, for programs whose caller keeps it.
    pub fn standard_error(program: &'static str) -> Report {
        Report { program, sink: None }
    }

    /// Says it on standard error and there.
    pub fn say(&self, priority: Priority, text: &str) {
        // Names in it may be the image's: no line of its own, no terminal sequence.
        let text: String = text.chars().flat_map(visible).collect();
        // eprintln! would end the process where nobody takes what it writes.
        let _ = writeln!(std::io::stderr(), "{}: {text}", self.program);
        // There is nobody left to tell if these fail.
        match &self.sink {
            Some(Sink::Journal(socket)) => {
                let _ = socket.send(&entry(self.program, priority, &text));
            }
            Some(Sink::Run(run)) => {
                let _ = log(run, &text);
            }
            None => {}
        }
    }

    /// Says what was left out.
    pub fn tell(&self, notices: &[Notice]) {
        notices.iter().for_each(|notice| self.say(Priority::Warning, &notice.0));
    }
}

fn visible(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// A full queue is not waited for.
fn journal() -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(JOURNAL)?;
    Ok(socket)
}

/// One datagram in the journal's own format (systemd, JOURNAL_NATIVE_PROTOCOL).
fn entry(program: &str, priority: Priority, text: &str) -> Vec<u8> {
    format!("MESSAGE={text}\nPRIORITY={}\nSYSLOG_IDENTIFIER={program}\n", priority as u8).into_bytes()
}

fn log(run: &Root, text: &str) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let directory = run.make_directory(LOG_DIRECTORY.into())?;
    directory.append(LOG, format!("{now} {text}\n").as_bytes(), MAX_LOG)
}
