//! `cdi-gen nspawn`: GPUs for machines of systemd-nspawn.

mod args;
mod asked;
mod attach;
mod bundle;
mod check;
mod detach;
mod disable;
mod dropin;
mod enable;
mod errand;
mod exec_start;
mod image;
mod machine;
mod machined;
mod nspawn_options;
mod resolved;
mod run;
mod sandbox;
mod settings_file;
mod status;
mod systemd;
mod unit;

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use libgpuspec::nspawn::{self, Order, Preparation};
use libgpuspec::{Error, Root};
use oci_hook::watch::{self, Watch};

use crate::output::{self, Status};

/// Gives machines of systemd-nspawn the devices of CDI specs
#[derive(Debug, Subcommand)]
pub(crate) enum Nspawn {
    Enable(Box<enable::Enable>),
    Disable(disable::Disable),
    Status(status::StatusCommand),
    Attach(Box<attach::Attach>),
    Detach(detach::Detach),
    #[command(hide = true)]
    Errand(errand::ErrandCommand),
    Run(run::Run),
    Args(Box<args::ArgsCommand>),
    Check(Box<check::Check>),
    Bundle(Box<bundle::Bundle>),
}

impl Nspawn {
    pub(crate) fn run(&self) -> Result<Status> {
        let _watch = self.limit().map(watched);
        match self {
            Nspawn::Enable(command) => command.run(),
            Nspawn::Disable(command) => command.run(),
            Nspawn::Status(command) => command.run(),
            Nspawn::Attach(command) => command.run(),
            Nspawn::Detach(command) => command.run(),
            Nspawn::Errand(command) => command.run(),
            Nspawn::Run(command) => command.run(),
            Nspawn::Args(command) => command.run(),
            Nspawn::Check(command) => command.run(),
            Nspawn::Bundle(command) => command.run(),
        }
    }
}

impl Nspawn {
    /// How long the command may take; none for those that set their own or have one thread.
    fn limit(&self) -> Option<Duration> {
        match self {
            Nspawn::Status(_) | Nspawn::Args(_) | Nspawn::Check(_) | Nspawn::Bundle(_) => {
                Some(watch::MACHINE)
            }
            // systemctl and a running machine take their time.
            Nspawn::Enable(_) | Nspawn::Disable(_) | Nspawn::Attach(_) | Nspawn::Detach(_) => {
                Some(4 * watch::MACHINE)
            }
            Nspawn::Errand(_) | Nspawn::Run(_) => None,
        }
    }
}

/// Ends the program at the limit, whatever it waits for: a file system may never answer.
fn watched(limit: Duration) -> Watch {
    Watch::new(limit, move || output::end(&format!("not done after {limit:?}")))
}

/// Makes a machine ready, and tells what was odd.
fn prepared(host: &Root, order: &Order<'_>) -> Result<Preparation> {
    let mut notices = Vec::new();
    let prepared = nspawn::prepare(host, order, sandbox::sandbox, &mut notices);
    output::notices(&notices);
    if let Err(nspawn::Failed::Step(Error::Io { action, source, .. })) = &prepared
        && source.kind() == ErrorKind::PermissionDenied
        && action.starts_with("making a device node")
    {
        output::note(
            "hint: allow the unit that runs this to make the devices, as by -p 'DeviceAllow=char-drm rwm', or leave out its DevicePolicy=",
        );
    }
    Ok(prepared?)
}
