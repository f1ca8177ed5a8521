//! Which directories of a driver root hold libraries, and what names are in them.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::Notice;
use crate::error::{Error, Result};
use crate::ldcache::{self, Abi};
use crate::root::{Kind, Root};
use crate::vendor::{Vendor, stem, suffix};

/// Directories that the loaders of the distributions search; a driver shares them with everything else.
pub(super) const SHARED: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/powerpc64le-linux-gnu",
    "/usr/lib/riscv64-linux-gnu",
    "/usr/lib/arm-linux-gnueabihf",
    "/usr/lib/i386-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/lib/i386-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
    "/usr/lib32",
    "/usr/local/lib64",
    "/usr/local/lib",
];

/// Most directories that are searched; a host has 30.
const MAX_DIRECTORIES: usize = 500;
/// Most entries of all of them; a full desktop's have 20,000.
const MAX_ENTRIES: usize = 200_000;

/// Device and inode: the same directory has several paths.
type Identity = (u64, u64);

/// A directory of libraries.
#[derive(Debug)]
pub(super) struct LibraryDirectory {
    /// As it was first reached.
    pub(super) path: Utf8PathBuf,
    /// The names in it that are named like libraries, sorted.
    pub(super) names: Vec<String>,
    /// Whether all of them are the driver's, known or not.
    pub(super) private: bool,
}

/// The directories that exist, in the order in which a name is looked for.
///
/// The caller's first, then those the loader cache sends the driver's names to, then the
/// distributions' and the vendor's own, each with the subdirectories that hold drivers.
pub(super) fn find(
    root: &Root,
    vendor: &Vendor,
    first: &[Utf8PathBuf],
    notices: &mut Vec<Notice>,
) -> Result<Vec<LibraryDirectory>> {
    let mut search = Search {
        root,
        vendor,
        seen: BTreeMap::new(),
        expanded: BTreeSet::new(),
        directories: Vec::new(),
        looked_up: 0,
        entries: 0,
    };
    for path in first {
        if search.add(path, notices).is_none() {
            notices.push(Notice(format!("{}: no such directory of libraries", root.outside(path))));
        }
    }
    for path in cached(root, vendor, notices) {
        search.add(&path, notices);
    }
    for path in SHARED.iter().chain(vendor.library_directories) {
        search.add_with_children(Utf8Path::new(path), notices);
    }
    for path in vendor.private_directories {
        if let Some(identity) = search.add(Utf8Path::new(path), notices) {
            search.add_children(Utf8Path::new(path), identity, notices);
        }
    }
    search.check_limits()?;
    Ok(search.directories)
}

/// The directories of the driver's libraries by the loader cache, in its order.
fn cached(root: &Root, vendor: &Vendor, notices: &mut Vec<Notice>) -> Vec<Utf8PathBuf> {
    let path = Utf8Path::new("/etc/ld.so.cache");
    let bytes = match root.read(path, ldcache::MAX_SIZE) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) => {
            notices.push(error.into());
            return Vec::new();
        }
    };
    if bytes.is_empty() {
        return Vec::new();
    }
    let entries = ldcache::entries(&bytes).unwrap_or_else(|fault| {
        notices.push(Notice(format!("{}: {fault}; not used", root.outside(path))));
        Vec::new()
    });
    let ours = entries.into_iter().filter(|entry| vendor.library_rule(&entry.name).is_some());
    let mut seen = BTreeSet::new();
    ours.filter_map(|entry| entry.path.parent().map(Utf8Path::to_owned))
        .filter(|directory| seen.insert(directory.clone()))
        .collect()
}

/// A search under way.
struct Search<'a> {
    root: &'a Root,
    vendor: &'a Vendor,
    /// The directories read, with the names in them that may be directories.
    seen: BTreeMap<Identity, Vec<String>>,
    /// Those whose subdirectories were looked at.
    expanded: BTreeSet<Identity>,
    directories: Vec<LibraryDirectory>,
    /// Paths that were looked up, and entries that were read in them.
    looked_up: usize,
    entries: usize,
}

