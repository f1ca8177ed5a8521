//! Driver roots that no package installs: each a sound driver, and much more of one thing than any has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::elf::Stub;

const VERSION: &str = "550.163.01";

/// What is added to a root: its name, and how `count` of it is made.
pub(crate) type Excess = (&'static str, fn(&Path, usize));

pub(crate) const EXCESSES: &[Excess] = &[
    ("names that share one string", shared_string),
    ("needed libraries that are missing", missing),
    ("versions with long names", versions),
    ("libraries", libraries),
    ("links to one library", links),
    ("links in circles", circles),
    ("versions of the driver", driver_versions),
    ("names in a directory", names),
    ("directories", directories),
    ("directories of the loader's cache", cache),
    ("damaged libraries", damaged),
    ("GPUs", gpus),
    ("entries of one GPU", drm),
    ("firmware", firmware),
    ("manifests", manifests),
];

/// A root with a driver, and `count` of something.
pub(crate) fn root(excess: fn(&Path, usize), count: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for top in ["dev", "proc", "sys", "usr/lib64"] {
        fs::create_dir_all(directory.path().join(top)).unwrap();
    }
    for stem in ["libcuda", "libnvidia-ml"] {
        let soname = format!("{stem}.so.1");
        library(directory.path(), &format!("{stem}.so.{VERSION}"), &Stub::x86_64(&soname).bytes());
    }
    excess(directory.path(), count);
    directory
}

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn library(root: &Path, name: &str, bytes: &[u8]) {
    write(root, &format!("usr/lib64/{name}"), bytes);
}

/// An object whose dynamic section holds these entries, and its string table these strings, at 64 KiB.
fn object(entries: &[(u64, u64)], strings: &[u8], versions: &[u8]) -> Vec<u8> {
    const DYNAMIC: usize = 176;
    const STRINGS: usize = 1 << 17;
    let table = (STRINGS + strings.len()).next_multiple_of(8);
    let size = (table + versions.len()) as u64;
    let mut dynamic = entries.to_vec();
    dynamic.extend([(5, STRINGS as u64), (10, strings.len() as u64)]);
    if !versions.is_empty() {
        dynamic.extend([(0x6fff_fffe, table as u64), (0x6fff_ffff, 1)]);
    }
    dynamic.push((0, 0));
    let length = dynamic.len() as u64 * 16;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    [3_u16, 62].iter().for_each(|half| file.extend(half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    [0_u64, 64, 0].iter().for_each(|long| file.extend(long.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [64_u16, 56, 2, 64, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    for (kind, start, length) in [(1_u32, 0, size), (2, DYNAMIC as u64, length)] {
        file.extend(kind.to_le_bytes());
        file.extend(4_u32.to_le_bytes());
        [start, start, start, length, length, 8].iter().for_each(|long| file.extend(long.to_le_bytes()));
    }
    for (tag, value) in dynamic {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.resize(STRINGS, 0);
    file.extend(strings);
    file.resize(table, 0);
    file.extend(versions);
    file
}

/// H6: 4,090 needed names that share one string of 4,000 bytes.
fn shared_string(root: &Path, count: usize) {
    let strings = [b"\0libnvidia-", "x".repeat(4_000).as_bytes(), b".so.1\0"].concat();
    let bytes = object(&[(1, 1); 4_090], &strings, &[]);
    (0..count).for_each(|index| library(root, &format!("libnvidia-a{index}.so.{VERSION}"), &bytes));
}

/// H6: as many missing names as one object may need, in each of many objects.
fn missing(root: &Path, count: usize) {
    for index in 0..count {
        let names: Vec<String> = (0..200).map(|name| format!("libnvidia-{index}-{name}.so.1")).collect();
        let needed: Vec<&str> = names.iter().map(String::as_str).collect();
        let stub = Stub { needed: &needed, ..Stub::x86_64("") };
        library(root, &format!("libnvidia-a{index}.so.{VERSION}"), &stub.bytes());
    }
}

/// One Verneed with 4,000 Vernaux that share one long name.
fn versions(root: &Path, count: usize) {
    let strings = [b"\0", "v".repeat(4_000).as_bytes(), b"\0"].concat();
    let mut table = Vec::new();
    [1_u16, 4_000].iter().for_each(|half| table.extend(half.to_le_bytes()));
    [1_u32, 16, 0].iter().for_each(|word| table.extend(word.to_le_bytes()));
    for _ in 0..4_000 {
        [0_u32, 0, 1, 16].iter().for_each(|word| table.extend(word.to_le_bytes()));
    }
    let bytes = object(&[], &strings, &table);
    (0..count).for_each(|index| library(root, &format!("libnvidia-a{index}.so.{VERSION}"), &bytes));
}

fn libraries(root: &Path, count: usize) {
    for index in 0..count * 10 {
        let name = format!("libnvidia-a{index}.so.{VERSION}");
        library(root, &name, &Stub::x86_64(&name).bytes());
    }
}

fn links(root: &Path, count: usize) {
    for index in 0..count * 10 {
        let target = format!("libcuda.so.{VERSION}");
        symlink(target, root.join(format!("usr/lib64/libcuda.so.1.{index}"))).unwrap();
    }
}

fn circles(root: &Path, count: usize) {
    for index in 0..count * 10 {
        let name = format!("libcuda.so.1.{index}");
        symlink(&name, root.join("usr/lib64").join(&name)).unwrap();
    }
}

fn driver_versions(root: &Path, count: usize) {
    for index in 0..count * 10 {
        write(root, &format!("usr/lib/nvidia/other/libcuda.so.{}.{index}", 600), "");
    }
    write(root, "proc/driver/nvidia/version", format!("NVRM version: Kernel Module  {VERSION}  x\n"));
}

fn names(root: &Path, count: usize) {
    (0..count * 20).for_each(|index| library(root, &format!("libother{index}.so.1"), b""));
}

fn directories(root: &Path, count: usize) {
    for index in 0..count * 10 {
        write(root, &format!("usr/lib64/nvidia/d{index}/libnvidia-x.so.{VERSION}"), "");
    }
}

/// A cache whose entries name a directory each.
fn cache(root: &Path, count: usize) {
    let mut file = b"glibc-ld.so.cache1.1".to_vec();
    let (mut entries, mut strings) = (Vec::new(), b"libcuda.so.1\0".to_vec());
    let entries_count = count * 40;
    let start = 48 + entries_count * 24;
    for index in 0..entries_count {
        [0x303_u32, start as u32, (start + strings.len()) as u32, 0].iter().for_each(|word| {
            entries.extend(word.to_le_bytes());
        });
        entries.extend(0_u64.to_le_bytes());
        strings.extend(format!("/d{index}/libcuda.so.1\0").as_bytes());
    }
    [entries_count as u32, strings.len() as u32].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.resize(48, 0);
    file.extend(entries);
    file.extend(strings);
    write(root, "etc/ld.so.cache", file);
}

fn damaged(root: &Path, count: usize) {
    (0..count * 10).for_each(|index| library(root, &format!("libcuda.so.1.{index}"), b"\x7fELF"));
}

fn gpus(root: &Path, count: usize) {
    for index in 0..count {
        let text = format!("Model: x\nGPU UUID: GPU-1\nDevice Minor: {index}\n");
        write(root, &format!("proc/driver/nvidia/gpus/{index:04x}:00:00.0/information"), text);
    }
}

fn drm(root: &Path, count: usize) {
    write(root, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Device Minor: 0\n");
    for index in 0..count * 4 {
        write(
            root,
            &format!("sys/bus/pci/devices/0000:01:00.0/drm/card{index}/uevent"),
            "DEVNAME=dri/card0\n",
        );
    }
}

fn firmware(root: &Path, count: usize) {
    for index in 0..count * 10 {
        write(root, &format!("lib/firmware/nvidia/{VERSION}/gsp_{index}.bin"), "x");
    }
}

fn manifests(root: &Path, count: usize) {
    for index in 0..count * 5 {
        let text = "{\"a\": {\"library_path\": \"/usr/lib64/libmissing.so.1\"}}";
        write(root, &format!("usr/share/vulkan/icd.d/nvidia_{index}.json"), text);
    }
}
