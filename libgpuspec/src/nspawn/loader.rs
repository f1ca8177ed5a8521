//! What a machine's loader is told: its cache extended, its configuration, as changes that can be taken back.

use camino::Utf8Path;

use super::changes::{Before, Change, Changes, Sort};
use crate::Root;
use crate::apply::{self, Libraries};
use crate::error::{Error, Result};
use crate::ldcache::{self, Library};

/// Larger than any list or configuration.
const MAX_CONF: u64 = 64 << 10;

/// The changes in a machine's tree that let its loader find these libraries; nothing is written.
///
/// What an earlier start has left behind, in the copy of a running machine perhaps, is not taken for the machine's.
pub(super) fn changes(root: &Root, libraries: &[Libraries]) -> Result<Changes> {
    let mut changes = Changes::default();
    changes.visit(root, apply::ETC)?;
    changes.visit(root, apply::LIST_DIRECTORY)?;
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
        let limit = if sort == Sort::Cache { ldcache::MAX_SIZE } else { MAX_CONF };
        let before = before(root, path, sort, limit)?;
        let bytes = before.as_ref().map(|before| before.bytes.as_slice());
        match after(bytes)? {
            Some(after) if Some(after.as_slice()) != bytes => {
                self.files.push(Change { path: path.to_owned(), sort, before, after });
            }
            _ => {}
        }
        Ok(())
    }
}

/// A file as the machine left it, if it is there. One that is no regular file of the tree's own is not ours to change.
fn before(root: &Root, path: &Utf8Path, sort: Sort, limit: u64) -> Result<Option<Before>> {
    let Some(bytes) = apply::own_file(root, path, limit)? else { return Ok(None) };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let attributes = root.directory(parent)?.map(|parent| parent.attributes(name)).transpose()?.flatten();
    let Some(attributes) = attributes else { return Ok(None) };
    let left_behind = match sort {
        Sort::Cache | Sort::List => sort.rest(&bytes),
        // The line that includes the lists is the distribution's own as a rule.
        Sort::Configuration | Sort::Settings => None,
    };
    Ok(match left_behind {
        Some(rest) if rest.is_empty() => None,
        Some(rest) => Some(Before { bytes: rest, attributes }),
        None => Some(Before { bytes, attributes }),
    })
}
