//! oci-hook-inject: gives a container the devices it may ask for, where its engine knows nothing of CDI.
//!
//! `precreate`: config (standard input) → request → specs → config (standard output). Arguments come from an
//! entry of hooks.d, which is root's; the config is the container's own word.
//! `prestart`, `create-runtime`: state (standard input) → config → request → specs → the created container.
//! `nspawn-prepare`, `nspawn-cleanup`: arguments → specs → the machine's state in /run, its loader, its settings;
//! `nspawn-report` says between the two why there is nothing of it.

#![forbid(unsafe_code)]

mod cgroup;
mod child;
mod created;
mod device_program;
mod entry;
mod nspawn;
mod outfit;
mod precreate;
mod prestart;
mod reason;

use std::process::{self, ExitCode};
use std::time::Duration;

use libgpuspec::error::chain;
use oci_hook::report::{Priority, Report};
use oci_hook::sandbox::DEADLINE;
use oci_hook::watch::{self, Watch};
use oci_hook::{contract, kernel};
use rustix::process::getppid;

use entry::{Command, Entry};

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
    let (limit, class) =
        if is_of_a_unit { (watch::MACHINE, Class::Container) } else { (DEADLINE, Class::Machine) };
    let watched = || watched(limit, class, is_of_a_unit);
    let done = match command {
        Command::Prestart(entry) => return prestarted(&entry, &report),
        Command::Precreate(entry) => {
            let _watch = watched();
            precreate::run(&entry, &report)
        }
        Command::NspawnPrepare(asked) => {
            let _watch = watched();
            nspawn::prepare(&asked, &report)
        }
        Command::NspawnReport(asked) => {
            let _watch = watched();
            nspawn::report(&asked, &report)
        }
        Command::NspawnCleanup(asked) => {
            let _watch = watched();
            nspawn::cleanup(&asked, &report)
        }
        Command::Nothing => Ok(()),
        Command::Unknown(name) => {
            // An entry of hooks.d made for a newer version must not keep containers from starting.
            report.say(Priority::Warning, &format!("unknown stage `{name}`; ignored"));
            Ok(())
        }
    };
    ExitCode::from(status(done, &report))
}

/// The exit status, once the reason is reported.
fn status(done: Result<(), Failure>, report: &Report) -> u8 {
    report.finish();
    match done {
        Ok(()) => 0,
        Err(Failure { class, reason }) => {
            report.say(Priority::Error, &reason);
            class as u8
        }
    }
}

/// The created container, in a child that has rights for it alone, and time.
fn prestarted(entry: &Entry, report: &Report) -> ExitCode {
    let runtime = getppid();
    let done = prestart::keep_rights().and_then(|()| {
        child::run(|| status(prestart::run(entry, report, runtime), report))
            .map_err(|reason| Failure { class: Class::Container, reason })
    });
    done.unwrap_or_else(|failure| ExitCode::from(status(Err(failure), report)))
}

/// Limits the time of a whole stage, from its first file access on.
fn watched(limit: Duration, class: Class, is_kept: bool) -> Watch {
    Watch::new(limit, move || {
        let report = if is_kept { Report::standard_error(PROGRAM) } else { Report::open(PROGRAM) };
        report.say(Priority::Error, &format!("not done after {limit:?}"));
        process::exit(class as i32)
    })
}
