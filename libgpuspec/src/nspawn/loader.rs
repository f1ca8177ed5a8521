//! What a machine's loader is told: its cache extended, its configuration, as changes that can be taken back.

use camino::Utf8Path;

use super::changes::{Before, Change, Changes, Sort, temporary};
use crate::Root;
use crate::apply::{self, Libraries};
use crate::error::{Error, Result};
use crate::ldcache::{self, Library};
use crate::root::Kind;

/// Larger than any list or configuration.
const MAX_CONF: u64 = 64 << 10;

/// The changes in a machine's tree that let its loader find these libraries; nothing is written.
///
/// What an earlier start has left behind, in the copy of a running machine perhaps, is not taken for the machine's.
pub(super) fn changes(root: &Root, libraries: &[Libraries]) -> Result<Changes> {
    let mut changes = Changes::default();
    changes.visit(root, apply::ETC)?;
    changes.visit(root, apply::LIST_DIRECTORY)?;
    let lists = Utf8Path::new(apply::LIST_DIRECTORY);
    if root.directory(lists)?.is_none() && root.entry(lists)?.is_some() {
        let reason = "no directory, or a link that leads to none".to_owned();
        return Err(Error::Format { path: root.outside(lists), reason });
    }
    let directories: Vec<&Utf8Path> = libraries.iter().map(|one| one.directory.as_path()).collect();
    let list = |_: Option<&[u8]>| Ok(Some(apply::list_text(&directories).into_bytes()));
    changes.add(root, &apply::list_path(), Sort::List, list)?;
    let include = |before: Option<&[u8]>| Ok(apply::including(before.unwrap_or_default()));
    changes.add(root, Utf8Path::new(apply::LOADER_CONF), Sort::Configuration, include)?;
    let cache = Utf8Path::new(apply::LOADER_CACHE);
    changes.add(root, cache, Sort::Cache, |before| {
        let added: Vec<Library<'_>> = libraries.iter().flat_map(apply::cache_entries).collect();
        let extended = ldcache::insert(before.filter(|bytes| !bytes.is_empty()), &added);
        let unusable = |reason: String| Error::Format { path: root.outside(cache), reason };
        let extended = extended.map_err(|malformed| unusable(malformed.to_string()))?;
        match extended {
            Some(bytes) if bytes.len() as u64 > ldcache::MAX_SIZE => {
                Err(unusable("larger than any loader cache can honestly be".to_owned()))
            }
            extended => Ok(extended),
        }
    })?;
    Ok(changes)
}

impl Changes {
    /// Adds the change of one file to what `after` makes of it, if it makes something else of it.
    fn add(
        &mut self,
        root: &Root,
        path: &Utf8Path,
        sort: Sort,
        after: impl FnOnce(Option<&[u8]>) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let before = before(root, path, sort)?;
        let bytes = before.as_ref().map(|before| before.bytes.as_slice());
        match after(bytes)? {
            Some(after) if Some(after.as_slice()) != bytes => {
                if kind_aside(root, path)? == Some(Kind::Directory) {
                    let reason = format!(
                        "{} is a directory, and it is to be put aside there",
                        temporary(path.file_name().unwrap_or_default())
                    );
                    return Err(Error::Format { path: root.outside(path), reason });
                }
                self.files.push(Change { path: path.to_owned(), sort, before, after });
            }
            _ => {}
        }
        Ok(())
    }
}

/// What an earlier start has left in a machine's tree, as changes that are only to be taken back.
pub(super) fn left_behind(root: &Root) -> Result<Changes> {
    let mut changes = Changes::default();
    changes.visit(root, apply::ETC)?;
    changes.visit(root, apply::LIST_DIRECTORY)?;
    let files = [
        (apply::list_path(), Sort::List),
        (apply::LOADER_CONF.into(), Sort::Configuration),
        (apply::LOADER_CACHE.into(), Sort::Cache),
    ];
    for (path, sort) in files {
        let Some(now) = present(root, &path, sort)? else { continue };
        let rest = match own_rest(root, &path, sort, &now.bytes)? {
            Some(rest) => rest,
            // What the machine made anew since; the one that was put aside is of no more use.
            None if kind_aside(root, &path)? == Some(Kind::File) => now.bytes.clone(),
            None => continue,
        };
        let before = (!rest.is_empty()).then_some(Before { bytes: rest, attributes: now.attributes });
        changes.files.push(Change { path, sort, before, after: now.bytes });
    }
    Ok(changes)
}

/// What is beside this file under the name for one of ours.
fn kind_aside(root: &Root, path: &Utf8Path) -> Result<Option<Kind>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let aside = root.directory(parent)?.map(|parent| parent.entry(&temporary(name))).transpose()?.flatten();
    Ok(aside.map(|aside| aside.kind))
}

/// A file as the machine left it, if it is there.
fn before(root: &Root, path: &Utf8Path, sort: Sort) -> Result<Option<Before>> {
    let Some(now) = present(root, path, sort)? else { return Ok(None) };
    Ok(match own_rest(root, path, sort, &now.bytes)? {
        Some(rest) if rest.is_empty() => None,
        Some(rest) => Some(Before { bytes: rest, ..now }),
        None => Some(now),
    })
}

/// A file as it is. One that is no regular file of the tree's own is not ours to change.
fn present(root: &Root, path: &Utf8Path, sort: Sort) -> Result<Option<Before>> {
    let limit = if sort == Sort::Cache { ldcache::MAX_SIZE } else { MAX_CONF };
    let Some(bytes) = apply::own_file(root, path, limit)? else { return Ok(None) };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let attributes = root.directory(parent)?.map(|parent| parent.attributes(name)).transpose()?.flatten();
    Ok(attributes.map(|attributes| Before { bytes, attributes }))
}

/// What is the machine's of a file that has something of ours in it.
fn own_rest(root: &Root, path: &Utf8Path, sort: Sort, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(match sort {
        Sort::Cache | Sort::List => sort.rest(bytes),
        // The line that includes the lists is the distribution's own as a rule, unless one without it was put aside.
        Sort::Configuration => sort.rest(bytes).filter(|rest| aside(root, path).as_ref() == Some(rest)),
        Sort::Settings => None,
    })
}

/// The bytes that were put aside for a file.
fn aside(root: &Root, path: &Utf8Path) -> Option<Vec<u8>> {
    let directory = root.directory(path.parent()?).ok().flatten()?;
    directory.read(&temporary(path.file_name()?), MAX_CONF).ok().flatten()
}
