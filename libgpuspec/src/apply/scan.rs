//! The libraries of a directory of the container, as `ldconfig` would take them into the loader's cache.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use super::{Libraries, Link};
use crate::elf;
use crate::error::Result;
use crate::ldcache::Abi;
use crate::root::Root;

/// Most files of a directory that are looked into; a full desktop's library directory has half of it.
const MAX_LIBRARIES: usize = 4096;

/// What a directory has to give.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Its libraries under the names that programs ask for, by ABI.
    pub(super) libraries: Vec<Libraries>,
    /// Sonames that nothing in the directory has, each to the file that should have it.
    pub(super) links: Vec<Link>,
}

/// The libraries of a directory alone.
pub(crate) fn libraries_of(root: &Root, directory: &Utf8Path) -> Result<Vec<Libraries>> {
    Ok(scan(root, directory)?.libraries)
}

/// Looks into every library of a directory; what is none, or cannot be read, is passed over as
/// `ldconfig` does.
pub(super) fn scan(root: &Root, directory: &Utf8Path) -> Result<Scanned> {
    let present: BTreeSet<String> =
        root.list(directory)?.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let mut names: BTreeMap<Abi, BTreeSet<String>> = BTreeMap::new();
    let mut missing: BTreeMap<String, String> = BTreeMap::new();
    for name in present.iter().filter(|name| is_library(name)).take(MAX_LIBRARIES) {
        let Some((abi, soname)) = identify(root, &directory.join(name)) else { continue };
        let soname = soname.filter(|soname| is_library(soname)).unwrap_or_else(|| name.clone());
        let names = names.entry(abi).or_default();
        if name.ends_with(".so") {
            names.insert(name.clone());
        }
        if !present.contains(&soname) {
            newest(missing.entry(soname.clone()).or_default(), name);
        }
        names.insert(soname);
    }
    let libraries = names.into_iter().map(|(abi, names)| Libraries {
        abi,
        directory: directory.to_owned(),
        names: names.into_iter().collect(),
    });
    let links = missing.into_iter().map(|(soname, file)| Link {
        target: file.into(),
        directory: directory.as_str().to_owned(),
        name: soname,
    });
    Ok(Scanned { libraries: libraries.collect(), links: links.collect() })
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

fn identify(root: &Root, path: &Utf8Path) -> Option<(Abi, Option<String>)> {
    let opened = root.open_file(path).ok()??;
    let object = elf::inspect(&opened).ok()?;
    Some((Abi::from_elf(object.class.ident(), object.machine)?, object.soname))
}
