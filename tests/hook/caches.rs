//! D02: loader caches made to cost as much as a cache can: one error or one new cache, and never a long wait.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Instant;

use crate::container::Container;
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
