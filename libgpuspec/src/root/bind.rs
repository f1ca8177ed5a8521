//! Files of one tree made to appear in another: clones of mounts, and device nodes, by descriptors alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, FileType, Gid, Mode, OFlags, ResolveFlags, StatVfsMountFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{self, MountFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags};

use super::cover::{attach, is_shared};
use super::proc::own_link;
use super::walk::is_mount_root;
use super::{Directory, Entry, Found, Kind, Root, descriptor_path, mountinfo};
use crate::error::{Error, Result};

/// A mount of one file or directory, not attached anywhere so far.
#[derive(Debug)]
pub struct ClonedMount {
    mount: OwnedFd,
    kind: Kind,
    path: Utf8PathBuf,
}

/// What a mount does not allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// Writing.
    pub read_only: bool,
    /// Set-user-id programs.
    pub no_suid: bool,
    /// Device nodes.
    pub no_devices: bool,
    /// Programs.
    pub no_exec: bool,
}

impl Restrictions {
    fn flags(self) -> MountFlags {
        let mut flags = MountFlags::BIND;
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOSUID, self.no_suid);
        flags.set(MountFlags::NODEV, self.no_devices);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags
    }

    /// These, and those that a mount has already.
    fn with(self, found: StatVfsMountFlags) -> Restrictions {
        Restrictions {
            read_only: self.read_only || found.contains(StatVfsMountFlags::RDONLY),
            no_suid: self.no_suid || found.contains(StatVfsMountFlags::NOSUID),
            no_devices: self.no_devices || found.contains(StatVfsMountFlags::NODEV),
            no_exec: self.no_exec || found.contains(StatVfsMountFlags::NOEXEC),
        }
    }

    fn hold(self, found: StatVfsMountFlags) -> bool {
        let holds = |wanted: bool, flag| !wanted || found.contains(flag);
        holds(self.read_only, StatVfsMountFlags::RDONLY)
            && holds(self.no_suid, StatVfsMountFlags::NOSUID)
            && holds(self.no_devices, StatVfsMountFlags::NODEV)
            && holds(self.no_exec, StatVfsMountFlags::NOEXEC)
    }
}

impl Found<'_> {
    /// A mount of it alone, without those below it (open_tree(2)).
    pub fn clone_mount(&self) -> Result<ClonedMount> {
        self.cloned(OpenTreeFlags::empty())
    }

    /// An error if this clone cannot be mounted on it, or must not be.
    pub(super) fn takes(&self, clone: &ClonedMount) -> Result<()> {
        self.is_mountable()?;
        if self.entry.kind == Kind::Directory && self.is_covering()? {
            let path = self.root.outside(self.path);
            return Err(Error::Container(format!(
                "{path}: the root, or another mount; nothing is mounted over it"
            )));
        }
        // A runtime opens /dev/null, and programs their devices, by these names.
        let is_device = matches!(self.entry.kind, Kind::CharDevice | Kind::BlockDevice | Kind::Fifo);
        let is_fit = (self.entry.kind == Kind::Directory) == (clone.kind == Kind::Directory);
        if is_fit && (!is_device || self.entry.kind == clone.kind) {
            return Ok(());
        }
        let reason = format!("a {} cannot be mounted on a {}", clone.kind.word(), self.entry.kind.word());
        Err(Error::Format { path: self.root.outside(self.path), reason })
    }

    /// Whether a mount on it would cover the tree itself, or a mount of its own such as /dev: a runtime opens files of
    /// these once more after the hooks have run, with its own rights.
    fn is_covering(&self) -> Result<bool> {
        let root = fs::fstat(&self.root.inner);
        let root = Entry::from(
            root.map_err(|errno| self.root.error(self.path, "reading its status", errno.into()))?,
        );
        Ok(root.identity == self.entry.identity || is_mount_root(self.fd.as_fd(), self.path)?)
    }

    pub(super) fn cloned(&self, how: OpenTreeFlags) -> Result<ClonedMount> {
        let mount = cloned(self.fd.as_fd(), how)
            .map_err(|errno| self.root.error(self.path, "cloning its mount", errno.into()))?;
        Ok(ClonedMount { mount, kind: self.entry.kind, path: self.root.outside(self.path) })
    }
}

/// A clone of what a descriptor is open on, attached nowhere (open_tree(2)).
pub(super) fn cloned(fd: BorrowedFd<'_>, how: OpenTreeFlags) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    mount::open_tree(fd, "", flags | how)
}

