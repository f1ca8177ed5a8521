//! The host's files in a machine whose root is the host's: nothing that it may do changes them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use rustix::fs::{CWD, XattrFlags};
use rustix::mount::{self, FsPickFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::place::{DEBIAN, Place, cleanup, is_private, prepare, state};

const TREE: &str = "/run/gpuspec/nspawn/guest/tree";
const WITHOUT_NAMESPACE: &str = "--user-namespace=no";

type Attack = fn(&Path) -> io::Result<()>;

/// Each a way to change a file, or the file system that it is on.
const ATTACKS: [(&str, Attack); 16] = [
    ("write", |path| OpenOptions::new().write(true).open(path)?.write_all(b"x")),
    ("append", |path| OpenOptions::new().append(true).open(path)?.write_all(b"x")),
    ("truncate", |path| OpenOptions::new().write(true).truncate(true).open(path).map(drop)),
    ("write through a descriptor that reads", |path| {
        let file = File::open(path)?;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        OpenOptions::new().write(true).open(link)?.write_all(b"x")
    }),
    ("remove", |path| fs::remove_file(path)),
    ("rename", |path| fs::rename(path, path.with_extension("moved"))),
    ("hard link", |path| fs::hard_link(path, path.with_extension("linked"))),
    ("mode", |path| fs::set_permissions(path, Permissions::from_mode(0o4777))),
    ("owner", |path| chown(path, Some(1), Some(1))),
    ("times", |path| File::open(path)?.set_modified(SystemTime::UNIX_EPOCH)),
    ("attribute", |path| Ok(rustix::fs::setxattr(path, "trusted.x", b"x", XattrFlags::empty())?)),
    ("flags", |path| {
        let file = File::open(path)?;
        Ok(rustix::fs::ioctl_setflags(file, rustix::fs::IFlags::NODUMP)?)
    }),
    ("the file system made writable", |path| Ok(mount::mount_remount(path, MountFlags::empty(), "")?)),
    ("the file system made writable by its context", |path| {
        let context = mount::fspick(CWD, path, FsPickFlags::FSPICK_CLOEXEC)?;
        mount::fsconfig_set_flag(&context, "rw")?;
        Ok(mount::fsconfig_reconfigure(&context)?)
    }),
    ("an upper layer", |path| {
        let context = mount::fspick(CWD, path, FsPickFlags::FSPICK_CLOEXEC)?;
        mount::fsconfig_set_string(&context, "upperdir", "/tmp")?;
        Ok(mount::fsconfig_reconfigure(&context)?)
    }),
    ("a clone of its mount made writable", |path| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let clone = mount::open_tree(CWD, path, flags)?;
        let at = "/tmp/clone";
        fs::write(at, "")?;
        mount::move_mount(&clone, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        mount::mount_remount(at, MountFlags::BIND, "")?;
        let written = OpenOptions::new().write(true).open(at);
        mount::unmount(at, UnmountFlags::DETACH)?;
        written?.write_all(b"x")
    }),
];

fn sh(script: &str, path: &Path) {
    assert!(Command::new("sh").args(["-euc", script, path.to_str().unwrap()]).status().unwrap().success());
}

/// What the kernel has seen of a file last (its ctime), beside the rest.
fn changed(path: &Path) -> (i64, i64) {
    let metadata = path.metadata().unwrap();
    (metadata.ctime(), metadata.ctime_nsec())
}

/// Adds a mount of a directory to the spec.
fn add_directory(path: &Path) {
    let spec = fs::read_to_string("/tmp/cdi/nvidia.json").unwrap();
    let mount = format!(
        r#""mounts": [{{"hostPath": "{}", "containerPath": "/usr/share/data", "options": ["ro"]}},"#,
        path.display()
    );
    fs::write("/tmp/cdi/nvidia.json", spec.replace("\"mounts\": [", &mount)).unwrap();
}

/// What root of the machine has in its hands: every mount made writable, as far as it goes.
fn attack(path: &Path, host: &Path) {
    let before = (state(host), changed(host));
    // A mount is one file, or the directory that the file is in.
    let mounted = [path, path.parent().unwrap()];
    let remounted = mounted.iter().any(|at| mount::mount_remount(*at, MountFlags::BIND, "").is_ok());
    assert!(remounted, "{path:?}: no mount");
    for (name, attack) in ATTACKS {
        let done = attack(path);
        assert!(done.is_err(), "{name}: {path:?}");
        assert_eq!((state(host), changed(host)), before, "{name}: {path:?}");
    }
}

#[test]
fn root_of_a_machine_without_a_namespace_cannot_write_to_the_driver() {
    if !is_private("view::root_of_a_machine_without_a_namespace_cannot_write_to_the_driver") {
        return;
    }
    let place = Place::new(DEBIAN);
    let data = place.driver().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "data").unwrap();
    add_directory(&data);
    let ended = prepare(&[WITHOUT_NAMESPACE]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let tree = Path::new(TREE);
    attack(&tree.join("lib/libcuda.so.1"), &place.driver().join("libcuda.so.550.1"));
    attack(&tree.join("share/data/file"), &data.join("file"));
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

#[test]
fn what_a_machine_sees_is_the_hosts_file_and_no_copy() {
    if !is_private("view::what_a_machine_sees_is_the_hosts_file_and_no_copy") {
        return;
    }
    let place = Place::new(DEBIAN);
    assert_eq!(prepare(&[]).status, Some(0));
    let (seen, host) = (Path::new(TREE).join("lib/libcuda.so.1"), place.driver().join("libcuda.so.550.1"));
    let opened = File::open(&seen).unwrap();
    // Written in place, as nobody should: one page cache shows it on both sides.
    OpenOptions::new().write(true).open(&host).unwrap().write_all_at(b"\x7fELF\x02\x01\x01new", 0).unwrap();
    assert!(fs::read(&seen).unwrap()[7..].starts_with(b"new"));
    // Renewed as drivers are: the machine keeps what it was started with.
    let old = fs::read(&host).unwrap();
    let new = [&old[..], b"renewed"].concat();
    fs::write(host.with_extension("new"), &new).unwrap();
    fs::rename(host.with_extension("new"), &host).unwrap();
    for again in [
        fs::read(&seen).unwrap(),
        fs::read("/proc/self/fd/".to_owned() + &opened.as_raw_fd().to_string()).unwrap(),
    ] {
        assert!(again == old);
    }
    fs::remove_file(&host).unwrap();
    assert!(fs::read(&seen).unwrap() == old);
    fs::write(&host, &new).unwrap();
    assert_eq!(prepare(&[]).status, Some(0), "started again");
    assert!(fs::read(&seen).unwrap() == new);
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

#[test]
fn what_no_overlay_can_be_laid_over_is_bound_and_told() {
    if !is_private("view::what_no_overlay_can_be_laid_over_is_bound_and_told") {
        return;
    }
    let mut place = Place::new(DEBIAN);
    let driver = place.driver();
    let data = driver.join("data");
    // A directory with a mount in it, on which more was allowed than is to be.
    sh(
        "mkdir -p \"$0\"/sub\\ mount; echo top >\"$0\"/file; mount -n -t tmpfs t \"$0\"/sub\\ mount; echo sub >\"$0\"/sub\\ mount/file",
        &data,
    );
    add_directory(&data);
    let tree = Path::new(TREE);
    place.begin_again();
    let ended = prepare(&[WITHOUT_NAMESPACE]);
    let told = format!("{}: no overlay can be laid over it", data.display());
    assert!(ended.status == Some(0) && ended.stderr.contains(&told), "{}", ended.stderr);
    assert_eq!(fs::read(tree.join("share/data/sub mount/file")).unwrap(), b"sub\n");
    let refused = fs::write(tree.join("share/data/sub mount/file"), "x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem, "what is mounted below");
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = table.lines().find(|line| line.contains("/tree/share/data/sub\\040mount ")).unwrap();
    assert!(below.contains(" ro,nosuid,nodev,"), "{below}");
    assert_eq!(fs::read(data.join("sub mount/file")).unwrap(), b"sub\n");
    let own = table.lines().find(|line| line.contains("/driver/data/sub\\040mount ")).unwrap();
    assert!(own.contains(" rw,"), "the host's own: {own}");
    assert_eq!(cleanup().status, Some(0));

    // A file that is mounted by itself: what is below it in its directory is another.
    place.write_spec();
    let library = driver.join("libcuda.so.550.1");
    sh(
        "cp -p \"$0\" /tmp/other; printf x | dd of=/tmp/other bs=1 seek=15 conv=notrunc status=none; \
         mount -n --bind /tmp/other \"$0\"",
        &library,
    );
    let ended = prepare(&[WITHOUT_NAMESPACE]);
    assert!(ended.status == Some(0) && ended.stderr.contains(library.to_str().unwrap()), "{}", ended.stderr);
    assert!(!ended.stderr.contains("libnvidia-ml"), "{}", ended.stderr);
    assert!(fs::read(tree.join("lib/libcuda.so.1")).unwrap() == fs::read("/tmp/other").unwrap());
    assert_eq!(cleanup().status, Some(0));
    sh("umount -n \"$0\"", &library);

    // An overlay of overlays: deeper the kernel stacks none.
    sh(
        "mkdir /tmp/none /tmp/more; for layer in none more; do mount -n -t overlay overlay -o lowerdir=\"$0\":/tmp/$layer \"$0\"; done",
        &driver,
    );
    let ended = prepare(&[]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "in a user namespace");
    let ended = prepare(&[WITHOUT_NAMESPACE]);
    assert!(ended.status == Some(0) && ended.stderr.contains(library.to_str().unwrap()), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(fs::read(tree.join("lib/libcuda.so.1")).unwrap() == fs::read(&library).unwrap());
    assert!(fs::write(tree.join("lib/libcuda.so.1"), "x").is_err());
    assert_eq!(cleanup().status, Some(0));
    sh("umount -n \"$0\"; umount -n \"$0\"; umount -n \"$0/data/sub mount\"", &driver);
    place.assert_untouched("after the stop");
}

#[test]
fn names_that_an_option_of_a_mount_cannot_hold_are_no_matter() {
    if !is_private("view::names_that_an_option_of_a_mount_cannot_hold_are_no_matter") {
        return;
    }
    let place = Place::new(DEBIAN);
    let odd = PathBuf::from("/tmp/a:b,c\\d e");
    fs::create_dir(&odd).unwrap();
    for name in ["libcuda.so.550.1", "libnvidia-ml.so.550.1", "10_nvidia.json"] {
        fs::copy(place.driver().join(name), odd.join(name)).unwrap();
    }
    let spec = fs::read_to_string("/tmp/cdi/nvidia.json").unwrap();
    let spec = spec.replace(place.driver().to_str().unwrap(), "/tmp/a:b,c\\\\d e");
    fs::write("/tmp/cdi/nvidia.json", spec).unwrap();
    let ended = prepare(&[WITHOUT_NAMESPACE]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    attack(&Path::new(TREE).join("lib/libcuda.so.1"), &odd.join("libcuda.so.550.1"));
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}
