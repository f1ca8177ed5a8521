//! What trees say of themselves: every layout, and trees that mean harm.

use libgpuspec::ldcache::Abi;
use libgpuspec::nspawn::Guest;
use libgpuspec::nspawn::guest::{Cache, Layout, Libc, Programs};

use crate::{inspect, machine};

fn programs(abi: Abi, directory: &str, glibc: &str) -> Programs {
    Programs { abi, directory: directory.into(), glibc: Some(glibc.parse().unwrap()) }
}

#[test]
fn every_layout_is_told_from_the_others() {
    let debian = [
        programs(Abi::X86_64, "/usr/lib/x86_64-linux-gnu", "2.36"),
        programs(Abi::I386, "/usr/lib/i386-linux-gnu", "2.36"),
    ];
    let split = [programs(Abi::X86_64, "/usr/lib/x86_64-linux-gnu", "2.31")];
    let fedora = [programs(Abi::X86_64, "/usr/lib64", "2.41"), programs(Abi::I386, "/usr/lib", "2.41")];
    let arch = [programs(Abi::X86_64, "/usr/lib", "2.42"), programs(Abi::I386, "/usr/lib32", "2.42")];
    let nixos = [programs(Abi::X86_64, "/nix/store/ccc-glibc-2.40-66/lib", "2.40")];
    let alpine = [Programs { abi: Abi::X86_64, directory: "/usr/lib".into(), glibc: None }];
    let glibc = Guest { libc: Libc::Glibc, ..Guest::default() };
    let cases = [
        ("debian", "Debian GNU/Linux 12 (bookworm)", glibc.clone(), debian.to_vec(), Some(104)),
        ("split", "Debian GNU/Linux 11 (bullseye)", glibc.clone(), split.to_vec(), Some(106)),
        ("fedora", "Fedora Linux 42 (Container Image)", glibc.clone(), fedora.to_vec(), Some(105)),
        ("arch", "Arch Linux", glibc.clone(), arch.to_vec(), Some(989)),
        ("nixos", "NixOS 25.05", Guest { layout: Layout::Store, ..glibc }, nixos.to_vec(), None),
        (
            "alpine",
            "Alpine Linux v3.22",
            Guest { libc: Libc::Musl, ..Guest::default() },
            alpine.to_vec(),
            None,
        ),
    ];
    for (page, name, guest, programs, render) in cases {
        let (mut found, notices) = inspect(&machine(page));
        assert_eq!(found.groups.get("render").copied(), render, "{page}");
        (found.cache, found.groups) = Default::default();
        assert_eq!(found, Guest { name: Some(name.to_owned()), programs, ..guest }, "{page}");
        assert_eq!(notices, Vec::<String>::new(), "{page}");
    }
}

#[test]
fn a_cache_names_directories_without_links() {
    let (guest, _) = inspect(&machine("debian"));
    let Cache::Usable(entries) = guest.cache else { panic!("{:?}", guest.cache) };
    let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(paths, ["/usr/lib/x86_64-linux-gnu/libc.so.6"]);
}

#[test]
fn a_store_without_programs_of_its_own_still_has_a_c_library() {
    let page = machine("nixos");
    let without: Vec<&str> =
        page.lines().filter(|line| !line.contains("system") || line.contains("os-release")).collect();
    let (guest, _) = inspect(&without.join("\n"));
    let newest = [programs(Abi::X86_64, "/nix/store/ddd-glibc-2.42-1/lib", "2.42")];
    assert_eq!((guest.layout, guest.programs.as_slice()), (Layout::Store, newest.as_slice()));
}

#[test]
fn of_two_kinds_of_programs_the_machines_own_comes_first() {
    let page = "
        bin/sh                               elf32 interp=/lib/ld-linux.so.2
        usr/lib/x86_64-linux-gnu/libc.so.6   elf64 soname=libc.so.6 defines=GLIBC_2.36
        usr/lib/i386-linux-gnu/libc.so.6     elf32 soname=libc.so.6 defines=GLIBC_2.36";
    let (guest, _) = inspect(page);
    let abis: Vec<Abi> = guest.programs.iter().map(|programs| programs.abi).collect();
    assert_eq!(abis, [Abi::I386, Abi::X86_64]);
    let (guest, _) = inspect("usr/lib/aarch64-linux-gnu/libc.so.6  elf64 machine=183 defines=GLIBC_2.36");
    assert_eq!(guest.programs, [programs(Abi::Aarch64, "/usr/lib/aarch64-linux-gnu", "2.36")]);
}

