//! A file system in memory that covers a directory of ours, and what is put on it: other files, nodes, directories.
//!
//! All by descriptors. What is mounted on it appears nowhere else, however shared the mount below is, and goes
//! with it.

use std::os::fd::AsFd;

use camino::Utf8Path;
use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, OpenTreeFlags, UnmountFlags,
};

use super::bind::{ClonedMount, Restrictions, restrict, restrict_below};
use super::cover::attach;
use super::directory::on_one_mount;
use super::proc::own_link;
use super::{Directory, Entry, Found, Kind, Root};
use crate::error::Result;

/// More mounts than anybody has laid over one directory.
const MAX_COVERS: usize = 64;

impl Root {
    /// Covers the directory at `path` with an empty file system of at most `size` bytes, on which device nodes
    /// work and programs do not. Its top is open to its owner alone.
    pub(crate) fn cover_with_memory(&self, path: &Utf8Path, size: u64) -> Result<Directory> {
        let failed = |errno: Errno| self.error(path, "mounting a file system in memory on it", errno.into());
        let place = self.directory(path)?.ok_or_else(|| failed(Errno::NOENT))?;
        let made = || {
            let context = mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            mount::fsconfig_set_string(&context, "size", size.to_string())?;
            mount::fsconfig_set_string(&context, "mode", "0700")?;
            mount::fsconfig_create(&context)?;
            let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
        };
        let whole = made().map_err(failed)?;
        let link = own_link(whole.as_fd())?;
        attach(whole.as_fd(), place.fd.as_fd()).map_err(failed)?;
        mount::mount_change(link, MountPropagationFlags::PRIVATE).map_err(failed)?;
        Ok(Directory { fd: whole, path: self.outside(path) })
    }

    /// Takes away whatever covers the directory at `path`, with all that is mounted on it, in use or not.
    pub(crate) fn uncover(&self, path: &Utf8Path) -> Result<()> {
        let failed = |errno: Errno| self.error(path, "unmounting what covers it", errno.into());
        let Some(parent) = path.parent().map(|parent| self.directory(parent)).transpose()?.flatten() else {
            return Ok(());
        };
        for _ in 0..MAX_COVERS {
            let Some(place) = self.directory(path)? else { return Ok(()) };
            if on_one_mount(place.fd.as_fd(), parent.fd.as_fd()).map_err(failed)? {
                return Ok(());
            }
            mount::unmount(own_link(place.fd.as_fd())?, UnmountFlags::DETACH).map_err(failed)?;
        }
        Err(failed(Errno::BUSY))
    }
}

impl Found<'_> {
    /// A mount of it with all that is mounted below it.
    pub(crate) fn clone_mounts(&self) -> Result<ClonedMount> {
        self.cloned(OpenTreeFlags::AT_RECURSIVE)
    }
}

impl Directory {
    /// The directory `name` in this one, which is made, mode 0755, where it is missing; a link is not followed.
    pub fn make_directory(&self, name: &str) -> Result<Directory> {
        let made = self.make(self.component(name)?, self.path.join(name));
        made.map_err(|errno| self.error(name, "making the directory", errno))
    }

    /// Attaches a mount, with those below it, at the new name `name`. The mount that this directory lies on must be of our own making.
    pub(crate) fn attach(&self, name: &str, clone: &ClonedMount, restrictions: Restrictions) -> Result<()> {
        self.make_empty(name, clone.kind())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = own_link(clone.descriptor())?;
        let attached = fs::openat(&self.fd, name, flags, Mode::empty())
            .and_then(|place| attach(clone.descriptor(), place.as_fd()))
            .and_then(|()| restrict(clone, &link, restrictions));
        attached.map_err(|errno| self.error(name, "mounting at it", errno))?;
        if clone.kind() == Kind::Directory { restrict_below(clone, restrictions) } else { Ok(()) }
    }

    /// Makes the device node `name`, which nothing may be at, with this mode whatever the umask.
    pub(crate) fn make_node(&self, name: &str, node: &Entry) -> Result<()> {
        let name = self.component(name)?;
        let mode = Mode::from_raw_mode(node.mode);
        let made = self.mknod(name, node).and_then(|()| fs::chmodat(&self.fd, name, mode, AtFlags::empty()));
        // The kernel asks the device cgroup, and for CAP_MKNOD (mknod(2), EPERM).
        let action = match made {
            Err(Errno::PERM) => {
                "making a device node, denied by the device policy of the calling unit or container"
            }
            _ => "making a device node",
        };
        made.map_err(|errno| self.error(name, action, errno))
    }
}
