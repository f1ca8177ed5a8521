//! Containers with mounts in them: a read-only root, files that runtimes have put in place, a user's own volumes.

use std::process::Command;

use crate::container::{Container, Ended, is_root, run, skipped};
use crate::rootfs;

const ARGUMENTS: [&str; 6] = [
    "--link",
    "libcuda.so.1::/usr/lib64/libcuda.so",
    "--link",
    "libcuda.so.1::/usr/lib64/libcuda.so.550.1",
    "--libraries",
    "x86-64:/usr/lib64:libcuda.so.1",
];

/// Runs the hook in a mount namespace of its own, after these commands (`$R` is the root, `$O` outside).
fn hook_after(container: &Container, commands: &str) -> Option<Ended> {
    if !is_root() {
        return None;
    }
    let script = format!("set -e; mount --bind $R $R; {commands}; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"]);
    command.args(ARGUMENTS).env("R", container.rootfs()).env("O", container.path("outside"));
    let ended = run(&mut command, container.state().as_bytes());
    container.assert_outside_unchanged();
    if ended.stderr.starts_with("unshare:") || ended.stderr.contains("mount:") {
        skipped(&format!("no mounts on this machine: {}", ended.stderr.trim()));
        return None;
    }
    Some(ended)
}

const TREE: &str = "etc/ld.so.conf.d/\nusr/lib64/libcuda.so.1 = library\nusr/lib64/libcuda.so = file";

#[test]
fn a_read_only_root_is_left_as_it_is() {
    let container = Container::new(TREE);
    let before = rootfs::manifest(&container.rootfs());
    let Some(ended) = hook_after(&container, "mount -o remount,bind,ro $R") else { return };
    assert_eq!(ended.status, Some(0), "{ended:?}");
    for name in ["usr/lib64/libcuda.so", "etc/ld.so.cache", "00-gpuspec.conf", "etc/ld.so.conf"] {
        let line = ended.stderr.lines().find(|line| line.contains(name));
        assert!(line.is_some_and(|line| line.contains("Read-only file system")), "{name}: {ended:?}");
    }
    assert_eq!(ended.stderr.lines().count(), 4, "one warning a place, not one a link: {ended:?}");
    assert_eq!(rootfs::manifest(&container.rootfs()), before);
}

#[test]
fn a_link_does_not_replace_what_is_mounted_in_its_place() {
    let container = Container::new(TREE);
    let mounted = "mount --bind $O/file $R/usr/lib64/libcuda.so";
    let Some(ended) = hook_after(&container, mounted) else { return };
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let line = ended.stderr.lines().find(|line| line.contains("usr/lib64/libcuda.so:"));
    assert!(line.is_some_and(|line| line.contains("busy")), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let listing = rootfs::listing(&container.rootfs());
    assert!(listing.contains(&"usr/lib64/libcuda.so.550.1 -> libcuda.so.1".to_owned()), "{listing:?}");
    assert!(!listing.iter().any(|line| line.ends_with(".tmp")), "{listing:?}");
}

#[test]
fn a_cache_that_is_a_mount_is_read_and_not_replaced() {
    let container = Container::new("etc/ld.so.conf.d/\netc/ld.so.cache");
    let Some(ended) = hook_after(&container, "mount --bind $R/etc/ld.so.cache $R/etc/ld.so.cache") else {
        return;
    };
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("etc/ld.so.cache: writing it: Device or resource busy"), "{ended:?}");
    assert_eq!(container.text("etc/ld.so.cache"), "");
}

/// With `--volume /etc:/etc` the container's /etc is the host's own.
#[test]
fn a_volume_is_the_users_and_is_not_written_to() {
    let cases = [
        ("mount --bind $O/etc $R/etc", "/etc: another mount"),
        ("mount --bind $O/lib $R/usr/lib64", "/usr/lib64: another mount"),
        ("mount --bind $O/lib $R/etc/ld.so.conf.d", "/etc/ld.so.conf.d: another mount"),
        ("mount -t tmpfs tmpfs $R/etc", "/etc: another mount"),
    ];
    for (mounted, word) in cases {
        let container = Container::new(TREE);
        let Some(ended) = hook_after(&container, mounted) else { return };
        assert_eq!((ended.status, ended.stderr.lines().count()), (Some(0), 1), "{mounted}: {ended:?}");
        assert!(ended.stderr.contains(word), "{mounted}: {ended:?}");
    }
}

/// Device links belong on the file system that a runtime mounts on /dev.
#[test]
fn device_links_are_made_on_the_mounted_dev() {
    let container = Container::new("dev/");
    let commands = "mount -t tmpfs tmpfs $R/dev; mkdir $R/dev/dri; touch $R/dev/dri/card0; \
        set -- \"$@\" --device-link ../card0::/dev/dri/by-path/pci-0; \"$@\" <&0; \
        test \"$(readlink $R/dev/dri/by-path/pci-0)\" = ../card0; exit 33";
    let Some(ended) = hook_after(&container, commands) else { return };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(33), ""), "{ended:?}");
}
