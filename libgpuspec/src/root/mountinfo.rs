//! The mounts that a process sees: which is where, and which passes on what is mounted on it (proc_pid_mountinfo(5)).

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::Root;
use crate::error::Result;

/// Mounts of a machine with thousands of containers.
const MAX: u64 = 16 << 20;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Its number, as statx(2) tells it.
    pub(super) id: u64,
    /// Where it is.
    pub(super) place: Utf8PathBuf,
    /// The group to which it passes on what is mounted on it, if it does.
    pub(super) group: Option<u64>,
}

/// This process's mounts.
pub(super) fn own() -> Result<Vec<Mount>> {
    Ok(parse(&table(&Root::proc()?, "self")?.unwrap_or_default()))
}

fn table(proc: &Root, who: &str) -> Result<Option<String>> {
    proc.read_text(&Utf8Path::new(who).join("mountinfo"), MAX)
}

fn parse(table: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let place = unescaped(fields.nth(3)?);
        let mut optional = fields.skip(1).take_while(|field| *field != "-");
        let group = optional.find_map(|field| field.strip_prefix("shared:")).and_then(|id| id.parse().ok());
        Some(Mount { id, place, group })
    };
    table.lines().filter_map(line).collect()
}

/// A path of the table, in which four characters are octal numbers.
fn unescaped(text: &str) -> Utf8PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain)).into()
}

/// The mounts of a namespace, each with the group to which it passes on what is mounted on it, if it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Peers(BTreeMap<u64, Option<u64>>);

impl Peers {
    /// Those that a process sees, by its directory in /proc; `None` where it has ended.
    pub(crate) fn read(proc: &Root, who: &str) -> Result<Option<Peers>> {
        Ok(table(proc, who)?.map(|table| Peers::parse(&table)))
    }

    fn parse(table: &str) -> Peers {
        Peers(parse(table).into_iter().map(|mount| (mount.id, mount.group)).collect())
    }

    /// Whether what is mounted on the mount `id` of this namespace appears in the other one as well; of a mount
    /// that came later nobody knows.
    pub(super) fn reach(&self, id: u64, other: &Peers) -> bool {
        match self.0.get(&id) {
            None => true,
            Some(None) => false,
            Some(group) => other.0.values().any(|one| one == group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_one_group_in_two_namespaces_reach_each_other() {
        let own = "21 1 0:5 / / rw shared:7 - ext4 x rw\n22 21 0:6 / /run rw shared:8 master:1 - tmpfs x rw\n\
                   23 21 0:6 / /a rw - tmpfs shared:7 rw\n";
        let host = "91 1 0:5 / / rw master:9 shared:7 - ext4 x rw\n92 91 0:6 / /x rw master:8 - tmpfs x rw\n";
        let (own, host) = (Peers::parse(own), Peers::parse(host));
        assert_eq!([21, 22, 23, 24].map(|id| own.reach(id, &host)), [true, false, false, true]);
        assert_eq!(Peers::parse("no table\n\n"), Peers::default());
    }

    #[test]
    fn a_line_is_read_whatever_it_has_in_it() {
        let table = "36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:3 - ext3 /dev/root rw\n7 x\n8 1 0:4 / /p rw - proc p rw\n";
        let mount = |id, place: &str, group| Mount { id, place: place.into(), group };
        assert_eq!(parse(table), [mount(36, "/a b\\c", Some(3)), mount(8, "/p", None)]);
    }
}
