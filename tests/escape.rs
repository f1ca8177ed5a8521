//! Whatever a container's tree looks like, and whoever changes it meanwhile: nothing outside it is touched.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "escape/attach.rs"]
mod attach;
#[path = "escape/bundle.rs"]
mod bundle;
#[path = "support/elf.rs"]
#[allow(dead_code)]
mod elf;
#[path = "escape/held.rs"]
mod held;
#[path = "support/rootfs.rs"]
mod rootfs;
#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::apply::{Request, apply};
use libgpuspec::root::{Entry, Kind};
use proptest::prelude::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// `rootfs/` is the container's, `outside/` is not.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        rootfs::make(
            &directory.path().join("outside"),
            "etc/ld.so.conf = canary\nlib64/\nld.so.conf.d/\nfile",
        );
        rootfs::make(&directory.path().join("rootfs"), "");
        Place { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn root(&self) -> Root {
        Root::open(Utf8Path::from_path(&self.path("rootfs")).unwrap()).unwrap()
    }

    fn outside(&self) -> Vec<String> {
        rootfs::manifest(&self.path("outside"))
    }
}

fn request(link: &str) -> Request {
    Request {
        links: vec![
            format!("libcuda.so.1::/usr/lib64/{link}").parse().unwrap(),
            "libcuda.so.1::/usr/lib64/gbm/driver.so".parse().unwrap(),
        ],
        device_links: vec!["../card0::/dev/by-path/card".parse().unwrap()],
        libraries: vec!["x86-64:/usr/lib64:libcuda.so.1".parse().unwrap()],
        ..Request::default()
    }
}

const PLACES: [&str; 16] = [
    "usr",
    "usr/lib64",
    "usr/lib64/libcuda.so",
    "usr/lib64/gbm",
    "usr/lib64/gbm/driver.so",
    "etc",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/ld.so.conf.d/00-gpuspec.conf",
    "dev",
    "dev/by-path",
    "dev/by-path/card",
    "dev/card0",
    "zz",
    "zz/lib64",
];
/// What stands in a place: nothing, a directory, a file, or a link to this. `@` is the other tree.
const KINDS: [&str; 16] = [
    "",
    "dir",
    "dir",
    "file",
    "@",
    "@/etc",
    "@/lib64",
    "@/file",
    "@/new",
    "../outside",
    "../../outside/lib64",
    "../../../../../outside",
    "/zz",
    "/zz/lib64",
    ".",
    "lib64",
];

