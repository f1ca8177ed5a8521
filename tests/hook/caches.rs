//! D02: loader caches made to cost as much as a cache can: one error or one new cache, and never a long wait.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::Instant;

use crate::container::{Container, is_root, skipped};
use crate::elf::Stub;

const SIZE: usize = libgpuspec::ldcache::MAX_SIZE as usize;
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// A cache of the largest size whose entries, as many as fit, all say this name and one of these paths in turn.
fn cache(name: &str, paths: &[&str]) -> Vec<u8> {
    let strings: String = [&[name], paths].concat().iter().map(|text| format!("{text}\0")).collect();
    let count = (SIZE - HEADER - strings.len()) / ENTRY;
    let start = HEADER + count * ENTRY;
    let word = |number: usize| (number as u32).to_ne_bytes();
    let mut file = b"glibc-ld.so.cache1.1".to_vec();
    file.extend([word(count), word(strings.len()), word(2)].concat());
    file.resize(HEADER, 0);
    let places: Vec<usize> = paths
        .iter()
        .scan(start + name.len() + 1, |next, path| {
            let place = *next;
            *next += path.len() + 1;
            Some(place)
        })
        .collect();
    for index in 0..count {
        file.extend(
            [word(0x0303), word(start), word(places[index % places.len()]), word(0), word(0), word(0)]
                .concat(),
        );
    }
    file.extend(strings.bytes());
    file
}

/// An image whose folder holds as many libraries as are looked at, all equal in the loader's order.
fn container() -> Container {
    let container = Container::new("etc/ld.so.conf.d/\nusr/lib/x/\nusr/lib/y/\nusr/local/cuda/compat/");
    let list = "/usr/lib/y\n/usr/lib/x\n".repeat(1000);
    fs::write(container.rootfs().join("etc/ld.so.conf.d/00-gpuspec-cuda-compat.conf"), list).unwrap();
    let folder = container.rootfs().join("usr/lib/x");
    fs::write(folder.join("library"), Stub { soname: "", ..Stub::x86_64("") }.bytes()).unwrap();
    for index in 0..4096 {
        let (left, right) = (index % 64 + 1, index / 64 + 1);
        let name = format!("lib{}1x{}1.so", "0".repeat(left), "0".repeat(right));
        fs::hard_link(folder.join("library"), folder.join(&name)).unwrap();
        symlink("../x/library", container.rootfs().join("usr/lib/y").join(name)).unwrap();
    }
    container
}

#[test]
fn d02_no_cache_costs_more_than_a_moment() {
    let container = container();
    let place = container.rootfs().join("etc/ld.so.cache");
    let ours = "libcuda.so.1";
    let near = format!("libcuda.so.{}1", "0".repeat(150));
    let same = format!("lib{}1x{}1.so", "0".repeat(64), "0".repeat(64));
    let (deep, long) = (format!("/{}/{ours}", "d".repeat(160)), "x".repeat(4095));
    let cases: [(&str, &[&str], bool); 6] = [
        (ours, &["/usr/lib/x/libcuda.so.1"], false),
        (ours, &[&deep], false),
        (ours, &["/usr/lib/y/libcuda.so.1", "/usr/lib/x/libcuda.so.1", "/a/libcuda.so.1"], false),
        (&near, &["/a"], false),
        (&same, &["/usr/lib/x/lib01x01.so"], false),
        (&long, &["/a"], true),
    ];
    for (name, paths, is_refused) in cases {
        for words in [
            &["create-container", "--libraries", "x86-64:/usr/lib/x:libcuda.so.1", "--cuda-compat", "550.1"]
                [..],
            &["update-ldcache", "--folder", "/usr/lib/x"],
        ] {
            let bytes = cache(name, paths);
            fs::write(&place, &bytes).unwrap();
            let started = Instant::now();
            let ended = container.verb(words);
            println!("{:?} {name:.20} {} {words:?}", started.elapsed(), name.len());
            // The hook's own deadline would be status 69: this build is slow, and so may the machine be.
            assert_eq!(ended.status, Some(0), "{name}: {ended:?}");
            if is_refused {
                assert!(ended.stderr.contains("without end"), "{ended:?}");
                assert!(fs::read(&place).unwrap() == bytes, "it is left alone");
            }
        }
    }
}

/// N10: a label, attributes of users and an access list stay with the file's name.
#[test]
fn n10_replaced_cache_keeps_its_extended_attributes() {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    // A list as the kernel keeps it (linux/posix_acl_xattr.h): the owner rw, user 1 rw, the group nothing, the mask rw,
    // others nothing.
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 6, 1), (4, 0, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([tag.to_le_bytes(), rights.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    for name in ["etc/ld.so.cache", "etc/ld.so.conf"] {
        let container = Container::new("etc/ld.so.cache\netc/ld.so.conf = /opt/lib");
        let path = container.rootfs().join(name);
        let wanted: [(&str, &[u8]); 2] = [("user.note", b"x"), ("system.posix_acl_access", &list)];
        for (attribute, value) in wanted {
            if let Err(errno) = setxattr(&path, attribute, value, XattrFlags::empty()) {
                return skipped(&format!("no extended attributes here: {errno}"));
            }
        }
        let before = path.metadata().unwrap();
        let ended = container.hook(&["--libraries", "x86-64:/usr/lib/x:libcuda.so.1"]);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{name}");
        let after = path.metadata().unwrap();
        assert_ne!(after.ino(), before.ino(), "{name}: replaced");
        assert_eq!(after.mode(), before.mode(), "{name}");
        for (attribute, value) in wanted {
            let mut found = [0_u8; 64];
            let length = getxattr(&path, attribute, &mut found).unwrap();
            assert_eq!(&found[..length], value, "{name}: {attribute}");
        }
    }
}

/// N11: of two hooks with different lists on one tree at once neither loses its entries.
#[test]
fn n11_two_hooks_at_once_lose_nothing() {
    if !is_root() {
        return;
    }
    for round in 0..100 {
        let container = Container::new("etc/\nusr/lib/");
        let hook = |name: String| {
            let libraries = format!("x86-64:/usr/lib:{name}");
            container.hook(&["--libraries", &libraries])
        };
        let ended = std::thread::scope(|scope| {
            let hook = &hook;
            let hooks: Vec<_> = (0..4).map(|n| scope.spawn(move || hook(format!("lib{n}.so.1")))).collect();
            hooks.into_iter().map(|hook| hook.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(ended.iter().all(|ended| ended.status == Some(0) && ended.stderr.is_empty()), "{ended:?}");
        let mut found = container.cache();
        found.sort();
        let wanted: Vec<String> = (0..4).map(|n| format!("lib{n}.so.1 /usr/lib/lib{n}.so.1")).collect();
        assert_eq!(found, wanted, "round {round}");
        let tree = container.rootfs().metadata().unwrap();
        let lock = format!("/run/gpuspec/trees/{:x}-{:x}", tree.dev(), tree.ino());
        assert!(!std::path::Path::new(&lock).exists(), "no lock is left");
    }
}
