//! Symbolic links in the container: of libraries always, of devices where the device is there.

use std::io::ErrorKind;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::{Link, own_directory};
use crate::error::{Error, Result};
use crate::root::Directory;
use crate::{Notice, Root};

/// Makes the links, their directories where they are missing; one that is there already stays.
pub(super) fn make(root: &Root, links: &[Link]) -> Vec<Notice> {
    make_in(links, |directory| own_directory(root, directory))
}

/// Makes those links that lead to something; a runtime mounts its own file system on /dev.
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
    notices.extend(make_in(&present, |directory| root.make_directory(Utf8Path::new(directory))));
    notices
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
fn make_in(links: &[Link], open: impl Fn(&str) -> Result<Directory>) -> Vec<Notice> {
    let mut notices = Vec::new();
    for group in links.chunk_by(|one, next| one.directory == next.directory) {
        let made =
            group.first().map_or(Ok(()), |first| make_group(&open(&first.directory)?, group, &mut notices));
        notices.extend(made.err().map(Notice::from));
    }
    notices
}

fn make_group(directory: &Directory, links: &[Link], notices: &mut Vec<Notice>) -> Result<()> {
    for link in links {
        match directory.symlink(&link.name, &link.target) {
            Ok(()) => {}
            // The others would fail alike.
            Err(error) if is_read_only(&error) => return Err(error),
            Err(error) => notices.push(error.into()),
        }
    }
    Ok(())
}

fn is_read_only(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::ReadOnlyFilesystem)
}
