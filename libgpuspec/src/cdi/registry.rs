//! The specs of a machine: directories in order of precedence, and which device comes from which file.
//!
//! Rules (those of the Go library, but for the last two):
//! - Files are `*.json` and `*.yaml`, hidden ones too, directly in the directory, links followed.
//! - A later directory wins, device by device. Two files of one directory that define the same
//!   device conflict: nobody gets it, not even from a later directory.
//! - A bad file costs only its own devices, a bad directory only its own files.
//! - A directory or file is bad, too, that a user other than root and the caller can write to.
//!
//! The registry is as fresh as the files at every call: the kernel's queue of changes is polled
//! (inotify(7)), what it cannot see (links, replaced directories) is looked at, and only what
//! changed is read again. There is no thread and no state of the process; share it by reference.

mod directory;
mod index;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use camino::Utf8PathBuf;

use super::problem::Violation;
use super::spec::{ContainerEdits, Device, Spec};
use crate::root::{Exposure, Owners, Watch};
use crate::{Error, Root, line};
use directory::SpecDirectory;
use index::Index;

/// Where specs are looked for when nobody says otherwise: static ones, and those of this boot.
pub const DEFAULT_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// One file of a spec directory.
#[derive(Debug)]
pub struct SpecFile {
    /// Its path inside the root.
    pub path: Utf8PathBuf,
    /// The place of its directory in the list of them; higher wins.
    pub priority: usize,
    /// What it says, or why nobody can tell.
    pub spec: Result<Spec, FileError>,
}

/// Why a file gives no devices.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read")]
    Unreadable(#[source] Error),
    /// A user who is not trusted can change it, or something on the way to it.
    #[error("not read, since {0} {1}; only root and the user who reads it may own and write it")]
    Exposed(Utf8PathBuf, Exposure),
    /// It is a link that leads nowhere.
    #[error("a link that leads nowhere")]
    Dangling,
    /// It is no valid spec.
    #[error("{}", each(.0))]
    Invalid(Vec<Violation>),
}

/// Most violations that one error names; the list holds the others.
const MAX_NAMED: usize = 10;

fn each(violations: &[Violation]) -> String {
    let (first, more) = line::first(violations, MAX_NAMED);
    let mut texts: Vec<String> = first.iter().map(ToString::to_string).collect();
    if more > 0 {
        texts.push(format!("{more} more"));
    }
    texts.join("; ")
}

/// A spec directory that cannot be read.
#[derive(Debug, Clone)]
pub struct DirectoryError {
    /// The directory, inside the root.
    pub path: Utf8PathBuf,
    /// Why not.
    pub error: Arc<Error>,
}

/// A device that several files define.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contested {
    /// Its qualified name.
    pub device: String,
    /// The files, lowest precedence first.
    pub files: Vec<Utf8PathBuf>,
}

/// Everything that a registry holds at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The qualified names of all devices that resolve, sorted.
    pub devices: Vec<String>,
    /// All files, good and bad, lowest precedence first.
    pub files: Vec<Arc<SpecFile>>,
    /// Devices that nobody gets, since two files of one directory define them.
    pub conflicts: Vec<Contested>,
    /// Devices of which the last file's definition counts, and hides the others.
    pub shadowed: Vec<Contested>,
    /// Directories that could not be read; a missing one is no error.
    pub directory_errors: Vec<DirectoryError>,
}

