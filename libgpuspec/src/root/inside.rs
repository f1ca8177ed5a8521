//! Mounts put into the tree of a machine that runs, and taken out of it again, by descriptors alone.
//!
//! The work is done in the machine's mount namespace, where /proc is the machine's: the kernel's links to
//! descriptors are reached from the working directory, which must be this host's own /proc. It is done as the
//! machine's own root, by whom nothing is made or mounted that the machine could not have itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, AtFlags};
use rustix::io::Errno;
use rustix::mount::{self, OpenTreeFlags, UnmountFlags};

use super::cover::attach;
use super::directory::on_one_mount;
use super::kernel_fs::{TMPFS, system_of};
use super::mountinfo::Peers;
use super::{ClonedMount, Directory, Entry, Found, Kind, Root, view};
use crate::error::{Error, Result};

impl Root {
    /// What must be made for something to be at `path`, outermost first.
    pub(crate) fn missing(&self, path: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
        let mut missing = Vec::new();
        for one in path.ancestors().filter(|one| one.parent().is_some()) {
            if self.find(one)?.is_some() {
                break;
            }
            missing.push(one.to_owned());
        }
        missing.reverse();
        Ok(missing)
    }

    /// Whether what is made in the directory at `path` is gone with the machine: it is in memory, and neither the
    /// machine's own tree, which may be that too, nor a file system of the host's.
    pub(crate) fn is_transient(&self, path: &Utf8Path, hosts: &Peers) -> Result<bool> {
        match self.directory(path)? {
            Some(directory) => self.is_transient_directory(&directory, hosts),
            None => Ok(false),
        }
    }

    /// Whether a directory lies on a tmpfs that is mounted below this root and nowhere else: no volume of the host's.
    pub(crate) fn is_own_tmpfs(&self, directory: &Directory) -> Result<bool> {
        self.is_transient_directory(directory, &Peers::outside(&self.absolute_path()?)?)
    }

    fn is_transient_directory(&self, directory: &Directory, hosts: &Peers) -> Result<bool> {
        let failed = |errno| directory.error(".", "asking for its file system", errno);
        if system_of(directory.fd.as_fd()).map_err(failed)? != TMPFS {
            return Ok(false);
        }
        let device = fs::fstat(&directory.fd).map_err(failed)?.st_dev;
        Ok(!hosts.has(device) && !self.is_own_mount(directory)?)
    }

    /// Whether what is mounted at `path` appears in the namespace of `other` as well, this one having `own`.
    pub(crate) fn spreads(&self, path: &Utf8Path, own: &Peers, other: &Peers) -> Result<bool> {
        self.find(path)?.map_or(Ok(false), |found| found.spreads(own, other))
    }

    /// Makes an empty file or directory at the new name `path`, where it is gone with the machine.
    pub(crate) fn make_place(&self, path: &Utf8Path, kind: Kind, hosts: &Peers) -> Result<()> {
        const ACTION: &str = "making a place to mount at";
        let split = path.parent().zip(path.file_name());
        let (parent, name) = split.ok_or_else(|| self.error(path, ACTION, Errno::INVAL.into()))?;
        let parent = self.directory(parent)?.ok_or_else(|| self.error(path, ACTION, Errno::NOENT.into()))?;
        if !self.is_transient_directory(&parent, hosts)? {
            return Err(self.error(path, ACTION, Errno::ROFS.into()));
        }
        parent.make_empty(name, kind)
    }

