//! The libraries of a directory of the container, as `ldconfig` would take them into the loader's cache.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use super::{Libraries, Link};
use crate::elf;
use crate::error::Result;
use crate::ldcache::Abi;
use crate::root::{Directory, Root};
use crate::vendor::nvidia::NVIDIA;

/// Most files of a directory that are looked into; a full desktop's library directory has half of it.
const MAX_LIBRARIES: usize = 4096;

/// What a directory holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Its libraries under the names that programs use, by ABI.
    pub(super) libraries: Vec<Libraries>,
    /// Sonames that nothing in the directory has, each to the file that should have it.
    pub(super) links: Vec<Link>,
    /// Whose libraries these are.
    pub(super) origin: Origin,
}

/// Whose libraries a directory's are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// The driver's alone.
    Driver,
    /// All of the directory: nothing tells the driver's from the image's.
    #[default]
    Unknown,
}

/// The libraries of a directory alone.
pub(crate) fn libraries_of(root: &Root, directory: &Utf8Path) -> Result<Vec<Libraries>> {
    Ok(scan(root, directory)?.libraries)
}

/// Looks into every library of a directory; other files, and those that cannot be read, are skipped as
/// `ldconfig` does.
pub(super) fn scan(root: &Root, directory: &Utf8Path) -> Result<Scanned> {
    let (present, found) = look(root, directory)?;
    Ok(collect(directory, &present, &found, Origin::Unknown))
}

/// The driver's libraries of a directory that the image has libraries in too; all where none is the driver's.
///
/// A runtime mounts the driver's files one by one. Where they were copied, their names tell them.
pub(super) fn driver(root: &Root, directory: &Utf8Path) -> Result<Scanned> {
    let (present, found) = look(root, directory)?;
    let (own, others): (Vec<Found>, Vec<Found>) = found.into_iter().partition(|one| one.is_driver);
    Ok(if own.is_empty() {
        collect(directory, &present, &others, Origin::Unknown)
    } else {
        collect(directory, &present, &own, Origin::Driver)
    })
}

/// One library of a directory.
#[derive(Debug)]
struct Found {
    name: String,
    abi: Abi,
    soname: String,
    is_driver: bool,
}

/// The names in a directory, and those of them that are libraries.
fn look(root: &Root, directory: &Utf8Path) -> Result<(BTreeSet<String>, Vec<Found>)> {
    let present: BTreeSet<String> =
        root.list(directory)?.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let Some(opened) = root.directory(directory)? else { return Ok((present, Vec::new())) };
    let names = present.iter().filter(|name| is_library(name)).take(MAX_LIBRARIES);
    let found = names.filter_map(|name| identify(root, &opened, directory, name)).collect();
    Ok((present, found))
}

fn collect(directory: &Utf8Path, present: &BTreeSet<String>, found: &[Found], origin: Origin) -> Scanned {
    let mut names: BTreeMap<Abi, BTreeSet<&str>> = BTreeMap::new();
    let mut missing: BTreeMap<&str, String> = BTreeMap::new();
    for Found { name, abi, soname, .. } in found {
        let names = names.entry(*abi).or_default();
        if name.ends_with(".so") {
            names.insert(name);
        }
        if !present.contains(soname) {
            newest(missing.entry(soname).or_default(), name);
        }
        names.insert(soname);
    }
    let libraries = names.into_iter().map(|(abi, names)| Libraries {
        abi,
        directory: directory.to_owned(),
        names: names.into_iter().map(str::to_owned).collect(),
    });
    let links = missing.into_iter().map(|(soname, file)| Link {
        target: file.into(),
        directory: directory.as_str().to_owned(),
        name: soname.to_owned(),
    });
    Scanned { libraries: libraries.collect(), links: links.collect(), origin }
}

/// Of several files with one soname the one of the highest version gets it (ldconfig(8)).
fn newest(chosen: &mut String, name: &str) {
    if chosen.is_empty() || super::version::numbers(chosen) < super::version::numbers(name) {
        *chosen = name.to_owned();
    }
}

/// Whether a library can be found by this name; what is longer than a file's name can be is a soname of no use.
pub(crate) fn is_library(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._+-".contains(character);
    name.len() <= 255
        && name.starts_with("lib")
        && (name.ends_with(".so") || name.contains(".so."))
        && name.chars().all(plain)
}

fn identify(root: &Root, parent: &Directory, directory: &Utf8Path, name: &str) -> Option<Found> {
    let opened = root.open_file(&directory.join(name)).ok()??;
    let object = elf::inspect(&opened).ok()?;
    let abi = Abi::from_elf(object.class.ident(), object.machine)?;
    let soname = object.soname.filter(|soname| is_library(soname)).unwrap_or_else(|| name.to_owned());
    let is_driver = NVIDIA.library_rule(name).is_some()
        || NVIDIA.library_rule(&soname).is_some()
        || parent.is_mount_of(&opened).is_ok_and(|is_same| !is_same);
    Some(Found { name: name.to_owned(), abi, soname, is_driver })
}
