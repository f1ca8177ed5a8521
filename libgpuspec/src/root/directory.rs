//! One directory of a root, opened: work on single names in it, each change whole or not at all.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Entry, Kind, Opened, descriptor_link, extended, reopen};
use crate::error::{Error, Result};

/// statfs(2); rustix has no name for it.
const CGROUP2_SUPER_MAGIC: fs::FsWord = 0x6367_7270;

/// One opened directory of a [`Root`](super::Root); names in it are single components.
#[derive(Debug)]
pub struct Directory {
    pub(super) fd: OwnedFd,
    pub(super) path: Utf8PathBuf,
}

/// A lock on a file, for as long as it lives.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] OwnedFd);

/// How often a temporary name that others use at the same time is tried.
const MAX_TRIES: usize = 32;

/// Whether a replaced file must outlive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// fsync(2) the file before the rename and the directory after it: specs of a host.
    Synced,
    /// Leave it to the kernel: files in a container's tree, which are made anew at each start.
    Lazy,
}

impl Directory {
    /// What stands at `name`, links not followed.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>> {
        match fs::statat(&self.fd, self.component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(name, "reading its status", errno)),
        }
    }

    /// The bytes of the regular file `name` itself; a link, or more than `limit` bytes, is an error.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match fs::openat(&self.fd, self.component(name)?, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.error(name, "looking it up", errno)),
        };
        let entry: Entry =
            fs::fstat(&fd).map_err(|errno| self.error(name, "reading its status", errno))?.into();
        let path = self.path.join(name);
        if entry.kind != Kind::File {
            return Err(Error::WrongKind { path, kind: entry.kind.word(), wanted: Kind::File.word() });
        }
        let opened = reopen(fd.as_fd(), &entry).map_err(|errno| self.error(name, "opening it", errno))?;
        opened.read(limit, path).map(Some)
    }

    /// The text of the symbolic link `name`; `None` where something else or nothing is there.
    pub fn read_link(&self, name: &str) -> Result<Option<Utf8PathBuf>> {
        match fs::readlinkat(&self.fd, self.component(name)?, Vec::new()) {
            Ok(text) => Ok(text.into_string().ok().map(Utf8PathBuf::from)),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(name, "reading the link", errno)),
        }
    }

    /// Makes `name` a link to `target`, atomically in place of a file or another link; one of the same
    /// text stays.
    ///
    /// A mount point (EBUSY) or a directory at `name` is an error.
    pub fn symlink(&self, name: &str, target: &Utf8Path) -> Result<()> {
        let name = self.component(name)?;
        match fs::symlinkat(target.as_str(), &self.fd, name) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error(name, "making a link", errno)),
        }
        // As text: a comparison by components takes longer than the system call.
        if self.read_link(name)?.is_some_and(|text| text.as_str() == target.as_str()) {
            return Ok(());
        }
        // Known before a temporary name has changed the directory's time.
        if self.entry(name)?.is_some_and(|entry| entry.kind == Kind::Directory) {
            return Err(self.error(name, "replacing it by a link", Errno::ISDIR));
        }
        self.replace_with(name, "replacing it by a link", |temporary| {
            fs::symlinkat(target.as_str(), &self.fd, temporary)
        })
    }

    /// Puts a file of these bytes and this mode at `name`: written without a name, given one beside it, renamed
    /// into place.
    ///
    /// `owner` is given where the new inode must not belong to the writer.
    pub fn replace_file(
        &self,
        name: &str,
        bytes: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
        durability: Durability,
    ) -> Result<()> {
        self.replace_by(name, |fd| write_all(fd, bytes, mode, owner, durability))?;
        if durability == Durability::Synced {
            self.sync(name)?;
        }
        Ok(())
    }

    /// Puts a file of these bytes in place of another, whose mode, owner, label, access list and other extended
    /// attributes it gets; a first one is root's, readable by all.
    pub(crate) fn renew_file(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = fs::openat(&self.fd, self.component(name)?, flags, Mode::empty());
        let found = found.and_then(|fd| Ok((Entry::from(fs::fstat(&fd)?), fd)));
        let old = match found {
            Ok((entry, fd)) => Some((entry, fd)).filter(|(entry, _)| entry.kind == Kind::File),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(self.error(name, "reading its status", errno)),
        };
        self.replace_by(name, |fd| match &old {
            None => write_all(fd, bytes, 0o644, None, Durability::Lazy),
            Some((entry, old)) => {
                let (mode, owner) = (entry.mode & 0o777, Some((entry.uid, entry.gid)));
                write_all(fd, bytes, mode, owner, Durability::Lazy)?;
                extended::keep(old.as_fd(), fd.as_fd(), mode)
            }
        })
    }

    /// Has a file written without a name, or under one that nobody else uses, and renamed to `name`.
    fn replace_by(&self, name: &str, write: impl Fn(&OwnedFd) -> rustix::io::Result<()>) -> Result<()> {
        let name = self.component(name)?;
        self.replace_with(name, "writing it", |temporary| {
            let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
            match fs::openat(&self.fd, ".", flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => {
                    write(&fd)?;
                    let link = descriptor_link(fd.as_fd());
                    fs::linkat(fs::CWD, link, &self.fd, temporary, AtFlags::SYMLINK_FOLLOW)
                }
                // A file system that has no files without a name: overlayfs before Linux 6.1, many of FUSE.
                Err(Errno::OPNOTSUPP | Errno::ISDIR) => self.write_named(name, temporary, &write),
                Err(errno) => Err(errno),
            }
        })
    }

    /// Writes under a name that nobody else uses, and renames to `temporary` only what is whole. Killed
    /// meanwhile, it leaves that name behind.
    fn write_named(
        &self,
        name: &str,
        temporary: &str,
        write: impl Fn(&OwnedFd) -> rustix::io::Result<()>,
    ) -> rustix::io::Result<()> {
        let own = own_name(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, &own, flags, Mode::RUSR | Mode::WUSR)?;
        let written = write(&fd).and_then(|()| fs::renameat(&self.fd, &own, &self.fd, temporary));
        written.inspect_err(|_| self.forget(&own))
    }

    fn sync(&self, name: &str) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = fs::openat(&self.fd, ".", flags, Mode::empty());
        readable.and_then(fs::fsync).map_err(|errno| self.error(name, "syncing its directory", errno))
    }

    /// Removes the file or link `name`; its absence is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        match fs::unlinkat(&self.fd, self.component(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error(name, "removing it", errno)),
        }
    }

    /// Removes the directory `name` if nothing is in it; whether it is gone.
    pub fn remove_empty(&self, name: &str) -> Result<bool> {
        match fs::unlinkat(&self.fd, self.component(name)?, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            // A link or a file of that name was not made here.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(self.error(name, "removing the directory", errno)),
        }
    }

    /// Gives the file `from` the name `to`, in this directory, in place of what is there.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        fs::renameat(&self.fd, self.component(from)?, &self.fd, self.component(to)?)
            .map_err(|errno| self.error(to, "renaming into place", errno))
    }

    /// Gives the file `from` the name `to` unless something has it; whether it got it.
    pub fn rename_new(&self, from: &str, to: &str) -> Result<bool> {
        let (old, new) = (self.component(from)?, self.component(to)?);
        match fs::renameat_with(&self.fd, old, &self.fd, new, fs::RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(self.error(to, "renaming into place", errno)),
        }
    }

    /// The directory `name` in this one, which it makes; another's that came first is taken, a link is not followed.
    pub(super) fn make(&self, name: &str, path: Utf8PathBuf) -> rustix::io::Result<Directory> {
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Directory { fd: fs::openat(&self.fd, name, flags, Mode::empty())?, path })
    }

    /// Gives the directory itself this mode.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(&self.fd, ".", flags, Mode::empty());
        let changed = opened.and_then(|fd| fs::fchmod(fd, Mode::from_raw_mode(mode & 0o777)));
        changed.map_err(|errno| Error::Io {
            path: self.path.clone(),
            action: "changing its mode",
            source: errno.into(),
        })
    }

    /// Adds bytes to the end of the regular file `name`, made where it is missing; where it would
    /// become larger than `limit`, what it had so far is dropped.
    pub fn append(&self, name: &str, bytes: &[u8], limit: u64) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
        let failed = |errno| self.error(name, "adding to it", errno);
        let mode = Mode::from_raw_mode(0o640);
        let fd = fs::openat(&self.fd, self.component(name)?, flags, mode).map_err(failed)?;
        let entry = Entry::from(fs::fstat(&fd).map_err(failed)?);
        if entry.kind != Kind::File {
            return Err(Error::WrongKind {
                path: self.path.join(name),
                kind: entry.kind.word(),
                wanted: Kind::File.word(),
            });
        }
        if entry.size.saturating_add(bytes.len() as u64) > limit {
            fs::ftruncate(&fd, 0).map_err(failed)?;
        }
        let written = File::from(fd).write_all(bytes);
        written.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }

    /// Writes bytes to the file `name` by one call, as the kernel's own files want it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, self.component(name)?, flags, Mode::empty());
        let written = fd.and_then(|fd| rustix::io::write(fd, bytes));
        written.map(drop).map_err(|errno| self.error(name, "writing to it", errno))
    }

    /// Whether both lie on one mount.
    pub fn is_same_mount(&self, other: &Directory) -> Result<bool> {
        on_one_mount(self.fd.as_fd(), other.fd.as_fd())
            .map_err(|errno| self.error(".", "asking for its mount", errno))
    }

    /// Whether a file lies on this directory's mount, and was not mounted into it by itself.
    pub fn is_mount_of(&self, file: &Opened) -> Result<bool> {
        on_one_mount(self.fd.as_fd(), file.file.as_fd())
            .map_err(|errno| self.error(".", "asking for its mount", errno))
    }

    /// Whether it is on the file system of this machine's own /dev.
    pub fn is_machine_dev(&self) -> Result<bool> {
        let failed = |errno| self.error(".", "reading its status", errno);
        let own = fs::fstat(&self.fd).map_err(failed)?;
        Ok(fs::stat("/dev").map_err(failed)?.st_dev == own.st_dev)
    }

    /// Whether it is on a cgroup file system of version 2, and not on something that was put in its place.
    pub fn is_on_cgroup2(&self) -> Result<bool> {
        let status = fs::fstatfs(&self.fd);
        let status = status.map_err(|errno| self.error(".", "asking for its file system", errno))?;
        Ok(status.f_type == CGROUP2_SUPER_MAGIC)
    }

    /// The directory's descriptor, which cannot read it (`O_PATH`).
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Keeps other programs that ask for the lock of this name waiting until it is dropped (flock(2)).
    ///
    /// The lock is on a file of mode 0600, so that no other user can hold it. Its holder may remove the file. `None`
    /// where the directory is gone.
    ///
    /// # Errors
    ///
    /// Another has held it for ten seconds.
    pub fn lock_file(&self, name: &str) -> Result<Option<Lock>> {
        self.lock_file_within(name, Duration::from_secs(10))
    }

    /// The same with another limit.
    pub fn lock_file_within(&self, name: &str, limit: Duration) -> Result<Option<Lock>> {
        const STEPS: u32 = 200;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (name, mode) = (self.component(name)?, Mode::RUSR | Mode::WUSR);
        let failed = |errno| self.error(name, "locking the file", errno);
        for _ in 0..STEPS {
            let fd = match fs::openat(&self.fd, name, flags, mode) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            };
            match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let own = Entry::from(fs::fstat(&fd).map_err(failed)?);
                    // Removed while it was waited for, it keeps nobody out.
                    if self.entry(name)?.is_some_and(|entry| entry.identity == own.identity) {
                        return Ok(Some(Lock(fd)));
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => std::thread::sleep(limit / STEPS),
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(failed(Errno::AGAIN))
    }

    /// The directory's path on this machine, for messages.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Has something whole made under a temporary name, which is renamed to `name`.
    ///
    /// The temporary name is always the same, so that one who was killed before the rename leaves what the
    /// next one takes away, and nothing piles up. Two at once may take each other's: then one tries again.
    /// Where something has that name that cannot be removed, such as a directory, a name of its own is taken.
    pub(super) fn replace_with(
        &self,
        name: &str,
        action: &'static str,
        make: impl Fn(&str) -> rustix::io::Result<()>,
    ) -> Result<()> {
        let usual = temporary_name(name);
        let mut temporary = usual.clone();
        for _ in 0..MAX_TRIES {
            match make(&temporary) {
                Ok(()) => {}
                Err(Errno::EXIST) if self.remove(&temporary).is_ok() => continue,
                Err(Errno::EXIST | Errno::ISDIR | Errno::PERM | Errno::ACCESS) if temporary == usual => {
                    temporary = own_name(name);
                    continue;
                }
                Err(errno) => {
                    self.forget(&temporary);
                    return Err(self.error(name, action, errno));
                }
            }
            match fs::renameat(&self.fd, &temporary, &self.fd, name) {
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    self.forget(&temporary);
                    return Err(self.error(name, action, errno));
                }
            }
        }
        Err(self.error(name, action, Errno::EXIST))
    }

    /// Drops a temporary name after a failure; nothing more can be done if that fails too.
    pub(super) fn forget(&self, temporary: &str) {
        let _ = fs::unlinkat(&self.fd, temporary, AtFlags::empty());
    }

    pub(super) fn component<'a>(&self, name: &'a str) -> Result<&'a str> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(self.error(name, "taking it as one name", Errno::INVAL));
        }
        Ok(name)
    }

    pub(super) fn error(&self, name: &str, action: &'static str, errno: Errno) -> Error {
        Error::Io { path: self.path.join(name), action, source: errno.into() }
    }
}

