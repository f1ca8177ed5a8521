//! A file of /proc hidden behind another: by descriptors alone, and never where the mount would spread.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::proc::own_link;
use super::{Directory, Found, mountinfo};
use crate::error::{Error, Result};

/// The name of the one file in the file system that is made for it.
const NAME: &str = "file";

impl Found<'_> {
    /// Whether it lies on a procfs, and not on something that was put in its place.
    pub fn is_on_proc(&self) -> Result<bool> {
        let status = fs::fstatfs(&self.fd);
        let status =
            status.map_err(|errno| self.root.error(self.path, "asking for its file system", errno.into()))?;
        Ok(status.f_type == fs::PROC_SUPER_MAGIC)
    }

    /// Puts a read-only file of these bytes over it; `parent` is the directory it lies in.
    ///
    /// Whatever is mounted below a shared mount appears in the namespaces it is shared with, so there
    /// nothing is mounted (mount_namespaces(7)).
    pub fn cover(&self, parent: &Directory, bytes: &[u8]) -> Result<()> {
        let failed = |errno: Errno| self.root.error(self.path, "mounting over it", errno.into());
        for place in [self.fd.as_fd(), parent.fd.as_fd()] {
            if is_shared(place)? {
                let reason =
                    format!("{}: on a shared mount; nothing is mounted there", self.root.outside(self.path));
                return Err(Error::Container(reason));
            }
        }
        let whole = file_system(bytes).map_err(failed)?;
        let link = own_link(whole.as_fd())?;
        let tree = its_file(&whole, &link, parent).map_err(failed)?;
        attach(tree.as_fd(), self.fd.as_fd()).map_err(failed)
    }
}

/// A mount, not attached yet, of a file system with one file, read-only.
fn file_system(bytes: &[u8]) -> rustix::io::Result<OwnedFd> {
    let context = mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(&context, "size", "64k")?;
    mount::fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let whole = mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::openat(&whole, NAME, flags, Mode::from_raw_mode(0o444))?;
    File::from(file).write_all(bytes).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    mount::fsconfig_set_flag(&context, "ro")?;
    mount::fsconfig_reconfigure(&context)?;
    Ok(whole)
}

/// A mount, not attached yet, of that file alone; `link` leads to the file system's.
fn its_file(whole: &OwnedFd, link: &str, parent: &Directory) -> rustix::io::Result<OwnedFd> {
    // A part of a mount can be cloned only where the mount is attached (before Linux 6.15).
    attach(whole.as_fd(), parent.fd.as_fd())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let part = mount::open_tree(whole, NAME, flags);
    let detached = mount::unmount(link, UnmountFlags::DETACH);
    detached.and(part)
}

pub(super) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    mount::move_mount(mount, "", place, "", flags)
}

/// Whether the mount that a descriptor lies on passes on what is mounted below it.
pub(super) fn is_shared(fd: BorrowedFd<'_>) -> Result<bool> {
    let failed = |errno: Errno| Error::Io {
        path: "/proc/self/mountinfo".into(),
        action: "asking for a mount",
        source: errno.into(),
    };
    let mounts = mountinfo::own()?;
    let found = mountinfo::of(&mounts, fd)?;
    Ok(found.ok_or_else(|| failed(Errno::NOENT))?.group.is_some())
}
