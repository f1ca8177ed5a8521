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
    hook_with(container, commands, &ARGUMENTS)
}

fn hook_with(container: &Container, commands: &str, arguments: &[&str]) -> Option<Ended> {
    if !is_root() {
        return None;
    }
    let script = format!("set -e; mount --bind $R $R; {commands}; exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"]);
    command.args(arguments).env("R", container.rootfs()).env("O", container.path("outside"));
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
    for name in
        ["usr/lib64/libcuda.so", "etc/gpuspec", "etc/ld.so.cache", "00-gpuspec.conf", "etc/ld.so.conf"]
    {
        let line = ended.stderr.lines().find(|line| line.contains(name));
        assert!(line.is_some_and(|line| line.contains("Read-only file system")), "{name}: {ended:?}");
    }
    assert_eq!(ended.stderr.lines().count(), 5, "one warning a place, not one a link: {ended:?}");
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

/// What only the hook may read is not published through a link of the image's: the kernel's view, a
/// volume's secret.
#[test]
fn what_a_link_leads_to_is_not_copied_into_the_image() {
    for (page, mounted) in [
        (
            "etc/ld.so.conf -> /data/secret\ndata/",
            "mount -t tmpfs tmpfs $R/data; echo secret >$R/data/secret",
        ),
        ("etc/ld.so.conf -> /proc/iomem\nproc/", "mount -t proc proc $R/proc"),
        ("etc/ld.so.conf -> /opt/secret\nopt/secret = secret", "true"),
    ] {
        let container = Container::new(page);
        let Some(ended) = hook_after(&container, mounted) else { return };
        assert_eq!(ended.status, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("etc/ld.so.conf: a symbolic link"), "{ended:?}");
        let listing = rootfs::listing(&container.rootfs());
        assert!(listing.iter().any(|line| line.starts_with("etc/ld.so.conf -> ")), "{listing:?}");
    }
}

/// Nothing is made on a volume that a path of the image's leads to, not even a directory.
#[test]
fn no_directory_is_made_on_a_volume() {
    let arguments = ["--link", "a::/usr/lib64/b", "--device-link", "../card0::/dev/dri/by-path/card"];
    for (page, volume) in [("usr/", "usr"), ("usr -> /data\ndata/", "data"), ("dev/dri/", "dev/dri")] {
        let container = Container::new(&format!("{page}\nvolume/card0 = node"));
        let mounted = format!("mount --bind $R/volume $R/{volume}; mount -o remount,bind $R/{volume}");
        let Some(ended) = hook_with(&container, &mounted, &arguments) else { return };
        assert_eq!(ended.status, Some(0), "{page}: {ended:?}");
        let listing = rootfs::listing(&container.rootfs().join("volume"));
        assert_eq!(listing, ["card0"], "{page}: {ended:?}");
    }
}

/// What stands where a link to a device is to be is the runtime's, or the user's.
#[test]
fn a_link_to_a_device_replaces_nothing() {
    let container = Container::new("dev/dri/by-path/card -> ../card1\ndev/dri/card0 = node");
    let arguments = ["--device-link", "../card0::/dev/dri/by-path/card"];
    let Some(ended) = hook_with(&container, "true", &arguments) else { return };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let listing = rootfs::listing(&container.rootfs());
    assert!(listing.contains(&"dev/dri/by-path/card -> ../card1".to_owned()), "{listing:?}");
}

/// Optional mounts (case D1): what a daemon has is in the container while it runs, and no state of it costs a start.
mod optional {
    use super::{Container, Ended, hook_with};

    /// The socket and the directory are on a host of their own, a tmpfs over /run and one over /tmp.
    const HOST: &str = "cat >/dev/null & mount -n -t tmpfs -o mode=0755 run /run; mkdir /run/daemon $R/proc 2>/dev/null || true; \
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/run/daemon/socket\")'";
    const ARGUMENTS: [&str; 4] = [
        "--optional-mount",
        "socket:/run/daemon/socket::/run/daemon/socket",
        "--optional-mount",
        "directory:/run/shared::/tmp/shared",
    ];

    /// Runs the hook after these commands, and then this check.
    fn hook(page: &str, commands: &str, check: &str) -> Option<Ended> {
        let container = Container::new(page);
        let script = format!("{HOST}; {commands}; \"$@\" <&9; {check}; exit 33");
        let ended = hook_with(&container, &format!("exec 9<&0; {script}"), &ARGUMENTS)?;
        assert_eq!(ended.status, Some(33), "{commands}: {check}: {ended:?}");
        Some(ended)
    }

    #[test]
    fn d1_what_is_there_is_mounted_without_rights_to_more() {
        let check = "test -S $R/run/daemon/socket; \
            grep -q ' '$R'/run/daemon/socket .*nosuid,nodev,noexec' /proc/self/mountinfo; touch $R/tmp/shared/new; test -e /run/shared/new; \
            \"$@\" </dev/null || true; test \"$(grep -c daemon/socket /proc/self/mountinfo)\" = 1";
        for page in ["etc/ld.so.conf.d/", "run/daemon/socket = placeholder\ntmp/shared/"] {
            let Some(ended) = hook(page, "mkdir /run/shared", check) else { return };
            assert!(!ended.stderr.contains("socket"), "{ended:?}");
        }
    }

    #[test]
    fn d1_what_is_missing_is_left_out_without_a_word() {
        let check = "test ! -e $R/run/daemon; test ! -e $R/tmp/shared";
        let Some(ended) = hook("etc/ld.so.conf.d/", "rm /run/daemon/socket", check) else { return };
        assert_eq!(ended.stderr, "");
    }

