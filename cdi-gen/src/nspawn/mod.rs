//! `cdi-gen nspawn`: GPUs for machines of systemd-nspawn.

mod asked;
mod check;
mod disable;
mod dropin;
mod enable;
mod image;
mod machine;
mod meant;
mod sandbox;
mod status;
mod systemd;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Status;

/// Gives machines of systemd-nspawn the devices of CDI specs
#[derive(Debug, Subcommand)]
pub(crate) enum Nspawn {
    Enable(Box<enable::Enable>),
    Disable(disable::Disable),
    Status(status::StatusCommand),
    Check(Box<check::Check>),
}

impl Nspawn {
    pub(crate) fn run(&self) -> Result<Status> {
        match self {
            Nspawn::Enable(command) => command.run(),
            Nspawn::Disable(command) => command.run(),
            Nspawn::Status(command) => command.run(),
            Nspawn::Check(command) => command.run(),
        }
    }
}
