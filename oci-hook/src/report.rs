//! Lines about what was not done, written where somebody may read them: crun drops what hooks write.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use libgpuspec::line::one_line;
use libgpuspec::{Notice, Result, Root};

const JOURNAL: &str = "/run/systemd/journal/socket";
const RUN: &str = "/run";
const LOG_DIRECTORY: &str = "gpuspec";
const LOG: &str = "hook.log";
/// Of the log, which is begun again where it would become larger.
const MAX_LOG: u64 = 1 << 20;
/// Most lines of one run, the last of which counts the others.
const MAX_LINES: usize = 40;

/// How bad it is, as syslog(3) counts.
#[derive(Debug, Clone, Copy)]
pub enum Priority {
    /// The container does not start.
    Error = 3,
    /// It starts with less than was asked for.
    Warning = 4,
}

/// Where lines go besides standard error: held by descriptors, so that a hook that has gone into a container's
/// mount namespace still writes on this machine.
#[derive(Debug)]
pub struct Report {
    program: &'static str,
    journal: Option<UnixDatagram>,
    run: Option<Root>,
    lines: Cell<usize>,
}

impl Report {
    /// The journal, or where it takes nothing /run/gpuspec/hook.log; best effort.
    pub fn open(program: &'static str) -> Report {
        let (journal, run) = (journal().ok(), Root::open(RUN.into()).ok());
        Report { program, journal, run, lines: Cell::new(0) }
    }

    /// Standard error alone, for programs whose caller keeps it.
    pub fn standard_error(program: &'static str) -> Report {
        Report { program, journal: None, run: None, lines: Cell::new(0) }
    }

    /// Writes a line there and on standard error. An error is written however many warnings came before.
    pub fn say(&self, priority: Priority, text: &str) {
        if matches!(priority, Priority::Warning) {
            self.lines.set(self.lines.get() + 1);
            if self.lines.get() >= MAX_LINES {
                return;
            }
        }
        self.write(priority, text);
    }

    fn write(&self, priority: Priority, text: &str) {
        let text = one_line(text);
        // eprintln! would end the process where nobody takes what it writes.
        let _ = writeln!(std::io::stderr(), "{}: {text}", self.program);
        let entry = entry(self.program, priority, &text);
        // The journal refuses a line while its queue is full, or if the line is too long.
        let is_kept = self.journal.as_ref().is_some_and(|journal| journal.send(&entry).is_ok());
        if let Some(run) = self.run.as_ref().filter(|_| !is_kept) {
            // Nobody is left to report to if that fails.
            let _ = log(run, &text);
        }
    }

    /// Counts the warnings that were too many; for the end of a run.
    pub fn finish(&self) {
        if let Some(more @ 1..) = (self.lines.take() + 1).checked_sub(MAX_LINES) {
            self.write(Priority::Warning, &format!("{more} more warnings are not shown"));
        }
    }

    /// Reports what was left out.
    pub fn tell(&self, notices: &[Notice]) {
        notices.iter().for_each(|notice| self.say(Priority::Warning, &notice.0));
    }
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