impl Root {
    /// Attaches a mount at `path`, where something of its kind is made if nothing is there.
    ///
    /// Below a shared mount it would appear elsewhere too, so there it is not attached.
    pub fn attach(&self, clone: &ClonedMount, path: &Utf8Path, restrictions: Restrictions) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        if self.find(path)?.is_none() {
            parent.make_empty(name, clone.kind)?;
        }
        let failed = |errno: Errno| self.error(path, "mounting at it", errno.into());
        let Some(place) = self.find(path)? else { return Err(failed(Errno::NOENT)) };
        place.takes(clone)?;
        if is_shared(place.fd.as_fd())? {
            let reason = format!("{}: on a shared mount; nothing is mounted there", self.outside(path));
            return Err(Error::Container(reason));
        }
        // Before it is needed: what cannot be restricted is not to be attached.
        let link = own_link(clone.mount.as_fd())?;
        attach(clone.mount.as_fd(), place.fd.as_fd()).map_err(failed)?;
        let restricted = restrict(clone, &link, restrictions);
        restricted.map_err(|errno| {
            // Writable it must not stay.
            let _ = mount::unmount(&link, UnmountFlags::DETACH);
            self.error(path, "restricting the mount at it", errno.into())
        })
    }

    /// The device node `path` with these numbers, in place of what is there; one like it stays.
    ///
    /// Its directories must be the container's own: a /dev that is a link leads nobody knows where.
    pub fn make_node(&self, path: &Utf8Path, node: &Entry) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        if parent.is_machine_dev()? {
            return Err(Error::Container(format!("{}: this machine's own /dev", self.outside(path))));
        }
        let same = |old: &Entry| (old.kind, old.major, old.minor) == (node.kind, node.major, node.minor);
        if parent.entry(name)?.is_some_and(|old| same(&old)) {
            return Ok(());
        }
        parent.replace_with(name, "making a device node", |temporary| parent.mknod(temporary, node))
    }

    fn parent<'a>(&self, path: &'a Utf8Path) -> Result<(Directory, &'a str)> {
        let split = path.parent().zip(path.file_name());
        let (parent, name) =
            split.ok_or_else(|| self.error(path, "taking it as a path", Errno::INVAL.into()))?;
        Ok((self.make_directory(parent)?, name))
    }
}

impl Directory {
    /// Makes a device node at a new name; the caller's umask has its say.
    pub(super) fn mknod(&self, name: &str, node: &Entry) -> rustix::io::Result<()> {
        let is_block = node.kind == Kind::BlockDevice;
        let kind = if is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
        let device = fs::makedev(node.major, node.minor);
        fs::mknodat(&self.fd, name, kind, Mode::from_raw_mode(node.mode), device)?;
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        fs::chownat(&self.fd, name, Some(uid), Some(gid), fs::AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn make_empty(&self, name: &str, kind: Kind) -> Result<()> {
        let name = self.component(name)?;
        let made = if kind == Kind::Directory {
            fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
        } else {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        };
        made.map_err(|errno| self.error(name, "making a place to mount at", errno))
    }
}

/// Restricts an attached mount through its own descriptor, and looks whether it took.
///
/// mount_setattr(2) would do so before, but is in no crate without unsafe code of ours; nobody of the
/// container runs yet, so nobody sees the moment between.
pub(super) fn restrict(
    clone: &ClonedMount,
    link: &str,
    restrictions: Restrictions,
) -> rustix::io::Result<()> {
    mount::mount_change(link, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount::mount_remount(link, restrictions.flags(), "")?;
    match restrictions.hold(fs::fstatvfs(&clone.mount)?.f_flag) {
        true => Ok(()),
        false => Err(Errno::STALE),
    }
}

/// Restricts all that is mounted below an attached mount too; what it has of restrictions it keeps.
pub(super) fn restrict_below(clone: &ClonedMount, restrictions: Restrictions) -> Result<()> {
    for below in mounts_below(clone.mount.as_fd())? {
        let failed = |errno: Errno| Error::Io {
            path: clone.path.join(&below),
            action: "restricting what is mounted at it",
            source: errno.into(),
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let mount = fs::openat2(&clone.mount, below.as_str(), flags, Mode::empty(), resolve);
        let mount = mount.map_err(failed)?;
        let found = fs::fstatvfs(&mount).map_err(failed)?.f_flag;
        if !restrictions.hold(found) {
            let link = own_link(mount.as_fd())?;
            mount::mount_remount(&link, restrictions.with(found).flags(), "").map_err(failed)?;
        }
    }
    Ok(())
}

/// The paths, from what a descriptor is open on, of all that is mounted below it.
pub(super) fn mounts_below(fd: BorrowedFd<'_>) -> Result<Vec<Utf8PathBuf>> {
    let top = descriptor_path(fd)?;
    let mounts = mountinfo::own()?;
    let below = mounts.iter().filter_map(|mount| Some(mount.place.strip_prefix(&top).ok()?.to_owned()));
    Ok(below.filter(|below| !below.as_str().is_empty()).collect())
}

impl ClonedMount {
    pub(super) fn of(mount: OwnedFd, kind: Kind, path: Utf8PathBuf) -> ClonedMount {
        ClonedMount { mount, kind, path }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.mount.as_fd()
    }

    /// These restrictions, and those that it has already: in a user namespace they cannot be lifted (mount_namespaces(7)).
    pub(crate) fn restricted(&self, restrictions: Restrictions) -> Result<Restrictions> {
        let status = fs::fstatvfs(&self.mount).map_err(|errno| Error::Io {
            path: self.path.clone(),
            action: "reading the flags of its mount",
            source: errno.into(),
        })?;
        Ok(restrictions.with(status.f_flag))
    }

    /// What is mounted.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was cloned, for messages.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
}
