//! The stages of a systemd-nspawn machine: before its start, once it runs, and after its end.

#![forbid(unsafe_code)]

use std::process;

use camino::Utf8PathBuf;
use clap::{ArgAction, Args};
use libgpuspec::Root;
use libgpuspec::cdi::{ContainerEdits, Registry};
use libgpuspec::nspawn::{self, Failed, LoaderKind, MachineRoot, Order, RootKind, Touch};
use oci_hook::entry::{device, machine_directory};
use oci_hook::report::{Priority, Report};
use oci_hook::sandbox::{self, Lost};

use crate::{Class, Failure, PROGRAM, reason};

/// A machine's start.
#[derive(Debug, Args)]
pub(crate) struct Prepare {
    /// The machine
    #[arg(long, value_name = "NAME")]
    machine: String,
    /// Give it this device
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME", value_parser = device, required = true)]
    devices: Vec<String>,
    /// A spec directory, lowest precedence first [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "spec-dir", value_name = "DIR")]
    spec_directories: Vec<Utf8PathBuf>,
    /// Its root is this directory [default: found by its name, as systemd does]
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    directory: Option<Utf8PathBuf>,
    /// Its root is this disk image
    #[arg(long, value_name = "FILE")]
    image: Option<Utf8PathBuf>,
    /// How its loader finds libraries: auto, cache, overlay, environment, none
    #[arg(long, value_name = "WAY", default_value = "auto", value_parser = loader)]
    loader: Loader,
    /// Where the loader of an image looks: nobody looks into an image before it is started
    #[arg(long, value_name = "DIR", value_parser = machine_directory)]
    library_directory: Option<Utf8PathBuf>,
    /// Write nothing to its tree [default: if its settings say that its root is read-only or volatile]
    #[arg(long)]
    read_only: bool,
    /// Whether it has a user namespace [default: what its settings say, else yes]
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no, action = ArgAction::Set)]
    user_namespace: Option<bool>,
    /// Leave out what the hook of this name does
    #[arg(long = "allow-hook", value_name = "NAME")]
    allowed_hooks: Vec<String>,
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

/// The way that was typed, if one was.
type Loader = Option<LoaderKind>;

fn loader(text: &str) -> Result<Loader, nspawn::UnknownLoader> {
    if text == "auto" { Ok(None) } else { text.parse().map(Some) }
}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no"),
    }
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
    let edits = edits(asked).inspect_err(|_| {
        // What is there of an earlier start is not to be met by the one that comes without.
        if let Ok(told) = nspawn::cleanup(host, &asked.machine, confined) {
            report.tell(&told);
        }
    })?;
    let (requests, unknown_hooks) = oci_hook::meanings(&edits.hooks);
    let unknown_hooks: Vec<String> = unknown_hooks.into_iter().map(oci_hook::name).collect();
    let root = asked.directory.clone().map(MachineRoot::Directory);
    let order = Order {
        machine: &asked.machine,
        root: root.or_else(|| asked.image.clone().map(MachineRoot::Image)),
        edits: &edits,
        requests: &requests,
        unknown_hooks: &unknown_hooks,
        allowed_hooks: &asked.allowed_hooks,
        loader: asked.loader,
        library_directory: asked.library_directory.clone(),
        root_kind: asked.read_only.then_some(RootKind::ReadOnly),
        user_namespace: asked.user_namespace,
        settings: Some(if asked.no_touch { Touch::No } else { Touch::Yes }),
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

fn edits(asked: &Prepare) -> Result<ContainerEdits, Failure> {
    let root = Root::open("/".into()).map_err(|error| Failure::new(Class::Machine, &error))?;
    let registry = Registry::unwatched(root, &asked.spec_directories);
    registry.resolve(&asked.devices).map_err(|reasons| {
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
