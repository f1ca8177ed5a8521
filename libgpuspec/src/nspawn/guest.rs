//! What a machine's tree says of itself: its C library, its directories, its loader's cache, its groups.

mod libc;
mod release;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::groups;
use crate::elf::Version;
use crate::error::{Error, Result};
use crate::ldcache::{self, Abi};
use crate::notice::shortened;
use crate::root::Kind;
use crate::{Notice, Root};

const CACHE: &str = "/etc/ld.so.cache";
/// Where OpenCL's loaders look for drivers.
pub(super) const OPENCL: &str = "/etc/OpenCL/vendors";
/// Most of them that are known; the largest number seen is three.
const MAX_DRIVERS: usize = 64;

/// Most notices about one machine's tree: the tree decides how many there would be.
pub(super) const MAX_NOTICES: usize = 20;

/// The facts about a machine that decide how it gets a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Guest {
    /// What it calls itself, by os-release.
    pub name: Option<String>,
    /// Whose C library its programs use.
    pub libc: Libc,
    /// Where its libraries are.
    pub layout: Layout,
    /// The kinds of programs it can run, its own first.
    pub programs: Vec<Programs>,
    /// Its loader's cache.
    #[serde(skip)]
    pub cache: Cache,
    /// Its groups, by name.
    #[serde(skip)]
    pub groups: BTreeMap<String, u32>,
    /// The names of its own OpenCL drivers' files, which loaders look for in one directory only.
    #[serde(skip)]
    pub opencl: BTreeSet<String>,
}

/// Whose C library a machine's programs use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// glibc, for which drivers are made.
    Glibc,
    /// musl, into whose programs no driver's library can be loaded.
    Musl,
    /// None was found: static programs at most.
    Absent,
    /// The tree was not looked into, an image's for example.
    #[default]
    Unknown,
}

/// Where a machine's libraries are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// In the loader's own directories.
    #[default]
    Directories,
    /// In a store (NixOS, Guix): drivers are looked for below /run/opengl-driver, and there is no cache.
    Store,
}

/// One kind of programs that a machine can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Programs {
    /// Which.
    pub abi: Abi,
    /// The directory in which their loader looks without being told, no link on the way.
    pub directory: Utf8PathBuf,
    /// Their glibc, by the newest version that its libraries define.
    pub glibc: Option<Version>,
}

/// A machine's loader cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cache {
    /// There is none.
    #[default]
    Missing,
    /// What it lists in directories that are there; their paths have no links.
    Usable(Vec<ldcache::Entry>),
    /// It cannot be used.
    Unusable,
}

impl Guest {
    /// What is known of programs of this kind.
    pub fn programs(&self, abi: Abi) -> Option<&Programs> {
        self.programs.iter().find(|programs| programs.abi == abi)
    }
}

/// Looks at a machine's tree: whatever is in it, this ends, and what was odd is told.
pub fn inspect(root: &Root) -> (Guest, Vec<Notice>) {
    let mut notices = Vec::new();
    let found = libc::find(root, &mut notices);
    let guest = Guest {
        name: told(release::name(root), &mut notices),
        libc: found.libc,
        layout: found.layout,
        programs: found.programs,
        cache: cache(root, &mut notices),
        groups: told(groups::read(root), &mut notices),
        opencl: opencl(root, &mut notices),
    };
    notices.sort();
    notices.dedup();
    (guest, shortened(notices, MAX_NOTICES))
}

fn opencl(root: &Root, notices: &mut Vec<Notice>) -> BTreeSet<String> {
    let is_driver = |name: &OsStr| name.to_str().is_some_and(|name| name.ends_with(".icd"));
    let names = told(root.list_where(Utf8Path::new(OPENCL), is_driver), notices).unwrap_or_default();
    let names: BTreeSet<String> = names.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect();
    names.into_iter().take(MAX_DRIVERS).collect()
}

