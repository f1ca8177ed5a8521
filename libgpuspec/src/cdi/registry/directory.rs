//! One spec directory: its files as they were last seen, and what is different now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::{DirectoryError, FileError, SpecFile, is_spec_name};
use crate::cdi::read::{MAX_BYTES, read};
use crate::root::{Changes, Directory, Kind, Stamp, Watch};
use crate::{Error, Result, Root};

pub(super) struct SpecDirectory {
    path: Utf8PathBuf,
    priority: usize,
    /// The directory that the path leads to, once it was there.
    stamp: Option<Stamp>,
    watched: bool,
    files: BTreeMap<String, Seen>,
    /// Those of them that lie elsewhere: no watch on this directory tells of their changes.
    links: BTreeSet<String>,
    error: Option<Arc<Error>>,
}

/// A file as it was when it was last read.
struct Seen {
    file: Arc<SpecFile>,
    /// None while a change could leave it the same: then the file is read again at the next look.
    stamp: Option<Stamp>,
}

/// What is different since the last look.
#[derive(Default)]
pub(super) struct Look {
    pub(super) gone: Vec<Arc<SpecFile>>,
    pub(super) come: Vec<Arc<SpecFile>>,
}

/// Which names have to be looked at.
enum Suspects {
    All,
    These(BTreeSet<String>),
}

impl SpecDirectory {
    pub(super) fn new(path: &Utf8Path, priority: usize) -> SpecDirectory {
        let path = path.to_owned();
        SpecDirectory {
            path,
            priority,
            stamp: None,
            watched: false,
            files: BTreeMap::new(),
            links: BTreeSet::new(),
            error: None,
        }
    }

    pub(super) fn path(&self) -> &Utf8Path {
        &self.path
    }

