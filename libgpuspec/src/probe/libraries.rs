//! The driver's shared objects: which files they are, by name, version, and directory.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::directories::{LibraryDirectory, loader_directory};
use crate::Notice;
use crate::elf::{self, Object};
use crate::error::{Error, Result};
use crate::inventory::{Library, Reason};
use crate::ldcache::Abi;
use crate::root::Root;
use crate::vendor::{LibraryRule, Place, Vendor, stem, suffix};

/// Most paths with a driver's names that are looked at; a driver of two ABIs has 400.
const MAX_PATHS: usize = 10_000;
/// Most ELF files that are read; a driver of two ABIs has 150.
const MAX_OBJECTS: usize = 1_000;

/// A loader of this ABI asks for this soname: what the libraries of a driver are told apart by.
pub(super) type Key = (Abi, String);

/// The libraries found so far, and what is needed to find more.
#[derive(Debug)]
pub(super) struct Libraries<'a> {
    pub(super) root: &'a Root,
    pub(super) vendor: &'a Vendor,
    pub(super) version: &'a str,
    pub(super) found: BTreeMap<Key, Library>,
    /// Files with the name of a driver's library that could not be used.
    pub(super) faults: Vec<(String, Error)>,
    pub(super) notices: Vec<Notice>,
    directories: &'a [LibraryDirectory],
    /// One file, whatever its names: the key it was found under.
    files: BTreeMap<(u64, u64), Key>,
    /// The loader's directory of each ABI.
    loader_directories: BTreeMap<Abi, Utf8PathBuf>,
    /// Every name by which a library that was found is opened.
    known: BTreeSet<String>,
    /// Paths that were looked at.
    paths: usize,
}

