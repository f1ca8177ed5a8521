//! A path of this machine, walked one name at a time: could others have exchanged a part of it?
//!
//! A runtime's path to a container is opened again after the runtime has used it. Who may rename above the
//! container can lead that path to any directory in between. So each directory on the way is checked, and the
//! check is made on the very descriptors that the walk continues from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::owners::in_user_namespace;
use super::{Entry, Kind, MAX_LINKS, Root, descriptor_path, mountinfo};
use crate::error::{Error, Result};

/// FUSE_SUPER_MAGIC of linux/magic.h: a user can mount such a file system, and it reports any owner.
const FUSE: fs::FsWord = 0x6573_5546;
const STICKY: u32 = 0o1000;
const ACTION: &str = "opening it as a root";

/// A directory that was reached by a path of this machine.
#[derive(Debug)]
pub(crate) struct Walk {
    fd: OwnedFd,
    directory: Entry,
    /// The path from `/`, without links.
    path: Utf8PathBuf,
    /// The first directory on the way in which others can exchange names.
    loose: Option<Utf8PathBuf>,
    /// The same of the bundle whose config names an absolute path: it must lead to what is in there.
    within: Option<Utf8PathBuf>,
    links: usize,
}

impl Walk {
    /// A walk from `/`.
    pub(crate) fn start() -> Result<Walk> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::open("/", flags, Mode::empty()).and_then(|fd| Ok((fs::fstat(&fd)?, fd)));
        let (stat, fd) = opened.map_err(|errno| failed("/".into(), errno))?;
        Ok(Walk { fd, directory: stat.into(), path: "/".into(), loose: None, within: None, links: 0 })
    }

    /// Continues along a path; an absolute one begins at `/` again.
    ///
    /// # Errors
    ///
    /// Below a directory in which others can exchange names: a symbolic link, or a way out of it.
    pub(crate) fn go(&mut self, path: &Utf8Path) -> Result<()> {
        let mut ahead = Vec::new();
        self.turn(path, &mut ahead)?;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                self.ascend()?;
            } else {
                // Messages name the path that was asked for.
                self.descend(&name, &mut ahead).map_err(|error| {
                    if let Error::Io { source, .. } = error {
                        Error::Io { path: path.to_owned(), action: ACTION, source }
                    } else {
                        error
                    }
                })?;
            }
        }
        // Others must not lead the walk out of the directory that they can change.
        match self.loose.iter().chain(&self.within).find(|loose| !self.path.starts_with(loose)) {
            None => Ok(()),
            Some(loose) => Err(Error::Container(format!(
                "its path leaves {loose}, a directory that users other than root can change"
            ))),
        }
    }

    /// Puts the names of a path, or of a link's text, ahead of the others.
    fn turn(&mut self, path: &Utf8Path, ahead: &mut Vec<String>) -> Result<()> {
        if path.is_absolute() && self.path != "/" {
            let (within, links) = (self.loose.take().or_else(|| self.within.take()), self.links);
            *self = Walk { within, links, ..Walk::start()? };
        }
        let names = path.as_str().split('/').filter(|name| !["", "."].contains(name));
        ahead.extend(names.rev().map(str::to_owned));
        Ok(())
    }

    fn ascend(&mut self) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, "..", flags, Mode::empty());
        let opened = fd.and_then(|fd| Ok((fs::fstat(&fd)?, fd)));
        let (stat, fd) = opened.map_err(|errno| failed(&self.path, errno))?;
        (self.fd, self.directory) = (fd, stat.into());
        self.path.pop();
        Ok(())
    }

    fn descend(&mut self, name: &str, ahead: &mut Vec<String>) -> Result<()> {
        let here = self.path.join(name);
        let failed = |errno| failed(&here, errno);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty()).map_err(failed)?;
        let entry = Entry::from(fs::fstat(&fd).map_err(failed)?);
        if self.loose.is_none() && is_loose(&self.directory, &entry) {
            self.loose = Some(self.path.clone());
        }
        match entry.kind {
            Kind::Directory => {
                let is_mount = entry.identity.0 != self.directory.identity.0;
                if is_mount && self.loose.is_none() && fs::fstatfs(&fd).map_err(failed)?.f_type == FUSE {
                    self.loose = Some(here.clone());
                }
                (self.fd, self.directory, self.path) = (fd, entry, here);
                Ok(())
            }
            Kind::Symlink => {
                if let Some(loose) = &self.loose {
                    return Err(Error::Container(format!(
                        "its path has the symbolic link {here}, below {loose}, which users other than root can change"
                    )));
                }
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(failed(Errno::LOOP));
                }
                let text = fs::readlinkat(&fd, "", Vec::new()).map_err(failed)?;
                let text = text.into_string().map_err(|_| failed(Errno::ILSEQ))?;
                self.turn(Utf8Path::new(&text), ahead)
            }
            Kind::File | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket | Kind::Unknown => {
                Err(failed(Errno::NOTDIR))
            }
        }
    }

    /// The directory as a root, which messages call by this path.
    pub(crate) fn into_root(self, path: Utf8PathBuf) -> Root {
        Root::new(self.fd, path)
    }

    /// Whether the directory is where a file system is mounted.
    pub(crate) fn is_mount_point(&self) -> Result<bool> {
        is_mount_root(self.fd.as_fd(), &self.path)
    }

    /// Whether nobody but root could have led the walk elsewhere, or it has led to what a runtime alone makes:
    /// a directory mounted on itself.
    pub(crate) fn is_certain(&self) -> Result<bool> {
        if self.loose.is_none() && self.within.is_none() {
            return Ok(true);
        }
        let mounts = mountinfo::own()?;
        let own = mountinfo::of(&mounts, self.fd.as_fd())?;
        Ok(own.is_some_and(|own| mountinfo::is_mounted_on_itself(&mounts, own)))
    }
}

/// Whether a descriptor is open on the root of a mount; `path` is for messages.
pub(super) fn is_mount_root(fd: BorrowedFd<'_>, path: &Utf8Path) -> Result<bool> {
    let status = fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    let status = status.map_err(|errno| failed(path, errno))?;
    if status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    // Linux before 5.8.
    let place = descriptor_path(fd)?;
    Ok(mountinfo::own()?.iter().any(|mount| mount.place == place))
}

fn failed(path: &Utf8Path, errno: Errno) -> Error {
    Error::Io { path: path.to_owned(), action: ACTION, source: errno.into() }
}

/// Whether others than root and this process's user can give the entry's name in the directory to something else.
fn is_loose(directory: &Entry, entry: &Entry) -> bool {
    // With an access list the group's bits are its mask (acl(5)), so the number of the group says nothing.
    let group_writes = directory.mode & 0o020 != 0 && !in_user_namespace();
    let others_write = directory.mode & 0o002 != 0 || group_writes;
    let keeps = directory.mode & STICKY != 0 && is_trusted(entry.uid);
    !is_trusted(directory.uid) || (others_write && !keeps)
}

/// In a user namespace all owners: this process has no more rights there than the container's root, and the host's
/// root and the user who started the container are other users, or unknown ones.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw() || in_user_namespace()
}
