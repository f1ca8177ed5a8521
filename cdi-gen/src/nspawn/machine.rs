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

/// The name that systemd-nspawn gives a machine by where its root is: letters that no name has are left out.
pub(super) fn named_by(root: &Utf8Path) -> String {
    let name = root.file_name().unwrap_or_default();
    let name = name.strip_suffix(".raw").unwrap_or(name);
    let name: String =
        name.chars().filter(|one| one.is_ascii_alphanumeric() || matches!(one, '-' | '.')).collect();
    // A name that is none finds no settings file.
    if nspawn::check_name(&name).is_ok() { name } else { "machine".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_names_its_machine() {
        let cases = [
            ("/var/lib/machines/debian", "debian"),
            ("/srv/my guest_1", "myguest1"),
            ("/srv/trixie.raw", "trixie"),
            ("/", "machine"),
            ("/srv/..x", "machine"),
        ];
        for (path, expected) in cases {
            assert_eq!(named_by(path.into()), expected, "{path}");
        }
    }
}
