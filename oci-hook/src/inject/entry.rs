//! The command line: the stage, and what the entry of hooks.d lets a container have.

#![forbid(unsafe_code)]

use std::ffi::OsString;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};

use crate::nspawn;

const EXIT_STATUS: &str = "Exit status: 0 done; 2 usage; 65 the input cannot be used, or the machine is not there; \
    80 the container's request or a spec's hook cannot be meant, \
    81 a device does not resolve, 82 a condition of the image is not met, \
    83 a device has no node here, or a spec's file is not here, 84 a file of this machine cannot be read or written, \
    85 something cannot be made or mounted in the container or for the machine, 86 its device cgroup cannot be changed";

/// Gives containers the CDI devices they may ask for; engines run it as an entry of hooks.d tells them.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    stage: Stage,
}

#[derive(Debug, Subcommand)]
enum Stage {
    /// Edits an OCI config before the container is created: standard input to standard output (podman)
    Precreate(Entry),
    /// Fits out a container that is created and not started, for runtimes without CDI; the state is standard input
    #[command(alias = "create-runtime")]
    Prestart(Entry),
    /// Makes a systemd-nspawn machine ready to be started with devices: ExecStartPre= of its unit
    NspawnPrepare(nspawn::Prepare),
    /// Says again why a machine that runs has no devices: ExecStartPost= of its unit
    NspawnReport(nspawn::Named),
    /// Takes back all that was made ready for a machine: ExecStopPost= of its unit
    NspawnCleanup(nspawn::Named),
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

/// What an entry of hooks.d says, and what it cannot know of a simulated machine.
#[derive(Debug, Args)]
pub(crate) struct Entry {
    #[command(flatten)]
    pub(crate) said: oci_hook::entry::Entry,
    /// The directory below which dev/… is looked for
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) dev_root: Utf8PathBuf,
    /// The directory below which proc/… is looked for
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) proc_root: Utf8PathBuf,
    /// The directory below which sys/… is looked for
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) sys_root: Utf8PathBuf,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// The stage of this name.
    Precreate(Entry),
    /// That of a created container.
    Prestart(Entry),
    /// A machine's start.
    NspawnPrepare(nspawn::Prepare),
    /// It runs.
    NspawnReport(nspawn::Named),
    /// Its end.
    NspawnCleanup(nspawn::Named),
    /// Nothing: a stage of the peer's hook at which nothing is to be done.
    Nothing,
    /// Nothing: a stage by a name not known here.
    Unknown(String),
}

/// The name under which Docker before 29 looks for the hook of `docker run --gpus`.
const PEER: &str = "nvidia-container-runtime-hook";
/// What that name alone opens: Docker puts the request into the environment, and the devices into no cgroup.
const OPENED: [&str; 3] = ["--allow-environment", "nvidia.com/gpu", "--device-cgroup"];

/// Reads the command line; a usage error ends the process with status 2.
pub(crate) fn parse() -> Command {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let name = words.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if Utf8PathBuf::from(name).file_name() == Some(PEER) {
        if words.get(1).is_none_or(|verb| verb != "prestart") {
            return Command::Nothing;
        }
        words.extend(OPENED.map(OsString::from));
    }
    match Cli::parse_from(words).stage {
        Stage::Precreate(entry) => Command::Precreate(entry),
        Stage::Prestart(entry) => Command::Prestart(entry),
        Stage::NspawnPrepare(prepare) => Command::NspawnPrepare(prepare),
        Stage::NspawnReport(machine) => Command::NspawnReport(machine),
        Stage::NspawnCleanup(machine) => Command::NspawnCleanup(machine),
        Stage::Unknown(words) => {
            let name = words.first().map(|name| name.to_string_lossy().into_owned());
            Command::Unknown(name.unwrap_or_default())
        }
    }
}
