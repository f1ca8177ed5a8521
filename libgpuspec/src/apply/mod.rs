//! What is done in a container's tree before it starts: links, the loader's cache, its configuration.
//!
//! state → [`container`] → [`Root`] → [`apply`]. Nothing is discovered here, all is asked for by a
//! [`Request`]. No single step is worth a container that does not start: what cannot be done is a
//! [`Notice`], and a second run over the same tree changes nothing.

pub mod container;
mod ldcache;
mod ldconf;
mod request;
mod symlinks;

use camino::Utf8Path;

use crate::error::{Error, Result};
use crate::root::{Directory, Durability, Kind};
use crate::{Notice, Root};

pub use request::{BadRequest, Libraries, Link, Request};

const ETC: &str = "/etc";

/// Does what is asked for in the container's tree; what could not be done comes back in words.
pub fn apply(root: &Root, request: &Request) -> Vec<Notice> {
    let mut notices = symlinks::make(root, &request.links);
    notices.extend(symlinks::make_for_devices(root, &request.device_links));
    if !request.libraries.is_empty() {
        let done = own_directory(root, ETC).and_then(|etc| {
            let cache = ldcache::update(root, &etc, &request.libraries);
            notices.extend(cache.err().map(Notice::from));
            let paths = ldconf::list_directories(root, &request.libraries);
            notices.extend(paths.err().map(Notice::from));
            ldconf::include_list(root, &etc)
        });
        notices.extend(done.err().map(Notice::from));
    }
    notices
}

/// The directory at `path` of the tree itself, made where it is missing.
///
/// What a user has mounted there, a directory of the host perhaps, is not ours to write to.
fn own_directory(root: &Root, path: &str) -> Result<Directory> {
    let directory = root.make_directory(Utf8Path::new(path))?;
    match root.is_own_mount(&directory)? {
        true => Ok(directory),
        false => {
            Err(Error::Container(format!("{path}: another mount than the container's root; left alone")))
        }
    }
}

/// Puts a file in place of another, with its mode and owner; a first one is root's, readable by all.
fn replace(directory: &Directory, name: &str, bytes: &[u8]) -> Result<()> {
    let old = directory.entry(name)?.filter(|entry| entry.kind == Kind::File);
    let (mode, owner) = old.map_or((0o644, None), |old| (old.mode & 0o777, Some((old.uid, old.gid))));
    directory.replace_file(name, bytes, mode, owner, Durability::Lazy)
}
