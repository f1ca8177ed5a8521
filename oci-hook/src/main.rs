//! oci-hook: makes the driver usable inside a container that a runtime is about to start.
//!
//! state (standard input) → container's root → mounts → links, loader cache, loader configuration. Nothing
//! is executed, and neither the environment nor the working directory is looked at: both can be the image's.

mod cli;
mod peer;
mod stdin;

use std::process::ExitCode;

use camino::Utf8Path;
use libgpuspec::apply::{self, container};
use libgpuspec::error::chain;
use libgpuspec::{Error, Root};

use cli::{Command, Job};

/// One exit status a class of failure: a runtime that drops our words still reports the number.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The state cannot be used.
    State = 65,
    /// The bundle's config.json cannot be used.
    Config = 66,
    /// The container's root cannot be used.
    Root = 67,
    /// A step that was required was not done.
    Required = 68,
}

fn main() -> ExitCode {
    // Directories and files get the modes we give them, whatever the runtime's caller had.
    rustix::process::umask(rustix::fs::Mode::empty());
    match cli::parse() {
        Command::Apply(job) => match run(&job) {
            Ok(()) => ExitCode::SUCCESS,
            Err((failure, error)) => {
                eprintln!("oci-hook: {}", chain(&error));
                ExitCode::from(failure as u8)
            }
        },
        Command::Nothing => ExitCode::SUCCESS,
        Command::Unknown(name) => {
            // A spec made by a newer cdi-gen must not keep containers from starting.
            eprintln!("oci-hook: `{name}` is no hook known to this version; nothing done");
            ExitCode::SUCCESS
        }
    }
}

fn run(job: &Job) -> Result<(), (Failure, Error)> {
    let state = state(job).and_then(|bytes| container::State::parse(&bytes));
    let path = state.map_err(|error| (Failure::State, error))?.root();
    let root = container::open(&path.map_err(|error| (Failure::Config, error))?);
    let undone = apply::apply(&root.map_err(|error| (Failure::Root, error))?, &job.request);
    for one in &undone {
        eprintln!("oci-hook: {}", one.notice);
    }
    match undone.iter().find(|one| job.required.contains(&one.step)) {
        None => Ok(()),
        Some(one) => Err((Failure::Required, Error::Container(format!("required: {}", one.notice)))),
    }
}

/// The state's bytes, from standard input or from the file that was named.
fn state(job: &Job) -> Result<Vec<u8>, Error> {
    let Some(path) = job.state.as_deref().map(Utf8Path::new) else {
        return stdin::read(container::MAX_STATE);
    };
    let (parent, name) =
        path.parent().zip(path.file_name()).filter(|_| path.is_absolute()).ok_or_else(|| {
            Error::Container(format!("its state is said to be in `{path}`: give an absolute path, or none"))
        })?;
    let missing = || Error::Container(format!("its state is said to be in {path}: no such file"));
    Root::open(parent)?.read(name.into(), container::MAX_STATE)?.ok_or_else(missing)
}
