//! Files put back as they were: their bytes with their owner, their mode, their times and extended attributes.

use std::os::fd::AsFd;

use camino::Utf8Path;
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::directory::write_all;
use super::{Directory, Durability, Root, extended};
use crate::error::Result;

/// When a file was read and when it was changed last: seconds since 1970, and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    accessed: (i64, i64),
    modified: (i64, i64),
}

/// Whose a file is, who may use it, and when it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, 0 to 07777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Its times; those of the clock where there are none.
    pub times: Option<Times>,
}

impl From<fs::Stat> for Attributes {
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap)] // the types differ by architecture
    fn from(stat: fs::Stat) -> Self {
        let times = Times {
            accessed: (stat.st_atime as i64, stat.st_atime_nsec as i64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        };
        Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, times: Some(times) }
    }
}

impl From<Times> for Timestamps {
    fn from(times: Times) -> Self {
        let time = |(seconds, nanoseconds)| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        Timestamps { last_access: time(times.accessed), last_modification: time(times.modified) }
    }
}

impl Root {
    /// What the directory at `path` has for attributes.
    pub(crate) fn directory_attributes(&self, path: &Utf8Path) -> Result<Option<Attributes>> {
        let Some(directory) = self.directory(path)? else { return Ok(None) };
        let status = fs::fstat(&directory.fd);
        let failed = |errno: Errno| self.error(path, "reading its status", errno.into());
        status.map(|stat| Some(stat.into())).map_err(failed)
    }
}

impl Directory {
    /// What stands at `name` has for attributes; a link is not followed.
    pub(crate) fn attributes(&self, name: &str) -> Result<Option<Attributes>> {
        match fs::statat(&self.fd, self.component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(name, "reading its status", errno)),
        }
    }

    /// Gives the directory itself these times.
    pub(crate) fn set_times(&self, times: Times) -> Result<()> {
        // Its descriptor may be one that only stands for it.
        let set = fs::utimensat(&self.fd, ".", &times.into(), AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|errno| self.error(".", "setting its times", errno))
    }

    /// Gives the directory itself this owner.
    pub(crate) fn set_owner(&self, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
        let set = fs::chownat(&self.fd, ".", Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        set.map_err(|errno| self.error(".", "changing its owner", errno))
    }

    /// Puts a file of these bytes and attributes at `name`, in place of what is there: whole or not at all. Of extended
    /// attributes it gets those that are there.
    ///
    /// It is written under the name `temporary`, which is the caller's: what an earlier one that was killed has left
    /// there goes.
    pub fn put(&self, name: &str, temporary: &str, bytes: &[u8], attributes: &Attributes) -> Result<()> {
        self.put_by(RenameFlags::empty(), name, temporary, bytes, attributes)
    }

    /// The same, after which the file that was replaced has the name `temporary`, where the file system can do so.
    pub(crate) fn put_aside(
        &self,
        name: &str,
        temporary: &str,
        bytes: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        self.put_by(RenameFlags::EXCHANGE, name, temporary, bytes, attributes)
    }

    fn put_by(
        &self,
        how: RenameFlags,
        name: &str,
        temporary: &str,
        bytes: &[u8],
        attributes: &Attributes,
    ) -> Result<()> {
        let (name, temporary) = (self.component(name)?, self.component(temporary)?);
        self.remove(temporary)?;
        let written = || {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = fs::openat(&self.fd, temporary, flags, Mode::RUSR | Mode::WUSR)?;
            let owner = Some((attributes.uid, attributes.gid));
            write_all(&fd, bytes, attributes.mode, owner, Durability::Lazy)?;
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match fs::openat(&self.fd, name, flags, Mode::empty()) {
                Ok(old) => extended::copy(old.as_fd(), fd.as_fd()),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            if let Some(times) = attributes.times {
                fs::utimensat(&self.fd, temporary, &times.into(), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            match fs::renameat_with(&self.fd, temporary, &self.fd, name, how) {
                // Nothing is there, or the file system exchanges no names.
                Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
                    fs::renameat(&self.fd, temporary, &self.fd, name)
                }
                done => done,
            }
        };
        written().map_err(|errno| {
            self.forget(temporary);
            self.error(name, "writing it", errno)
        })
    }
}
