//! The files of a spec: libraries, modules, programs, data, sockets, each to its place.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use super::draft::Draft;
use super::place;
use super::reason::Reason;
use crate::apply::{self, Libraries, OptionalMount};
use crate::cdi::Mount;
use crate::elf::Version;
use crate::ldcache::Abi;
use crate::nspawn::guest::Libc;
use crate::nspawn::sources::{Object, Source, library_paths};
use crate::nspawn::{Bind, BindSource, Content, Guest, TREE, Wanted};
use crate::root::is_run_time;

/// Libraries come first: data that lies beside them in a container lies beside them in the tree too.
pub(super) fn place(draft: &mut Draft<'_>, wanted: &Wanted<'_>) {
    let mut mounts = BTreeMap::new();
    for mount in &wanted.edits.mounts {
        // Of two at one path a runtime shows the later.
        match destination(mount) {
            Some(path) => drop(mounts.insert(path, mount)),
            None => draft.leave(Reason::NoBind, Utf8Path::new(&mount.container_path)),
        }
    }
    let mut others = Vec::new();
    for (path, mount) in &mounts {
        match wanted.sources.files.get(Utf8Path::new(&mount.host_path)) {
            // The notice about it is there already.
            None if wanted.sources.distrusted.contains(Utf8Path::new(&mount.host_path)) => {
                draft.left_out.insert(path.clone());
            }
            None => draft.leave(Reason::Missing, path),
            Some(_) if place::is_kernels(path) => draft.leave(Reason::Kernel, path),
            // Which is an ELF object too, of the GPU's own processor.
            Some(_) if place::is_firmware(path) => draft.leave(Reason::Firmware, path),
            Some(Source::Object(object)) if is_loaded(path, object) => {
                place_object(draft, path, mount, object)
            }
            Some(source) => others.push((path, mount, source)),
        }
    }
    for (path, mount, source) in others {
        place_other(draft, path, mount, source);
    }
    for mount in &wanted.sources.optional {
        place_optional(draft, mount);
    }
    let named = wanted.requests.iter().flat_map(|request| &request.libraries);
    for libraries in named.chain(&wanted.sources.libraries) {
        name_libraries(draft, libraries, &wanted.sources.glibc_floors);
    }
}

/// The libraries that a mounted directory holds.
fn name_libraries(draft: &mut Draft<'_>, libraries: &Libraries, floors: &BTreeMap<Utf8PathBuf, Version>) {
    let is_directory = |at: &Utf8PathBuf| matches!(draft.tree.get(at), Some(Content::Directory(_)));
    let place = libraries.directory.ancestors().find_map(|path| {
        let at = draft.placed.get(path).filter(|at| is_directory(at))?;
        Some(at.join(libraries.directory.strip_prefix(path).ok()?))
    });
    let Some(directory) = place.filter(|_| runs(draft.guest, libraries.abi)) else { return };
    for name in &libraries.names {
        let path = libraries.directory.join(name);
        match misfit(draft, libraries.abi, floors.get(&path)) {
            Some(reason) => draft.tell(reason, &path),
            None => drop(draft.libraries.insert((libraries.abi, directory.join(name)))),
        }
    }
}

/// Whether the guest has programs of this kind, as far as is known.
fn runs(guest: &Guest, abi: Abi) -> bool {
    guest.programs.is_empty() || guest.programs(abi).is_some()
}

/// Where a bind mount appears, if that is one place below the root.
fn destination(mount: &Mount) -> Option<Utf8PathBuf> {
    let is_bind = matches!(mount.mount_type.as_str(), "" | "bind" | "none");
    apply::directory(&mount.container_path).ok().filter(|_| is_bind)
}

/// Whether an object is for the machine's programs, and no data of a GPU's that has the same format.
fn is_loaded(path: &Utf8Path, object: &Object) -> bool {
    object.program
        || object.soname.is_some()
        || place::is_program(path)
        || place::module(path).is_some()
        || path.file_name().is_some_and(apply::is_library)
}

fn place_object(draft: &mut Draft<'_>, path: &Utf8Path, mount: &Mount, object: &Object) {
    let (abi, name) = match (object.abi, path.file_name()) {
        (Some(abi), Some(name)) => (abi, name),
        _ => return draft.leave(Reason::Abi(object.abi), path),
    };
    if let Some(reason) = misfit(draft, abi, object.glibc_floor.as_ref()) {
        return draft.leave(reason, path);
    }
    let content = Content::File(mount.host_path.as_str().into());
    if object.program || place::is_program(path) {
        return place_program(draft, path, content);
    }
    let directory = Utf8Path::new(directory(abi));
    if let Some(module) = place::module(path) {
        draft.put(path, directory.join(module).join(name), content);
        return;
    }
    let soname = object.soname.as_deref().filter(|soname| apply::is_library(soname)).unwrap_or(name);
    let below = |name: &str| path.components().any(|component| component.as_str() == name);
    // Modules of the X server, and variants for newer processors of what there must be a plain one of.
    if !apply::is_library(soname) || below("xorg") || below("glibc-hwcaps") {
        if draft.put(path, place::prefixed(path), content) {
            draft.tell(Reason::FixedPath, path);
        }
        return;
    }
    let at = directory.join(soname);
    if draft.put(path, at.clone(), content) {
        draft.libraries.insert((abi, at));
        if soname != name && apply::is_library(name) {
            let other = directory.join(name);
            if draft.add(other.clone(), Content::Link(soname.into())) {
                draft.libraries.insert((abi, other));
            }
        }
    }
}

