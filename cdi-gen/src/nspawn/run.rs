//! `cdi-gen nspawn run`: systemd-nspawn with devices, and nothing left of them afterwards.

use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Parser};
use libgpuspec::Root;
use libgpuspec::nspawn::{self, Machine, MachineRoot, Node, Order, Preparation, RootKind, Way};
use libgpuspec::render::nspawn::devices::{assignment, by_number};
use libgpuspec::render::nspawn::lines;
use oci_hook::entry::machine_directory;
use oci_hook::machine::Asked;
use oci_hook::watch;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::asked::Given;
use super::image;
use super::machine::named_by;
use super::nspawn_options::{Command, Line};
use super::resolved;
use super::sandbox::sandbox;
use super::settings_file;
use super::systemd;
use crate::output::{self, Status};
use crate::specs::absolute;

const PROGRAM: &str = "systemd-nspawn";
/// Where a machine that has only a name is copied to from a template.
const MACHINES: &str = "/var/lib/machines";

/// Runs systemd-nspawn with devices: options of both, in any order, then the command.
///
/// The machine's tree stays as it is. What is made for it lies below /run/gpuspec/nspawn/run_… until it ends.
/// Mounts and variables of the machine's settings file count too, though systemd-nspawn drops them where its
/// command line has some. The exit status is systemd-nspawn's; 4 also if a device does not resolve.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    flags: Flags,
    /// Options of systemd-nspawn, then a command, or with --boot arguments of the machine's systemd; -- may stand
    /// before it
    #[arg(value_name = "NSPAWN OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// The options that are ours.
#[derive(Debug, Clone, Default, Args)]
#[command(mut_arg("names", |argument| argument.required(false)))]
struct Flags {
    #[command(flatten)]
    given: Given,
    /// Of no effect; earlier versions laid links over this directory of a disk image
    #[arg(long, value_name = "DIR", value_parser = machine_directory, hide = true)]
    library_directory: Option<Utf8PathBuf>,
}

/// Those of them that stand among systemd-nspawn's.
#[derive(Debug, Parser)]
#[command(name = "cdi-gen nspawn run")]
struct Among {
    #[command(flatten)]
    flags: Flags,
}

impl Run {
    pub(crate) fn run(&self) -> Result<Status> {
        let Line { others: ours, command, unclear, ambiguous } = Line::read(&self.words, &ours());
        if let Some(option) = ambiguous {
            return Ok(output::usage(&format!(
                "{option}: more than one option begins so; write its whole name"
            )));
        }
        if let Some(option) = unclear {
            return Ok(output::usage(&format!("{option}: not known here: put `--` before the command")));
        }
        let among = Among::parse_from(std::iter::once("cdi-gen nspawn run".to_owned()).chain(ours)).flags;
        let asked = asked(&self.flags, among)?;
        if asked.devices.names.is_empty() {
            return Ok(output::usage("no device: name one by --device, as vendor.com/class=name"));
        }
        if command.has_bundle {
            return Ok(output::usage(
                "--oci-bundle: not for `nspawn run`; `cdi-gen nspawn bundle` adds devices to a bundle",
            ));
        }
        if command.settings.as_deref() == Some("override") {
            return Ok(output::usage(
                "--settings=override: the machine's settings file would take the place of its devices; leave it out",
            ));
        }
        let prepared_in_time = super::watched(watch::MACHINE);
        let host = Root::open("/".into())?;
        sweep(&host)?;
        tell(&host, &command)?;
        let machine = machine(&host, &command)?;
        let mut notices = Vec::new();
        let asked = match image::completed(Some(&machine.root), asked, &mut notices) {
            Ok(asked) => asked,
            Err(reason) => return Ok(output::usage(reason)),
        };
        output::notices(&notices);
        let resolved = match resolved::find(&host, &asked)? {
            Ok(resolved) => resolved,
            Err(reasons) => return Ok(resolved::refuse(&reasons)),
        };
        let name = nspawn::name_of_run(std::process::id());
        let order = Order {
            root: Some(machine.root.clone()),
            // Its tree stays as it is.
            root_kind: Some(RootKind::ReadOnly),
            user_namespace: Some(settings_file::user_namespace(&command, machine.settings.as_ref())),
            ..resolved.order(&asked, &name)
        };
        // From here on a signal is the machine's, and ends nothing here.
        let mut signals =
            Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM]).context("asking for signals")?;
        let preparation = super::prepared(&host, &order)?;
        drop(prepared_in_time);
        let booted = settings_file::command_line(&command, machine.settings.as_ref());
        let arguments = lines::arguments(&preparation, &nspawn::state_directory(&name), booted.as_deref());
        let ended = arguments.map_err(anyhow::Error::from).and_then(|arguments| {
            let masked = settings_file::arguments(&command, machine.settings.as_ref(), &arguments);
            let mut nspawn = std::process::Command::new(PROGRAM);
            nspawn.args(&command.options).args(rules(&command, &preparation)).args(masked).args(arguments);
            if !command.words.is_empty() {
                nspawn.arg("--").args(&command.words);
            }
            let mut child = nspawn.spawn().with_context(|| PROGRAM.to_owned())?;
            wait(&mut child, &mut signals)
        });
        output::notices(&nspawn::cleanup(&host, &name, sandbox)?);
        Ok(Status::Of(code(ended?)))
    }
}

