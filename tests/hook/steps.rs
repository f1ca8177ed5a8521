//! The further steps of create-container: the driver's parameters, musl images, and what is required.

use std::fs;
use std::process::Command;

use crate::container::{Container, Ended, is_root, run, skipped};
use crate::rootfs;

const LIBRARIES: [&str; 2] = ["--libraries", "x86-64:/usr/lib64:libcuda.so.1"];
const PARAMS: &str = "ModifyDeviceFiles: 1\nDeviceFileUID: 0\n";
const HIDDEN: &str = "ModifyDeviceFiles: 0\nDeviceFileUID: 0\n";

/// Runs create-container --hide-device-files in a mount namespace where the host's driver says `host`,
/// after `before` and followed by `after`; `$R` is the container's root, whose params is on a procfs.
fn hide_device_files(container: &Container, host: &str, before: &str, after: &str) -> Option<Ended> {
    if !is_root() {
        return None;
    }
    fs::write(container.path("params"), host).unwrap();
    fs::create_dir_all(container.rootfs().join("proc/driver/nvidia")).unwrap();
    fs::write(container.rootfs().join("proc/driver/nvidia/params"), "").unwrap();
    let script = format!(
        "set -e; mount -t tmpfs tmpfs /proc/driver; mkdir /proc/driver/nvidia
         cp $P /proc/driver/nvidia/params; mount --bind $R $R
         mount --bind /proc/version $R/proc/driver/nvidia/params
         {before}
         \"$1\" create-container --hide-device-files <$S
         {after}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook")]);
    fs::write(container.path("state"), container.state()).unwrap();
    command.env("R", container.rootfs()).env("P", container.path("params")).env("S", container.path("state"));
    command.env("T", container.path("seen"));
    let ended = run(&mut command, b"");
    container.assert_outside_unchanged();
    if ended.stderr.contains("unshare:") || ended.stderr.contains("mount:") {
        skipped(&format!("no mounts on this machine: {}", ended.stderr.trim()));
        return None;
    }
    Some(ended)
}

const SEEN: &str = "cat $R/proc/driver/nvidia/params >$T; grep -c nvidia/params /proc/self/mountinfo >>$T; \
    sh -c 'echo x >$R/proc/driver/nvidia/params' 2>/dev/null && exit 9; exit 33";

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn the_drivers_leave_to_make_nodes_is_hidden() {
    let container = Container::new("");
    let before = mounts();
    // Twice: a second run mounts nothing more.
    let twice = format!("\"$1\" create-container --hide-device-files <$S; {SEEN}");
    for after in [SEEN, &twice] {
        let Some(ended) = hide_device_files(&container, PARAMS, "", after) else { return };
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(33), ""), "{ended:?}");
        assert_eq!(fs::read_to_string(container.path("seen")).unwrap(), format!("{HIDDEN}2\n"));
    }
    assert_eq!(mounts(), before, "nothing of it appears outside the namespace");
}

#[test]
fn where_the_driver_gives_no_leave_nothing_is_mounted() {
    let container = Container::new("");
    let Some(ended) =
        hide_device_files(&container, HIDDEN, "", "grep -c nvidia/params /proc/self/mountinfo >$T; exit 33")
    else {
        return;
    };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(33), ""), "{ended:?}");
    assert_eq!(fs::read_to_string(container.path("seen")).unwrap(), "1\n");
}

/// V01, V02: what is no procfs is not mounted over.
#[test]
fn v02_params_of_no_procfs_are_left_alone() {
    for before in [
        "umount $R/proc/driver/nvidia/params",
        "mount -t tmpfs tmpfs $R/proc/driver/nvidia; touch $R/proc/driver/nvidia/params",
        "umount $R/proc/driver/nvidia/params; mv $R/proc $R/real; ln -s real $R/proc",
    ] {
        let container = Container::new("");
        let Some(ended) =
            hide_device_files(&container, PARAMS, before, "test ! -s $R/proc/driver/nvidia/params; exit 33")
        else {
            return;
        };
        assert_eq!(ended.status, Some(33), "{before}: {ended:?}");
        assert!(ended.stderr.contains("not on a procfs"), "{before}: {ended:?}");
    }
}