fn place_program(draft: &mut Draft<'_>, path: &Utf8Path, content: Content) {
    let name = path.file_name().filter(|_| place::is_program(path));
    let at = name.map_or_else(|| place::prefixed(path), |name| Utf8Path::new("bin").join(name));
    if draft.put(path, at, content) && name.is_none() {
        draft.tell(Reason::FixedPath, path);
    }
}

/// Why an object is of no use to the guest.
fn misfit(draft: &Draft<'_>, abi: Abi, glibc_floor: Option<&Version>) -> Option<Reason> {
    let guest = draft.guest;
    if !runs(guest, abi) {
        return Some(Reason::Abi(Some(abi)));
    }
    let programs = guest.programs(abi)?;
    match (glibc_floor, &programs.glibc, guest.libc) {
        (Some(floor), Some(version), Libc::Glibc) if floor > version => {
            Some(Reason::Glibc { floor: floor.clone(), guest: version.clone() })
        }
        _ => None,
    }
}

/// The tree's directory of libraries for programs of this word size.
pub(in crate::nspawn) fn directory(abi: Abi) -> &'static str {
    match abi {
        Abi::I386 | Abi::X32 | Abi::Armhf => "lib32",
        Abi::X86_64 | Abi::Aarch64 | Abi::Ppc64 | Abi::Riscv64 | Abi::Other(_) => "lib",
    }
}

/// A daemon's socket or directory; a spec that mounts it too has said how.
fn place_optional(draft: &mut Draft<'_>, mount: &OptionalMount) {
    let Some(at) = place::volatile(&mount.path) else { return draft.leave(Reason::NoBind, &mount.path) };
    if draft.binds.iter().all(|bind| bind.at != at) {
        let source = BindSource::Held(mount.source.clone());
        draft.binds.insert(Bind { at, source, read_only: false });
    }
}

fn place_other(draft: &mut Draft<'_>, path: &Utf8Path, mount: &Mount, source: &Source) {
    let host: Utf8PathBuf = mount.host_path.as_str().into();
    if let Some(at) = place::volatile(path) {
        let read_only = mount.options.iter().any(|option| option == "ro");
        let source = if is_run_time(&host) { BindSource::Held(host) } else { BindSource::Host(host) };
        draft.binds.insert(Bind { at, source, read_only });
        return;
    }
    let content = match source {
        Source::Directory => Content::Directory(host),
        Source::Manifest { text, libraries } => match rewritten(draft, text, libraries) {
            Some(text) => Content::Text(text),
            None => Content::File(host),
        },
        Source::File | Source::Socket | Source::Object(_) => Content::File(host),
    };
    if let Some(at) = place::searched(path).or_else(|| beside(draft, path)) {
        draft.put(path, at, content);
        return;
    }
    if place::is_program(path) {
        let at = Utf8Path::new("bin").join(path.file_name().unwrap_or_default());
        draft.put(path, at, content);
        return;
    }
    if draft.put(path, place::prefixed(path), content) {
        draft.tell(Reason::FixedPath, path);
    }
}

/// The place of what a container has below a directory of libraries, such as a library loads from beside itself.
fn beside(draft: &Draft<'_>, path: &Utf8Path) -> Option<Utf8PathBuf> {
    let is_flat = |at: &&Utf8PathBuf| at.parent().is_some_and(|parent| parent == "lib" || parent == "lib32");
    let directories = draft.placed.iter().filter(|(_, at)| is_flat(at));
    let directories = directories.filter_map(|(path, at)| Some((path.parent()?, at.parent()?)));
    let (below, directory) = directories
        .filter_map(|(from, to)| Some((path.strip_prefix(from).ok()?, to)))
        .min_by_key(|(below, _)| below.as_str().len())?;
    // Where a directory of libraries is /usr/lib, much more than what belongs to libraries is below it.
    (below.components().count() > 1 && below.starts_with("nvidia")).then(|| directory.join(below))
}

/// A manifest with the libraries that it names by their paths at their places in the tree.
fn rewritten(draft: &Draft<'_>, text: &str, libraries: &[Utf8PathBuf]) -> Option<String> {
    let place = |library: &Utf8PathBuf| {
        let place = draft.placed.get(library).cloned().or_else(|| {
            let at = Utf8Path::new("lib").join(library.file_name()?);
            draft.tree.contains_key(&at).then_some(at)
        })?;
        Some(Utf8Path::new(TREE).join(place).into_string())
    };
    let places = libraries.iter().map(|library| Some((library.as_str(), place(library)?)));
    let places: BTreeMap<&str, String> = places.collect::<Option<_>>()?;
    match serde_json::from_str::<Value>(text) {
        Ok(mut manifest) => {
            library_paths(&mut manifest, &mut |path| {
                if let Some(place) = places.get(path.as_str()) {
                    path.clone_from(place);
                }
            });
            serde_json::to_string_pretty(&manifest).map(|text| text + "\n").ok()
        }
        Err(_) => places.get(text.trim()).map(|place| format!("{place}\n")),
    }
}