    /// Takes away what [`Root::make_place`] made, if it is as it was made.
    pub(crate) fn remove_place(&self, path: &Utf8Path, hosts: &Peers) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let Some(parent) = self.directory(parent)? else { return Ok(()) };
        if !self.is_transient_directory(&parent, hosts)? {
            return Ok(());
        }
        match parent.entry(name)? {
            Some(Entry { kind: Kind::Directory, .. }) => parent.remove_empty(name).map(drop),
            Some(Entry { kind: Kind::File, size: 0, .. }) => parent.remove(name),
            _ => Ok(()),
        }
    }

    /// Mounts the clone, restricted already, on what `path` leads to, where it does not [spread](Root::spreads).
    pub(crate) fn put(&self, clone: &ClonedMount, path: &Utf8Path, own: &Peers, other: &Peers) -> Result<()> {
        let failed = |errno: Errno| self.error(path, "mounting at it", errno.into());
        let place = self.find(path)?.ok_or_else(|| failed(Errno::NOENT))?;
        place.takes(clone)?;
        if place.spreads(own, other)? {
            let reason = "what is mounted there in the machine may appear on this host too".to_owned();
            return Err(Error::Format { path: self.outside(path), reason });
        }
        attach(clone.descriptor(), place.fd.as_fd()).map_err(failed)
    }

    /// Unmounts what `path` leads to, in use or not, if it is the mount of this device and inode, or without these an
    /// [overlay](Root::overlay).
    pub(crate) fn take(&self, path: &Utf8Path, identity: Option<(u64, u64)>, own: &Peers) -> Result<bool> {
        let failed = |errno: Errno| self.error(path, "unmounting it", errno.into());
        let Some(found) = self.find(path)? else { return Ok(false) };
        let is_it = match identity {
            Some(identity) => found.entry.identity == identity,
            None => own.is_overlay(found.mount()?),
        };
        if !is_it {
            return Ok(false);
        }
        let parent = path.parent().map(|parent| self.directory(parent)).transpose()?.flatten();
        let parent = parent.ok_or_else(|| failed(Errno::NOENT))?;
        if on_one_mount(found.fd.as_fd(), parent.fd.as_fd()).map_err(failed)? {
            return Ok(false);
        }
        mount::unmount(link_from_proc(found.fd.as_fd()), UnmountFlags::DETACH).map_err(failed)?;
        Ok(true)
    }

    /// A read-only mount, not attached so far, of the directory at `below` with all of that at `above` laid over it.
    pub(crate) fn overlay(&self, below: &Utf8Path, above: &Utf8Path) -> Result<ClonedMount> {
        let failed = |errno: Errno| self.error(below, "laying links over it", errno.into());
        let find = |path| -> Result<Found<'_>> { self.find(path)?.ok_or_else(|| failed(Errno::NOENT)) };
        let (lower, upper) = (find(below)?, find(above)?);
        let layers = format!("{}:{}", link_from_proc(upper.fd.as_fd()), link_from_proc(lower.fd.as_fd()));
        let mount = view::overlay(&layers).map_err(failed)?;
        Ok(ClonedMount::of(mount, Kind::Directory, self.outside(below)))
    }
}

impl Found<'_> {
    fn spreads(&self, own: &Peers, other: &Peers) -> Result<bool> {
        Ok(own.reach(self.mount()?, other))
    }

    fn mount(&self) -> Result<u64> {
        let status = fs::statx(&self.fd, "", AtFlags::EMPTY_PATH, fs::StatxFlags::MNT_ID);
        let status =
            status.map_err(|errno| self.root.error(self.path, "asking for its mount", errno.into()))?;
        Ok(status.stx_mnt_id)
    }
}

impl ClonedMount {
    /// A clone of what is at this name of the working directory, with all that is mounted below it.
    pub(crate) fn here(name: &str) -> Result<ClonedMount> {
        let failed = |errno: Errno| Error::Io {
            path: name.into(),
            action: "cloning its mount for the machine",
            source: errno.into(),
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        let mount = mount::open_tree(fs::CWD, name, flags).map_err(failed)?;
        let kind = Entry::from(fs::fstat(&mount).map_err(failed)?).kind;
        Ok(ClonedMount::of(mount, kind, name.into()))
    }
}

/// The kernel's link to a descriptor, from this host's own /proc on.
fn link_from_proc(fd: BorrowedFd<'_>) -> String {
    format!("self/fd/{}", fd.as_raw_fd())
}
