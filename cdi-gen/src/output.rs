//! What leaves the program: text on stdout, words for people on stderr, the exit status.

use std::process::ExitCode;

/// The documented exit statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Status {
    Done = 0,
    Failed = 1,
    NoGpu = 3,
    Invalid = 4,
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
        ExitCode::from(status as u8)
    }
}

/// An error with all its causes, for people.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("cdi-gen: {error:#}");
}
