//! The mounts that a process sees: which is where, and which passes on what is mounted on it (proc_pid_mountinfo(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, Mode, OFlags};

use super::Root;
use crate::error::Result;

/// Mounts of a machine with thousands of containers.
const MAX: u64 = 16 << 20;

/// What stands for the device of an overlay that is made here.
pub(super) const OVERLAY: &str = "gpuspec";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Its number, as statx(2) tells it.
    pub(super) id: u64,
    /// The device of its file system.
    pub(super) device: u64,
    /// Where it is.
    pub(super) place: Utf8PathBuf,
    /// The group to which it passes on what is mounted on it, if it does.
    pub(super) group: Option<u64>,
    /// Whether it is an overlay that was made here.
    pub(super) is_overlay: bool,
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
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        let device = fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        let place = unescaped(fields.nth(1)?);
        let optional = fields.by_ref().skip(1).take_while(|field| *field != "-");
        let mut groups = optional.filter_map(|field| field.strip_prefix("shared:")?.parse().ok());
        let group = groups.by_ref().fold(None, |_, id| Some(id));
        let is_overlay = fields.next() == Some("overlay") && fields.next() == Some(OVERLAY);
        Some(Mount { id, device, place, group, is_overlay })
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
pub(crate) struct Peers(BTreeMap<u64, Mount>);

impl Peers {
    /// Those of this process that do not lie below `top`.
    pub(super) fn outside(top: &Utf8Path) -> Result<Peers> {
        let outside = own()?.into_iter().filter(|mount| !mount.place.starts_with(top));
        Ok(Peers(outside.map(|mount| (mount.id, mount)).collect()))
    }

    /// Those that a process sees, by its directory in /proc; `None` where it has ended.
    pub(crate) fn read(proc: &Root, who: &str) -> Result<Option<Peers>> {
        Ok(table(proc, who)?.map(|table| Peers::parse(&table)))
    }

    /// The same, this host's /proc being the working directory: for whom /proc is another's. An error is that of a
    /// process that has ended, too.
    pub(crate) fn read_here(who: &str) -> std::io::Result<Peers> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let table = fs::openat(fs::CWD, format!("{who}/mountinfo"), flags, Mode::empty())?;
        let mut text = String::new();
        File::from(table).take(MAX).read_to_string(&mut text)?;
        Ok(Peers::parse(&text))
    }

    fn parse(table: &str) -> Peers {
        Peers(parse(table).into_iter().map(|mount| (mount.id, mount)).collect())
    }

    /// Whether what is mounted on the mount `id` of this namespace appears in the other one as well; of a mount
    /// that came later nobody knows.
    pub(super) fn reach(&self, id: u64, other: &Peers) -> bool {
        match self.0.get(&id).map(|mount| mount.group) {
            None => true,
            Some(None) => false,
            Some(group) => other.0.values().any(|one| one.group == group),
        }
    }

    /// Whether the mount `id` is an overlay that was made here.
    pub(super) fn is_overlay(&self, id: u64) -> bool {
        self.0.get(&id).is_some_and(|mount| mount.is_overlay)
    }

    /// Whether something of the file system on this device is mounted.
    pub(super) fn has(&self, device: u64) -> bool {
        self.0.values().any(|mount| mount.device == device)
    }

    /// Where overlays that were made here are mounted, and what is on this device.
    pub(crate) fn ours(&self, device: Option<u64>) -> impl Iterator<Item = &Utf8Path> {
        let is_ours = move |mount: &&Mount| mount.is_overlay || Some(mount.device) == device;
        self.0.values().filter(is_ours).map(|mount| mount.place.as_path())
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
        let table = "36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:3 - ext3 /dev/root rw\n7 x\n8 1 0:4 / /p rw - proc p rw\n\
                     9 1 0:5 / /l rw shared:4 - overlay gpuspec ro\n";
        let mount = |id, device, place: &str, group| {
            let (place, is_overlay) = (place.into(), id == 9);
            Mount { id, device, place, group, is_overlay }
        };
        let found = [
            mount(36, fs::makedev(98, 0), "/a b\\c", Some(3)),
            mount(8, fs::makedev(0, 4), "/p", None),
            mount(9, fs::makedev(0, 5), "/l", Some(4)),
        ];
        assert_eq!(parse(table), found);
    }
}
