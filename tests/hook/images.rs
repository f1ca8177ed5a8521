//! Images of every sort: what the hook does in them, what it leaves, and what it never touches.

use std::process::Command;

use crate::container::{Container, PLAIN, is_root, run};
use crate::rootfs;

const ARGUMENTS: [&str; 9] = [
    PLAIN,
    "--link",
    "libcuda.so.1::/usr/lib64/libcuda.so.550.1",
    "--link",
    "libcuda.so.1::/usr/lib64/libcuda.so",
    "--device-link",
    "../card0::/dev/dri/by-path/pci-0000:01:00.0-card",
    "--libraries",
    "x86-64:/usr/lib64:libcuda.so.1:libnvidia-ml.so.1",
];
const ENTRIES: [&str; 2] =
    ["libnvidia-ml.so.1 /usr/lib64/libnvidia-ml.so.1", "libcuda.so.1 /usr/lib64/libcuda.so.1"];
const LIST: &str = "# where the GPU driver's libraries are; written at container start by oci-hook\n/etc/gpuspec/lib/x86-64\n";
const INCLUDE: &str = "include /etc/ld.so.conf.d/00-gpuspec*.conf\n";

#[test]
fn an_empty_image_gets_all_it_is_asked_for() {
    let container = Container::new("dev/dri/card0");
    let ended = container.hook(&ARGUMENTS);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let expected = [
        "dev/",
        "dev/dri/",
        "dev/dri/by-path/",
        "dev/dri/by-path/pci-0000:01:00.0-card -> ../card0",
        "dev/dri/card0",
        "etc/",
        "etc/gpuspec/",
        "etc/gpuspec/lib/",
        "etc/gpuspec/lib/x86-64/",
        "etc/gpuspec/lib/x86-64/libcuda.so.1 -> /usr/lib64/libcuda.so.1",
        "etc/gpuspec/lib/x86-64/libnvidia-ml.so.1 -> /usr/lib64/libnvidia-ml.so.1",
        "etc/ld.so.cache",
        "etc/ld.so.conf",
        "etc/ld.so.conf.d/",
        "etc/ld.so.conf.d/00-gpuspec.conf",
        "usr/",
        "usr/lib64/",
        "usr/lib64/libcuda.so -> libcuda.so.1",
        "usr/lib64/libcuda.so.550.1 -> libcuda.so.1",
    ];
    assert_eq!(rootfs::listing(&container.rootfs()), expected);
    assert_eq!(container.cache(), ENTRIES);
    assert_eq!(container.text("etc/ld.so.conf.d/00-gpuspec.conf"), LIST);
    assert_eq!(container.text("etc/ld.so.conf"), INCLUDE);
}

#[test]
fn a_second_run_changes_nothing() {
    let container = Container::new("dev/dri/card0\netc/ld.so.conf = /opt/lib");
    assert_eq!(container.hook(&ARGUMENTS).status, Some(0));
    assert_eq!(container.text("etc/ld.so.conf"), format!("{INCLUDE}/opt/lib"));
    let before = rootfs::manifest(&container.rootfs());
    let ended = container.hook(&ARGUMENTS);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(rootfs::manifest(&container.rootfs()), before);
}

#[test]
fn files_that_are_replaced_keep_mode_and_owner() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let container = Container::new("etc/ld.so.conf = /opt/lib\netc/ld.so.cache");
    let file = container.rootfs().join("etc/ld.so.conf");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let owner = if is_root() { 4711 } else { file.metadata().unwrap().uid() };
    chown(&file, Some(owner), None).unwrap();
    container.hook(&ARGUMENTS);
    let metadata = file.metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o640, owner));
    let cache = container.rootfs().join("etc/ld.so.cache").metadata().unwrap();
    assert_eq!(cache.mode() & 0o7777, 0o644);
}