impl<'a> Libraries<'a> {
    /// What the table names, what carries the version, what lies among the driver's own.
    pub(super) fn recognised(
        root: &'a Root,
        vendor: &'a Vendor,
        directories: &'a [LibraryDirectory],
        version: &'a str,
    ) -> Libraries<'a> {
        let mut libraries = Libraries {
            root,
            vendor,
            version,
            found: BTreeMap::new(),
            faults: Vec::new(),
            notices: Vec::new(),
            directories,
            files: BTreeMap::new(),
            loader_directories: BTreeMap::new(),
            known: BTreeSet::new(),
            paths: 0,
        };
        for directory in directories {
            if libraries.is_another_drivers_directory(directory) {
                continue;
            }
            for name in &directory.names {
                if let Some(reason) = libraries.recognise(directory, name) {
                    libraries.take(&directory.path.join(name), reason);
                }
            }
        }
        libraries
    }

    /// The directories that hold libraries of the driver.
    pub(super) fn directories(&self) -> Vec<Utf8PathBuf> {
        let parents: BTreeSet<_> = self.found.values().filter_map(|library| library.path.parent()).collect();
        parents.into_iter().map(Utf8Path::to_owned).collect()
    }

    /// The directory in which a loader of this driver's first ABI looks.
    pub(super) fn loader_directory(&self) -> Utf8PathBuf {
        self.found.values().next().map_or_else(|| "/usr/lib".into(), |library| library.directory.clone())
    }

    /// Takes the library that a manifest names by an absolute path; its real path, if it is the driver's.
    pub(super) fn take_from_manifest(&mut self, path: &Utf8Path) -> Option<Utf8PathBuf> {
        if self.is_drivers(path) {
            self.take(path, Reason::Manifest);
        }
        let entry = self.root.target(path).ok().flatten()?;
        let key = self.files.get(&entry.identity)?;
        self.found.get(key).map(|library| library.path.clone())
    }

    /// Whether a path means one of the driver's libraries, and not whatever a manifest may name.
    fn is_drivers(&self, path: &Utf8Path) -> bool {
        let private = |directory: &LibraryDirectory| {
            directory.private && Some(directory.path.as_path()) == path.parent()
        };
        path.file_name().is_some_and(|name| self.is_drivers_name(name))
            || self.directories.iter().any(private)
    }

    /// Takes each usable file of this name, in the order of the directories; whether there is one.
    pub(super) fn take_named(&mut self, name: &str, reason: Reason) -> bool {
        for directory in self.directories {
            if directory.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok() {
                self.take(&directory.path.join(name), reason);
            }
        }
        self.has_name(name)
    }

    pub(super) fn is_drivers_name(&self, name: &str) -> bool {
        self.vendor.is_drivers_name(name) || suffix(name) == Some(self.version)
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// An error where more lies in the root than a driver has: what is left out could be the driver.
    pub(super) fn check_limits(&self) -> Result<()> {
        let reason = if self.paths > MAX_PATHS {
            format!("more than {MAX_PATHS} files with names of {}'s libraries", self.vendor.name)
        } else if self.objects() > MAX_OBJECTS {
            format!("more than {MAX_OBJECTS} libraries with names of {}'s", self.vendor.name)
        } else {
            return Ok(());
        };
        Err(Error::Format {
            path: self.root.path().to_owned(),
            reason: format!("{reason}, which no driver has"),
        })
    }

    fn objects(&self) -> usize {
        self.files.len() + self.faults.len()
    }

    fn recognise(&self, directory: &LibraryDirectory, name: &str) -> Option<Reason> {
        let rule = self.vendor.library_rule(name);
        if self.is_another_drivers(name, rule) {
            return None;
        }
        if rule.is_some() {
            return Some(Reason::Known);
        }
        if suffix(name) == Some(self.version) {
            return Some(Reason::Version);
        }
        directory.private.then_some(Reason::Directory)
    }

    /// Whether a name carries another driver's version. The settings program's own libraries are
    /// packaged apart from the driver and count their versions for themselves.
    fn is_another_drivers(&self, name: &str, rule: Option<&LibraryRule>) -> bool {
        let other =
            suffix(name).is_some_and(|suffix| (self.vendor.is_version)(suffix) && suffix != self.version);
        other && !rule.is_some_and(|rule| rule.place == Place::HostTool)
    }

    /// Whether a directory holds one driver alone, and not this one: its unversioned names are not ours.
    fn is_another_drivers_directory(&self, directory: &LibraryDirectory) -> bool {
        let mut anchors = directory.names.iter().filter(|name| {
            let versioned = suffix(name).is_some_and(|suffix| (self.vendor.is_version)(suffix));
            versioned && stem(name).is_some_and(|stem| self.vendor.anchors.contains(&stem))
        });
        directory.private && anchors.all(|name| self.is_another_drivers(name, None))
    }

    /// Takes the file at `path`, unless it is another driver's or stands behind one already taken.
    fn take(&mut self, path: &Utf8Path, reason: Reason) {
        self.paths += 1;
        if self.paths > MAX_PATHS || self.objects() > MAX_OBJECTS {
            return;
        }
        match self.inspect(path, reason) {
            Ok(Some((key, library))) => match self.found.get(&key) {
                None => {
                    self.known.extend(library.names.iter().cloned());
                    self.known.insert(library.soname.clone());
                    self.found.insert(key, library);
                }
                Some(first) if first.path != library.path => self.notices.push(Notice(format!(
                    "{}: left out, since {} with the same soname is found before it",
                    self.root.outside(&library.path),
                    self.root.outside(&first.path)
                ))),
                Some(_) => {}
            },
            Ok(None) => {}
            Err(error) => self.faults.push((path.file_name().unwrap_or_default().to_owned(), error)),
        }
    }

    fn inspect(&mut self, path: &Utf8Path, reason: Reason) -> Result<Option<(Key, Library)>> {
        let Some(file) = self.root.find(path)? else { return Ok(None) };
        let name = path.file_name().unwrap_or_default();
        if let Some(key) = self.files.get(&file.entry.identity) {
            if let Some(library) = self.found.get_mut(key) {
                let other = other_name(library, name);
                self.known.extend(other.clone());
                library.names.extend(other);
            }
            return Ok(None);
        }
        let real = file.real_path()?;
        let real_name = real.file_name().unwrap_or(name);
        if self.is_another_drivers(real_name, self.vendor.library_rule(real_name)) {
            return Ok(None);
        }
        let opened = file.open()?;
        if opened.size == 0 {
            // Engines leave empty files behind where they mounted one over a directory root.
            return Ok(None);
        }
        let fault = |reason: String| Error::Format { path: self.root.outside(&real), reason };
        let object = elf::inspect(&opened).map_err(|error| fault(error.to_string()))?;
        let Some(abi) = Abi::from_elf(object.class.ident(), object.machine) else {
            return Err(fault(format!(
                "a library for the machine {}, which is not known here",
                object.machine
            )));
        };
        let mut library = self.describe(&real, abi, object, opened.size, reason);
        library.names = [name, real_name].into_iter().filter_map(|name| other_name(&library, name)).collect();
        let key = (abi, library.soname.clone());
        self.files.insert(file.entry.identity, key.clone());
        Ok(Some((key, library)))
    }

    fn describe(&mut self, real: &Utf8Path, abi: Abi, object: Object, size: u64, reason: Reason) -> Library {
        let glibc_floor = object.glibc_floor();
        let soname = object.soname.filter(|soname| is_plain(soname));
        let soname = soname.unwrap_or_else(|| real.file_name().unwrap_or_default().to_owned());
        let rule = self.vendor.library_rule(&soname);
        Library {
            path: real.to_owned(),
            names: BTreeSet::new(),
            abi,
            directory: self.loader_directory_of(abi, real),
            size,
            build_id: object.build_id,
            glibc_floor,
            needed: object.needed,
            runpath: object.runpath,
            capabilities: rule.map(|rule| rule.serves.iter().copied().collect()).unwrap_or_default(),
            host_tool: rule.is_some_and(LibraryRule::is_host_tool),
            reason,
            soname,
        }
    }

    fn loader_directory_of(&mut self, abi: Abi, library: &Utf8Path) -> Utf8PathBuf {
        let root = self.root;
        self.loader_directories.entry(abi).or_insert_with(|| loader_directory(root, abi, library)).clone()
    }
}

/// A name under which the library is opened too: another suffix, not another stem.
fn other_name(library: &Library, name: &str) -> Option<String> {
    let other = name != library.soname && stem(name) == stem(&library.soname) && is_plain(name);
    other.then(|| name.to_owned())
}

/// Whether a name can stand in a path and in the hook's arguments.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', ':', ',', '\n'])
}
