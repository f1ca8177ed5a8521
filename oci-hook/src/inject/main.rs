//! oci-hook-inject: gives a container the devices it may ask for, where its engine knows nothing of CDI.
//!
//! `precreate`: config (standard input) → request → specs → config (standard output). Arguments come from an
//! entry of hooks.d, which is root's; the config is the container's own word.
//! `prestart`, `create-runtime`: state (standard input) → config → request → specs → the created container.
//! `nspawn-prepare`, `nspawn-cleanup`: arguments → specs → the machine's state in /run, its loader, its settings;
//! `nspawn-report` says between the two why there is nothing of it.

#![forbid(unsafe_code)]

mod cgroup;
mod created;
mod device_program;
mod entry;
mod nspawn;
mod outfit;
mod precreate;
mod prestart;
mod reason;

use std::process::ExitCode;

use libgpuspec::error::chain;
use oci_hook::report::{Priority, Report};
use oci_hook::{contract, kernel};

use entry::Command;

/// One exit status a class of failure: an engine that drops our words still reports the number.
#[derive(Debug, Clone, Copy)]
enum Class {
    /// What is on standard input cannot be used, or the machine.
    Input = 65,
    /// The container, or a spec's hook, asks for what cannot be meant.
    Request = 80,
    /// A device does not resolve.
    Unresolved = 81,
    /// The host is not as the image wants it.
    Condition = 82,
    /// A device has no node here, a spec names a file that is not here, or the config is of a shape that cannot be edited.
    Edit = 83,
    /// A file of this machine cannot be read, or the result cannot be written.
    Machine = 84,
    /// Something cannot be made or mounted in the container, or for the machine.
    Container = 85,
    /// The container's device cgroup cannot be changed.
    Cgroup = 86,
}

/// Why nothing was done.
#[derive(Debug)]
struct Failure {
    class: Class,
    reason: String,
}

impl Failure {
    fn new(class: Class, error: &dyn std::error::Error) -> Failure {
        Failure { class, reason: chain(error) }
    }
}

/// One for each mount of a spec, until they are attached; the largest spec seen has some 60.
const MAX_FILES: u64 = 1024;

const PROGRAM: &str = "oci-hook-inject";

fn main() -> ExitCode {
    kernel::close_inherited();
    kernel::ignore_file_size_signal();
    contract::enter(MAX_FILES);
    let command = entry::parse();
    // systemd keeps what a unit's programs write already.
    let is_of_a_unit =
        matches!(command, Command::NspawnPrepare(_) | Command::NspawnReport(_) | Command::NspawnCleanup(_));
    let report = if is_of_a_unit { Report::standard_error(PROGRAM) } else { Report::open(PROGRAM) };
    let done = match command {
        Command::Precreate(entry) => precreate::run(&entry, &report),
        Command::Prestart(entry) => prestart::run(&entry, &report),
        Command::NspawnPrepare(asked) => nspawn::prepare(&asked, &report),
        Command::NspawnReport(asked) => nspawn::report(&asked, &report),
        Command::NspawnCleanup(asked) => nspawn::cleanup(&asked, &report),
        Command::Nothing => Ok(()),
        Command::Unknown(name) => {
            // An entry of hooks.d made for a newer version must not keep containers from starting.
            report
                .say(Priority::Warning, &format!("`{name}` is no stage known to this version; nothing done"));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { class, reason }) => {
            report.say(Priority::Error, &reason);
            ExitCode::from(class as u8)
        }
    }
}
