//! All that makes the container's loader find libraries: its cache, its configuration, musl's list.

use camino::Utf8Path;

use super::scan::Origin;
use super::{
    ETC, Libraries, Request, Step, Undone, cuda, ldcache, ldconf, musl, only, own_directory, scan, symlinks,
};
use crate::error::Result;
use crate::{Notice, Root};

/// Extends cache and configuration by the libraries of the request, by the driver's libraries in its folders,
/// and by the CUDA compatibility libraries that were chosen, now or by an earlier run.
pub(super) fn extend(root: &Root, request: &Request) -> Vec<Undone> {
    if request.libraries.is_empty() && request.folders.is_empty() && request.cuda_compat.is_none() {
        return Vec::new();
    }
    let mut notices = Vec::new();
    let mut libraries = collected(chosen(root), &mut notices);
    let chosen = libraries.len();
    libraries.extend(request.libraries.iter().cloned());
    libraries.extend(collected(found(root, request, &mut notices), &mut notices));
    let driver = libraries.get(chosen..).unwrap_or_default();
    notices.extend(write(root, &libraries, driver));
    Step::Loader.undone(notices)
}

fn collected(libraries: Result<Vec<Libraries>>, notices: &mut Vec<Notice>) -> Vec<Libraries> {
    libraries.unwrap_or_else(|error| {
        notices.push(error.into());
        Vec::new()
    })
}

/// The libraries of the directories that the choice for CUDA left.
fn chosen(root: &Root) -> Result<Vec<Libraries>> {
    let mut libraries = Vec::new();
    for directory in ldconf::listed(root, cuda::LIST_NAME)? {
        libraries.extend(scan::scan(root, &directory)?.libraries);
    }
    Ok(libraries)
}

/// The driver's libraries in the request's folders; sonames missing there are made.
///
/// The image's own libraries there stay as its cache and its configuration have them.
fn found(root: &Root, request: &Request, notices: &mut Vec<Notice>) -> Result<Vec<Libraries>> {
    let mut libraries = Vec::new();
    for folder in &request.folders {
        let scanned = scan::driver(root, folder)?;
        notices.extend(symlinks::make(root, &scanned.links));
        libraries.extend(match scanned.origin {
            Origin::Driver => scanned.libraries,
            Origin::Unknown => ldcache::unknown(root, scanned.libraries),
        });
    }
    Ok(libraries)
}

fn write(root: &Root, libraries: &[Libraries], driver: &[Libraries]) -> Vec<Notice> {
    if libraries.is_empty() {
        return Vec::new();
    }
    let mut notices = Vec::new();
    let done = own_directory(root, ETC).and_then(|etc| {
        notices.extend(ldcache::update(root, &etc, libraries).err().map(Notice::from));
        notices.extend(list_driver(root, driver));
        let for_musl = musl::list_directories(root, libraries);
        notices.extend(for_musl.unwrap_or_else(|error| vec![error.into()]));
        ldconf::include_lists(root, &etc)
    });
    notices.extend(done.err().map(Notice::from));
    notices
}

/// Makes a later `ldconfig` of the image put the driver's libraries first, and leave the others in their order.
fn list_driver(root: &Root, driver: &[Libraries]) -> Vec<Notice> {
    if driver.is_empty() {
        return Vec::new();
    }
    let (directories, mut notices) = only::link(root, driver);
    let directories: Vec<&Utf8Path> = directories.iter().map(|one| one.as_path()).collect();
    notices.extend(ldconf::list(root, ldconf::DRIVER_LIST, &directories).err().map(Notice::from));
    notices
}
