//! oci-hook: makes the driver usable inside a container that a runtime is about to start.
//!
//! state (standard input) → container's root → links, loader cache, loader configuration. Nothing is
//! executed, and neither the environment nor the working directory is looked at: both can be the image's.

mod cli;
mod stdin;

use std::process::ExitCode;

use libgpuspec::apply::{self, Request, container};
use libgpuspec::error::chain;

use cli::Command;

/// One exit status a class of failure: a runtime that drops our words still reports the number.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The state on standard input cannot be used.
    State = 65,
    /// The bundle's config.json cannot be used.
    Config = 66,
    /// The container's root cannot be used.
    Root = 67,
}

fn main() -> ExitCode {
    // Directories and files get the modes we give them, whatever the runtime's caller had.
    rustix::process::umask(rustix::fs::Mode::empty());
    match cli::parse() {
        Command::CreateContainer(request) => match create_container(&request) {
            Ok(()) => ExitCode::SUCCESS,
            Err((failure, error)) => {
                eprintln!("oci-hook: {}", chain(&error));
                ExitCode::from(failure as u8)
            }
        },
        Command::Unknown(name) => {
            // A spec made by a newer cdi-gen must not keep containers from starting.
            eprintln!("oci-hook: `{name}` is no hook known to this version; nothing done");
            ExitCode::SUCCESS
        }
    }
}

fn create_container(request: &Request) -> Result<(), (Failure, libgpuspec::Error)> {
    let state = stdin::read(container::MAX_STATE).and_then(|bytes| container::State::parse(&bytes));
    let path = state.map_err(|error| (Failure::State, error))?.root();
    let root = container::open(&path.map_err(|error| (Failure::Config, error))?);
    for notice in apply::apply(&root.map_err(|error| (Failure::Root, error))?, request) {
        eprintln!("oci-hook: {notice}");
    }
    Ok(())
}
