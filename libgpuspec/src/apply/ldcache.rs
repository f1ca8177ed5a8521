//! The container's own /etc/ld.so.cache, extended by the driver's libraries.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Libraries, own_file, replace};
use crate::Root;
use crate::error::{Error, Result};
use crate::ldcache::{self, Abi, Library};
use crate::root::Directory;

const NAME: &str = "ld.so.cache";
pub(crate) const PATH: &str = "/etc/ld.so.cache";

/// Adds the libraries to the cache, ahead of the image's own; a cache that is missing is made.
///
/// A file that is no cache stays as it is: the loader does without, and whoever put it there may not.
pub(super) fn update(root: &Root, etc: &Directory, libraries: &[Libraries]) -> Result<()> {
    let old = own_file(root, Utf8Path::new(PATH), ldcache::MAX_SIZE)?.filter(|bytes| !bytes.is_empty());
    let added: Vec<Library<'_>> = libraries.iter().flat_map(entries).collect();
    let new = ldcache::insert(old.as_deref(), &added).map_err(|malformed| Error::Format {
        path: root.outside(Utf8Path::new(PATH)),
        reason: malformed.to_string(),
    })?;
    new.map_or(Ok(()), |bytes| replace(etc, NAME, &bytes))
}

/// Puts what else the cache has of the names in these directories ahead of them.
pub(super) fn demote(root: &Root, etc: &Directory, directories: &[Utf8PathBuf]) -> Result<()> {
    let cache = own_file(root, Utf8Path::new(PATH), ldcache::MAX_SIZE)?;
    // What is wrong with it is said when it is to be extended.
    let entries = cache.and_then(|bytes| ldcache::entries(&bytes).ok()).unwrap_or_default();
    let directories: BTreeSet<&str> = directories.iter().map(|one| one.as_str()).collect();
    let is_in = |entry: &ldcache::Entry| {
        entry.path.parent().is_some_and(|parent| directories.contains(parent.as_str()))
    };
    let demoted: BTreeSet<(&str, Abi)> =
        entries.iter().filter(|entry| is_in(entry)).map(|entry| (entry.name.as_str(), entry.abi)).collect();
    let others = entries.iter().filter(|entry| {
        !is_in(entry) && entry.hwcap == 0 && demoted.contains(&(entry.name.as_str(), entry.abi))
    });
    let promoted: Vec<Libraries> = others
        .filter(|entry| entry.path.file_name() == Some(&entry.name))
        .filter_map(|entry| {
            let directory = entry.path.parent()?.to_owned();
            Some(Libraries { abi: entry.abi, directory, names: vec![entry.name.clone()] })
        })
        .collect();
    if promoted.is_empty() { Ok(()) } else { update(root, etc, &promoted) }
}

/// The libraries without the names that the cache knows at the same place already: these keep their rank.
pub(super) fn unknown(root: &Root, libraries: Vec<Libraries>) -> Vec<Libraries> {
    let cache = own_file(root, Utf8Path::new(PATH), ldcache::MAX_SIZE).ok().flatten();
    // What is wrong with it is said when it is to be extended.
    let known = cache.and_then(|bytes| ldcache::entries(&bytes).ok()).unwrap_or_default();
    let without = |mut one: Libraries| {
        let same =
            |entry: &ldcache::Entry| entry.abi == one.abi && entry.path.parent() == Some(&one.directory);
        let here: BTreeSet<&str> =
            known.iter().filter(|entry| same(entry)).map(|entry| entry.name.as_str()).collect();
        one.names.retain(|name| !here.contains(name.as_str()));
        one
    };
    libraries.into_iter().map(without).filter(|one| !one.names.is_empty()).collect()
}

pub(crate) fn entries(libraries: &Libraries) -> impl Iterator<Item = Library<'_>> {
    let (abi, directory) = (libraries.abi, libraries.directory.as_path());
    libraries.names.iter().map(move |name| Library { abi, directory, name })
}
