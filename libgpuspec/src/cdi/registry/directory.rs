//! One spec directory: its files as they were last seen, and what is different now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

use super::{DirectoryError, FileError, SpecFile, is_spec_name};
use crate::cdi::read::{MAX_BYTES, read};
use crate::root::{Changes, Directory, Entry, Kind, Owners, Stamp, Watch};
use crate::{Error, Result, Root};

/// Most bytes of all specs of one directory; ten thousand small ones, or the largest seen a hundred times.
const MAX_TOTAL: u64 = if cfg!(test) { 1 << 20 } else { 32 << 20 };

pub(super) struct SpecDirectory {
    path: Utf8PathBuf,
    priority: usize,
    /// The directory that the path leads to, once it was there.
    stamp: Option<Stamp>,
    watched: bool,
    files: BTreeMap<String, Seen>,
    /// The sizes of the files that are read, in bytes.
    total: u64,
    /// Those of them that lie elsewhere, or have another name there: no watch on this directory tells of their changes.
    links: BTreeSet<String>,
    error: Option<Arc<Error>>,
}

/// A file as it was when it was last read.
struct Seen {
    file: Arc<SpecFile>,
    /// None while a change could leave it the same: then the file is read again at the next look.
    stamp: Option<Stamp>,
    /// What it adds to the directory's total.
    size: u64,
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
            total: 0,
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
    pub(super) fn look(
        &mut self,
        root: &Root,
        owners: &Owners,
        changes: Option<&Changes>,
        watch: Option<&mut Watch>,
    ) -> Look {
        let mut look = Look::default();
        if changes.is_some_and(|it| it.anything || it.directories.contains(&self.priority)) {
            // It may be gone, and its watch with it; a new one may even have its inode number.
            self.watched = false;
        }
        let result = self.catch_up(root, owners, changes, watch, &mut look);
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
        owners: &Owners,
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
        if matches!(suspects, Suspects::All) {
            self.check_owners(root, owners)?;
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
        for name in names {
            self.look_at(root, owners, &directory, &name, look);
        }
        Ok(())
    }

    /// Refuses a directory in which a user who is not trusted can put a spec.
    fn check_owners(&self, root: &Root, owners: &Owners) -> Result<()> {
        let Some((part, exposure)) = root.exposed(&self.path, owners)? else { return Ok(()) };
        let reason = FileError::Exposed(part, exposure).to_string();
        Err(Error::Format { path: root.outside(&self.path), reason })
    }

    /// What the watch tells of, and the links, of whose targets it tells nothing.
    fn suspects(&self, changes: Option<&Changes>) -> Suspects {
        let Some(changes) = changes else { return Suspects::All };
        let told = changes.names.iter().filter(|(number, _)| *number == self.priority).map(|(_, name)| name);
        let names = told.filter(|name| is_spec_name(name)).chain(&self.links).cloned().collect();
        Suspects::These(names)
    }

    /// The names that are there, and those that were; one that is no UTF-8 is an error of the directory.
    fn all_names(&mut self, root: &Root) -> Result<BTreeSet<String>> {
        let listed = root.list_where(&self.path, |name| is_spec_name(&name.to_string_lossy()))?;
        let mut names: BTreeSet<String> = self.files.keys().cloned().collect();
        self.error = None;
        for (name, kind) in listed.unwrap_or_default() {
            match name.into_string() {
                Ok(name) => drop(names.insert(name)),
                Err(name) if kind != Kind::Directory => {
                    let reason = format!("{name:?} in it is not read, the name being no UTF-8; rename it");
                    self.error = Some(Arc::new(Error::Format { path: root.outside(&self.path), reason }));
                }
                Err(_) => {}
            }
        }
        Ok(names)
    }

    fn look_at(&mut self, root: &Root, owners: &Owners, directory: &Directory, name: &str, look: &mut Look) {
        let path = self.path.join(name);
        let before = self.files.get(name);
        let others = self.total - before.map_or(0, |seen| seen.size);
        let mut size = 0;
        let (spec, stamp, is_elsewhere) = match stamped(root, directory, &path, name) {
            // A directory is no spec, whatever its name; all else that is no file is a bad one.
            Ok(Some((Kind::Directory, ..)) | None) => (None, None, false),
            Ok(Some((_, stamp, ..))) if before.is_some_and(|seen| seen.stamp == Some(stamp)) => return,
            Ok(Some((kind, stamp, is_link, entry))) => {
                let refused = refused(root, owners, &path, is_link, &entry);
                let spec = if let Some(reason) = refused {
                    Some(Err(reason))
                } else if others.saturating_add(entry.size) > MAX_TOTAL {
                    Some(Err(self.too_large(root)))
                } else {
                    size = entry.size;
                    load(root, directory, &path, name, kind, is_link)
                };
                (spec, stamp.is_settled().then_some(stamp), is_link || stamp.has_other_names())
            }
            // What cannot be looked at is tried again each time, as links are.
            Err(error) => (Some(Err(FileError::Unreadable(error))), None, true),
        };
        let come = spec.map(|spec| self.file(path, spec));
        let gone = match &come {
            Some(file) => self.files.insert(name.to_owned(), Seen { file: Arc::clone(file), stamp, size }),
            None => self.files.remove(name),
        };
        self.total -= gone.as_ref().map_or(0, |seen| seen.size);
        self.total += if come.is_some() { size } else { 0 };
        if is_elsewhere && come.is_some() {
            self.links.insert(name.to_owned());
        } else {
            self.links.remove(name);
        }
        look.gone.extend(gone.map(|seen| seen.file));
        look.come.extend(come);
    }

    fn too_large(&self, root: &Root) -> FileError {
        FileError::Unreadable(Error::TooLarge { path: root.outside(&self.path), limit: MAX_TOTAL })
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
        self.total = 0;
        look.gone.extend(std::mem::take(&mut self.files).into_values().map(|seen| seen.file));
    }
}

/// What a name leads to, its stamp, whether it is a link, and its status; a dangling one has the link's own.
fn stamped(
    root: &Root,
    directory: &Directory,
    path: &Utf8Path,
    name: &str,
) -> Result<Option<(Kind, Stamp, bool, Entry)>> {
    let Some((entry, own)) = directory.stamp(name)? else { return Ok(None) };
    if entry.kind != Kind::Symlink {
        return Ok(Some((entry.kind, own, false, entry)));
    }
    match root.stamp(path)? {
        // What lies behind a link is never skipped: a directory there is a bad file.
        Some((found, target)) => Ok(Some((Kind::File, target, true, found))),
        None => Ok(Some((Kind::Symlink, own, true, entry))),
    }
}

/// Why a spec is not to be read: a user who is not trusted can change it.
fn refused(root: &Root, owners: &Owners, path: &Utf8Path, is_link: bool, entry: &Entry) -> Option<FileError> {
    if !is_link {
        return owners.exposure(entry).map(|exposure| FileError::Exposed(path.to_owned(), exposure));
    }
    match root.exposed(path, owners) {
        Ok(exposed) => exposed.map(|(part, exposure)| FileError::Exposed(part, exposure)),
        Err(error) => Some(FileError::Unreadable(error)),
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::cdi::Registry;

    const SPEC: &str =
        "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{name: x, containerEdits: {env: [A=B]}}]\n";

    fn root(path: &std::path::Path) -> Root {
        Root::open(Utf8Path::from_path(path).unwrap()).unwrap()
    }

    #[test]
    fn a_name_that_is_no_utf_8_is_told_while_it_is_there() {
        let tree = tempfile::tempdir().unwrap();
        let odd = tree.path().join(OsStr::from_bytes(b"\xff.yaml"));
        fs::write(tree.path().join("x.yaml"), SPEC).unwrap();
        fs::write(tree.path().join(OsStr::from_bytes(b"\xff.txt")), "").unwrap();
        for registry in [Registry::new, Registry::unwatched] {
            let registry = registry(root(tree.path()), &["/".into()]);
            let told =
                || registry.listing().directory_errors.into_iter().next().map(|it| it.error.to_string());
            assert_eq!(told(), None);
            fs::write(&odd, SPEC).unwrap();
            assert!(told().is_some_and(|it| it.contains("\\xFF.yaml")), "{:?}", told());
            fs::write(tree.path().join("y.yaml"), "").unwrap();
            assert!(told().is_some(), "another change does not hide it");
            assert_eq!(registry.listing().devices, ["v.com/c=x"]);
            fs::remove_file(&odd).unwrap();
            assert_eq!(told(), None);
        }
    }

    #[test]
    fn files_that_are_no_specs_do_not_count_and_too_many_are_an_error() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("x.yaml"), SPEC).unwrap();
        for index in 0..1_001 {
            fs::write(tree.path().join(index.to_string()), "").unwrap();
        }
        let registry = Registry::unwatched(root(tree.path()), &["/".into()]);
        assert_eq!(registry.listing().devices, ["v.com/c=x"]);
        assert!(registry.listing().directory_errors.is_empty());
        let refused = root(tree.path()).list("/".into()).unwrap_err().to_string();
        assert!(refused.contains("more than 1000 entries"), "{refused}");
    }
}
