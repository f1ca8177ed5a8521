//! The command line: what was typed, and the request it means.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};
use libgpuspec::apply::{Libraries, Link, Request};

const EXIT_STATUS: &str = "Exit status: 0 done, with a warning on standard error for what an odd image did not allow; \
    2 usage; 65 the state, 66 the bundle's config.json, 67 the container's root cannot be used";

/// Makes a GPU driver usable inside a container; runtimes run it as a CDI spec tells them.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    hook: Hook,
}

#[derive(Debug, Subcommand)]
enum Hook {
    /// Makes links and loader cache entries; the OCI state is read from standard input
    CreateContainer(CreateContainer),
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

#[derive(Debug, Args)]
struct CreateContainer {
    /// Make the symbolic link PATH (absolute in the container) with the text TARGET
    #[arg(long = "link", value_name = "TARGET::PATH")]
    links: Vec<Link>,
    /// The same, where what TARGET leads to is there
    #[arg(long = "device-link", value_name = "TARGET::PATH")]
    device_links: Vec<Link>,
    /// Let the loader find these libraries of the container's directory DIR
    #[arg(long, value_name = "ABI:DIR:NAME[:NAME...]")]
    libraries: Vec<Libraries>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// The hook of this name.
    CreateContainer(Request),
    /// Nothing: a hook by a name not known here.
    Unknown(String),
}

/// Reads the command line; a usage error ends the process with status 2.
pub(crate) fn parse() -> Command {
    match Cli::parse().hook {
        Hook::CreateContainer(CreateContainer { links, device_links, libraries }) => {
            Command::CreateContainer(Request { links, device_links, libraries })
        }
        Hook::Unknown(words) => {
            let name = words.first().map(|name| name.to_string_lossy().into_owned());
            Command::Unknown(name.unwrap_or_default())
        }
    }
}