impl Listing {
    /// The vendors of all valid files, sorted.
    pub fn vendors(&self) -> Vec<String> {
        self.kinds().map(|(vendor, _)| vendor.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The classes of all valid files, sorted.
    pub fn classes(&self) -> Vec<String> {
        self.kinds().map(|(_, class)| class.to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn kinds(&self) -> impl Iterator<Item = (&str, &str)> {
        let specs = self.files.iter().filter_map(|file| file.spec.as_ref().ok());
        specs.map(|spec| super::name::split_kind(&spec.kind))
    }
}

/// Where a device comes from.
#[derive(Debug, Clone)]
pub struct Found {
    /// The file that defines it.
    pub file: Arc<SpecFile>,
    index: usize,
}

impl Found {
    /// The spec that defines it.
    pub fn spec(&self) -> Option<&Spec> {
        self.file.spec.as_ref().ok()
    }

    /// The device itself.
    pub fn device(&self) -> Option<&Device> {
        self.spec()?.devices.get(self.index)
    }
}

/// Why a device does not resolve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The text is no qualified name.
    #[error(transparent)]
    Name(#[from] super::NameError),
    /// No valid file defines it.
    #[error("{device}: no spec defines it{hint}")]
    Unknown {
        /// The name asked for.
        device: String,
        /// What may be the reason; may be empty.
        hint: String,
    },
    /// Several files of one directory do.
    #[error("{}: conflicting definitions in {}; remove all but one", .0.device, joined(&.0.files))]
    Conflict(Contested),
}

fn joined(files: &[Utf8PathBuf]) -> String {
    files.iter().map(|file| file.as_str()).collect::<Vec<_>>().join(" and ")
}

/// The specs of some directories, kept fresh.
///
/// ```
/// use camino::Utf8Path;
/// use libgpuspec::{Root, cdi::Registry};
///
/// let directory = tempfile::tempdir()?;
/// let spec = "cdiVersion: 0.5.0\nkind: example.com/gpu\n\
///             devices: [{name: all, containerEdits: {env: [GPU=all]}}]\n";
/// std::fs::write(directory.path().join("gpu.yaml"), spec)?;
///
/// let root = Root::open(Utf8Path::from_path(directory.path()).unwrap())?;
/// let registry = Registry::new(root, &["/".into()]);
/// assert_eq!(registry.listing().devices, ["example.com/gpu=all"]);
/// let edits = registry.resolve(&["example.com/gpu=all"]).unwrap();
/// assert_eq!(edits.env, ["GPU=all"]);
/// assert!(registry.resolve(&["example.com/gpu=1"]).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry {
    root: Root,
    owners: Owners,
    state: Mutex<State>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("root", &self.root).finish_non_exhaustive()
    }
}

struct State {
    directories: Vec<SpecDirectory>,
    index: Index,
    /// None where the system has no queue to give: then everything is looked at each time.
    watch: Option<Watch>,
}

impl Registry {
    /// A registry of these directories of `root`, lowest precedence first; none means the default ones.
    ///
    /// Nothing is read before the first question.
    pub fn new(root: Root, directories: &[Utf8PathBuf]) -> Registry {
        Registry::watched(root, directories, Watch::new().ok())
    }

    /// The same for a program that asks once and ends: every question looks at every file.
    ///
    /// The kernel takes some 10 ms to give up a queue of changes.
    pub fn unwatched(root: Root, directories: &[Utf8PathBuf]) -> Registry {
        Registry::watched(root, directories, None)
    }

    fn watched(root: Root, directories: &[Utf8PathBuf], watch: Option<Watch>) -> Registry {
        let defaults = DEFAULT_DIRECTORIES.map(Utf8PathBuf::from);
        let paths = if directories.is_empty() { &defaults } else { directories };
        let directories = paths.iter().enumerate().map(|(priority, path)| SpecDirectory::new(path, priority));
        let state = State { directories: directories.collect(), index: Index::default(), watch };
        Registry { root, owners: Owners::caller(), state: Mutex::new(state) }
    }

    /// The directories, lowest precedence first.
    pub fn directories(&self) -> Vec<Utf8PathBuf> {
        self.locked().directories.iter().map(|directory| directory.path().to_owned()).collect()
    }

    /// Everything in it.
    pub fn listing(&self) -> Listing {
        let state = self.fresh();
        let mut listing = state.index.listing();
        for directory in &state.directories {
            listing.files.extend(directory.files().cloned());
            listing.directory_errors.extend(directory.error());
        }
        listing
    }

    /// Where the device of this qualified name comes from.
    pub fn find(&self, device: &str) -> Result<Found, Unresolved> {
        find(&self.fresh(), device)
    }

    /// Where some device of this kind comes from.
    pub fn of_kind(&self, kind: &str) -> Option<Found> {
        let state = self.fresh();
        let devices = state.index.listing().devices;
        let device = devices.iter().find(|device| device.split('=').next() == Some(kind))?;
        find(&state, device).ok()
    }

    /// All that these devices need, in the order of the names; a name given twice counts twice.
    ///
    /// The edits that a spec makes for all its devices come before those of its first device here.
    pub fn resolve<S: AsRef<str>>(&self, devices: &[S]) -> Result<ContainerEdits, Vec<Unresolved>> {
        self.resolve_with(devices, |_, edits| edits.clone())
    }

    /// The same, each spec's edits as `change` leaves them.
    pub fn resolve_with<S: AsRef<str>>(
        &self,
        devices: &[S],
        mut change: impl FnMut(&Spec, &ContainerEdits) -> ContainerEdits,
    ) -> Result<ContainerEdits, Vec<Unresolved>> {
        let found = {
            let state = self.fresh();
            devices.iter().map(|device| find(&state, device.as_ref())).collect::<Vec<_>>()
        };
        let (mut edits, mut met, mut unresolved) = (ContainerEdits::default(), Vec::new(), Vec::new());
        for found in found {
            match found {
                Err(reason) => unresolved.push(reason),
                Ok(found) => append(&mut edits, &found, &mut met, &mut change),
            }
        }
        if unresolved.is_empty() { Ok(edits) } else { Err(unresolved) }
    }

    /// Looks at every file again, changed or not; only where file systems hide changes is it needed.
    pub fn refresh(&self) {
        let mut state = self.locked();
        let directories = state.directories.iter().map(|it| SpecDirectory::new(it.path(), it.priority()));
        state.directories = directories.collect();
        state.index = Index::default();
        drop(state);
        drop(self.fresh());
    }

    /// The state, having caught up with the files.
    fn fresh(&self) -> MutexGuard<'_, State> {
        let mut guard = self.locked();
        guard.catch_up(&self.root, &self.owners);
        guard
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // A panic in another thread leaves at worst an old state, which the next look corrects.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn catch_up(&mut self, root: &Root, owners: &Owners) {
        let changes = self.watch.as_ref().map(Watch::changes);
        for directory in &mut self.directories {
            let look = directory.look(root, owners, changes.as_ref(), self.watch.as_mut());
            for file in look.gone {
                self.index.remove(&file);
            }
            for file in look.come {
                self.index.insert(&file);
            }
        }
    }
}

fn find(state: &State, device: &str) -> Result<Found, Unresolved> {
    let name: super::QualifiedName = device.parse()?;
    if let Some(found) = state.index.find(device)? {
        return Ok(found);
    }
    Err(Unresolved::Unknown { device: device.to_owned(), hint: hint(state, &name) })
}

/// Why a device might be unknown: the place to look next.
fn hint(state: &State, name: &super::QualifiedName) -> String {
    let files = || state.directories.iter().flat_map(SpecDirectory::files);
    let of_kind = |file: &&Arc<SpecFile>| file.spec.as_ref().is_ok_and(|spec| spec.kind == name.kind());
    let of_directories =
        state.directories.iter().filter_map(SpecDirectory::error).map(|it| it.error.to_string());
    let bad: Vec<String> = of_directories.chain(files().filter_map(|file| bad(file))).collect();
    let known: Vec<&str> = files()
        .filter(of_kind)
        .flat_map(|file| file.spec.iter().flat_map(|spec| &spec.devices))
        .map(|device| device.name.as_str())
        .take(20)
        .collect();
    if !known.is_empty() {
        format!("; {} has {}", name.kind(), known.join(", "))
    } else if !bad.is_empty() {
        let (first, more) = line::first(&bad, MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("; not valid, and so without devices: {}{more}", first.join(", "))
    } else {
        let paths: Vec<&str> = state.directories.iter().map(|it| it.path().as_str()).collect();
        format!("; no spec for {} lies in {}", name.kind(), paths.join(", "))
    }
}

/// A file that gives no devices, with the reason where its text does not tell it.
fn bad(file: &SpecFile) -> Option<String> {
    match &file.spec {
        Ok(_) => None,
        Err(error @ FileError::Exposed(..)) => Some(format!("{}: {error}", file.path)),
        Err(FileError::Unreadable(_) | FileError::Dangling | FileError::Invalid(_)) => {
            Some(file.path.to_string())
        }
    }
}

fn append(
    edits: &mut ContainerEdits,
    found: &Found,
    met: &mut Vec<Arc<SpecFile>>,
    change: &mut impl FnMut(&Spec, &ContainerEdits) -> ContainerEdits,
) {
    let (Some(spec), Some(device)) = (found.spec(), found.device()) else { return };
    if !met.iter().any(|file| Arc::ptr_eq(file, &found.file)) {
        met.push(Arc::clone(&found.file));
        edits.append(&change(spec, &spec.container_edits));
    }
    edits.append(&change(spec, &device.container_edits));
}

/// Whether a directory entry of this name is a spec: the extension decides, exactly.
pub(crate) fn is_spec_name(name: &str) -> bool {
    name.ends_with(".json") || name.ends_with(".yaml")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod owners_tests;
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests;