pub(super) fn on_one_mount(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let id = |fd: BorrowedFd<'_>| fs::statx(fd, "", AtFlags::EMPTY_PATH, fs::StatxFlags::MNT_ID);
    let (one, other) = (id(one)?, id(other)?);
    if one.stx_mask & fs::StatxFlags::MNT_ID.bits() != 0 {
        return Ok(one.stx_mnt_id == other.stx_mnt_id);
    }
    // Linux before 5.8 tells no mount ids here; the device tells most mounts apart.
    Ok((one.stx_dev_major, one.stx_dev_minor) == (other.stx_dev_major, other.stx_dev_minor))
}

pub(super) fn write_all(
    fd: &OwnedFd,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    durability: Durability,
) -> rustix::io::Result<()> {
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (fs::Uid::from_raw(uid), fs::Gid::from_raw(gid));
        fs::fchown(fd, Some(uid), Some(gid))?;
    }
    fs::fchmod(fd, Mode::from_raw_mode(mode))?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = match rustix::io::write(fd, rest) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        rest = rest.get(written..).unwrap_or_default();
    }
    if durability == Durability::Synced { fs::fsync(fd) } else { Ok(()) }
}

/// A name beside `name` that no reader takes for a spec or a library: no longer than a name may be.
fn temporary_name(name: &str) -> String {
    format!(".{}.tmp", name.get(..name.floor_char_boundary(250)).unwrap_or_default())
}

/// The same, unlikely to be taken by anybody else.
fn own_name(name: &str) -> String {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stem = name.get(..name.floor_char_boundary(100)).unwrap_or_default();
    format!(".{stem}.{:x}-{:x}.tmp", std::process::id(), clock.subsec_nanos())
}
