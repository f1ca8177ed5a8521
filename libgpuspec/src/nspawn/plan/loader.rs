//! How the guest's loader finds the libraries: by what its root is, and by whose C library it has.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use super::draft::Draft;
use super::place;
use crate::Notice;
use crate::apply::Libraries;
use crate::ldcache::Abi;
use crate::nspawn::guest::{Cache, Layout, Libc};
use crate::nspawn::{Bind, BindSource, Content, Farm, Loader, LoaderKind, Options, RootKind, TREE};
use crate::render::nspawn::mount_path;

/// Most directories that links are laid over; a guest has one for each kind of programs, and a few of an old driver's.
const MAX_FARMS: usize = 8;

/// Where programs of a store look for a driver (nixpkgs, addDriverRunpath).
const STORES_DRIVER: &str = "/run/opengl-driver";
const STORES_DRIVER_32: &str = "/run/opengl-driver-32/lib";

/// Chooses the way and says what it takes.
pub(super) fn choose(draft: &mut Draft<'_>, options: &Options) -> Loader {
    if draft.guest.layout == Layout::Store {
        bind_for_store(draft);
    }
    if draft.libraries.is_empty() {
        return Loader::Nothing;
    }
    tell_libc(draft);
    let kind = options.loader.unwrap_or_else(|| by_guest(draft, options.root));
    match kind {
        LoaderKind::Cache => Loader::Cache(by_directory(&draft.libraries)),
        LoaderKind::Overlay => overlay(draft, options.root),
        LoaderKind::Environment => Loader::Environment,
        LoaderKind::Nothing => Loader::Nothing,
    }
}

fn by_guest(draft: &mut Draft<'_>, root: RootKind) -> LoaderKind {
    let guest = draft.guest;
    let (writable, in_reach) = match root {
        RootKind::Directory => (true, true),
        RootKind::ReadOnly | RootKind::Volatile | RootKind::Ephemeral => (false, true),
        RootKind::Image | RootKind::OutOfReach => (false, false),
    };
    match (guest.libc, guest.layout) {
        (Libc::Musl | Libc::Absent, _) | (_, Layout::Store) => LoaderKind::Nothing,
        (Libc::Glibc | Libc::Unknown, _) if !in_reach => {
            draft.notices.extend((root == RootKind::Image).then(|| no_overlay(root)));
            LoaderKind::Environment
        }
        (Libc::Glibc, Layout::Directories) if !writable => LoaderKind::Overlay,
        (Libc::Glibc, Layout::Directories) if guest.cache == Cache::Unusable => LoaderKind::Overlay,
        (Libc::Glibc, Layout::Directories) => LoaderKind::Cache,
        (Libc::Unknown, _) => LoaderKind::Overlay,
    }
}

fn tell_libc(draft: &mut Draft<'_>) {
    let text = match draft.guest.libc {
        Libc::Glibc | Libc::Unknown => return,
        Libc::Musl => format!(
            "the machine's C library is musl: the driver's libraries in {TREE}/lib are for glibc programs only; use a machine \
             with glibc"
        ),
        Libc::Absent => {
            format!("the machine has no C library: nothing in it loads the libraries in {TREE}/lib")
        }
    };
    draft.notices.push(Notice(text));
}

fn by_directory(libraries: &BTreeSet<(Abi, Utf8PathBuf)>) -> Vec<Libraries> {
    let mut sorted: BTreeMap<(Abi, &Utf8Path), Vec<String>> = BTreeMap::new();
    for (abi, at) in libraries {
        if let (Some(directory), Some(name)) = (at.parent(), at.file_name()) {
            sorted.entry((*abi, directory)).or_default().push(name.to_owned());
        }
    }
    let one =
        |((abi, directory), names)| Libraries { abi, directory: Utf8Path::new(TREE).join(directory), names };
    sorted.into_iter().map(one).collect()
}

