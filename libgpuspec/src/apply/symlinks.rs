//! Symbolic links in the container: of libraries always, of devices where the device is there.

use std::io::ErrorKind;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::{DEV, Link, is_own, nearest, own_directory};
use crate::error::{Error, Result};
use crate::root::Directory;
use crate::{Notice, Root};

/// Makes the links, their directories where they are missing; one that is there already stays.
pub(super) fn make(root: &Root, links: &[Link]) -> Vec<Notice> {
    let make = |directory: &Directory, link: &Link| directory.symlink(&link.name, &link.target);
    make_in(links, |directory| own_directory(root, directory), make)
}

/// Makes those links that lead to something, and where nothing stands yet: /dev is a file system of the
/// runtime's, or one that a user brought, such as the host's.
pub(super) fn make_for_devices(root: &Root, links: &[Link]) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut present = Vec::with_capacity(links.len());
    for link in links {
        match root.target(&place(link)) {
            Ok(Some(_)) => present.push(link.clone()),
            Ok(None) => {}
            Err(error) => notices.push(error.into()),
        }
    }
    let make = |directory: &Directory, link: &Link| match directory.entry(&link.name)? {
        Some(_) => Ok(()),
        None => directory.symlink(&link.name, &link.target),
    };
    let open = |directory: &str| device_directory(root, Utf8Path::new(directory));
    notices.extend(make_in(&present, open, make));
    notices
}

/// The directory at `path` below the container's own /dev, made where it is missing.
fn device_directory(root: &Root, path: &Utf8Path) -> Result<Directory> {
    if root.directory(DEV.into())?.is_none() {
        return own_directory(root, path.as_str());
    }
    match nearest(root, path)? {
        Some(there) if is_own(root, &there)? => root.make_directory(path),
        _ => Err(Error::Container(format!("{path}: not on a {DEV} of the container's own; left alone"))),
    }
}

/// The path that a link's text means. By its words alone: the link's directory may be missing so far.
fn place(link: &Link) -> Utf8PathBuf {
    let mut place = Utf8PathBuf::from(&link.directory);
    for component in link.target.components() {
        match component {
            Utf8Component::ParentDir => drop(place.pop()),
            Utf8Component::CurDir => {}
            other @ (Utf8Component::Normal(_) | Utf8Component::RootDir | Utf8Component::Prefix(_)) => {
                place.push(other);
            }
        }
    }
    place
}

/// Neighbouring links of one directory share its lookup, and its failure.
fn make_in(
    links: &[Link],
    open: impl Fn(&str) -> Result<Directory>,
    make: impl Fn(&Directory, &Link) -> Result<()>,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    for group in links.chunk_by(|one, next| one.directory == next.directory) {
        let Some(first) = group.first() else { continue };
        let directory = match open(&first.directory) {
            Ok(directory) => directory,
            Err(error) => {
                notices.push(error.into());
                continue;
            }
        };
        for link in group {
            match make(&directory, link) {
                Ok(()) => {}
                // The others would fail alike.
                Err(error) if is_read_only(&error) => {
                    notices.push(error.into());
                    break;
                }
                Err(error) => notices.push(error.into()),
            }
        }
    }
    notices
}

pub(super) fn is_read_only(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
}
