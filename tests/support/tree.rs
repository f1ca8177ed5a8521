//! A host on one page of text, built as a directory: what stands in a fixture is all there is.
//!
//! One entry a line, `PATH CONTENT`, `#` begins a comment line:
//!
//! ```text
//! usr/lib64/libcuda.so.580.95.05  elf64 soname=libcuda.so.1 needs=libc.so.6,libm.so.6
//! usr/lib64/libcuda.so.1          -> libcuda.so.580.95.05
//! usr/lib32/libcuda.so.580.95.05  elf32 soname=libcuda.so.1
//! usr/lib64/libc.so.6             elf64 soname=libc.so.6 defines=GLIBC_2.2.5,GLIBC_2.36
//! usr/bin/sh                      elf64 interp=/lib64/ld-linux-x86-64.so.2 wants=GLIBC_2.34 machine=183
//! etc/ld.so.cache                 cache x86-64:/usr/lib64:libc.so.6 x86-64:/usr/lib64:libm.so.6
//! run/empty                       dir
//! run/socket                      socket
//! run/pipe                        fifo
//! dev/nvidia0                     c 195:0 0666 0:0
//! proc/driver/nvidia/version      "NVRM version: …\n"
//! ```
//!
//! Device nodes need privilege to make, so they are recorded beside the tree instead.

// Each test takes what it needs of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::Root;
use libgpuspec::apply::Libraries;
use libgpuspec::host::Host;
use libgpuspec::ldcache::{self, Library};
use libgpuspec::root::{Entry, Kind};

use crate::elf::Stub;

/// A built fixture; its directory goes with it.
pub(crate) struct Tree {
    directory: tempfile::TempDir,
    nodes: BTreeMap<Utf8PathBuf, Entry>,
}

impl Tree {
    pub(crate) fn build(page: &str) -> Tree {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree { directory, nodes: BTreeMap::new() };
        for top in ["dev", "proc", "sys", "usr"] {
            fs::create_dir(tree.directory.path().join(top)).unwrap();
        }
        for line in page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (path, content) = line.split_once(char::is_whitespace).unwrap();
            tree.add(path, content.trim());
        }
        tree
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).unwrap()
    }

    /// The host whose four trees all are this one.
    pub(crate) fn host(&self) -> Host {
        let mut host = Host::at(self.path()).unwrap();
        host.dev = Root::open(self.path()).unwrap().with_recorded_nodes(self.nodes.clone());
        host
    }

    fn add(&mut self, path: &str, content: &str) {
        let file = self.directory.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let (word, rest) = content.split_once(' ').unwrap_or((content, ""));
        match word {
            "->" => symlink(rest.trim(), &file).unwrap(),
            "dir" => fs::create_dir_all(&file).unwrap(),
            "elf64" | "elf32" => fs::write(&file, stub(word, rest)).unwrap(),
            "cache" => fs::write(&file, cache(rest)).unwrap(),
            "fifo" => run("mkfifo", &file),
            "socket" => drop(std::os::unix::net::UnixListener::bind(&file).unwrap()),
            "c" => drop(self.nodes.insert(Utf8Path::new("/").join(path), node(rest))),
            _ if content.starts_with('"') => fs::write(&file, text(content)).unwrap(),
            _ => panic!("{path}: what is {content:?}?"),
        }
    }
}

fn stub(word: &str, attributes: &str) -> Vec<u8> {
    let value =
        |key: &str| attributes.split_whitespace().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let list = |key: &str| value(key).map(|list| list.split(',').collect()).unwrap_or_else(Vec::new);
    let (needed, defines, wants) = (list("needs"), list("defines"), list("wants"));
    let soname = value("soname").unwrap_or_default();
    let plain = if word == "elf64" { Stub::x86_64(soname) } else { Stub::i386(soname) };
    let machine = value("machine").map_or(plain.machine, |number| number.parse().unwrap());
    let interpreter = value("interp").unwrap_or_default();
    Stub { machine, interpreter, needed: &needed, defines: &defines, wants: &wants, ..plain }.bytes()
}

/// A cache of these libraries, `ABI:DIR:NAME` each.
fn cache(libraries: &str) -> Vec<u8> {
    let libraries: Vec<Libraries> = libraries.split_whitespace().map(|one| one.parse().unwrap()).collect();
    let mut entries = Vec::new();
    for one in &libraries {
        entries.extend(one.names.iter().map(|name| Library {
            abi: one.abi,
            directory: &one.directory,
            name,
        }));
    }
    ldcache::insert(None, &entries).unwrap().unwrap()
}

/// `195:0 0666 0:0`
fn node(text: &str) -> Entry {
    let numbers: Vec<u32> = text
        .split([' ', ':'])
        .enumerate()
        .map(|(at, number)| u32::from_str_radix(number, if at == 2 { 8 } else { 10 }).unwrap())
        .collect();
    let [major, minor, mode, uid, gid] = numbers[..] else { panic!("{text:?}: not a node") };
    Entry { kind: Kind::CharDevice, mode, uid, gid, size: 0, major, minor, identity: (0, 0) }
}

fn text(quoted: &str) -> String {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
    inner.replace("\\n", "\n").replace("\\t", "\t").replace("\\\"", "\"")
}

fn run(program: &str, file: &Path) {
    assert!(Command::new(program).arg(file).status().unwrap().success(), "{program} {}", file.display());
}
