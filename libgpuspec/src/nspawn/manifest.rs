//! What was done for a machine and how it is taken back, in the machine's own state: written before it is done.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::changes::{Before, Change, Changes, Place, Sort};
use crate::Root;
use crate::error::{Error, Result};
use crate::ldcache;
use crate::root::{Attributes, Directory, Durability};

const NAME: &str = "manifest.json";
/// The bytes of changed files, before and after, lie beside it.
const SAVED: &str = "saved";
/// Larger than any manifest; one has some KiB.
const MAX_MANIFEST: u64 = 1 << 20;
const VERSION: u32 = 1;

/// All changes outside the machine's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Whether all was done, and what others did to the files since is theirs.
    pub(super) done: bool,
    /// The trees in which something is changed.
    pub(super) trees: Vec<Tree>,
}

/// The changes in one tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    /// Whose it is.
    pub(super) whose: Whose,
    /// Its top on this machine.
    pub(super) path: Utf8PathBuf,
    /// Device and inode of it: another tree in its place is left alone.
    pub(super) identity: (u64, u64),
    /// The changes.
    pub(super) changes: Changes,
}

/// Whose a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Whose {
    /// This machine's.
    Host,
    /// The guest's, which is not trusted.
    Guest,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    done: bool,
    trees: Vec<TreeRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TreeRecord {
    whose: Whose,
    path: Utf8PathBuf,
    identity: (u64, u64),
    places: Vec<Place>,
    files: Vec<FileRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct FileRecord {
    path: Utf8PathBuf,
    sort: Sort,
    before: Option<Attributes>,
    /// The number of its files in `saved`.
    number: usize,
}

impl Manifest {
    /// Writes it with all that it refers to, into a state that has none so far.
    pub(super) fn create(&self, state: &Directory) -> Result<()> {
        let saved = state.make_directory(SAVED)?;
        saved.set_mode(0o700)?;
        let files = self.trees.iter().flat_map(|tree| &tree.changes.files);
        for (number, change) in files.enumerate() {
            if let Some(before) = &change.before {
                put(&saved, &format!("{number}.before"), &before.bytes)?;
            }
            put(&saved, &format!("{number}.after"), &change.after)?;
        }
        self.update(state)
    }

    /// Writes it anew.
    pub(super) fn update(&self, state: &Directory) -> Result<()> {
        let mut number = 0;
        let mut record = |change: &Change| {
            let (path, before) =
                (change.path.clone(), change.before.as_ref().map(|before| before.attributes));
            number += 1;
            FileRecord { path, sort: change.sort, before, number: number - 1 }
        };
        let trees = self.trees.iter().map(|tree| TreeRecord {
            whose: tree.whose,
            path: tree.path.clone(),
            identity: tree.identity,
            places: tree.changes.places.clone(),
            files: tree.changes.files.iter().map(&mut record).collect(),
        });
        let document = Document { version: VERSION, done: self.done, trees: trees.collect() };
        let text =
            serde_json::to_vec_pretty(&document).map_err(|error| unusable(state, &error.to_string()))?;
        put(state, NAME, &text)
    }

    /// Reads it; `None` where nothing outside the state was begun.
    pub(super) fn read(state: &Root) -> Result<Option<Manifest>> {
        let top = Utf8Path::new("/");
        let Some(directory) = state.directory(top)? else { return Ok(None) };
        let Some(bytes) = directory.read(NAME, MAX_MANIFEST)? else { return Ok(None) };
        let document: Document =
            serde_json::from_slice(&bytes).map_err(|error| unusable(&directory, &error.to_string()))?;
        if document.version != VERSION {
            return Err(unusable(&directory, "of a version not known here"));
        }
        let saved = |number: usize, which: &str| {
            let path = top.join(SAVED).join(format!("{number}.{which}"));
            let missing = || unusable(&directory, &format!("{path} is missing beside it"));
            state.read(&path, ldcache::MAX_SIZE)?.ok_or_else(missing)
        };
        let mut trees = Vec::new();
        for TreeRecord { whose, path, identity, places, files } in document.trees {
            let mut changes = Changes { places, files: Vec::new() };
            for FileRecord { path, sort, before, number } in files {
                let before = match before {
                    Some(attributes) => Some(Before { bytes: saved(number, "before")?, attributes }),
                    None => None,
                };
                changes.files.push(Change { path, sort, before, after: saved(number, "after")? });
            }
            trees.push(Tree { whose, path, identity, changes });
        }
        Ok(Some(Manifest { done: document.done, trees }))
    }
}

fn put(directory: &Directory, name: &str, bytes: &[u8]) -> Result<()> {
    directory.replace_file(name, bytes, 0o600, None, Durability::Lazy)
}

fn unusable(state: &Directory, reason: &str) -> Error {
    Error::Format { path: state.path().join(NAME), reason: format!("no manifest that can be used: {reason}") }
}
