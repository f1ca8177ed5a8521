//! The command line as it is typed.

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::convert::Convert;
use crate::diff::Diff;
use crate::explain::Explain;
use crate::generate::Generate;
use crate::hooks::Hooks;
use crate::inject::Inject;
use crate::inventory::InventoryCommand;
use crate::list::List;
use crate::minversion::MinVersion;
use crate::nspawn::Nspawn;
use crate::output::Status;
use crate::validate::Validate;

/// GPUs for containers: makes, checks and explains Container Device Interface specs.
///
/// Exit status: 0 done, 1 failed, 2 usage, 3 no driver or no GPU,
/// 4 does not resolve, is invalid or conflicts, 5 stale.
#[derive(Debug, Parser)]
#[command(name = "cdi-gen", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One noun or verb each, in a file of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Generate(Generate),
    #[command(subcommand)]
    Hooks(Hooks),
    Inventory(InventoryCommand),
    List(List),
    Inject(Inject),
    Validate(Validate),
    Explain(Explain),
    Convert(Convert),
    Diff(Diff),
    #[command(name = "minversion")]
    MinVersion(MinVersion),
    #[command(subcommand)]
    Nspawn(Nspawn),
}

impl Command {
    pub(crate) fn run(self) -> Result<Status> {
        match self {
            Command::Generate(command) => command.run(),
            Command::Hooks(command) => command.run(),
            Command::Inventory(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Inject(command) => command.run(),
            Command::Validate(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Convert(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::MinVersion(command) => command.run(),
            Command::Nspawn(command) => command.run(),
        }
    }
}