/// Never through a link, which might lead the builder itself astray.
fn build(root: &Path, outside: &Path, kinds: &[usize]) {
    for (place, kind) in PLACES.iter().zip(kinds) {
        let path = root.join(place);
        let parent_is_real = path
            .parent()
            .is_some_and(|parent| parent.is_dir() && parent.canonicalize().is_ok_and(|real| real == parent));
        match KINDS[*kind] {
            _ if !parent_is_real => {}
            "" => {}
            "dir" => fs::create_dir(path).unwrap(),
            "file" => fs::write(path, "text").unwrap(),
            target => symlink(target.replace('@', outside.to_str().unwrap()), path).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_tree_leads_outside(kinds in proptest::collection::vec(0..KINDS.len(), PLACES.len())) {
        let place = Place::new();
        build(&place.path("rootfs"), &place.path("outside"), &kinds);
        let before = place.outside();
        apply(&place.root(), &request("libcuda.so"));
        prop_assert_eq!(place.outside(), before);
        let after = rootfs::manifest(&place.path("rootfs"));
        apply(&place.root(), &request("libcuda.so"));
        prop_assert_eq!(rootfs::manifest(&place.path("rootfs")), after, "a second run");
        let listing = rootfs::listing(&place.path("rootfs"));
        prop_assert!(!listing.iter().any(|line| line.ends_with(".tmp")), "{:?}", listing);
    }
}

/// Exchanges directories of the container with links that lead outside, until told to stop.
fn exchange_until(place: &Place, stop: &AtomicBool) {
    let pairs = [("usr/lib64", "usr/decoy"), ("etc", "decoy")];
    while !stop.load(Ordering::Relaxed) {
        for (one, other) in pairs {
            let (one, other) = (place.path("rootfs").join(one), place.path("rootfs").join(other));
            renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
        }
    }
}

/// Runs `attempt` with the number of the round while the exchange goes on.
fn race(attempt: impl Fn(&Place, usize) -> bool) -> (Place, Vec<String>) {
    let place = Place::new();
    rootfs::make(&place.path("rootfs"), "usr/lib64/\netc/");
    symlink(place.path("outside/lib64"), place.path("rootfs/usr/decoy")).unwrap();
    symlink(place.path("outside/etc"), place.path("rootfs/decoy")).unwrap();
    let before = place.outside();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| exchange_until(&place, &stop));
        let mut round = 0;
        while attempt(&place, round) {
            round += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    (place, before)
}

/// As many as a race that is lost in one of a thousand tries would need to show.
const ATTEMPTS: usize = 20_000;

/// How often a race is run, each in a place of its own: `LIBGPUSPEC_RACES=50` is a million tries.
fn races() -> usize {
    std::env::var("LIBGPUSPEC_RACES").map_or(1, |text| text.parse().expect("LIBGPUSPEC_RACES: a number"))
}

#[test]
fn no_exchange_leads_outside() {
    let (place, before) = race(|place, round| {
        apply(&place.root(), &request(&format!("link-{round}")));
        round < 1_500
    });
    assert_eq!(place.outside(), before);
}

/// R01: the directory of a link is exchanged for a link that leads outside.
#[test]
fn r01_no_link_is_made_outside() {
    for _ in 0..races() {
        let (place, before) = race(|place, round| {
            let link = format!("libcuda.so.1::/usr/lib64/link-{}", round % 64).parse().unwrap();
            apply(&place.root(), &Request { links: vec![link], ..Request::default() });
            round < ATTEMPTS
        });
        assert_eq!(place.outside(), before);
    }
}

/// R01: the same while device nodes are made.
#[test]
fn r01_no_node_is_made_outside() {
    let node = |minor| Entry {
        kind: Kind::CharDevice,
        mode: 0o600,
        uid: 0,
        gid: 0,
        size: 0,
        major: 1,
        minor,
        identity: (0, 0),
    };
    if Place::new().root().make_node("/node".into(), &node(3)).is_err() {
        return std::io::Write::write_all(&mut std::io::stderr(), b"skipped: needs CAP_MKNOD\n").unwrap();
    }
    for _ in 0..races() {
        let made = std::cell::Cell::new(0);
        let (place, before) = race(|place, round| {
            // Another device than the last one's, so that each try has something to do.
            let path = format!("/usr/lib64/node-{}", round % 64);
            let is_made =
                place.root().make_node(path.as_str().into(), &node(3 + (round / 64 % 2) as u32 * 4));
            made.set(made.get() + usize::from(is_made.is_ok()));
            round < ATTEMPTS
        });
        assert_eq!(place.outside(), before);
        assert!(made.get() > ATTEMPTS / 100, "made in the directory: {}", made.get());
    }
}

/// R02: the same while directories are made, five deep.
#[test]
fn r02_no_directory_is_made_outside() {
    for _ in 0..races() {
        let (place, before) = race(|place, round| {
            let link = format!("x::/usr/lib64/{round}/b/c/d/e/link").parse().unwrap();
            apply(&place.root(), &Request { links: vec![link], ..Request::default() });
            round < ATTEMPTS
        });
        assert_eq!(place.outside(), before);
        let made = fs::read_dir(place.path("rootfs/usr/lib64")).map_or(0, Iterator::count);
        let other = fs::read_dir(place.path("rootfs/usr/decoy")).map_or(0, Iterator::count);
        // How many find the directory in place depends on the machine's load; some must, or nothing was tried.
        assert!(made.max(other) > ATTEMPTS / 100, "made in the directory: {made}, {other}");
    }
}

/// The race must be one that careless code loses, or the test above proves nothing.
#[test]
fn the_exchange_catches_careless_code() {
    let (place, before) = race(|place, round| {
        let directory = place.path("rootfs/usr/lib64");
        let looks_safe = directory.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if looks_safe {
            let _ = symlink("libcuda.so.1", directory.join(format!("link-{round}")));
        }
        let caught = fs::read_dir(place.path("outside/lib64")).unwrap().count() > 0;
        !caught && round < 2_000_000
    });
    assert_ne!(place.outside(), before);
}
