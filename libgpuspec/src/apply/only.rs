//! Directories that hold links to the driver's libraries and nothing else, for the image's own `ldconfig`.
//!
//! The first directory that has a name wins. A list that named the directory of the driver's libraries itself
//! would move the image's libraries in it ahead of those in the image's other directories.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Libraries, own_directory, symlinks};
use crate::root::Directory;
use crate::{Notice, Root};

/// One directory for each ABI: libraries of two ABIs have the same names. It is next to the other files of the
/// loader, for /usr can be read-only where /etc is not.
const PARENT: &str = "/etc/gpuspec/lib";

/// Makes the links; returns the directories in the order in which a list must name them.
pub(super) fn link(root: &Root, libraries: &[Libraries]) -> (Vec<Utf8PathBuf>, Vec<Notice>) {
    let (mut directories, mut notices) = (Vec::new(), Vec::new());
    for one in libraries {
        let directory = Utf8Path::new(PARENT).join(one.abi.to_string());
        if directories.contains(&directory) {
            continue;
        }
        let same_abi = libraries.iter().filter(|other| other.abi == one.abi);
        match own_directory(root, directory.as_str()) {
            Ok(opened) => notices.extend(link_in(&opened, same_abi)),
            Err(error) => notices.push(error.into()),
        }
        directories.push(directory);
    }
    (directories, notices)
}

/// Of two libraries of one name the first counts, as in the cache.
fn link_in<'a>(directory: &Directory, libraries: impl Iterator<Item = &'a Libraries>) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut linked: BTreeSet<&str> = BTreeSet::new();
    let mut target = String::with_capacity(256);
    for one in libraries {
        for name in one.names.iter().filter(|name| linked.insert(name)) {
            target.clear();
            target.extend([one.directory.as_str(), "/", name]);
            match directory.symlink(name, Utf8Path::new(&target)) {
                Ok(()) => {}
                Err(error) if symlinks::is_read_only(&error) => return vec![error.into()],
                Err(error) => notices.push(error.into()),
            }
        }
    }
    notices
}
