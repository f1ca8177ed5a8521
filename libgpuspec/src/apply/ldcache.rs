//! The container's own /etc/ld.so.cache, extended by the driver's libraries.

use camino::Utf8Path;

use super::{Libraries, replace};
use crate::Root;
use crate::error::{Error, Result};
use crate::ldcache::{self, Library};
use crate::root::Directory;

const NAME: &str = "ld.so.cache";
const PATH: &str = "/etc/ld.so.cache";

/// Adds the libraries to the cache, ahead of the image's own; a cache that is missing is made.
///
/// A file that is no cache stays as it is: the loader does without, and whoever put it there may not.
pub(super) fn update(root: &Root, etc: &Directory, libraries: &[Libraries]) -> Result<()> {
    let old = root.read(Utf8Path::new(PATH), ldcache::MAX_SIZE)?.filter(|bytes| !bytes.is_empty());
    let added: Vec<Library<'_>> = libraries.iter().flat_map(entries).collect();
    let new = ldcache::insert(old.as_deref(), &added).map_err(|malformed| Error::Format {
        path: root.outside(Utf8Path::new(PATH)),
        reason: malformed.to_string(),
    })?;
    new.map_or(Ok(()), |bytes| replace(etc, NAME, &bytes))
}

fn entries(libraries: &Libraries) -> impl Iterator<Item = Library<'_>> {
    let (abi, directory) = (libraries.abi, libraries.directory.as_path());
    libraries.names.iter().map(move |name| Library { abi, directory, name })
}