impl Search<'_> {
    fn add_with_children(&mut self, path: &Utf8Path, notices: &mut Vec<Notice>) {
        if !self.add(path, notices).is_some_and(|identity| self.expanded.insert(identity)) {
            return;
        }
        for name in self.vendor.library_subdirectories {
            let below = path.join(name);
            if let Some(identity) = self.add(&below, notices) {
                self.add_children(&below, identity, notices);
            }
        }
    }

    fn add_children(&mut self, path: &Utf8Path, identity: Identity, notices: &mut Vec<Notice>) {
        for name in self.seen.get(&identity).cloned().unwrap_or_default() {
            self.add(&path.join(name), notices);
        }
    }

    /// The directory's identity, if it is there; what cannot be read is a notice, and the others still count.
    fn add(&mut self, path: &Utf8Path, notices: &mut Vec<Notice>) -> Option<Identity> {
        self.looked_up += 1;
        if self.check_limits().is_err() {
            return None;
        }
        self.read(path).unwrap_or_else(|error| {
            notices.push(error.into());
            None
        })
    }

    /// An error where there is more to search than a host has: the driver could lie in what is left out.
    fn check_limits(&self) -> Result<()> {
        if self.looked_up <= MAX_DIRECTORIES && self.entries <= MAX_ENTRIES {
            return Ok(());
        }
        let reason = format!(
            "more than {MAX_DIRECTORIES} directories of libraries, or {MAX_ENTRIES} entries in them; no host has so many"
        );
        Err(Error::Format { path: self.root.path().to_owned(), reason })
    }

    fn read(&mut self, path: &Utf8Path) -> Result<Option<Identity>> {
        let Some(entry) = self.root.target(path)?.filter(|entry| entry.kind == Kind::Directory) else {
            return Ok(None);
        };
        if self.seen.contains_key(&entry.identity) {
            return Ok(Some(entry.identity));
        }
        let (mut names, mut children) = (Vec::new(), Vec::new());
        let listed = self.root.list(path)?.unwrap_or_default();
        self.entries += listed.len();
        for (name, kind) in listed {
            match kind {
                Kind::Directory => children.push(name),
                _ if stem(&name).is_some() => names.push(name),
                Kind::Symlink => children.push(name),
                Kind::File
                | Kind::CharDevice
                | Kind::BlockDevice
                | Kind::Fifo
                | Kind::Socket
                | Kind::Unknown => {}
            }
        }
        let private = !is_shared(&names)
            && !SHARED.contains(&path.as_str())
            && holds_only_the_drivers(self.vendor, &names);
        self.directories.push(LibraryDirectory { path: path.to_owned(), names, private });
        self.seen.insert(entry.identity, children);
        Ok(Some(entry.identity))
    }
}

/// Whether a directory is the system's own, whatever its path: the C library or its loader lies there.
fn is_shared(names: &[String]) -> bool {
    names.iter().any(|name| name == "libc.so.6" || name.starts_with("ld-linux"))
}

/// Whether a directory is one driver's own: it has the driver's anchor, and nothing in it that is
/// not known carries a version other than the driver's. Mesa's and glvnd's libraries do.
fn holds_only_the_drivers(vendor: &Vendor, names: &[String]) -> bool {
    let anchor = |name: &&String| vendor.anchors.iter().any(|anchor| stem(name) == Some(anchor));
    let versions: BTreeSet<&str> = names
        .iter()
        .filter(anchor)
        .filter_map(|name| suffix(name))
        .filter(|suffix| suffix.contains('.'))
        .collect();
    let foreign = |name: &String| {
        let version = suffix(name).filter(|suffix| suffix.contains('.'));
        vendor.library_rule(name).is_none() && version.is_some_and(|version| !versions.contains(version))
    };
    !versions.is_empty() && !names.iter().any(foreign)
}

/// Where a loader of this ABI looks by default: where its libc is, else where its driver is.
pub(super) fn loader_directory(root: &Root, abi: Abi, library: &Utf8Path) -> Utf8PathBuf {
    let candidates = loader_directories(abi);
    let holds_libc = |directory: &&&str| {
        let libc = Utf8Path::new(directory).join("libc.so.6");
        root.target(&libc).ok().flatten().is_some_and(|entry| entry.kind == Kind::File)
    };
    let by_driver = || candidates.iter().find(|directory| library.starts_with(directory));
    let chosen = candidates.iter().find(holds_libc).or_else(by_driver).or(candidates.first());
    let chosen = Utf8Path::new(chosen.copied().unwrap_or("/usr/lib"));
    // `/usr/lib64 -> lib` is one directory, and its real name is the one every image has.
    root.resolve(chosen).ok().flatten().unwrap_or_else(|| chosen.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::nvidia::NVIDIA;

    #[test]
    fn a_directory_with_the_c_library_is_the_systems() {
        for (name, expected) in [("libc.so.6", true), ("ld-linux-x86-64.so.2", true), ("libcuda.so.1", false)]
        {
            assert_eq!(is_shared(&[name.to_owned()]), expected, "{name}");
        }
    }

    #[test]
    fn a_directory_is_the_drivers_own_only_without_foreign_versions() {
        for (names, expected) in [
            (&["libcuda.so.550.163.01", "libnew.so", "libnvidia-egl-gbm.so.1.1.2"][..], true),
            (&["libcuda.so.550.163.01", "libEGL_mesa.so.0.0.0"][..], false),
            (&["libcuda.so.1", "libnew.so"][..], false),
            (&["libfoo.so.1"][..], false),
        ] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(holds_only_the_drivers(&NVIDIA, &names), expected, "{names:?}");
        }
    }
}
