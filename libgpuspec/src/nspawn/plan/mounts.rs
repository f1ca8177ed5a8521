//! The files of a spec: libraries, modules, programs, data, sockets, each to its place.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::draft::Draft;
use super::place;
use super::reason::Reason;
use crate::apply;
use crate::cdi::Mount;
use crate::ldcache::Abi;
use crate::nspawn::guest::Libc;
use crate::nspawn::sources::{Object, Source};
use crate::nspawn::{Bind, BindSource, Content, TREE, Wanted};

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
            None => draft.leave(Reason::Missing, path),
            Some(Source::Object(object)) => place_object(draft, path, mount, object),
            Some(source @ (Source::File | Source::Manifest { .. } | Source::Directory | Source::Socket)) => {
                others.push((path, mount, source));
            }
        }
    }
    for (path, mount, source) in others {
        place_other(draft, path, mount, source);
    }
}

/// Where a bind mount appears, if that is one place below the root.
fn destination(mount: &Mount) -> Option<Utf8PathBuf> {
    let is_bind = matches!(mount.mount_type.as_str(), "" | "bind" | "none");
    apply::directory(&mount.container_path).ok().filter(|_| is_bind)
}

fn place_object(draft: &mut Draft<'_>, path: &Utf8Path, mount: &Mount, object: &Object) {
    if let Some(reason) = misfit(draft, object) {
        return draft.leave(reason, path);
    }
    let content = Content::File(mount.host_path.as_str().into());
    let name = path.file_name().unwrap_or_default();
    let directory = Utf8Path::new(directory(object.abi));
    if let Some(module) = place::module(path).filter(|_| !object.program) {
        draft.put(path, directory.join(module).join(name), content);
        return;
    }
    if object.program || object.soname.is_none() && !place::is_library(name) {
        return place_program(draft, path, content);
    }
    let soname = object.soname.as_deref().filter(|soname| place::is_library(soname)).unwrap_or(name);
    let below = |name: &str| path.components().any(|component| component.as_str() == name);
    // Modules of the X server, and variants for newer processors of what there must be a plain one of.
    if !place::is_library(soname) || below("xorg") || below("glibc-hwcaps") {
        if draft.put(path, place::prefixed(path), content) {
            draft.tell(Reason::FixedPath, path);
        }
        return;
    }
    let at = directory.join(soname);
    if draft.put(path, at.clone(), content) {
        name_library(draft, object.abi, at.clone());
        if soname != name && place::is_library(name) {
            let other = directory.join(name);
            draft.tree.entry(other.clone()).or_insert_with(|| Content::Link(soname.into()));
            name_library(draft, object.abi, other);
        }
    }
}

fn name_library(draft: &mut Draft<'_>, abi: Option<Abi>, at: Utf8PathBuf) {
    draft.libraries.extend(abi.map(|abi| (abi, at)));
}

fn place_program(draft: &mut Draft<'_>, path: &Utf8Path, content: Content) {
    let name = path.file_name().filter(|_| place::is_program(path));
    let at = name.map_or_else(|| place::prefixed(path), |name| Utf8Path::new("bin").join(name));
    if draft.put(path, at, content) && name.is_none() {
        draft.tell(Reason::FixedPath, path);
    }
}

/// Why an object is of no use to the guest.
fn misfit(draft: &Draft<'_>, object: &Object) -> Option<Reason> {
    let guest = draft.guest;
    let Some(abi) = object.abi else { return Some(Reason::Abi(None)) };
    if guest.programs.is_empty() {
        return None;
    }
    let Some(programs) = guest.programs(abi) else { return Some(Reason::Abi(Some(abi))) };
    match (&object.glibc_floor, &programs.glibc, guest.libc) {
        (Some(floor), Some(version), Libc::Glibc) if floor > version => {
            Some(Reason::Glibc { floor: floor.clone(), guest: version.clone() })
        }
        _ => None,
    }
}

/// The tree's directory of libraries for programs of this word size.
pub(super) fn directory(abi: Option<Abi>) -> &'static str {
    match abi {
        Some(Abi::I386 | Abi::X32 | Abi::Armhf) => "lib32",
        Some(Abi::X86_64 | Abi::Aarch64 | Abi::Ppc64 | Abi::Riscv64 | Abi::Other(_)) | None => "lib",
    }
}

fn place_other(draft: &mut Draft<'_>, path: &Utf8Path, mount: &Mount, source: &Source) {
    let host: Utf8PathBuf = mount.host_path.as_str().into();
    if place::is_kernels(path) {
        return draft.leave(Reason::Kernel, path);
    }
    if place::is_firmware(path) {
        return draft.leave(Reason::Firmware, path);
    }
    if let Some(at) = place::volatile(path) {
        let read_only = mount.options.iter().any(|option| option == "ro");
        draft.binds.insert(Bind { at, source: BindSource::Host(host), read_only });
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
    let mut new = text.to_owned();
    for library in libraries {
        let place = draft.placed.get(library).cloned().or_else(|| {
            let at = Utf8Path::new("lib").join(library.file_name()?);
            draft.tree.contains_key(&at).then_some(at)
        })?;
        new = new.replace(library.as_str(), Utf8Path::new(TREE).join(place).as_str());
    }
    (new != text).then_some(new)
}
