//! What the library could not go on from.

use std::io;

use camino::Utf8PathBuf;

/// The library's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something could not be done; every text names the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused an operation on this path.
    #[error("{path}: {action}")]
    Io {
        /// The path as seen on the machine, not inside a root.
        path: Utf8PathBuf,
        /// What was tried, as a noun phrase.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A FIFO, device, link or directory lies where something else is wanted.
    #[error("{path}: a {kind}, not a {wanted}")]
    WrongKind {
        /// The path as seen on the machine.
        path: Utf8PathBuf,
        /// What it is.
        kind: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// A file is larger than anything of its sort can honestly be.
    #[error("{path}: larger than the {limit} bytes that are read of such a file")]
    TooLarge {
        /// The path as seen on the machine.
        path: Utf8PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A file's content is not what its place demands.
    #[error("{path}: {reason}")]
    Format {
        /// The path as seen on the machine.
        path: Utf8PathBuf,
        /// What is wrong, and where in the file.
        reason: String,
    },
    /// No driver of this vendor lies in the driver root.
    #[error("no {vendor} driver below {root}: looked for {looked_for}")]
    NoDriver {
        /// The vendor's name.
        vendor: &'static str,
        /// The driver root.
        root: Utf8PathBuf,
        /// Which files were looked for, and where.
        looked_for: String,
    },
    /// There is a driver, and no GPU that could be named.
    #[error("no {vendor} GPU: {reason}")]
    NoGpu {
        /// The vendor's name.
        vendor: &'static str,
        /// What was looked at, and the remedy.
        reason: String,
    },
    /// The driver versions on disk and in the kernel do not fit together.
    #[error("{0}")]
    DriverVersion(String),
    /// A container's root or state cannot be used.
    #[error("container: {0}")]
    Container(String),
    /// A machine of systemd-nspawn is not there, or cannot be made ready.
    #[error("{0}")]
    Machine(String),
    /// Work in a machine that runs has not ended in time and may go on: nothing is done beside it, and the caller is to
    /// end its process.
    #[error("{0}")]
    Lost(String),
}

/// An error and all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