/// Why no links can be laid over directories of such a root. The lower layer of an overlay must be held by us: by its
/// path, systemd-nspawn would follow the machine's links out of the machine.
fn no_overlay(root: RootKind) -> Notice {
    let why = match root {
        RootKind::Image => {
            "systemd-nspawn mounts the image itself, so no links can be laid over its libraries"
        }
        RootKind::OutOfReach => "arguments alone lay no links over the machine's libraries",
        RootKind::Directory | RootKind::ReadOnly | RootKind::Volatile | RootKind::Ephemeral => {
            "no directory of libraries is known to lay links over"
        }
    };
    Notice(format!("{why}: LD_LIBRARY_PATH is set instead, which not every program heeds"))
}

/// Links over the loader's own directories, and over those where the guest's cache has libraries of the same names:
/// the cache is asked first.
fn overlay(draft: &mut Draft<'_>, root: RootKind) -> Loader {
    if matches!(root, RootKind::Image | RootKind::OutOfReach) {
        draft.notices.push(no_overlay(root));
        return Loader::Environment;
    }
    let mut farms: BTreeMap<Utf8PathBuf, BTreeMap<String, Utf8PathBuf>> = BTreeMap::new();
    let mut link = |directory: &Utf8Path, name: &str, at: &Utf8Path| {
        let links = farms.entry(directory.to_owned()).or_default();
        links.entry(name.to_owned()).or_insert_with(|| Utf8Path::new(TREE).join(at));
    };
    let cached = match &draft.guest.cache {
        Cache::Usable(entries) => entries.as_slice(),
        Cache::Missing | Cache::Unusable => &[],
    };
    for (abi, at) in &draft.libraries {
        let Some(name) = at.file_name() else { continue };
        if let Some(programs) = draft.guest.programs(*abi) {
            link(&programs.directory, name, at);
        }
        let stale = cached.iter().filter(|entry| entry.abi == *abi && entry.name == name);
        for directory in stale.filter_map(|entry| entry.path.parent()) {
            if !directory.starts_with(TREE) && mount_path(directory).is_ok() {
                link(directory, name, at);
            }
        }
    }
    let own: BTreeSet<&Utf8PathBuf> =
        draft.guest.programs.iter().map(|programs| &programs.directory).collect();
    let mut farms: Vec<Farm> =
        farms.into_iter().map(|(directory, links)| Farm { directory, links }).collect();
    farms.sort_by_key(|farm| !own.contains(&farm.directory));
    let older: Vec<String> = farms.iter().skip(MAX_FARMS).map(|farm| farm.directory.to_string()).collect();
    if let [first, ..] = older.as_slice() {
        let count = older.len();
        draft.notices.push(Notice(format!(
            "{first}: one of {count} more directories with libraries of an older driver, which programs may load"
        )));
    }
    farms.truncate(MAX_FARMS);
    farms.sort();
    if farms.is_empty() {
        draft.notices.push(no_overlay(root));
        return Loader::Environment;
    }
    Loader::Overlay(farms)
}

/// The whole tree where programs of a store look for a driver.
fn bind_for_store(draft: &mut Draft<'_>) {
    if draft.tree.is_empty() {
        return;
    }
    let vendors = Utf8Path::new("share/OpenCL/vendors");
    if draft.has(vendors.as_str()) {
        let at = Utf8PathBuf::from("etc/OpenCL/vendors");
        let link = Content::Link(place::relative(&at, vendors));
        draft.put(Utf8Path::new("/etc/OpenCL/vendors"), at, link);
    }
    let mut bind = |at: &str, below: &str| {
        let source = BindSource::Tree(below.into());
        draft.binds.insert(Bind { at: at.into(), source, read_only: true });
    };
    bind(STORES_DRIVER, "");
    if draft.tree.keys().any(|name| name.starts_with("lib32")) {
        bind(STORES_DRIVER_32, "lib32");
    }
}
