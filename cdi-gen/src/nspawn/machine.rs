//! A machine's name, and where the host's systemd keeps what belongs to it.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::{Root, nspawn};

/// A machine's name as systemd takes one: a host's, of letters, digits, `-` and `.`.
///
/// Such a name is a unit's instance as it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Name> {
        nspawn::check_name(text)?;
        Ok(Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Name {
    /// Its unit.
    pub(crate) fn unit(&self) -> String {
        format!("systemd-nspawn@{self}.service")
    }

    /// The directory of its unit's drop-ins below `etc` or `run`.
    pub(crate) fn dropins(&self, top: &str) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("/{top}/systemd/system/{}.d", self.unit()))
    }

    /// Its settings file below `etc` or `run`.
    pub(crate) fn settings(&self, top: &str) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("/{top}/systemd/nspawn/{self}.nspawn"))
    }

    /// What is there while it is prepared.
    pub(crate) fn state(&self) -> Utf8PathBuf {
        nspawn::state_directory(&self.0)
    }

    /// Where systemd-machined says that it runs.
    pub(crate) fn registered(&self) -> Utf8PathBuf {
        Utf8Path::new("/run/systemd/machines").join(&self.0)
    }
}

/// The machine that hosts the others.
#[derive(Debug, Args)]
pub(crate) struct HostTree {
    /// The directory below which etc/systemd, run, dev and proc are: for a host that does not run
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: Utf8PathBuf,
}

impl HostTree {
    pub(crate) fn open(&self) -> Result<Root> {
        Ok(Root::open(&self.root)?)
    }
}
