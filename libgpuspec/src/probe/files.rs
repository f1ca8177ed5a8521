//! The driver's files that are no libraries: programs, firmware, manifests, data.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::libraries::Libraries;
use crate::Notice;
use crate::elf;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::inventory::{DriverFile, FileKind, NamedLibrary, Reason};
use crate::root::{Found, Kind, Root};
use crate::vendor::{Destination, FileRule, Source, Vendor, matches};

/// The largest manifest that is read; the largest seen has 700 bytes.
const MAX_MANIFEST: u64 = 1 << 16;
const MAX_TEXT: u64 = 4096;
/// Most paths that the table's patterns may fit; a driver has 60.
const MAX_FITTING: usize = 2_000;

/// All files of the vendor's table that are there; manifests may lead to further libraries.
pub(super) fn find(
    host: &Host,
    vendor: &Vendor,
    version: &str,
    libraries: &mut Libraries<'_>,
    notices: &mut Vec<Notice>,
) -> Result<Vec<DriverFile>> {
    let mut places = Places::find(host, vendor, version, libraries);
    let mut files: BTreeMap<Utf8PathBuf, DriverFile> = BTreeMap::new();
    let mut fitting = 0;
    for rule in vendor.files {
        for path in places.candidates(rule, notices) {
            fitting += usize::from(rule.name.contains('*'));
            if fitting > MAX_FITTING {
                let reason =
                    format!("more than {MAX_FITTING} files with names of a driver's, which no driver has");
                return Err(Error::Format { path: host.driver.path().to_owned(), reason });
            }
            let destination = places.destination(rule, &path);
            if files.contains_key(&destination) {
                continue;
            }
            match describe(&host.driver, rule, &path, &destination) {
                Ok(Some(file)) => {
                    files.insert(destination, file);
                    if !rule.name.contains('*') {
                        break;
                    }
                }
                Ok(None) => {}
                Err(error) => notices.push(error.into()),
            }
        }
    }
    for file in files.values_mut().filter(|file| is_manifest(file)) {
        follow(&host.driver, file, libraries, notices);
    }
    Ok(files.into_values().collect())
}

/// What the words of the vendor's table mean on this host.
struct Places<'a> {
    root: &'a Root,
    version: &'a str,
    library_directories: Vec<Utf8PathBuf>,
    loader_directory: Utf8PathBuf,
    firmware: Vec<Utf8PathBuf>,
    private: Vec<Utf8PathBuf>,
    /// Directories that were looked for: device and inode, or that they are not there.
    identities: BTreeMap<String, Option<(u64, u64)>>,
}

