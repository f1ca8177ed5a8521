//! The driver's shared objects: which files they are, by name, version, directory, and need.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::directories::Directory;
use crate::Notice;
use crate::elf::{self, Object};
use crate::error::{Error, Result};
use crate::inventory::{Capability, Library, Reason};
use crate::ldcache::Abi;
use crate::policy::Depth;
use crate::root::{Kind, Root};
use crate::vendor::{LibraryRule, Place, Vendor, stem, suffix};

/// A loader of this ABI asks for this soname: what the libraries of a driver are told apart by.
type Key = (Abi, String);

/// The libraries found so far, and what is needed to find more.
#[derive(Debug)]
pub(super) struct Libraries<'a> {
    root: &'a Root,
    vendor: &'a Vendor,
    directories: &'a [Directory],
    version: &'a str,
    found: BTreeMap<Key, Library>,
    /// One file, whatever its names: the key it was found under.
    files: BTreeMap<(u64, u64), Key>,
    /// Files with the name of a driver's library that could not be used.
    faults: Vec<(String, Error)>,
    /// The loader's directory of each ABI.
    loader_directories: BTreeMap<Abi, Utf8PathBuf>,
}

/// All libraries of the driver of this version below `root`.
///
/// # Errors
///
/// A damaged or unreadable file that no sound one of the same library stands in for.
pub(super) fn find<'a>(
    root: &'a Root,
    vendor: &'a Vendor,
    directories: &'a [Directory],
    version: &'a str,
    depth: Depth,
    notices: &mut Vec<Notice>,
) -> Result<Libraries<'a>> {
    let mut libraries = Libraries {
        root,
        vendor,
        directories,
        version,
        found: BTreeMap::new(),
        files: BTreeMap::new(),
        faults: Vec::new(),
        loader_directories: BTreeMap::new(),
    };
    libraries.take_recognised(notices);
    libraries.take_needed(notices);
    if depth == Depth::Deep {
        libraries.take_mentioned(notices);
    }
    libraries.settle_faults(notices)?;
    libraries.require_anchor()?;
    libraries.spread_capabilities();
    Ok(libraries)
}