/// The names of the libraries that the machine's own loader finds: by its cache, and where it looks anyway.
pub fn libraries(root: &Root, guest: &Guest) -> (BTreeSet<(Abi, String)>, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut libraries = BTreeSet::new();
    if let Cache::Usable(entries) = &guest.cache {
        libraries.extend(entries.iter().map(|entry| (entry.abi, entry.name.clone())));
    }
    for programs in &guest.programs {
        // The C library alone is outside /usr where that is not merged.
        let outside = programs.directory.strip_prefix("/usr").map(|below| Utf8Path::new("/").join(below));
        for directory in outside.iter().chain([&programs.directory]) {
            let is_library = |name: &OsStr| name.to_str().is_some_and(|name| name.contains(".so"));
            let names = told(root.list_where(directory, is_library), &mut notices).unwrap_or_default();
            let names = names.into_iter().filter_map(|(name, _)| name.into_string().ok());
            libraries.extend(names.map(|name| (programs.abi, name)));
        }
    }
    (libraries, notices)
}

fn cache(root: &Root, notices: &mut Vec<Notice>) -> Cache {
    let path = Utf8Path::new(CACHE);
    let bytes = match root.read(path, ldcache::MAX_SIZE) {
        Ok(None) => return Cache::Missing,
        Ok(Some(bytes)) if bytes.is_empty() => return Cache::Missing,
        Ok(Some(bytes)) => bytes,
        Err(error) => {
            notices.push(error.into());
            return Cache::Unusable;
        }
    };
    match ldcache::entries(&bytes) {
        Ok(entries) => Cache::Usable(resolve(root, entries, notices)),
        Err(malformed) => {
            notices.push(Notice(format!("{}: {malformed}", root.outside(path))));
            Cache::Unusable
        }
    }
}

/// Most directories of a cache that are looked up; libraries in the others are left out.
const MAX_DIRECTORIES: usize = 64;

/// The entries whose directories are there, with the paths that these have without links: /lib is a link nearly
/// everywhere.
///
/// No path is taken as the machine wrote it: other programs would follow its links and its `..` from the host's root.
fn resolve(root: &Root, entries: Vec<ldcache::Entry>, notices: &mut Vec<Notice>) -> Vec<ldcache::Entry> {
    let mut known: BTreeMap<Utf8PathBuf, Option<Utf8PathBuf>> = BTreeMap::new();
    let mut more = BTreeSet::new();
    let mut resolved = Vec::new();
    for mut entry in entries {
        let (Some(parent), Some(name)) = (entry.path.parent(), entry.path.file_name()) else { continue };
        if !known.contains_key(parent) {
            if known.len() == MAX_DIRECTORIES {
                more.insert(parent.to_owned());
                continue;
            }
            known.insert(parent.to_owned(), told(real_directory(root, parent), notices));
        }
        if let Some(Some(real)) = known.get(parent) {
            entry.path = real.join(name);
            resolved.push(entry);
        }
    }
    if !more.is_empty() {
        let (path, count) = (root.outside(Utf8Path::new(CACHE)), more.len());
        let text =
            format!("{path}: names {count} directories more than the {MAX_DIRECTORIES} that are looked up");
        notices.push(Notice(text));
    }
    resolved
}

/// The directory that a path of a cache leads to, if it is there.
fn real_directory(root: &Root, path: &Utf8Path) -> Result<Option<Utf8PathBuf>> {
    if !path.is_absolute() || path.as_str().split('/').any(|name| name == "..") {
        let reason = "in the loader's cache, and not an absolute path without `..`; left out".to_owned();
        return Err(Error::Format { path: path.to_owned(), reason });
    }
    match root.find(path)? {
        Some(found) if found.entry.kind == Kind::Directory => {
            Ok(Some(found.real_path()?).filter(|path| !is_mounted_over(path)))
        }
        Some(_) | None => Ok(None),
    }
}

/// Whether systemd-nspawn mounts a file system of its own at or above a path: nothing of the tree is seen there, and no
/// overlay can be mounted (systemd-nspawn(1)). The root is no library directory either.
fn is_mounted_over(path: &Utf8Path) -> bool {
    path == "/" || ["/proc", "/sys", "/dev", "/run", "/tmp"].iter().any(|top| path.starts_with(top))
}

/// The value, or nothing and a notice.
fn told<T: Default>(result: Result<T>, notices: &mut Vec<Notice>) -> T {
    result.unwrap_or_else(|error| {
        notices.push(error.into());
        T::default()
    })
}