#[test]
fn a_tree_that_means_harm_is_told_of_and_nothing_of_it_is_believed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("group"), "render:x:1:\n").unwrap();
    std::fs::write(outside.path().join("libc.so.6"), crate::elf::Stub::x86_64("libc.so.6").bytes()).unwrap();
    let page = format!(
        "bin/sh              fifo
         etc/group           -> {0}/group
         etc/os-release      -> /etc/os-release
         etc/ld.so.cache     \"no cache\"
         lib64               -> {0}
         usr/lib64           -> ../../../../../../../../{0}
         usr/lib/libc.so.6   fifo
         lib                 -> lib",
        outside.path().display()
    );
    let (guest, notices) = inspect(&page);
    assert_eq!((guest.name, guest.libc, guest.programs), (None, Libc::Absent, Vec::new()));
    assert_eq!((guest.cache, guest.groups.len()), (Cache::Unusable, 0));
    for odd in
        ["/bin/sh: a FIFO", "/etc/os-release", "/etc/ld.so.cache", "/usr/lib/libc.so.6: a FIFO", "/lib/"]
    {
        assert!(notices.iter().any(|notice| notice.contains(odd)), "{odd}: {notices:?}");
    }
}

#[test]
fn every_c_library_cut_short_is_none() {
    let whole =
        crate::elf::Stub { defines: &["GLIBC_2.2.5", "GLIBC_2.36"], ..crate::elf::Stub::x86_64("libc.so.6") };
    let whole = whole.bytes();
    let tree = crate::tree::Tree::build("usr/lib64 dir");
    let root = libgpuspec::Root::open(tree.path()).unwrap();
    for length in 0..whole.len() {
        std::fs::write(tree.path().join("usr/lib64/libc.so.6"), &whole[..length]).unwrap();
        let (guest, _) = libgpuspec::nspawn::guest::inspect(&root);
        assert_eq!((guest.libc, guest.programs), (Libc::Absent, Vec::new()), "{length} bytes");
    }
}

/// H1: of a cache, what leads to no directory of the tree is left out.
#[test]
fn h1_a_cache_names_directories_of_the_tree_only() {
    let page = "etc dir
        srv dir
        file \"x\"
        usr/lib64/kept/a \"x\"
        link -> usr/lib64/kept
        proc/lib dir
        sys dir
        dev/lib dir
        run/lib dir
        tmp/lib dir
        to-proc -> /proc/lib
        out -> ../../../../../../../../etc
        magic -> /proc/self/root/etc
        loop -> loop";
    let cases = [
        ("/usr/lib64/kept", Some("/usr/lib64/kept/libx.so.1")),
        ("/link", Some("/usr/lib64/kept/libx.so.1")),
        ("/out", Some("/etc/libx.so.1")),
        ("/magic", None),
        ("/loop", None),
        ("/file", None),
        ("/gone", None),
        ("/usr/lib64/kept/..", None),
        ("/usr/../../../srv", None),
        ("usr/lib64/kept", None),
        // systemd-nspawn mounts over these, so links in them keep the machine from starting.
        ("/proc/lib", None),
        ("/sys", None),
        ("/dev/lib", None),
        ("/run/lib", None),
        ("/tmp/lib", None),
        ("/to-proc", None),
        ("/", None),
    ];
    for (directory, expected) in cases {
        let tree = crate::tree::Tree::build(page);
        crate::real::cache(tree.path().as_std_path(), &[(directory, "libx.so.1")]);
        let (guest, _) = libgpuspec::nspawn::guest::inspect(&libgpuspec::Root::open(tree.path()).unwrap());
        let Cache::Usable(entries) = guest.cache else { panic!("{directory}: {:?}", guest.cache) };
        let paths: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths.first().copied(), expected, "{directory}");
    }
}

/// N5: a cache of 70,000 directories makes a few notices, whether they are there or cannot be believed.
#[test]
fn n5_a_cache_of_many_directories_makes_few_notices() {
    for (prefix, suffix) in [("/d", ""), ("/d", "/../x"), ("/loop", "")] {
        let tree = crate::tree::Tree::build("etc dir");
        let directories: Vec<String> =
            (0..70_000).map(|number| format!("{prefix}{number}{suffix}")).collect();
        // The first ones are links to themselves.
        for name in directories.iter().take(if prefix == "/loop" { 64 } else { 0 }) {
            std::os::unix::fs::symlink(name, tree.path().join(name.trim_start_matches('/'))).unwrap();
        }
        let libraries: Vec<(&str, &str)> =
            directories.iter().map(|name| (name.as_str(), "libx.so.1")).collect();
        crate::real::cache(tree.path().as_std_path(), &libraries);
        let started = std::time::Instant::now();
        let (_, notices) = libgpuspec::nspawn::guest::inspect(&libgpuspec::Root::open(tree.path()).unwrap());
        assert!((1..=21).contains(&notices.len()), "{prefix}{suffix}: {} notices", notices.len());
        assert!(started.elapsed().as_secs() < 5, "{prefix}{suffix}: {:?}", started.elapsed());
    }
}
