//! Which file system something of a tree is on: the tree's own, its /dev, or one of the kernel's.
//!
//! The files of procfs, sysfs and their like are switches of the kernel, and nothing is mounted on those. A library
//! mounted over /proc/1/attr/exec takes the label that a runtime writes there (CVE-2019-16884), so runtimes refuse such
//! targets too.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs;
use rustix::io::Errno;

use super::directory::on_one_mount;
use super::{Directory, Found, Root, mountinfo};
use crate::error::{Error, Result};

/// The numbers of linux/magic.h, which rustix has no names for.
const KERNELS: [fs::FsWord; 19] = [
    fs::PROC_SUPER_MAGIC,
    0x6265_6572,                   // sysfs
    0x0027_e0eb,                   // cgroup
    0x6367_7270,                   // cgroup2
    0x1cd1,                        // devpts
    0x1980_0202,                   // mqueue
    0x6462_6720,                   // debugfs
    0x7472_6163,                   // tracefs
    0x7363_6673,                   // securityfs
    0xcafe_4a11_u32 as fs::FsWord, // bpf
    0x6265_6570,                   // configfs
    0xf97c_ff8c_u32 as fs::FsWord, // selinuxfs
    0x6165_676c,                   // pstore
    0x4249_4e4d,                   // binfmt_misc
    0x6e73_6673,                   // nsfs
    0x9584_58f6_u32 as fs::FsWord, // hugetlbfs
    0x6573_5543,                   // fusectl
    0xde5e_81e4_u32 as fs::FsWord, // efivarfs
    0x4341_5d53,                   // smackfs
];

/// statfs(2), and what devtmpfs says too.
pub(super) const TMPFS: fs::FsWord = 0x0102_1994;

pub(super) fn system_of(fd: BorrowedFd<'_>) -> rustix::io::Result<fs::FsWord> {
    Ok(fs::fstatfs(fd)?.f_type)
}

impl Found<'_> {
    /// An error if it is a file of the kernel's.
    pub(super) fn is_mountable(&self) -> Result<()> {
        let failed = |errno: Errno| self.root.error(self.path, "asking for its file system", errno.into());
        if !KERNELS.contains(&system_of(self.fd.as_fd()).map_err(failed)?) {
            return Ok(());
        }
        let path = self.root.outside(self.path);
        Err(Error::Container(format!(
            "{path}: a file of procfs, sysfs or their like; nothing is mounted there"
        )))
    }
}

impl Root {
    /// Whether a directory lies on the root's own mount, not on one that was put over a part of it.
    pub fn is_own_mount(&self, directory: &Directory) -> Result<bool> {
        let same = on_one_mount(self.inner.as_fd(), directory.fd.as_fd());
        same.map_err(|errno| self.error("/".into(), "asking for its mount", errno.into()))
    }

    /// Whether a directory is the /dev that a runtime made for this tree alone.
    ///
    /// It is in memory, whole, and mounted nowhere outside the tree; a volume of the user's at /dev can be a
    /// directory of the host. The answer is kept, since a confined thread cannot read the table of mounts.
    pub(crate) fn is_own_dev(&self, dev: &Directory) -> Result<bool> {
        let failed = |errno| dev.error(".", "reading its status", errno);
        let stat = fs::fstat(&dev.fd).map_err(failed)?;
        let identity = (stat.st_dev, stat.st_ino);
        if let Some((known, answer)) = self.own_dev.get() {
            return Ok(*answer && *known == identity);
        }
        let answer = system_of(dev.fd.as_fd()).map_err(failed)? == TMPFS && self.holds_all_of(dev)?;
        let (known, answer) = self.own_dev.get_or_init(|| (identity, answer));
        Ok(*answer && *known == identity)
    }

    /// Whether a directory's file system is mounted as a whole, and in this tree alone.
    fn holds_all_of(&self, directory: &Directory) -> Result<bool> {
        let (mounts, top) = (mountinfo::own()?, self.absolute_path()?);
        let Some(own) = mountinfo::of(&mounts, directory.fd.as_fd())? else { return Ok(false) };
        let mut all = mounts.iter().filter(|mount| mount.device == own.device);
        Ok(own.root == "/" && all.all(|mount| mount.place.starts_with(&top)))
    }
}
