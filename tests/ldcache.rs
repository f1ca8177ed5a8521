//! The loader cache as we read and write it, held against the `ldconfig` of the machine.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/elf.rs"]
mod elf;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use camino::Utf8Path;
use libgpuspec::ldcache::{self, Abi, Library};

use elf::Stub;

/// The libraries of an image, in the directories where they lie, and those that a driver adds.
const IMAGE: [(&str, &str); 9] = [
    ("usr/lib/x86_64-linux-gnu", "libc.so.6"),
    ("usr/lib/x86_64-linux-gnu", "libz.so.1"),
    ("usr/lib/x86_64-linux-gnu", "libx.so.9"),
    ("usr/lib/x86_64-linux-gnu", "libx.so.10"),
    ("usr/lib/x86_64-linux-gnu", "libcuda.so.1"),
    ("usr/lib/x86_64-linux-gnu", "libOpenGL.so.0"),
    ("usr/lib/i386-linux-gnu", "libz.so.1"),
    ("usr/lib/i386-linux-gnu", "libc.so.6"),
    ("usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2", "libz.so.1"),
];
const DRIVER: [(&str, &str); 6] = [
    ("opt/driver", "libcuda.so.1"),
    ("opt/driver", "libcuda.so"),
    ("opt/driver", "libnvidia-ml.so.1"),
    ("opt/driver", "libx.so.11"),
    ("opt/driver32", "libcuda.so.1"),
    ("opt/driver32", "libnvidia-ml.so.1"),
];

fn ldconfig() -> Option<PathBuf> {
    let found =
        ["/sbin/ldconfig", "/usr/sbin/ldconfig"].iter().map(PathBuf::from).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: no ldconfig on this machine");
    }
    found
}

fn is_32(directory: &str) -> bool {
    directory.ends_with("32") || directory.contains("i386")
}

fn put(tree: &Path, libraries: &[(&str, &str)]) {
    for (directory, name) in libraries {
        let stub = if is_32(directory) { Stub::i386(name) } else { Stub::x86_64(name) };
        fs::create_dir_all(tree.join(directory)).unwrap();
        fs::write(tree.join(directory).join(name), stub.bytes()).unwrap();
    }
}

/// Runs ldconfig on the tree with these directories, first come first searched, and reads its cache.
fn cache_by_ldconfig(ldconfig: &Path, tree: &Path, directories: &[&str], format: &str) -> Vec<u8> {
    fs::create_dir_all(tree.join("etc")).unwrap();
    let lines: String = directories.iter().map(|directory| format!("/{directory}\n")).collect();
    fs::write(tree.join("etc/ld.so.conf"), lines).unwrap();
    let ran = Command::new(ldconfig).args(["-X", "-c", format, "-r"]).arg(tree).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    fs::read(tree.join("etc/ld.so.cache")).unwrap()
}

/// `ldconfig -p -C FILE` without its first line, and without the last, which names the generator.
fn printed(ldconfig: &Path, file: &Path) -> Vec<String> {
    let ran = Command::new(ldconfig).arg("-p").arg("-C").arg(file).env("LC_ALL", "C").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    text.lines().filter(|line| line.contains("=>")).map(|line| line.trim().to_owned()).collect()
}

/// Our reading in ldconfig's words. What an entry demands of the processor is left to ldconfig.
fn described(file: &[u8]) -> Vec<String> {
    let line = |entry: ldcache::Entry| {
        let abi = if entry.abi == Abi::X86_64 { "libc6,x86-64" } else { "libc6" };
        format!("{} ({abi}) => {}", entry.name, entry.path)
    };
    ldcache::entries(file).unwrap().into_iter().map(line).collect()
}

/// Behind an old table ldconfig 2.36 looks up the names of its own hwcaps in the wrong place.
fn without_hwcaps(lines: Vec<String>) -> Vec<String> {
    let strip = |line: String| match (line.split_once(", hwcap: "), line.split_once(") => ")) {
        (Some((head, _)), Some((_, path))) => format!("{head}) => {path}"),
        _ => line,
    };
    lines.into_iter().map(strip).collect()
}

fn driver() -> Vec<Library<'static>> {
    let library = |(directory, name): (&'static str, &'static str)| Library {
        abi: if is_32(directory) { Abi::I386 } else { Abi::X86_64 },
        directory: Utf8Path::new(if is_32(directory) { "/opt/driver32" } else { "/opt/driver" }),
        name,
    };
    DRIVER.map(library).to_vec()
}

const IMAGE_DIRECTORIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib/i386-linux-gnu"];

#[test]
fn reads_what_ldconfig_writes() {
    let Some(ldconfig) = ldconfig() else { return };
    for format in ["new", "compat"] {
        let tree = tempfile::tempdir().unwrap();
        put(tree.path(), &IMAGE);
        let file = cache_by_ldconfig(&ldconfig, tree.path(), &IMAGE_DIRECTORIES, format);
        let ours = described(&file);
        assert_eq!(ours.len(), IMAGE.len(), "{format}: {ours:?}");
        assert_eq!(
            ours,
            without_hwcaps(printed(&ldconfig, &tree.path().join("etc/ld.so.cache"))),
            "{format}"
        );
    }
}

/// An entry of a driver library inserted by us stands where `ldconfig` puts it when the driver's
/// directories are searched first; but ours also precede the image's hwcaps variants.
#[test]
fn writes_the_order_that_ldconfig_writes() {
    let Some(ldconfig) = ldconfig() else { return };
    for format in ["new", "compat"] {
        let tree = tempfile::tempdir().unwrap();
        put(tree.path(), &IMAGE);
        let image = cache_by_ldconfig(&ldconfig, tree.path(), &IMAGE_DIRECTORIES, format);
        put(tree.path(), &DRIVER);
        let directories = ["opt/driver", "opt/driver32", IMAGE_DIRECTORIES[0], IMAGE_DIRECTORIES[1]];
        let expected = cache_by_ldconfig(&ldconfig, tree.path(), &directories, format);
        let inserted = ldcache::insert(Some(&image), &driver()).unwrap().expect("new entries");
        assert_eq!(described(&inserted), described(&expected), "{format}");

        let file = tree.path().join("inserted");
        fs::write(&file, &inserted).unwrap();
        let printed = printed(&ldconfig, &file);
        assert_eq!(printed.len(), IMAGE.len() + DRIVER.len());
        assert!(printed.iter().any(|line| line.contains("hwcap: \"x86-64-v2\"")), "{printed:?}");
        assert_eq!(described(&inserted), without_hwcaps(printed), "{format}");
    }
}

#[test]
fn ldconfig_reads_a_cache_of_ours_alone() {
    let Some(ldconfig) = ldconfig() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cache");
    fs::write(&file, ldcache::insert(None, &driver()).unwrap().unwrap()).unwrap();
    let printed = printed(&ldconfig, &file);
    assert_eq!(
        (printed.len(), printed.first().unwrap().as_str()),
        (DRIVER.len(), "libx.so.11 (libc6,x86-64) => /opt/driver/libx.so.11")
    );
}