#[test]
fn the_callers_umask_is_not_the_containers() {
    use std::os::unix::fs::PermissionsExt;
    let container = Container::new("");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"]);
    run(command.args(ARGUMENTS), container.state().as_bytes());
    for (name, mode) in [("etc", 0o755), ("etc/ld.so.cache", 0o644), ("usr/lib64", 0o755)] {
        let metadata = container.rootfs().join(name).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn the_root_is_where_state_or_config_say() {
    for root in ["ABSOLUTE", "rootfs", "./rootfs", ""] {
        let container = Container::new("");
        let root = root.replace("ABSOLUTE", container.rootfs().to_str().unwrap());
        let state = serde_json::json!({ "bundle": container.path("bundle"), "root": root, "pid": 0 });
        std::fs::write(container.path("bundle/config.json"), r#"{"root":{"path":"rootfs","futureField":1}}"#)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        let ended = run(command.arg("create-container").args(ARGUMENTS), state.to_string().as_bytes());
        assert_eq!(
            (ended.status, container.cache()),
            (Some(0), ENTRIES.map(str::to_owned).to_vec()),
            "{root}"
        );
    }
}

/// Image, what the warnings must name, and whether the cache must have our entries in the end.
const ODD_IMAGES: [(&str, &[&str], bool); 20] = [
    ("etc/ld.so.conf |", &["etc/ld.so.conf: a FIFO"], true),
    ("etc/ld.so.conf/", &["etc/ld.so.conf: a directory"], true),
    ("etc/ld.so.conf -> OUTSIDE/etc/ld.so.conf", &["etc/ld.so.conf: a symbolic link"], true),
    ("etc/ld.so.conf.d = file", &["etc/ld.so.conf.d"], true),
    ("etc/ld.so.conf.d -> OUTSIDE/lib", &["etc/ld.so.conf.d"], true),
    ("etc/ld.so.conf.d/00-gpuspec.conf -> OUTSIDE/file", &[], true),
    ("etc/ld.so.conf.d/00-gpuspec.conf/", &["00-gpuspec.conf: a directory"], true),
    ("etc/ld.so.cache |", &["etc/ld.so.cache: a FIFO"], false),
    ("etc/ld.so.cache/", &["etc/ld.so.cache: a directory"], false),
    ("etc/ld.so.cache = garbage", &["etc/ld.so.cache: no loader cache"], false),
    ("etc/ld.so.cache = glibc-ld.so.cache1.1", &["etc/ld.so.cache: a loader cache cut short"], false),
    ("etc/ld.so.cache", &[], true),
    ("etc/ld.so.cache -> OUTSIDE/etc/ld.so.cache", &["etc/ld.so.cache: a symbolic link"], false),
    ("etc/ld.so.cache -> ld.so.cache", &["etc/ld.so.cache"], false),
    ("etc -> nowhere", &["etc"], false),
    ("etc -> OUTSIDE/etc", &["etc"], false),
    ("etc -> ../../../outside/etc", &["etc"], false),
    ("etc = file", &["etc"], false),
    ("etc |", &["etc"], false),
    ("etc -> usr/config\nusr/config/", &[], true),
];

#[test]
fn odd_files_in_the_loaders_places_are_warnings() {
    for (page, named, has_entries) in ODD_IMAGES {
        let container = Container::new(page);
        let ended = container.hook(&ARGUMENTS);
        assert_eq!(ended.status, Some(0), "{page}: {ended:?}");
        assert_eq!(ended.stderr.is_empty(), named.is_empty(), "{page}: {ended:?}");
        for name in named {
            assert!(ended.stderr.contains(name), "{page}: {ended:?}");
        }
        let cache = container.rootfs().join("etc/ld.so.cache");
        let entries = || libgpuspec::ldcache::entries(&std::fs::read(&cache).unwrap());
        let found = cache.is_file() && entries().is_ok_and(|entries| entries.len() == 2);
        assert_eq!(found, has_entries, "{page}: {ended:?}");
        // One place that cannot be had keeps nobody from the others.
        let link = container.rootfs().join("usr/lib64/libcuda.so");
        assert_eq!(std::fs::read_link(link).unwrap().to_str(), Some("libcuda.so.1"), "{page}");
    }
}

/// Image, what the warnings must name, and the links that must stand below usr/ in the end.
const ODD_PLACES: [(&str, &[&str], &[&str]); 9] = [
    ("usr/lib64/libcuda.so -> elsewhere", &[], &["usr/lib64/libcuda.so -> libcuda.so.1"]),
    ("usr/lib64/libcuda.so -> OUTSIDE/file", &[], &["usr/lib64/libcuda.so -> libcuda.so.1"]),
    ("usr/lib64/libcuda.so = file", &[], &["usr/lib64/libcuda.so -> libcuda.so.1"]),
    ("usr/lib64/libcuda.so |", &[], &["usr/lib64/libcuda.so -> libcuda.so.1"]),
    (
        "usr/lib64/libcuda.so/",
        &["lib64/libcuda.so: replacing it by a link"],
        &["usr/lib64/libcuda.so.550.1 -> libcuda.so.1"],
    ),
    (
        "usr/lib64 -> /usr/lib\nusr/lib/",
        &[],
        &["usr/lib/libcuda.so -> libcuda.so.1", "usr/lib64 -> /usr/lib"],
    ),
    ("usr/lib64 -> OUTSIDE/lib", &["usr/lib64"], &[]),
    ("usr/lib64 -> lib64", &["usr/lib64"], &[]),
    ("usr/lib64 |", &["usr/lib64"], &[]),
];

#[test]
fn odd_files_in_the_links_places_are_replaced_or_warnings() {
    for (page, named, links) in ODD_PLACES {
        let container = Container::new(page);
        let ended = container.hook(&ARGUMENTS);
        assert_eq!((ended.status, ended.stderr.is_empty()), (Some(0), named.is_empty()), "{page}: {ended:?}");
        for name in named {
            assert!(ended.stderr.contains(name), "{page}: {ended:?}");
        }
        let listing = rootfs::listing(&container.rootfs());
        for link in links {
            assert!(listing.iter().any(|line| line == link), "{page}: {link} in {listing:?}");
        }
        assert!(!listing.iter().any(|line| line.ends_with(".tmp")), "{listing:?}");
        assert_eq!(container.cache(), ENTRIES, "{page}");
    }
}

#[test]
fn a_device_link_needs_its_device() {
    for (page, expected) in
        [("dev/dri/card1", false), ("dev/dri/card0 -> nowhere", false), ("dev/dri/card0", true)]
    {
        let container = Container::new(page);
        let ended = container.hook(&ARGUMENTS);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{page}");
        let link = container.rootfs().join("dev/dri/by-path/pci-0000:01:00.0-card");
        assert_eq!(link.symlink_metadata().is_ok(), expected, "{page}");
    }
}

#[test]
fn an_image_with_a_cache_keeps_its_entries_behind_ours() {
    let container = Container::new("etc/ld.so.cache");
    let other = "x86-64:/opt/lib:libcuda.so.1:libz.so.1:liba.so";
    assert_eq!(container.hook(&["--libraries", other]).status, Some(0));
    assert_eq!(container.hook(&ARGUMENTS).status, Some(0));
    let expected = [
        "libz.so.1 /opt/lib/libz.so.1",
        ENTRIES[0],
        ENTRIES[1],
        "libcuda.so.1 /opt/lib/libcuda.so.1",
        "liba.so /opt/lib/liba.so",
    ];
    assert_eq!(container.cache(), expected);
}
