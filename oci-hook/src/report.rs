//! Words about what was not done, to where somebody may read them: crun drops what hooks write.

#![forbid(unsafe_code)]

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{SystemTime, UNIX_EPOCH};

use libgpuspec::{Result, Root};

const JOURNAL: &str = "/run/systemd/journal/socket";
const LOG_DIRECTORY: &str = "gpuspec";
const LOG: &str = "hook.log";
const MAX_LOG: u64 = 1 << 20;

/// How bad it is, as syslog(3) counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Priority {
    /// The container does not start.
    Error = 3,
    /// It starts with less than was asked for.
    Warning = 4,
}

/// Says it on standard error and, best effort, in the journal or else in /run/gpuspec/hook.log.
pub(crate) fn say(priority: Priority, text: &str) {
    // Names in it may be the image's: no line of its own, no terminal sequence.
    let text: String = text.chars().flat_map(visible).collect();
    // eprintln! would end the process where nobody takes what it writes.
    let _ = writeln!(std::io::stderr(), "oci-hook: {text}");
    if journal(priority, &text).is_err() {
        // There is nobody left to tell if that fails as well.
        let _ = log(&text);
    }
}

fn visible(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// One datagram in the journal's own format (systemd, JOURNAL_NATIVE_PROTOCOL); a full queue is not waited for.
fn journal(priority: Priority, text: &str) -> std::io::Result<usize> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let fields = format!("MESSAGE={text}\nPRIORITY={}\nSYSLOG_IDENTIFIER=oci-hook\n", priority as u8);
    socket.send_to(fields.as_bytes(), JOURNAL)
}

fn log(text: &str) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let directory = Root::open("/run".into())?.make_directory(LOG_DIRECTORY.into())?;
    directory.append(LOG, format!("{now} {text}\n").as_bytes(), MAX_LOG)
}
