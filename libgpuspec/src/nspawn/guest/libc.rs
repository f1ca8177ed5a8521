//! A machine's C library: what programs are made for it, and where their loader looks without being told.

use camino::{Utf8Path, Utf8PathBuf};

use super::{Layout, Libc, Programs, told};
use crate::elf::{self, Object, Version};
use crate::error::Result;
use crate::ldcache::Abi;
use crate::root::Opened;
use crate::{Notice, Root};

/// Where distributions have their C library: Debian by triplet, others by word size.
const DIRECTORIES: [&str; 22] = [
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/powerpc64le-linux-gnu",
    "/lib/powerpc64le-linux-gnu",
    "/usr/lib/riscv64-linux-gnu",
    "/lib/riscv64-linux-gnu",
    "/usr/lib64/lp64d",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
    "/lib",
    "/usr/lib/i386-linux-gnu",
    "/lib/i386-linux-gnu",
    "/usr/lib/arm-linux-gnueabihf",
    "/lib/arm-linux-gnueabihf",
    "/usr/lib32",
    "/lib32",
    "/usr/libx32",
    "/libx32",
    "/usr/lib/x86_64-linux-gnux32",
];

const LIBC: &str = "libc.so.6";

/// Whose versions count too: 2.31 gave some to libpthread alone.
const PARTS: [&str; 3] = ["libpthread.so.0", "libm.so.6", "librt.so.1"];

/// Programs that tell which are a machine's own.
const OWN: [&str; 6] = [
    "/bin/sh",
    "/usr/bin/env",
    "/sbin/init",
    "/nix/var/nix/profiles/system/sw/bin/sh",
    "/run/current-system/sw/bin/sh",
    "/var/guix/profiles/system/profile/bin/sh",
];

const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];
/// Most C libraries of a store that are looked at; a system has one or two.
const MAX_IN_STORE: usize = 16;
const MUSL: &str = "ld-musl-";

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) libc: Libc,
    pub(super) layout: Layout,
    pub(super) programs: Vec<Programs>,
}

/// Looks where C libraries are; the machine's own kind of programs comes first.
pub(super) fn find(root: &Root, notices: &mut Vec<Notice>) -> Found {
    let own = OWN.iter().find_map(|path| told(program(root, path), notices));
    let mut found = Found { libc: Libc::Absent, ..Found::default() };
    for directory in DIRECTORIES {
        found.programs.extend(told(glibc(root, Utf8Path::new(directory)), notices));
    }
    if found.programs.is_empty() {
        found.programs = in_store(root, own.as_ref(), notices);
        found.layout = if found.programs.is_empty() { Layout::Directories } else { Layout::Store };
    }
    let musl = own.as_ref().and_then(|own| own.loader.as_deref()).is_some_and(|loader| loader.contains(MUSL));
    if musl || found.programs.is_empty() {
        found.programs = told(musl_programs(root), notices);
        found.libc = if found.programs.is_empty() { Libc::Absent } else { Libc::Musl };
    } else {
        found.libc = Libc::Glibc;
    }
    let own = own.map(|own| own.abi);
    found.programs.sort_by_key(|programs| Some(programs.abi) != own);
    let mut seen = Vec::new();
    found.programs.retain(|programs| {
        !seen.contains(&programs.abi) && {
            seen.push(programs.abi);
            true
        }
    });
    found
}

/// A program of the machine, and the loader that it asks for.
#[derive(Debug)]
struct Program {
    abi: Abi,
    loader: Option<String>,
}

fn program(root: &Root, path: &str) -> Result<Option<Program>> {
    let Some(opened) = root.open_file(Utf8Path::new(path))? else { return Ok(None) };
    // Not every first program is an ELF file: some are scripts.
    let Some(abi) = elf::inspect(&opened).ok().as_ref().and_then(abi) else { return Ok(None) };
    Ok(Some(Program { abi, loader: elf::interpreter(&opened).ok().flatten() }))
}