impl<'a> Places<'a> {
    fn find(host: &'a Host, vendor: &Vendor, version: &'a str, libraries: &Libraries<'_>) -> Places<'a> {
        Places {
            root: &host.driver,
            version,
            library_directories: libraries.directories(),
            loader_directory: libraries.loader_directory(),
            firmware: firmware_directories(host),
            private: private_directories(&host.driver, vendor, libraries),
            identities: BTreeMap::new(),
        }
    }

    /// The paths at which the rule's files may be, in order.
    fn candidates(&mut self, rule: &FileRule, notices: &mut Vec<Notice>) -> Vec<Utf8PathBuf> {
        let name = self.fill(rule.name);
        let named: Vec<Utf8PathBuf> =
            rule.sources.iter().flat_map(|source| self.directories(*source)).collect();
        let mut paths = Vec::new();
        let mut seen = BTreeSet::new();
        for directory in named {
            if !self.identity(&directory, notices).is_some_and(|identity| seen.insert(identity)) {
                continue;
            }
            if name.contains('*') {
                paths.extend(self.matching(&directory, &name, notices));
            } else {
                paths.push(directory.join(&name));
            }
        }
        paths
    }

    fn matching(&self, directory: &Utf8Path, name: &str, notices: &mut Vec<Notice>) -> Vec<Utf8PathBuf> {
        let listed = self.root.list(directory).unwrap_or_else(|error| {
            notices.push(error.into());
            None
        });
        let fitting = listed.unwrap_or_default().into_iter().filter(|(found, _)| matches(name, found));
        fitting.map(|(found, _)| directory.join(found)).collect()
    }

    /// Most of the table's directories are on no one host: each is asked for once.
    fn identity(&mut self, directory: &Utf8Path, notices: &mut Vec<Notice>) -> Option<(u64, u64)> {
        let root = self.root;
        let looked_up = || {
            let entry = root.target(directory).unwrap_or_else(|error| {
                notices.push(error.into());
                None
            });
            entry.map(|entry| entry.identity)
        };
        *self.identities.entry(directory.to_string()).or_insert_with(looked_up)
    }

    fn directories(&self, source: Source) -> Vec<Utf8PathBuf> {
        match source {
            Source::Directory(path) => vec![self.fill(path).into()],
            Source::Libraries(below) => {
                self.library_directories.iter().map(|path| below_or_same(path, below)).collect()
            }
            Source::Firmware(below) => self.firmware.iter().map(|path| path.join(self.fill(below))).collect(),
            Source::Private => self.private.clone(),
        }
    }

    fn destination(&self, rule: &FileRule, path: &Utf8Path) -> Utf8PathBuf {
        let name = path.file_name().unwrap_or_default();
        match rule.destination {
            Destination::Same => path.to_owned(),
            Destination::Directory(directory) => Utf8PathBuf::from(self.fill(directory)).join(name),
            Destination::Libraries(below) => self.loader_directory.join(below).join(name),
            Destination::Programs => {
                let parent = path.parent().and_then(Utf8Path::file_name);
                Utf8Path::new(if parent == Some("sbin") { "/usr/sbin" } else { "/usr/bin" }).join(name)
            }
        }
    }

    fn fill(&self, pattern: &str) -> String {
        pattern.replace("{version}", self.version)
    }
}

fn below_or_same(path: &Utf8Path, below: &str) -> Utf8PathBuf {
    if below.is_empty() { path.to_owned() } else { path.join(below) }
}

/// The private directories of this driver; where several drivers have some, those named like the
/// directories its libraries lie in.
fn private_directories(root: &Root, vendor: &Vendor, libraries: &Libraries<'_>) -> Vec<Utf8PathBuf> {
    let children = |path: &&str| {
        // What cannot be listed was told when libraries were looked for there.
        let listed = root.list(Utf8Path::new(path)).ok().flatten().unwrap_or_default();
        let path = Utf8PathBuf::from(path);
        listed.into_iter().map(move |(name, _)| path.join(name))
    };
    let all: Vec<Utf8PathBuf> = vendor.private_directories.iter().flat_map(children).collect();
    let of_libraries = libraries.directories();
    let names: BTreeSet<&str> = of_libraries.iter().filter_map(|path| path.file_name()).collect();
    let (same, others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|path| path.file_name().is_some_and(|name| names.contains(name)));
    if same.is_empty() { others } else { same }
}

/// Where the kernel's firmware loader looks, in its order (Documentation/driver-api/firmware/fw_search_path.rst).
fn firmware_directories(host: &Host) -> Vec<Utf8PathBuf> {
    let text = |root: &Root, path: &str| {
        let text = root.read_text(Utf8Path::new(path), MAX_TEXT).ok().flatten().unwrap_or_default();
        text.trim().to_owned()
    };
    let set = text(&host.sys, "/sys/module/firmware_class/parameters/path");
    let release = text(&host.proc, "/proc/sys/kernel/osrelease");
    let mut directories = Vec::new();
    if !set.is_empty() {
        directories.push(set.into());
    }
    for base in ["/lib/firmware", "/usr/lib/firmware"].map(Utf8Path::new) {
        if is_one_name(&release) {
            directories.extend([
                base.join("updates").join(&release),
                base.join("updates"),
                base.join(&release),
            ]);
        }
        directories.push(base.to_owned());
    }
    directories
}

fn is_one_name(text: &str) -> bool {
    !text.is_empty() && !text.contains('/') && text != ".."
}

fn describe(
    root: &Root,
    rule: &FileRule,
    path: &Utf8Path,
    destination: &Utf8Path,
) -> Result<Option<DriverFile>> {
    let Some(found) = root.find(path)? else { return Ok(None) };
    if found.entry.kind != Kind::File {
        let (kind, wanted) = (found.entry.kind.word(), Kind::File.word());
        return Err(Error::WrongKind { path: root.outside(path), kind, wanted });
    }
    if found.entry.size == 0 {
        return Ok(None);
    }
    Ok(Some(DriverFile {
        path: found.real_path()?,
        destination: destination.to_owned(),
        kind: rule.kind,
        size: found.entry.size,
        build_id: if rule.kind == FileKind::Program { build_id(&found)? } else { None },
        capabilities: rule.serves.iter().copied().collect(),
        host_tool: rule.host_tool,
        names: None,
    }))
}

/// The build-id of a program; a script has none.
fn build_id(program: &Found<'_>) -> Result<Option<String>> {
    Ok(elf::inspect(&program.open()?).ok().and_then(|object| object.build_id))
}

fn is_manifest(file: &DriverFile) -> bool {
    file.kind == FileKind::Data && matches!(file.path.extension(), Some("json" | "icd"))
}

/// Takes the library that a manifest names, if it is the driver's.
fn follow(root: &Root, file: &mut DriverFile, libraries: &mut Libraries<'_>, notices: &mut Vec<Notice>) {
    let text = match root.read_text(&file.path, MAX_MANIFEST) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return notices.push(error.into()),
    };
    let of_icd = || text.lines().next().map(|line| Utf8PathBuf::from(line.trim()));
    let named = if file.path.extension() == Some("icd") { of_icd() } else { library_path(&text) };
    let Some(named) = named.filter(|named| !named.as_str().is_empty()) else { return };
    let faults = libraries.faults.len();
    if named.is_relative() {
        if libraries.is_drivers_name(named.as_str()) {
            libraries.take_named(named.as_str(), Reason::Manifest);
        }
        return;
    }
    match libraries.take_from_manifest(&named) {
        Some(library) if is_plain(&named) => file.names = Some(NamedLibrary { path: named, library }),
        Some(_) => {
            let place = root.outside(&file.path);
            notices
                .push(Notice(format!("{place}: names {named}, to which no link can be made in a container")));
        }
        // A fault is told, or fatal, by itself.
        None if libraries.faults.len() > faults => {}
        None => {
            let place = root.outside(&file.path);
            notices.push(Notice(format!(
                "{place}: names {named}, which is no library of the driver, or not there"
            )));
        }
    }
}

/// Whether a link can be made at a path by the hook's arguments.
fn is_plain(path: &Utf8Path) -> bool {
    let named = |part| matches!(part, Utf8Component::Normal(_) | Utf8Component::RootDir);
    !path.as_str().contains([':', '\n']) && path.components().all(named)
}

/// The `library_path` of an ICD or layer manifest, at whatever depth.
fn library_path(text: &str) -> Option<Utf8PathBuf> {
    fn search(value: &serde_json::Value) -> Option<&str> {
        let object = value.as_object()?;
        let own = object.get("library_path").and_then(serde_json::Value::as_str);
        own.or_else(|| object.values().find_map(search))
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    search(&value).map(Utf8PathBuf::from)
}
