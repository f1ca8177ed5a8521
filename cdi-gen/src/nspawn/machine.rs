//! A machine's name, and where the host's systemd keeps what belongs to it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::Root;

/// The longest name that Linux gives a host (sethostname(2)).
const MAX_NAME: usize = 64;

/// A machine's name as systemd takes one: a host's, of letters, digits, `-` and `.`.
///
/// Such a name is a unit's instance as it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Name> {
        let fits = |label: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.bytes().all(known) && !label.starts_with('-') && !label.ends_with('-')
        };
        match text.len() <= MAX_NAME && text.split('.').all(fits) {
            true => Ok(Name(text.to_owned())),
            false => bail!(
                "a machine's name has up to 64 letters, digits, - and ., no label of it empty or with - at its ends"
            ),
        }
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
        Utf8Path::new("/run/gpuspec/nspawn").join(&self.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_takes() {
        let long = "a".repeat(64);
        for good in ["a", "debian-12", "A.b.C9", &long] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let longer = "a".repeat(65);
        for bad in [
            "", "a b", "-x", "x-", "../x", ".x", "x.", "a..b", "a/b", "a_b", "é", "a\n", "%i", "a@b", &longer,
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