fn abi(object: &Object) -> Option<Abi> {
    Abi::from_elf(object.class.ident(), object.machine)
}

/// The programs of the glibc in a directory; a libc.so.6 of another maker defines none of glibc's versions.
fn glibc(root: &Root, directory: &Utf8Path) -> Result<Option<Programs>> {
    let path = directory.join(LIBC);
    let Some(opened) = root.open_file(&path)? else { return Ok(None) };
    let Some(abi) = elf::inspect(&opened).ok().as_ref().and_then(abi) else { return Ok(None) };
    let Some(mut glibc) = version(&opened) else { return Ok(None) };
    for part in PARTS {
        let opened = root.open_file(&directory.join(part))?;
        if let Some(newer) = opened.and_then(|opened| version(&opened)).filter(|version| *version > glibc) {
            glibc = newer;
        }
    }
    let Some(real) = root.resolve(directory)? else { return Ok(None) };
    Ok(Some(Programs { abi, directory: searched(root, real)?, glibc: Some(glibc) }))
}

/// The newest of glibc's versions that a library defines.
fn version(opened: &Opened) -> Option<Version> {
    // What is not a number is a feature, which distributions add to older releases too.
    let numbered = |version: &String| version.strip_prefix("GLIBC_")?.parse().ok();
    elf::defined_versions(opened).unwrap_or_default().iter().filter_map(numbered).max()
}

/// The directory that a loader searches in which packages put their libraries: where /usr is not merged,
/// the C library alone is outside it.
fn searched(root: &Root, directory: Utf8PathBuf) -> Result<Utf8PathBuf> {
    if directory.starts_with("/usr") || STORES.iter().any(|store| directory.starts_with(store)) {
        return Ok(directory);
    }
    let below_usr = Utf8Path::new("/usr").join(directory.as_str().trim_start_matches('/'));
    Ok(root.resolve(&below_usr)?.unwrap_or(directory))
}

/// The programs of a store's C library: the one that the machine's own programs ask for, or what is there.
fn in_store(root: &Root, own: Option<&Program>, notices: &mut Vec<Notice>) -> Vec<Programs> {
    let asked = own.and_then(|own| Utf8Path::new(own.loader.as_deref()?).parent());
    let asked = asked.filter(|directory| STORES.iter().any(|store| directory.starts_with(store)));
    if let Some(programs) = asked.and_then(|directory| told(glibc(root, directory), notices)) {
        return vec![programs];
    }
    let mut found = Vec::new();
    for store in STORES {
        let is_glibc = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.contains("-glibc-2."));
        let names = told(root.list_where(Utf8Path::new(store), is_glibc), notices).unwrap_or_default();
        let mut names: Vec<String> =
            names.into_iter().filter_map(|(name, _)| name.into_string().ok()).collect();
        names.sort();
        for name in names.iter().take(MAX_IN_STORE) {
            let directory = Utf8Path::new(store).join(name).join("lib");
            found.extend(told(glibc(root, &directory), notices));
        }
    }
    found.sort_by(|one, other| other.glibc.cmp(&one.glibc));
    found
}

/// The programs of the musl loaders that are there; their loader reads a list instead of a cache.
fn musl_programs(root: &Root) -> Result<Vec<Programs>> {
    let is_loader = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.starts_with(MUSL));
    let mut programs = Vec::new();
    for (name, _) in root.list_where(Utf8Path::new("/lib"), is_loader)?.unwrap_or_default() {
        let Some(name) = name.to_str() else { continue };
        let Some(opened) = root.open_file(&Utf8Path::new("/lib").join(name))? else { continue };
        if let Some(abi) = elf::inspect(&opened).ok().as_ref().and_then(abi) {
            programs.push(Programs { abi, directory: "/usr/lib".into(), glibc: None });
        }
    }
    programs.sort_by_key(|programs| programs.abi);
    Ok(programs)
}
