//! The mounts that a process sees: which is where, and which passes on what is mounted on it (proc_pid_mountinfo(5)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, AtFlags, Mode, OFlags, StatxFlags};

use super::{Root, descriptor_path};
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
    /// The number of the mount that it lies on.
    pub(super) parent: u64,
    /// The device of its file system.
    pub(super) device: u64,
    /// What of the file system is mounted: `/` for all of it.
    pub(super) root: Utf8PathBuf,
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

/// The mount that a descriptor is on.
pub(super) fn of<'a>(mounts: &'a [Mount], fd: BorrowedFd<'_>) -> Result<Option<&'a Mount>> {
    let status = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    if let Ok(status) = status
        && status.stx_mask & StatxFlags::MNT_ID.bits() != 0
    {
        return Ok(mounts.iter().find(|mount| mount.id == status.stx_mnt_id));
    }
    // Linux before 5.8: the last of those whose place is nearest.
    let path = descriptor_path(fd)?;
    let around = mounts.iter().filter(|mount| path.starts_with(&mount.place));
    Ok(around.max_by_key(|mount| mount.place.components().count()))
}

/// Whether a mount shows the directory that it covers, as runtimes mount a container's root.
pub(super) fn is_mounted_on_itself(mounts: &[Mount], own: &Mount) -> bool {
    let below = mounts.iter().find(|mount| mount.id == own.parent);
    below.is_some_and(|below| {
        let inside = own.place.strip_prefix(&below.place).ok();
        // An empty path joined would end in a slash, which paths are compared without.
        below.device == own.device && inside.is_some_and(|inside| below.root.join(inside) == own.root)
    })
}

fn table(proc: &Root, who: &str) -> Result<Option<String>> {
    proc.read_text(&Utf8Path::new(who).join("mountinfo"), MAX)
}

fn parse(table: &str) -> Vec<Mount> {
    let line = |line: &str| {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (major, minor) = fields.next()?.split_once(':')?;
        let device = fs::makedev(major.parse().ok()?, minor.parse().ok()?);
        let (root, place) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let optional = fields.by_ref().skip(1).take_while(|field| *field != "-");
        let mut groups = optional.filter_map(|field| field.strip_prefix("shared:")?.parse().ok());
        let group = groups.by_ref().fold(None, |_, id| Some(id));
        let is_overlay = fields.next() == Some("overlay") && fields.next() == Some(OVERLAY);
        Some(Mount { id, parent, device, root, place, group, is_overlay })
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
        let mount = |id, parent, device, (root, place): (&str, &str), group| {
            let (root, place, is_overlay) = (root.into(), place.into(), id == 9);
            Mount { id, parent, device, root, place, group, is_overlay }
        };
        let found = [
            mount(36, 35, fs::makedev(98, 0), ("/mnt1", "/a b\\c"), Some(3)),
            mount(8, 1, fs::makedev(0, 4), ("/", "/p"), None),
            mount(9, 1, fs::makedev(0, 5), ("/", "/l"), Some(4)),
        ];
        assert_eq!(parse(table), found);
    }

    #[test]
    fn h2_a_mount_on_itself_is_told_from_others() {
        let table = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /b/rootfs /b/rootfs rw - ext4 a rw\n\
                     3 1 8:2 / /home rw - ext4 b rw\n4 1 8:1 /b /srv rw - ext4 a rw\n\
                     5 1 0:9 / /m rw - overlay o rw\n6 5 0:9 / /m rw - overlay o rw\n\
                     7 3 8:2 /u/b /home/u/b rw - ext4 b rw\n8 1 8:1 /c /c rw - ext4 a rw\n\
                     9 8 8:2 /c /c rw - ext4 b rw\n10 1 8:1 /b /b/x/y rw - ext4 a rw\n";
        let mounts = parse(table);
        let found = mounts.iter().filter(|mount| is_mounted_on_itself(&mounts, mount));
        assert_eq!(found.map(|mount| mount.id).collect::<Vec<_>>(), [2, 6, 7, 8]);
    }
}