/// V04: what lies over the hook's own files of /proc is not believed, and leads to no other mount.
#[test]
fn v04_files_of_proc_that_are_mounted_over_are_not_believed() {
    // By a program that becomes the hook, since nobody knows the hook's number before.
    let becoming = |commands: &str| {
        format!(
            "mkdir $T.bait; mount -t tmpfs tmpfs $T.bait; mount --make-private $T.bait; mount --make-shared $R
             printf '#!/bin/sh\n{commands}\nexec %s \"$@\"\n' \"$1\" >$T.sh; chmod +x $T.sh; set -- $T.sh"
        )
    };
    let cases = [
        (
            "sed s/shared:[0-9]*// /proc/self/mountinfo >$T.table; mount --bind $T.table /proc/$$/mountinfo",
            33,
            "mounted over this machine's own /proc",
        ),
        // That comes out as soon as a file is read.
        (
            "mount --make-private $R; mount -t tmpfs tmpfs /proc/$$/fd; \
             for n in 0 1 2 3 4 5 6 7 8 9 10 11 12; do ln -s $T.bait /proc/$$/fd/$n; done",
            66,
            "Stale file handle",
        ),
    ];
    for (commands, status, word) in cases {
        let container = Container::new("");
        let seen = "(grep -c nvidia/params /proc/self/mountinfo; grep -c seen.bait /proc/self/mountinfo) >$T";
        let before = format!("{}; trap '{seen}' EXIT", becoming(commands));
        let Some(ended) = hide_device_files(&container, PARAMS, &before, "exit 33") else { return };
        assert_eq!(ended.status, Some(status), "{commands}: {ended:?}");
        assert!(ended.stderr.contains(word), "{commands}: {ended:?}");
        assert_eq!(fs::read_to_string(container.path("seen")).unwrap(), "1\n1\n", "{commands}");
    }
}

/// V03: no file of the container's is ever what is mounted, whatever its /dev/null is.
#[test]
fn v03_the_containers_dev_null_is_no_source() {
    for null in ["ln -s $R/../../outside/file $R/dev/null", "echo x >$R/dev/null", "mknod $R/dev/null c 1 1"]
    {
        let container = Container::new("dev/");
        let before = format!("{null}; stat -c '%F %t %T' $R/dev/null >$R/null");
        let after = format!(
            "stat -c '%F %t %T' $R/dev/null | cmp - $R/null; ! grep dev/null /proc/self/mountinfo; {SEEN}"
        );
        let Some(ended) = hide_device_files(&container, PARAMS, &before, &after) else { return };
        if ended.stderr.contains("mknod:") {
            return skipped("needs CAP_MKNOD");
        }
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(33), ""), "{null}: {ended:?}");
        assert_eq!(fs::read_to_string(container.path("seen")).unwrap(), format!("{HIDDEN}2\n"), "{null}");
    }
}

/// L01: a mount below a shared mount would appear elsewhere too.
#[test]
fn l01_nothing_is_mounted_below_a_shared_mount() {
    for shared in ["$R/proc/driver/nvidia/params", "$R"] {
        let container = Container::new("");
        let before = format!("mount --make-shared {shared}");
        let after = "grep -c nvidia/params /proc/self/mountinfo >$T; exit 33";
        let Some(ended) = hide_device_files(&container, PARAMS, &before, after) else { return };
        assert_eq!(ended.status, Some(33), "{ended:?}");
        assert!(ended.stderr.contains("on a shared mount"), "{shared}: {ended:?}");
        assert_eq!(fs::read_to_string(container.path("seen")).unwrap(), "1\n", "{shared}");
    }
}

