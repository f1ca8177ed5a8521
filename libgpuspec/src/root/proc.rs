//! This machine's own /proc, and nothing that was mounted over it or a part of it.

use std::os::fd::{AsRawFd, BorrowedFd};

use camino::Utf8Path;
use rustix::fs::{self, ResolveFlags};
use rustix::io::Errno;

use super::{Root, descriptor_link};
use crate::error::{Error, Result};

const PROC: &str = "/proc";
/// The inode of a procfs' root (PROC_ROOT_INO in the kernel's proc_ns.h); a process's directory has another.
const ROOT_INODE: u64 = 1;

impl Root {
    /// /proc, whose files are asked what may be done: one that something else is mounted over is an error.
    pub fn proc() -> Result<Root> {
        let mut root = Root::open(PROC.into())?;
        let failed = |errno: Errno| root.error("/".into(), "asking for its file system", errno.into());
        let (system, status) =
            (fs::fstatfs(&root.inner).map_err(failed)?, fs::fstat(&root.inner).map_err(failed)?);
        if system.f_type != fs::PROC_SUPER_MAGIC || status.st_ino != ROOT_INODE {
            return Err(covered(PROC.into()));
        }
        root.mounts = ResolveFlags::NO_XDEV;
        Ok(root)
    }
}

pub(super) fn covered(path: &Utf8Path) -> Error {
    Error::Container(format!("{path}: something is mounted over this machine's own /proc; unmount it"))
}

/// The kernel's link to what a descriptor is open on, for calls that cannot tell afterwards whether it was that.
pub(super) fn own_link(fd: BorrowedFd<'_>) -> Result<String> {
    let link = format!("self/fd/{}", fd.as_raw_fd());
    match Root::proc()?.entry(Utf8Path::new(&link))? {
        Some(_) => Ok(descriptor_link(fd)),
        None => Err(covered(Utf8Path::new(PROC))),
    }
}
