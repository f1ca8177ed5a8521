//! What leaves the program: text on stdout, files, words for people on stderr, the exit status.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
pub(crate) use libgpuspec::line::one_line;
use libgpuspec::root::{Durability, Kind};
use libgpuspec::{Notice, Root, line};

use crate::specs;

/// The documented exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    Failed,
    Usage,
    NoGpu,
    Invalid,
    Stale,
    /// That of a program that was run.
    Of(u8),
}

impl Status {
    /// The status that says what class of failure an error is.
    pub(crate) fn of(error: &anyhow::Error) -> Status {
        match error.downcast_ref::<libgpuspec::Error>() {
            Some(libgpuspec::Error::NoDriver { .. } | libgpuspec::Error::NoGpu { .. }) => Status::NoGpu,
            _ => Status::Failed,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        ExitCode::from(match status {
            Status::Done => 0,
            Status::Failed => 1,
            Status::Usage => 2,
            Status::NoGpu => 3,
            Status::Invalid => 4,
            Status::Stale => 5,
            Status::Of(program) => program,
        })
    }
}

/// The product, on stdout. A reader that went away early is no failure of ours to tell about.
pub(crate) fn text(text: &str) -> Result<Status> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("writing to stdout")
        }
        _ => Ok(Status::Done),
    }
}

/// The product, in a file that is either whole or as it was before; mode 0644.
pub(crate) fn file(path: &Utf8Path, text: &str) -> Result<Status> {
    let path = specs::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{path}: not a file's name")
    };
    let machine = Root::open(Utf8Path::new("/"))?;
    // Also for links: /dev/stdout is one, and renaming a file over it would break the machine.
    if let Some(entry) = machine.target(&path)?.filter(|entry| entry.kind != Kind::File) {
        bail!("{path}: a {}, which is not replaced; leave --output out for stdout", entry.kind.word());
    }
    let Some(directory) = machine.directory(parent)? else { bail!("{parent}: no such directory") };
    directory.replace_file(name, text.as_bytes(), 0o644, None, Durability::Synced)?;
    Ok(Status::Done)
}

/// A line for people. A line that cannot be written does not make the work fail.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "cdi-gen: {}", one_line(text));
}

/// An error with all its causes, for people.
pub(crate) fn error(error: &anyhow::Error) {
    tell(&format!("{error:#}"));
}

/// Ends the program at once, where going on would do harm.
pub(crate) fn end(text: &str) -> ! {
    tell(text);
    std::process::exit(1)
}

/// Something the caller should know, though the work went on.
pub(crate) fn warning(text: &str) {
    tell(&format!("warning: {text}"));
}

/// Most lines about anomalies that one command prints.
pub(crate) const MAX_NOTICES: usize = 100;

/// Warnings, each a line, and a count of those beyond the limit.
pub(crate) fn warnings(lines: &[String]) {
    limited(lines, "warnings", warning);
}

/// Anomalies that did not stop the work, likewise.
pub(crate) fn notices(notices: &[Notice]) {
    let lines: Vec<&str> = notices.iter().map(|notice| notice.0.as_str()).collect();
    limited(&lines, "notices", note);
}

fn limited<T: AsRef<str>>(lines: &[T], what: &str, print: fn(&str)) {
    let (shown, more) = line::first(lines, MAX_NOTICES);
    shown.iter().for_each(|line| print(line.as_ref()));
    if more > 0 {
        print(&format!("{more} more {what} like these"));
    }
}

/// What was done, or why not, where stdout does not say it.
pub(crate) fn note(text: &str) {
    tell(text);
}

/// Something stands in the way that only the caller can decide about.
pub(crate) fn conflict(text: &str) -> Status {
    tell(text);
    Status::Invalid
}

/// The command line is wrong in a way that only its meaning tells.
pub(crate) fn usage(text: &str) -> Status {
    tell(text);
    Status::Usage
}