    /// H9: another user's link or directory in a directory for all, and everything that is of another type.
    #[test]
    fn h9_what_another_user_put_there_is_not_mounted() {
        let not_mounted = "test ! -e $R/tmp/shared";
        let cases = [
            (
                "chmod 1777 /run; ln -s $O /run/shared; chown -h 1001 /run/shared",
                "symbolic link in a world-writable directory",
            ),
            ("chmod 1777 /run; ln -s $O /run/shared", "symbolic link in a world-writable directory"),
            ("ln -s $O /run/shared; chown -h 1001 /run/shared", "symbolic link owned by user 1001"),
            ("chmod 1777 /run; mkdir /run/shared; chown 1001 /run/shared", "belongs to user 1001"),
            ("echo x >/run/shared", "a regular file, not a directory"),
            ("mkfifo /run/shared", "a FIFO, not a directory"),
        ];
        for (commands, word) in cases {
            let Some(ended) = hook("etc/ld.so.conf.d/", commands, not_mounted) else { return };
            let lines: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("shared")).collect();
            assert!(lines.len() == 1 && lines[0].contains(word), "{commands}: {ended:?}");
        }
    }

    /// H10: an image's link must not have the host's directory cover what a runtime opens after the hook.
    #[test]
    fn h10_no_mount_covers_the_root_its_dev_or_a_device() {
        let cases = [
            ("mkdir $R/dev; mount -t tmpfs dev $R/dev; ln -s /dev $R/tmp/shared", "test ! -e $R/dev/new"),
            ("mkdir $R/vol; mount -t tmpfs vol $R/vol; ln -s ../vol $R/tmp/shared", "test ! -e $R/vol/new"),
            ("ln -s / $R/tmp/shared", "test -d $R/etc"),
            ("ln -s /../.. $R/tmp/shared", "test -d $R/etc"),
        ];
        for (commands, check) in cases {
            let commands = format!("mkdir /run/shared; touch /run/shared/new; {commands}");
            let Some(ended) = hook("etc/\ntmp/", &commands, check) else { return };
            let word = "the root, or another mount; nothing is mounted over it";
            assert!(ended.stderr.contains(word), "{commands}: {ended:?}");
        }
        let device =
            "mkdir -p $R/run/daemon $R/dev; mknod $R/dev/null c 1 3; ln -s /dev/null $R/run/daemon/socket";
        let Some(ended) = hook("etc/", device, "test -c $R/dev/null") else { return };
        assert!(ended.stderr.contains("cannot be mounted on a character device"), "{ended:?}");
    }

    #[test]
    fn d1_a_container_without_a_place_for_it_starts() {
        let cases = [
            ("mount -o remount,bind,ro $R", "test ! -e $R/run/daemon", "Read-only file system"),
            // The user's own volume, perhaps the host's.
            (
                "mkdir -p /run/volume $R/run; mount --bind /run/volume $R/run",
                "test ! -e /run/volume/daemon",
                "another mount",
            ),
            ("mkdir -p $R/run/daemon/socket", "true", "cannot be mounted on a directory"),
            ("ln -s /proc/self $R/run; mount -t proc proc $R/proc", "true", "/run/daemon/socket"),
            ("mkdir $R/run; mount -t tmpfs run $R/run", "test -S $R/run/daemon/socket", ""),
        ];
        for (commands, check, word) in cases {
            let Some(ended) = hook("etc/ld.so.conf.d/\nproc/", commands, check) else { return };
            assert!(ended.stderr.contains(word), "{commands}: {ended:?}");
            assert_eq!(ended.stderr.is_empty(), word.is_empty(), "{commands}: {ended:?}");
        }
    }
}

/// N4: a volume at /dev can be a directory of the host, so nothing is changed there.
#[test]
fn n4_volume_at_dev_is_left_alone() {
    let link = ["--link", "../card0::/dev/dri/by-path/card"];
    let mode = ["--mode", "755", "--path", "/dev", "--path", "/dev/dri"];
    for (volume, is_own) in [
        ("mount --bind $V $R/dev", false),
        ("mount -t tmpfs tmpfs $V; mkdir $V/dri; touch $V/card0; mount --bind $V $R/dev", false),
        ("mount -t tmpfs tmpfs $V; mkdir $V/x $V/x/dri; touch $V/x/card0; mount --bind $V/x $R/dev", false),
        ("mount -t tmpfs tmpfs $R/dev; mkdir $R/dev/dri; touch $R/dev/card0 $R/dev/dri/card0", true),
        ("rmdir $R/dev; ln -s vol $R/dev; mkdir $R/vol; mount --bind $V $R/vol", false),
    ] {
        for words in [&[&["create-symlinks"][..], &link].concat(), &[&["chmod"][..], &mode].concat()] {
            let container = Container::new("dev/");
            rootfs::make(&container.path("volume"), "dri/card0 = node\ncard0 = node");
            if !is_root() {
                return;
            }
            let script = format!(
                "set -e; mount --bind $R $R; {volume}; chmod 700 $R/dev/ $R/dev/dri/; before=$(ls -lR $R/dev/); \
                 \"$@\"; test \"$before\" = \"$(ls -lR $R/dev/)\" && exit 33; exit 34"
            );
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook")]).args(words);
            command.env("R", container.rootfs()).env("V", container.path("volume"));
            let ended = run(&mut command, container.state().as_bytes());
            let expected = if is_own { 34 } else { 33 };
            assert_eq!(ended.status, Some(expected), "{volume}: {words:?}: {ended:?}");
        }
    }
}
