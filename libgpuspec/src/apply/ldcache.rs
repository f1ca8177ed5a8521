//! The container's own /etc/ld.so.cache, extended by the driver's libraries.

use std::collections::{BTreeMap, BTreeSet};

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

/// The libraries without the names that the cache has at the same place: these keep their rank.
///
/// A place can have several spellings: /lib/… and /usr/lib/… are one directory where /lib is a link.
pub(super) fn unknown(root: &Root, mut libraries: Vec<Libraries>) -> Vec<Libraries> {
    let cache = own_file(root, Utf8Path::new(PATH), ldcache::MAX_SIZE).ok().flatten();
    // A defect of the cache is reported when it is extended.
    let known = cache.and_then(|bytes| ldcache::entries(&bytes).ok()).unwrap_or_default();
    let wanted: BTreeSet<&str> =
        libraries.iter().flat_map(|one| one.names.iter().map(String::as_str)).collect();
    let places = Places::of(root, known.iter().filter(|entry| wanted.contains(entry.name.as_str())));
    let is_known = |one: &Libraries| -> BTreeSet<String> {
        let here = root.resolve(&one.directory).ok().flatten();
        let same = |entry: &&ldcache::Entry| {
            let parent = entry.path.parent().unwrap_or(Utf8Path::new("/"));
            entry.abi == one.abi && (parent == one.directory || here.is_some() && places.real(parent) == here)
        };
        known.iter().filter(same).map(|entry| entry.name.clone()).collect()
    };
    for one in &mut libraries {
        let here = is_known(one);
        one.names.retain(|name| !here.contains(name));
    }
    libraries.retain(|one| !one.names.is_empty());
    libraries
}

/// Where the directories of cache entries lead, each resolved once.
#[derive(Debug)]
struct Places(BTreeMap<Utf8PathBuf, Option<Utf8PathBuf>>);

/// Most directories of a cache that are resolved; honest caches have a dozen.
const MAX_PLACES: usize = 256;

impl Places {
    fn of<'a>(root: &Root, entries: impl Iterator<Item = &'a ldcache::Entry>) -> Places {
        let mut places = BTreeMap::new();
        for parent in entries.filter_map(|entry| entry.path.parent()) {
            if places.len() < MAX_PLACES && !places.contains_key(parent) {
                places.insert(parent.to_owned(), root.resolve(parent).ok().flatten());
            }
        }
        Places(places)
    }

    fn real(&self, directory: &Utf8Path) -> Option<Utf8PathBuf> {
        self.0.get(directory).cloned().flatten()
    }
}

pub(crate) fn entries(libraries: &Libraries) -> impl Iterator<Item = Library<'_>> {
    let (abi, directory) = (libraries.abi, libraries.directory.as_path());
    libraries.names.iter().map(move |name| Library { abi, directory, name })
}