impl<'a> Libraries<'a> {
    /// The libraries, by ABI and soname.
    pub(super) fn into_list(self) -> Vec<Library> {
        self.found.into_values().collect()
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

    /// Takes a library that a manifest names, by a path or by its soname.
    pub(super) fn take_from_manifest(&mut self, library_path: &Utf8Path, notices: &mut Vec<Notice>) -> bool {
        if library_path.is_absolute() {
            self.take(library_path, Reason::Manifest, notices);
            return self.is_known_file(library_path);
        }
        self.take_named(library_path.as_str(), Reason::Manifest, notices)
    }

    fn is_known_file(&self, path: &Utf8Path) -> bool {
        let entry = self.root.target(path).ok().flatten();
        entry.is_some_and(|entry| self.files.contains_key(&entry.identity))
    }

    /// What the table names, what carries the version, what lies among the driver's own.
    fn take_recognised(&mut self, notices: &mut Vec<Notice>) {
        for directory in self.directories {
            for name in &directory.names {
                if let Some(reason) = self.recognise(directory, name) {
                    self.take(&directory.path.join(name), reason, notices);
                }
            }
        }
    }

    fn recognise(&self, directory: &Directory, name: &str) -> Option<Reason> {
        let rule = self.vendor.library_rule(name);
        // The host's own tools are packaged apart and count their versions for themselves.
        let host_tool = rule.is_some_and(is_host_tool);
        if self.is_another_drivers(name) && !host_tool || self.is_another_drivers_directory(directory) {
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

    fn is_another_drivers(&self, name: &str) -> bool {
        suffix(name).is_some_and(|suffix| (self.vendor.is_version)(suffix) && suffix != self.version)
    }

    /// Whether a directory holds one driver alone, and not this one: its unversioned names are not ours.
    fn is_another_drivers_directory(&self, directory: &Directory) -> bool {
        let mut anchors = directory.names.iter().filter(|name| {
            let versioned = suffix(name).is_some_and(|suffix| (self.vendor.is_version)(suffix));
            versioned && stem(name).is_some_and(|stem| self.vendor.anchors.contains(&stem))
        });
        directory.private && anchors.all(|name| self.is_another_drivers(name))
    }

    /// Closes over DT_NEEDED inside the driver: a library of the distribution is never taken.
    fn take_needed(&mut self, notices: &mut Vec<Notice>) {
        let mut asked = BTreeSet::new();
        loop {
            let needs = self.found.values().flat_map(|library| &library.needed);
            let missing: Vec<String> = needs
                .filter(|name| self.is_drivers_name(name) && !asked.contains(*name) && !self.has_soname(name))
                .cloned()
                .collect();
            if missing.is_empty() {
                return;
            }
            for name in missing {
                if asked.insert(name.clone()) && !self.take_named(&name, Reason::Needed, notices) {
                    notices
                        .push(Notice(format!("{name}: a library of the driver needs it, and it is nowhere")));
                }
            }
        }
    }

    /// The names in the libraries' text that are the driver's and on disk, though nothing else led there.
    fn take_mentioned(&mut self, notices: &mut Vec<Notice>) {
        let mut read = BTreeSet::new();
        loop {
            let new: Vec<Utf8PathBuf> = self
                .found
                .values()
                .map(|library| library.path.clone())
                .filter(|path| !read.contains(path))
                .collect();
            if new.is_empty() {
                return;
            }
            for path in new {
                for name in self.mentioned(&path, notices) {
                    if self.is_drivers_name(&name) && !self.has_name(&name) {
                        self.take_named(&name, Reason::Mentioned, notices);
                    }
                }
                read.insert(path);
            }
        }
    }

    fn mentioned(&self, path: &Utf8Path, notices: &mut Vec<Notice>) -> Vec<String> {
        let opened = self.root.open_file(path).ok().flatten();
        let names = opened.map(|opened| elf::mentioned_libraries(&opened)).unwrap_or_else(|| Ok(Vec::new()));
        names.unwrap_or_else(|fault| {
            notices.push(Notice(format!("{}: {fault}; not scanned", self.root.outside(path))));
            Vec::new()
        })
    }

    fn is_drivers_name(&self, name: &str) -> bool {
        self.vendor.has_prefix(name) || suffix(name) == Some(self.version)
    }

    fn has_soname(&self, name: &str) -> bool {
        self.found.keys().any(|(_, soname)| soname == name)
    }

    fn has_name(&self, name: &str) -> bool {
        self.has_soname(name) || self.found.values().any(|library| library.names.contains(name))
    }

    /// Takes the first usable file of this name, in the order of the directories.
    fn take_named(&mut self, name: &str, reason: Reason, notices: &mut Vec<Notice>) -> bool {
        for directory in self.directories {
            if directory.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok() {
                self.take(&directory.path.join(name), reason, notices);
            }
        }
        self.has_name(name)
    }

    /// Takes the file at `path`, unless it is another driver's or stands behind one already taken.
    fn take(&mut self, path: &Utf8Path, reason: Reason, notices: &mut Vec<Notice>) {
        match self.inspect(path, reason) {
            Ok(Some((key, library))) => match self.found.get(&key) {
                None => {
                    self.found.insert(key, library);
                }
                Some(first) if first.path != library.path => notices.push(Notice(format!(
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
            if let Some(library) = self.found.get_mut(key)
                && library.soname != name
                && stem(&library.soname) == stem(name)
            {
                library.names.insert(name.to_owned());
            }
            return Ok(None);
        }
        let real = file.real_path()?;
        let real_name = real.file_name().unwrap_or(name);
        let host_tool = self.vendor.library_rule(real_name).is_some_and(is_host_tool);
        if self.is_another_drivers(real_name) && !host_tool {
            return Ok(None);
        }
        let fault = |reason: String| Error::Format { path: self.root.outside(&real), reason };
        let opened = file.open()?;
        if opened.size == 0 {
            // Engines leave empty files behind where they mounted one over a directory root.
            return Ok(None);
        }
        let object = elf::inspect(&opened).map_err(|error| fault(error.to_string()))?;
        let Some(abi) = Abi::from_elf(object.class.ident(), object.machine) else {
            return Err(fault(format!(
                "a library for the machine {}, which is not known here",
                object.machine
            )));
        };
        let mut library = self.describe(&real, abi, object, opened.size, reason);
        let other = |name: &&str| *name != library.soname && stem(name) == stem(&library.soname);
        library.names =
            [name, real_name].iter().filter(|name| other(name)).map(|&name| name.to_owned()).collect();
        let key = (abi, library.soname.clone());
        self.files.insert(file.entry.identity, key.clone());
        Ok(Some((key, library)))
    }

    fn describe(&mut self, real: &Utf8Path, abi: Abi, object: Object, size: u64, reason: Reason) -> Library {
        let soname = object.soname.clone().filter(|soname| is_file_name(soname));
        let soname = soname.unwrap_or_else(|| real.file_name().unwrap_or_default().to_owned());
        let rule = self.vendor.library_rule(&soname);
        let floor =
            object.glibc_floor().map(|parts| parts.iter().map(u32::to_string).collect::<Vec<_>>().join("."));
        Library {
            path: real.to_owned(),
            names: BTreeSet::new(),
            abi,
            directory: self.loader_directory_of(abi, real),
            subdirectory: match rule.map(|rule| rule.place) {
                Some(Place::Below(directory) | Place::HostTool(directory)) => directory,
                Some(Place::Loader) | None => "",
            },
            size,
            build_id: object.build_id,
            glibc_floor: floor,
            needed: object.needed,
            runpath: object.runpath,
            capabilities: rule.map(|rule| rule.serves.iter().copied().collect()).unwrap_or_default(),
            links: rule.map(|rule| rule.links).unwrap_or_default(),
            also: rule.map(|rule| rule.also).unwrap_or_default(),
            host_tool: rule.is_some_and(is_host_tool),
            reason,
            soname,
        }
    }

    /// Where a loader of this ABI looks by default: where its libc is, else where its driver is.
    fn loader_directory_of(&mut self, abi: Abi, library: &Utf8Path) -> Utf8PathBuf {
        if let Some(known) = self.loader_directories.get(&abi) {
            return known.clone();
        }
        let candidates = loader_directories(abi);
        let holds_libc = |directory: &&&str| {
            let libc = Utf8Path::new(directory).join("libc.so.6");
            self.root.target(&libc).ok().flatten().is_some_and(|entry| entry.kind == Kind::File)
        };
        let by_libc = candidates.iter().find(holds_libc);
        let by_driver = || candidates.iter().find(|directory| library.starts_with(directory));
        let chosen = by_libc.or_else(by_driver).or(candidates.first()).copied().unwrap_or("/usr/lib");
        let chosen = self.real_directory(Utf8Path::new(chosen));
        self.loader_directories.insert(abi, chosen.clone());
        chosen
    }

    /// `/usr/lib64 -> lib` is one directory, and its real name is the one every image has.
    fn real_directory(&self, directory: &Utf8Path) -> Utf8PathBuf {
        self.root.resolve(directory).ok().flatten().unwrap_or_else(|| directory.to_owned())
    }

    /// A fault in a file of this very version is a damaged driver; in one with a driver's name it is
    /// odd, unless nothing sound has that name.
    fn settle_faults(&mut self, notices: &mut Vec<Notice>) -> Result<()> {
        for (name, error) in std::mem::take(&mut self.faults) {
            let rule = self.vendor.library_rule(&name).filter(|rule| !is_host_tool(rule));
            let stood_in = self.found.keys().any(|(_, soname)| stem(soname) == stem(&name));
            if suffix(&name) == Some(self.version) || rule.is_some() && !stood_in {
                return Err(error);
            }
            notices.push(error.into());
        }
        Ok(())
    }

    /// Without a sound anchor there is no driver, only its name.
    fn require_anchor(&self) -> Result<()> {
        let anchors = self.vendor.anchors;
        if self.found.keys().any(|(_, soname)| stem(soname).is_some_and(|stem| anchors.contains(&stem))) {
            return Ok(());
        }
        let looked_for =
            format!("a file with content among {} of version {}", anchors.join(" and "), self.version);
        Err(Error::NoDriver { vendor: self.vendor.name, root: self.root.path().to_owned(), looked_for })
    }

    /// A library serves what those serve that need it; one that nothing tells of serves everything.
    fn spread_capabilities(&mut self) {
        let mut changed = true;
        while changed {
            changed = false;
            let needs: Vec<(Key, BTreeSet<Capability>)> = self
                .found
                .iter()
                .filter(|(_, library)| !library.host_tool)
                .flat_map(|((abi, _), library)| {
                    library.needed.iter().map(|name| ((*abi, name.clone()), library.capabilities.clone()))
                })
                .collect();
            for (key, capabilities) in needs {
                if let Some(library) = self.found.get_mut(&key) {
                    let before = library.capabilities.len();
                    library.capabilities.extend(capabilities);
                    changed |= library.capabilities.len() > before;
                }
            }
        }
        for library in self.found.values_mut().filter(|library| library.capabilities.is_empty()) {
            library.capabilities.extend(Capability::ALL);
        }
    }
}

fn is_host_tool(rule: &LibraryRule) -> bool {
    matches!(rule.place, Place::HostTool(_))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', ':', '\n'])
}

/// Where the loaders of this ABI look by default, the most particular first.
fn loader_directories(abi: Abi) -> &'static [&'static str] {
    match abi {
        Abi::X86_64 => &["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"],
        Abi::Aarch64 => &["/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"],
        Abi::Ppc64 => &["/usr/lib/powerpc64le-linux-gnu", "/usr/lib64", "/usr/lib"],
        Abi::Riscv64 => &["/usr/lib/riscv64-linux-gnu", "/usr/lib64", "/usr/lib"],
        Abi::I386 => &["/usr/lib/i386-linux-gnu", "/usr/lib32", "/usr/lib"],
        Abi::Armhf => &["/usr/lib/arm-linux-gnueabihf", "/usr/lib"],
        Abi::X32 => &["/usr/lib/x86_64-linux-gnux32", "/usr/libx32"],
        Abi::Other(_) => &["/usr/lib"],
    }
}
