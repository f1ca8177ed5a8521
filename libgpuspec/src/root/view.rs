//! Directories of a host seen through an overlay without an upper layer, which the kernel never lets become writable.
//!
//! Whoever may mount can make a read-only mount writable again; here it is the file system that is read-only, and
//! its files are the host's, in its page cache. The kernel makes none of what is an overlay of overlays already, or
//! of a file system that is unfit for it; then things are seen as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::bind::{cloned, mounts_below};
use super::cover::attach;
use super::directory::on_one_mount;
use super::mountinfo::OVERLAY;
use super::proc::own_link;
use super::{ClonedMount, Directory, Entry, Found, Kind, Root, descriptor_link};
use crate::error::Result;

/// The name of the second layer, of which there must be one.
const EMPTY: &str = "empty";

/// A mount, attached nowhere, of a directory as it is: what is mounted in it is not seen.
///
/// `other` has what else is seen there: an empty directory, or one that nobody looks into. Both must be attached,
/// and neither may lie in the other.
pub fn view(directory: BorrowedFd<'_>, other: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(overlay(&format!("{}:{}", descriptor_link(directory), descriptor_link(other)))?)
}

/// A mount, attached nowhere, of these layers, the uppermost first; links to descriptors have nothing to be escaped.
pub(super) fn overlay(layers: &str) -> rustix::io::Result<OwnedFd> {
    let context = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    mount::fsconfig_set_string(&context, "source", OVERLAY)?;
    mount::fsconfig_set_string(&context, "lowerdir", layers)?;
    mount::fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// Views of a host's directories, each made when it is needed first.
#[derive(Debug)]
pub(crate) struct Views<'a> {
    host: &'a Root,
    place: Directory,
    made: BTreeMap<Utf8PathBuf, Option<View>>,
    bare: BTreeSet<Utf8PathBuf>,
}

#[derive(Debug)]
struct View {
    of: OwnedFd,
    seen: Directory,
}

impl<'a> Views<'a> {
    /// None so far; they are attached in `place`, an empty directory on a file system of our own making.
    pub(crate) fn new(host: &'a Root, place: Directory) -> Result<Views<'a>> {
        place.make_directory(EMPTY)?;
        Ok(Views { host, place, made: BTreeMap::new(), bare: BTreeSet::new() })
    }

    /// A mount of a file or directory of the host: of a view where there can be one, else of itself with all that is
    /// mounted below it.
    pub(crate) fn clone_of(&mut self, found: &Found<'_>) -> Result<ClonedMount> {
        let seen = match found.entry.kind {
            Kind::File => self.file(found),
            Kind::Directory => self.directory(found),
            // Neither can be used through an overlay.
            Kind::Socket | Kind::CharDevice | Kind::BlockDevice => return found.clone_mounts(),
            Kind::Symlink | Kind::Fifo | Kind::Unknown => None,
        };
        seen.map_or_else(
            || {
                self.bare.insert(found.path.to_owned());
                found.clone_mounts()
            },
            Ok,
        )
    }

    /// What was cloned without a view, though it is no node or socket.
    pub(crate) fn bare(&self) -> &BTreeSet<Utf8PathBuf> {
        &self.bare
    }

    fn file(&mut self, found: &Found<'_>) -> Option<ClonedMount> {
        let real = found.real_path().ok()?;
        let (parent, name) = real.parent().zip(real.file_name())?;
        let view = self.of(parent)?;
        // A file that is mounted by itself is not in the directory.
        if !on_one_mount(found.fd.as_fd(), view.of.as_fd()).ok()? {
            return None;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(&view.seen.fd, name, flags, Mode::empty()).ok()?;
        // Renewed meanwhile, it is another.
        let seen = Entry { identity: found.entry.identity, ..Entry::from(fs::fstat(&file).ok()?) };
        let is_it = seen == found.entry;
        is_it.then(|| clone(file.as_fd(), found)).flatten()
    }

    fn directory(&mut self, found: &Found<'_>) -> Option<ClonedMount> {
        // What is mounted in it would not be seen.
        if !mounts_below(found.fd.as_fd()).ok()?.is_empty() {
            return None;
        }
        let real = found.real_path().ok()?;
        clone(self.of(&real)?.seen.fd.as_fd(), found)
    }

    /// The view of a directory, no link on the way to it.
    fn of(&mut self, path: &Utf8Path) -> Option<&View> {
        if !self.made.contains_key(path) {
            let view = self.make(path).ok();
            self.made.insert(path.to_owned(), view);
        }
        self.made.get(path)?.as_ref()
    }

    fn make(&self, path: &Utf8Path) -> Result<View> {
        let failed = |error| self.host.error(path, "laying an overlay over it", error);
        let of = self.host.directory(path)?.ok_or_else(|| failed(Errno::NOENT.into()))?.fd;
        let empty = self.place.make_directory(EMPTY)?;
        // The layers are named by such links: they must lead where they seem to.
        own_link(of.as_fd())?;
        let mount = view(of.as_fd(), empty.fd.as_fd()).map_err(failed)?;
        // Of a mount that is attached nowhere no part can be cloned (before Linux 6.15).
        let at = self.place.make_directory(&self.made.len().to_string())?;
        attach(mount.as_fd(), at.fd.as_fd()).map_err(|errno| failed(errno.into()))?;
        Ok(View { of, seen: Directory { fd: mount, path: at.path } })
    }
}

fn clone(seen: BorrowedFd<'_>, found: &Found<'_>) -> Option<ClonedMount> {
    let mount = cloned(seen, OpenTreeFlags::empty()).ok()?;
    Some(ClonedMount::of(mount, found.entry.kind, found.root.outside(found.path)))
}
