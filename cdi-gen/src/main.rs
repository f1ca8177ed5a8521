//! cdi-gen: makes, checks and explains CDI specs for the GPUs of this host.

#![forbid(unsafe_code)]

mod cli;
mod convert;
mod diff;
mod discovery;
mod explain;
mod generate;
mod hook;
mod hooks;
mod inject;
mod install;
mod inventory;
mod list;
mod minversion;
mod nspawn;
mod output;
mod specs;
mod trusted;
mod validate;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Specs and their directories are for every user's engine to read, whatever the caller's umask.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    match cli::Cli::parse().command.run() {
        Ok(status) => status.into(),
        Err(error) => {
            output::error(&error);
            output::Status::of(&error).into()
        }
    }
}