/// Tells what may not be meant: which root is taken where none is named, and what cannot be had without systemd.
fn tell(host: &Root, command: &Command) -> Result<()> {
    if command.directory.is_none() && command.image.is_none() && command.machine.is_none() {
        let here = absolute(".".into())?;
        output::note(&format!(
            "the machine's root is {here}, the current directory; -D, -M or -i name another"
        ));
    }
    let flags = [(command.is_unregistered, "--register=no"), (command.keeps_unit, "--keep-unit")];
    let missing: Vec<&str> = flags.iter().filter(|(is_given, _)| !is_given).map(|(_, flag)| *flag).collect();
    if !missing.is_empty() && !systemd::is_booted(host)? {
        output::warning(&format!("systemd does not run here: add {}", missing.join(" ")));
    }
    Ok(())
}

/// What the machine's scope has to let through besides the nodes that systemd-nspawn finds by itself; a unit that it
/// keeps has its own rules.
fn rules(command: &Command, preparation: &Preparation) -> Vec<String> {
    let cloned = preparation.nodes.iter().filter(|node| !command.keeps_unit && node.way != Way::Plain);
    let rule = |node: &Node| {
        let device = by_number(node.kind, node.major.into(), node.minor.into());
        format!("--property={}", assignment(&format!("{device} rw")))
    };
    cloned.map(rule).collect()
}

/// The machine that a command line of systemd-nspawn means, and its settings file by the name that it would have.
///
/// A root that systemd-nspawn copies from a template first is looked into there.
pub(super) fn machine(host: &Root, command: &Command) -> Result<Machine> {
    let Some(template) = command.template.as_deref() else { return existing(host, command) };
    let new = match (&command.directory, command.machine.as_deref()) {
        (Some(path), _) => absolute(path.as_str().into())?,
        (None, Some(name)) if command.image.is_none() => Utf8Path::new(MACHINES).join(name),
        (None, _) => return existing(host, command),
    };
    if host.entry(&new)?.is_some() {
        return existing(host, &Command { directory: Some(new.into_string()), ..command.clone() });
    }
    let name = command.machine.clone().unwrap_or_else(|| named_by(&new));
    let machine = Machine::with_root(host, &name, MachineRoot::Directory(new))?;
    Ok(Machine { root: MachineRoot::Directory(absolute(template.into())?), ..machine })
}

fn existing(host: &Root, command: &Command) -> Result<Machine> {
    let name = command.machine.as_deref();
    let root = match (&command.directory, &command.image) {
        (Some(path), _) => MachineRoot::Directory(absolute(path.as_str().into())?),
        (None, Some(path)) => MachineRoot::Image(absolute(path.as_str().into())?),
        (None, None) => match name {
            Some(name) => return Ok(Machine::find(host, name)?),
            // That is what it takes then.
            None => MachineRoot::Directory(absolute(".".into())?),
        },
    };
    let own = named_by(root.path());
    Ok(Machine::with_root(host, name.unwrap_or(&own), root)?)
}

/// Their names.
fn ours() -> Vec<String> {
    let command = Flags::augment_args(clap::Command::new(PROGRAM));
    command.get_arguments().filter_map(|one| Some(format!("--{}", one.get_long()?))).collect()
}

/// What both say.
fn asked(first: &Flags, among: Flags) -> Result<Asked> {
    let Flags { mut given, library_directory } = first.clone();
    let (devices, more) = (&mut given.devices, among.given.devices);
    devices.names.extend(more.names);
    devices.spec_directories.extend(more.spec_directories);
    devices.allowed_hooks.extend(more.allowed_hooks);
    devices.loader = more.loader.or(devices.loader);
    Ok(Asked { library_directory: among.library_directory.or(library_directory), ..given.asked()? })
}

/// Until systemd-nspawn has ended, signals to this process go to it.
fn wait(child: &mut Child, signals: &mut Signals) -> Result<ExitStatus> {
    let pid = Pid::from_child(child);
    // What a terminal sends, it sends to both.
    let from_terminal = std::io::stdin().is_terminal();
    for number in signals.forever() {
        if let Some(status) = child.try_wait().with_context(|| PROGRAM.to_owned())? {
            return Ok(status);
        }
        let signal = match number {
            SIGHUP => Signal::HUP,
            SIGTERM => Signal::TERM,
            SIGINT if !from_terminal => Signal::INT,
            SIGQUIT if !from_terminal => Signal::QUIT,
            _ => continue,
        };
        // It may have ended since: then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }
    Ok(child.wait()?)
}

/// As a shell has it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Takes back what was made for runs that were killed before they could.
fn sweep(host: &Root) -> Result<()> {
    for (name, _) in host.list(nspawn::STATES.into())?.unwrap_or_default() {
        let Some(process) = nspawn::process_of_run(&name) else { continue };
        if host.entry(&Utf8Path::new("/proc").join(process.to_string()))?.is_none() {
            match nspawn::cleanup(host, &name, sandbox) {
                Ok(notices) => output::notices(&notices),
                // That is no fault of this run.
                Err(error) => {
                    let why = libgpuspec::error::chain(&error);
                    output::warning(&format!("left of a run that was killed: {why}"));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_options_are_those_that_are_offered() {
        let mut ours = ours();
        ours.sort();
        assert_eq!(ours, ["--allow-hook", "--device", "--library-directory", "--loader", "--spec-dir"]);
    }
}