/// L03: what was mounted on the way is gone when a later mount fails.
#[test]
fn l03_a_mount_that_fails_leaves_none_behind() {
    if Command::new("strace").arg("-V").output().is_err() {
        return skipped("no strace on this machine");
    }
    for (call, nth) in
        [("move_mount", 1), ("move_mount", 2), ("open_tree", 1), ("fsconfig", 3), ("fsmount", 1)]
    {
        let container = Container::new("");
        // The first run finds nothing to do, the second, traced one has the leave to hide.
        let after = format!(
            "sed -i s/0/1/ /proc/driver/nvidia/params
             strace -qq -f -o /dev/null -e trace={call} -e inject={call}:error=EPERM:when={nth} \
                 \"$1\" create-container --hide-device-files <$S 2>$R/said
             grep -c nvidia /proc/self/mountinfo >$T; exit 33"
        );
        let Some(ended) = hide_device_files(&container, HIDDEN, "", &after) else { return };
        assert_eq!(ended.status, Some(33), "{ended:?}");
        let said = container.text("said");
        assert!(said.contains("Operation not permitted"), "{call} {nth}: {said}");
        assert_eq!(fs::read_to_string(container.path("seen")).unwrap(), "1\n", "{call} {nth}");
    }
}

/// In a user namespace, as runtimes make one, the mount is made all the same.
#[test]
fn in_a_user_namespace_the_leave_is_hidden_too() {
    let container = Container::new("");
    fs::write(container.path("inner"), format!("\"$1\" create-container --hide-device-files <$S; {SEEN}"))
        .unwrap();
    let unshare =
        "unshare --user --map-root-user --mount --propagation unchanged sh ${S%state}inner \"$1\"; exit $?";
    // The first run, outside, must not be the one that does it.
    let script = format!("umount $R/proc/driver/nvidia/params; {unshare}");
    let Some(ended) = hide_device_files(&container, PARAMS, "", &script) else { return };
    assert_eq!(ended.status, Some(33), "{ended:?}");
    assert!(fs::read_to_string(container.path("seen")).unwrap().starts_with(HIDDEN), "{ended:?}");
}

#[test]
fn musls_loader_gets_the_directory_behind_its_own() {
    let path = "etc/ld-musl-x86_64.path";
    let defaults = "/lib\n/usr/local/lib\n/usr/lib\n";
    for (page, expected) in [
        ("lib/ld-musl-x86_64.so.1", format!("{defaults}/usr/lib64\n")),
        (
            "lib/ld-musl-x86_64.so.1\netc/ld-musl-x86_64.path = /opt/lib:/lib",
            "/opt/lib:/lib\n/usr/lib64\n".to_owned(),
        ),
        ("lib/ld-musl-x86_64.so.1\netc/ld-musl-x86_64.path = /usr/lib64:/lib", "/usr/lib64:/lib".to_owned()),
    ] {
        let container = Container::new(page);
        let ended = container.hook(&LIBRARIES);
        assert_eq!(ended.status, Some(0), "{page}");
        assert!(ended.stderr.contains("is musl") && ended.stderr.lines().count() == 1, "{page}: {ended:?}");
        assert_eq!(container.text(path), expected, "{page}");
        let before = rootfs::manifest(&container.rootfs());
        container.hook(&LIBRARIES);
        assert_eq!(rootfs::manifest(&container.rootfs()), before, "{page}");
    }
    let container = Container::new("lib/ld-musl-aarch64.so.1");
    assert_eq!(container.hook(&LIBRARIES).stderr, "");
    assert!(!container.rootfs().join(path).exists(), "another processor's musl");
}

#[test]
fn a_step_that_is_required_fails_the_start() {
    for (page, step, status) in [
        ("etc = file", "loader", 68),
        ("etc = file", "links", 0),
        ("usr = file", "links", 68),
        ("usr = file", "loader", 0),
    ] {
        let container = Container::new(page);
        let links = ["--link", "libcuda.so.1::/usr/lib64/libcuda.so", "--require", step];
        let ended = container.hook(&[&LIBRARIES[..], &links].concat());
        assert_eq!(ended.status, Some(status), "{page} {step}: {ended:?}");
    }
    assert_eq!(Container::new("").hook(&["--require", "everything"]).status, Some(2));
}
