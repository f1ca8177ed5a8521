//! The stages of a systemd-nspawn machine: before its start, once it runs, and after its end.

#![forbid(unsafe_code)]

use std::process;

use clap::Args;
use libgpuspec::Root;
use libgpuspec::cdi::{ContainerEdits, Registry};
use libgpuspec::nspawn::{self, Failed, Order, SettingsPlace, Told};
use oci_hook::machine::{Asked, Devices};
use oci_hook::report::{Priority, Report};
use oci_hook::sandbox::{self, Lost};

use crate::{Class, Failure, PROGRAM, reason};

/// A machine's start.
#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// The machine
    #[arg(long, value_name = "NAME")]
    machine: String,
    #[command(flatten)]
    asked: Asked,
    /// Write to no settings file of the user, but a copy for the machine's unit alone
    #[arg(long)]
    no_touch: bool,
}

/// A machine that was started.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The machine
    #[arg(long, value_name = "NAME")]
    machine: String,
}

/// Gives the machine its devices from the start that comes next.
pub(crate) fn prepare(asked: &Prepare, report: &Report) -> Result<(), Failure> {
    let host = host(&asked.machine)?;
    reason::keep(&host, &asked.machine, "making it ready was cut short");
    let done = give(&host, asked, report);
    match &done {
        Ok(()) => {
            reason::forget(&host, &asked.machine).map_err(|error| Failure::new(Class::Machine, &error))?
        }
        Err(failure) => reason::keep(&host, &asked.machine, &failure.reason),
    }
    done
}

/// Says again why the machine has none, if it has none.
pub(crate) fn report(asked: &Named, report: &Report) -> Result<(), Failure> {
    let kept = reason::read(&host(&asked.machine)?, &asked.machine);
    if let Some(reason) = kept.map_err(|error| Failure::new(Class::Machine, &error))? {
        report.say(Priority::Warning, &format!("{} runs without its devices: {reason}", asked.machine));
    }
    Ok(())
}

/// This host, if the machine has a name.
fn host(machine: &str) -> Result<Root, Failure> {
    nspawn::check_name(machine).map_err(|error| Failure::new(Class::Input, &error))?;
    Root::open("/".into()).map_err(|error| Failure::new(Class::Machine, &error))
}

fn give(host: &Root, asked: &Prepare, report: &Report) -> Result<(), Failure> {
    let edits = edits(&asked.asked.devices).inspect_err(|_| {
        // What is there of an earlier start is not to be met by the one that comes without.
        if let Ok(told) = nspawn::cleanup(host, &asked.machine, confined) {
            report.tell(&told);
        }
    })?;
    let (requests, unknown_hooks) = oci_hook::meanings(&edits.hooks);
    let unknown_hooks: Vec<String> = unknown_hooks.into_iter().map(oci_hook::name).collect();
    let order = Order {
        told: Told::Settings(if asked.no_touch { SettingsPlace::Private } else { SettingsPlace::Shared }),
        ..asked.asked.order(&asked.machine, &edits, &requests, &unknown_hooks)
    };
    let mut notices = Vec::new();
    let prepared = nspawn::prepare(host, &order, confined, &mut notices);
    report.tell(&notices);
    prepared.map(drop).map_err(|failed| failure(&failed))
}

/// Takes back all that was done for the machine.
pub(crate) fn cleanup(asked: &Named, report: &Report) -> Result<(), Failure> {
    let host = host(&asked.machine)?;
    let forgotten = reason::forget(&host, &asked.machine);
    let told = nspawn::cleanup(&host, &asked.machine, confined);
    report.tell(&told.map_err(|error| Failure::new(Class::Container, &error))?);
    forgotten.map_err(|error| Failure::new(Class::Machine, &error))
}

fn edits(asked: &Devices) -> Result<ContainerEdits, Failure> {
    let root = Root::open("/".into()).map_err(|error| Failure::new(Class::Machine, &error))?;
    let registry = Registry::unwatched(root, &asked.spec_directories);
    registry.resolve(&asked.names).map_err(|reasons| {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        Failure { class: Class::Unresolved, reason: reasons.join("; ") }
    })
}

fn failure(failed: &Failed) -> Failure {
    let class = match failed {
        Failed::Refused(_) => Class::Request,
        Failed::Machine(_) => Class::Input,
        Failed::Missing(_) => Class::Edit,
        Failed::Step(_) => Class::Container,
    };
    Failure::new(class, failed)
}

/// Work on a machine's tree, which its own users write: in a thread that can reach nothing else.
fn confined(root: Root, work: Box<dyn FnOnce(&Root) + Send>) -> Result<(), String> {
    let path = root.path().to_owned();
    match sandbox::run(root, work) {
        Ok(()) => Ok(()),
        Err(Lost::Sandbox(reason)) => Err(reason),
        // The thread may still be at work: what it did is for the next clean-up to take back.
        Err(Lost::Deadline) => {
            let text = format!("{path}: the work on the machine's tree: {}", Lost::Deadline);
            Report::standard_error(PROGRAM).say(Priority::Error, &text);
            process::exit(Class::Container as i32)
        }
    }
}
