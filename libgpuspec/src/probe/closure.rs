//! What the libraries found so far lead to: what they need and mention, what that serves, what is missing.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::libraries::{Key, Libraries};
use crate::elf;
use crate::error::{Error, Result};
use crate::inventory::{Capability, Library, Reason};
use crate::policy::Depth;
use crate::vendor::{stem, suffix};
use crate::{Notice, line};

/// Completes the libraries.
///
/// # Errors
///
/// A damaged or unreadable file that no sound one of the same library stands in for, or no driver at all.
pub(super) fn close(
    mut libraries: Libraries<'_>,
    depth: Depth,
    notices: &mut Vec<Notice>,
) -> Result<Vec<Library>> {
    let mut missing = BTreeSet::new();
    take_needed(&mut libraries, &mut missing)?;
    if depth == Depth::Deep {
        take_mentioned(&mut libraries)?;
        take_needed(&mut libraries, &mut missing)?;
    }
    libraries.check_limits()?;
    report_missing(&missing, notices);
    let settled = settle_faults(&mut libraries);
    notices.append(&mut libraries.notices);
    settled?;
    require_anchor(&libraries)?;
    spread_capabilities(&mut libraries);
    Ok(libraries.found.into_values().collect())
}

/// Most names of the driver's that its libraries may need; a driver has 40.
const MAX_NEEDED: usize = 4096;
/// Most of them that one line names.
const MAX_NAMED: usize = 10;

/// Closes over DT_NEEDED inside the driver: a library of the distribution is never taken.
fn take_needed(libraries: &mut Libraries<'_>, missing: &mut BTreeSet<String>) -> Result<()> {
    loop {
        let mut new = BTreeSet::new();
        for name in libraries.found.values().flat_map(|library| &library.needed) {
            if libraries.is_drivers_name(name) && !libraries.has_name(name) && !missing.contains(name) {
                new.insert(name.clone());
            }
            if new.len() + missing.len() > MAX_NEEDED {
                let reason =
                    format!("its libraries need more than {MAX_NEEDED} others, which no driver does");
                return Err(Error::Format { path: libraries.root.path().to_owned(), reason });
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        missing.extend(new.into_iter().filter(|name| !libraries.take_named(name, Reason::Needed)));
    }
}

/// One line for all names, for a hostile library can need thousands.
fn report_missing(missing: &BTreeSet<String>, notices: &mut Vec<Notice>) {
    let names: Vec<&str> = missing.iter().map(String::as_str).collect();
    let (first, more) = line::first(&names, MAX_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    if !first.is_empty() {
        let names = first.join(", ");
        notices.push(Notice(format!("{names}{more}: required by a driver library, but not found")));
    }
}

/// Most bytes of all libraries that are scanned for names; a driver of two ABIs has 1 GiB.
const MAX_SCANNED: u64 = 4 << 30;

/// The names in the libraries' text that are the driver's and on disk, though nothing else led there.
fn take_mentioned(libraries: &mut Libraries<'_>) -> Result<()> {
    let (mut read, mut asked) = (BTreeSet::new(), BTreeSet::new());
    let mut left = MAX_SCANNED;
    loop {
        let found = libraries.found.values().map(|library| (library.path.clone(), library.size));
        let new: Vec<(Utf8PathBuf, u64)> = found.filter(|(path, _)| !read.contains(path)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for (path, size) in new {
            left = left.checked_sub(size).ok_or_else(|| too_much_text(libraries))?;
            for name in mentioned(libraries, &path) {
                let is_new = libraries.is_drivers_name(&name) && !libraries.has_name(&name);
                if is_new && asked.insert(name.clone()) {
                    libraries.take_named(&name, Reason::Mentioned);
                }
            }
            if asked.len() > MAX_NEEDED {
                return Err(too_much_text(libraries));
            }
            read.insert(path);
        }
    }
}

fn too_much_text(libraries: &Libraries<'_>) -> Error {
    let reason =
        format!("its libraries have more than {MAX_SCANNED} bytes, or mention more than {MAX_NEEDED} others");
    Error::Format { path: libraries.root.path().to_owned(), reason: format!("{reason}; no driver's do") }
}

fn mentioned(libraries: &mut Libraries<'_>, path: &Utf8Path) -> Vec<String> {
    let fault = match libraries.root.open_file(path) {
        Ok(None) => return Vec::new(),
        Ok(Some(opened)) => match elf::mentioned_libraries(&opened) {
            Ok(names) => return names,
            Err(fault) => format!("{}: {fault}", libraries.root.outside(path)),
        },
        Err(error) => error.to_string(),
    };
    libraries.notices.push(Notice(format!("{fault}; not scanned")));
    Vec::new()
}

/// A fault in a file of this very version is a damaged driver; in one with a driver's name it is odd,
/// unless nothing sound has that name.
fn settle_faults(libraries: &mut Libraries<'_>) -> Result<()> {
    for (name, error) in std::mem::take(&mut libraries.faults) {
        let rule = libraries.vendor.library_rule(&name).filter(|rule| !rule.is_host_tool());
        let stood_in = libraries.found.keys().any(|(_, soname)| stem(soname) == stem(&name));
        if suffix(&name) == Some(libraries.version) || rule.is_some() && !stood_in {
            return Err(error);
        }
        libraries.notices.push(error.into());
    }
    Ok(())
}

/// Without a sound anchor there is no driver, only its name.
fn require_anchor(libraries: &Libraries<'_>) -> Result<()> {
    let anchors = libraries.vendor.anchors;
    if libraries.found.keys().any(|(_, soname)| stem(soname).is_some_and(|stem| anchors.contains(&stem))) {
        return Ok(());
    }
    let looked_for =
        format!("a file with content among {} of version {}", anchors.join(" and "), libraries.version);
    Err(Error::NoDriver { vendor: libraries.vendor.name, root: libraries.root.path().to_owned(), looked_for })
}

/// A library serves what those serve that need it; one that nothing tells of serves everything.
///
/// The host's own tools pass nothing on. Each library is walked again only when it serves something new.
fn spread_capabilities(libraries: &mut Libraries<'_>) {
    let in_containers = libraries.found.iter().filter(|(_, library)| !library.host_tool);
    let mut changed: Vec<Key> = in_containers.map(|(key, _)| key.clone()).collect();
    while let Some((abi, soname)) = changed.pop() {
        let Some(library) = libraries.found.get(&(abi, soname)) else { continue };
        let (needed, serves) = (library.needed.clone(), library.capabilities.clone());
        for key in needed.into_iter().map(|name| (abi, name)) {
            let Some(library) = libraries.found.get_mut(&key) else { continue };
            let before = library.capabilities.len();
            library.capabilities.extend(&serves);
            if library.capabilities.len() > before && !library.host_tool {
                changed.push(key);
            }
        }
    }
    for library in libraries.found.values_mut().filter(|library| library.capabilities.is_empty()) {
        library.capabilities.extend(Capability::ALL);
    }
}
