//! What the libraries found so far lead to: what they need and mention, what that serves, what is missing.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use super::libraries::{Key, Libraries};
use crate::Notice;
use crate::elf;
use crate::error::{Error, Result};
use crate::inventory::{Capability, Library, Reason};
use crate::policy::Depth;
use crate::vendor::{stem, suffix};

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
    take_needed(&mut libraries);
    if depth == Depth::Deep {
        take_mentioned(&mut libraries);
        take_needed(&mut libraries);
    }
    let settled = settle_faults(&mut libraries);
    notices.append(&mut libraries.notices);
    settled?;
    require_anchor(&libraries)?;
    spread_capabilities(&mut libraries);
    Ok(libraries.found.into_values().collect())
}

/// Closes over DT_NEEDED inside the driver: a library of the distribution is never taken.
fn take_needed(libraries: &mut Libraries<'_>) {
    let mut asked = BTreeSet::new();
    loop {
        let needs = libraries.found.values().flat_map(|library| &library.needed);
        let missing: Vec<String> = needs
            .filter(|name| {
                libraries.is_drivers_name(name) && !asked.contains(*name) && !libraries.has_name(name)
            })
            .cloned()
            .collect();
        if missing.is_empty() {
            return;
        }
        for name in missing {
            if asked.insert(name.clone()) && !libraries.take_named(&name, Reason::Needed) {
                let text = format!("{name}: a library of the driver needs it, and it is nowhere");
                libraries.notices.push(Notice(text));
            }
        }
    }
}

/// The names in the libraries' text that are the driver's and on disk, though nothing else led there.
fn take_mentioned(libraries: &mut Libraries<'_>) {
    let mut read = BTreeSet::new();
    loop {
        let paths = libraries.found.values().map(|library| library.path.clone());
        let new: Vec<Utf8PathBuf> = paths.filter(|path| !read.contains(path)).collect();
        if new.is_empty() {
            return;
        }
        for path in new {
            for name in mentioned(libraries, &path) {
                if libraries.is_drivers_name(&name) && !libraries.has_name(&name) {
                    libraries.take_named(&name, Reason::Mentioned);
                }
            }
            read.insert(path);
        }
    }
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
fn spread_capabilities(libraries: &mut Libraries<'_>) {
    let mut changed = true;
    while changed {
        changed = false;
        for (key, capabilities) in needs(libraries) {
            if let Some(library) = libraries.found.get_mut(&key) {
                let before = library.capabilities.len();
                library.capabilities.extend(capabilities);
                changed |= library.capabilities.len() > before;
            }
        }
    }
    for library in libraries.found.values_mut().filter(|library| library.capabilities.is_empty()) {
        library.capabilities.extend(Capability::ALL);
    }
}

/// Every library that another needs, with what that other serves; the host's own tools tell nothing.
fn needs(libraries: &Libraries<'_>) -> Vec<(Key, BTreeSet<Capability>)> {
    let in_containers = libraries.found.values().filter(|library| !library.host_tool);
    let edges = in_containers.flat_map(|library| {
        library.needed.iter().map(|name| ((library.abi, name.clone()), library.capabilities.clone()))
    });
    edges.collect()
}