    pub(super) fn priority(&self) -> usize {
        self.priority
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Arc<SpecFile>> {
        self.files.values().map(|seen| &seen.file)
    }

    pub(super) fn error(&self) -> Option<DirectoryError> {
        let error = self.error.clone()?;
        Some(DirectoryError { path: self.path.clone(), error })
    }

    /// Catches up with the disk; `changes` is what the watch has told, if there is one.
    pub(super) fn look(&mut self, root: &Root, changes: Option<&Changes>, watch: Option<&mut Watch>) -> Look {
        let mut look = Look::default();
        if changes.is_some_and(|it| it.anything || it.directories.contains(&self.priority)) {
            // It may be gone, and its watch with it; a new one may even have its inode number.
            self.watched = false;
        }
        let result = self.catch_up(root, changes, watch, &mut look);
        if let Err(error) = result {
            self.error = Some(Arc::new(error));
            // It is looked at again each time until it can be read.
            self.watched = false;
            self.clear(&mut look);
        }
        look
    }

    fn catch_up(
        &mut self,
        root: &Root,
        changes: Option<&Changes>,
        watch: Option<&mut Watch>,
        look: &mut Look,
    ) -> Result<()> {
        let Some((entry, stamp)) = root.stamp(&self.path)? else {
            self.forget(watch);
            self.clear(look);
            return Ok(());
        };
        if entry.kind != Kind::Directory {
            let reason = format!("a {}, not a directory of specs", entry.kind.word());
            return Err(Error::Format { path: root.outside(&self.path), reason });
        }
        let replaced = !self.stamp.is_some_and(|last| last.same_file(stamp));
        self.stamp = Some(stamp);
        let suspects = if replaced || !self.watched { Suspects::All } else { self.suspects(changes) };
        if matches!(&suspects, Suspects::These(names) if names.is_empty()) {
            return Ok(());
        }
        let Some(directory) = root.directory(&self.path)? else { return Ok(()) };
        if let Some(watch) = watch.filter(|_| replaced || !self.watched) {
            // Watched before it is read: what changes in between is told the next time.
            self.watched = watch.add(self.priority, &directory).is_ok();
        }
        let names = match suspects {
            Suspects::These(names) => names,
            Suspects::All => self.all_names(root)?,
        };
        self.error = None;
        for name in names {
            self.look_at(root, &directory, &name, look);
        }
        Ok(())
    }

    /// What the watch tells of, and the links, of whose targets it tells nothing.
    fn suspects(&self, changes: Option<&Changes>) -> Suspects {
        let Some(changes) = changes else { return Suspects::All };
        let told = changes.names.iter().filter(|(number, _)| *number == self.priority).map(|(_, name)| name);
        let names = told.filter(|name| is_spec_name(name)).chain(&self.links).cloned().collect();
        Suspects::These(names)
    }

    /// The names that are there, and those that were.
    fn all_names(&self, root: &Root) -> Result<BTreeSet<String>> {
        let listed = root.list(&self.path)?.unwrap_or_default();
        let specs = listed.into_iter().map(|(name, _)| name).filter(|name| is_spec_name(name));
        Ok(specs.chain(self.files.keys().cloned()).collect())
    }

    fn look_at(&mut self, root: &Root, directory: &Directory, name: &str, look: &mut Look) {
        let path = self.path.join(name);
        let before = self.files.get(name);
        let (spec, stamp, is_link) = match stamped(root, directory, &path, name) {
            // A directory is no spec, whatever its name; all else that is no file is a bad one.
            Ok(Some((Kind::Directory, ..)) | None) => (None, None, false),
            Ok(Some((_, stamp, _))) if before.is_some_and(|seen| seen.stamp == Some(stamp)) => return,
            Ok(Some((kind, stamp, is_link))) => {
                let spec = load(root, directory, &path, name, kind, is_link);
                (spec, stamp.is_settled().then_some(stamp), is_link)
            }
            // What cannot be looked at is tried again each time, as links are.
            Err(error) => (Some(Err(FileError::Unreadable(error))), None, true),
        };
        let come = spec.map(|spec| self.file(path, spec));
        let gone = match &come {
            Some(file) => self.files.insert(name.to_owned(), Seen { file: Arc::clone(file), stamp }),
            None => self.files.remove(name),
        };
        if is_link && come.is_some() {
            self.links.insert(name.to_owned());
        } else {
            self.links.remove(name);
        }
        look.gone.extend(gone.map(|seen| seen.file));
        look.come.extend(come);
    }

    fn file(
        &self,
        path: Utf8PathBuf,
        spec: std::result::Result<crate::cdi::Spec, FileError>,
    ) -> Arc<SpecFile> {
        Arc::new(SpecFile { path, priority: self.priority, spec })
    }

    /// There is no such directory, which is no error.
    fn forget(&mut self, watch: Option<&mut Watch>) {
        if let Some(watch) = watch {
            watch.forget(self.priority);
        }
        self.stamp = None;
        self.watched = false;
        self.error = None;
    }

    fn clear(&mut self, look: &mut Look) {
        self.links.clear();
        look.gone.extend(std::mem::take(&mut self.files).into_values().map(|seen| seen.file));
    }
}

/// What a name leads to, its stamp, and whether it is a link; a dangling one has the link's own.
fn stamped(
    root: &Root,
    directory: &Directory,
    path: &Utf8Path,
    name: &str,
) -> Result<Option<(Kind, Stamp, bool)>> {
    let Some((entry, own)) = directory.stamp(name)? else { return Ok(None) };
    if entry.kind != Kind::Symlink {
        return Ok(Some((entry.kind, own, false)));
    }
    match root.stamp(path)? {
        // What lies behind a link is never skipped: a directory there is a bad file.
        Some((_, target)) => Ok(Some((Kind::File, target, true))),
        None => Ok(Some((Kind::Symlink, own, true))),
    }
}

/// A file's spec; `None` if it has gone in the meantime.
fn load(
    root: &Root,
    directory: &Directory,
    path: &Utf8Path,
    name: &str,
    kind: Kind,
    is_link: bool,
) -> Option<std::result::Result<crate::cdi::Spec, FileError>> {
    let limit = MAX_BYTES as u64;
    let bytes = match (kind, is_link) {
        (Kind::Symlink, _) => return Some(Err(FileError::Dangling)),
        (_, true) => root.read(path, limit),
        (Kind::File, false) => directory.read(name, limit),
        (other, false) => {
            let error =
                Error::WrongKind { path: root.outside(path), kind: other.word(), wanted: Kind::File.word() };
            return Some(Err(FileError::Unreadable(error)));
        }
    };
    match bytes {
        Ok(bytes) => bytes.map(|bytes| read(&bytes).map_err(FileError::Invalid)),
        Err(error) => Some(Err(FileError::Unreadable(error))),
    }
}
