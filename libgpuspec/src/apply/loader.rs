//! All that makes the container's loader find libraries: its cache, its configuration, musl's list.

use camino::Utf8Path;

use super::{
    ETC, Libraries, Request, Step, Undone, cuda, ldcache, ldconf, musl, own_directory, scan, symlinks,
};
use crate::error::Result;
use crate::{Notice, Root};

/// Extends cache and configuration by what the request names, by what its folders hold, and by the
/// CUDA compatibility libraries that were chosen, now or by an earlier run.
pub(super) fn extend(root: &Root, request: &Request) -> Vec<Undone> {
    if request.libraries.is_empty() && request.folders.is_empty() && request.cuda_compat.is_none() {
        return Vec::new();
    }
    let mut notices = Vec::new();
    let mut libraries = collected(chosen(root), &mut notices);
    libraries.extend(request.libraries.iter().cloned());
    libraries.extend(collected(found(root, request, &mut notices), &mut notices));
    let mut directories: Vec<&Utf8Path> =
        request.libraries.iter().map(|one| one.directory.as_path()).collect();
    directories.extend(request.folders.iter().map(|folder| folder.as_path()));
    notices.extend(write(root, &libraries, &directories));
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

/// The libraries of the request's folders that the cache does not know yet; sonames missing there are made.
fn found(root: &Root, request: &Request, notices: &mut Vec<Notice>) -> Result<Vec<Libraries>> {
    let mut libraries = Vec::new();
    for folder in &request.folders {
        let scanned = scan::scan(root, folder)?;
        notices.extend(symlinks::make(root, &scanned.links));
        libraries.extend(scanned.libraries);
    }
    Ok(if libraries.is_empty() { libraries } else { ldcache::unknown(root, libraries) })
}

fn write(root: &Root, libraries: &[Libraries], directories: &[&Utf8Path]) -> Vec<Notice> {
    if libraries.is_empty() && directories.is_empty() {
        return Vec::new();
    }
    let mut notices = Vec::new();
    let done = own_directory(root, ETC).and_then(|etc| {
        notices.extend(ldcache::update(root, &etc, libraries).err().map(Notice::from));
        if !directories.is_empty() {
            let listed = ldconf::list(root, ldconf::DRIVER_LIST, directories);
            notices.extend(listed.err().map(Notice::from));
        }
        let for_musl = musl::list_directories(root, libraries);
        notices.extend(for_musl.unwrap_or_else(|error| vec![error.into()]));
        ldconf::include_lists(root, &etc)
    });
    notices.extend(done.err().map(Notice::from));
    notices
}
