//! What a file has besides its bytes: its extended attributes, its other names, its inode.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, getxattr, setxattr};

use crate::place::{DEBIAN, Place, cleanup, files, is_private, prepare};

const SETTINGS: &str = "/etc/systemd/nspawn/guest.nspawn";
/// For the user 1000 to read (acl(5), linux/posix_acl_xattr.h).
const LIST: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\0\0\xff\xff\xff\xff\
    \x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
const ATTRIBUTES: [(&str, &[u8]); 4] = [
    ("user.note", b"kept"),
    ("system.posix_acl_access", LIST),
    ("trusted.note", b"kept too"),
    ("security.selinux", b"system_u:object_r:ld_so_cache_t:s0\0"),
];
/// What a thread without rights on this machine may read and write.
const OPEN: usize = 2;

fn mark(path: &Path) -> bool {
    ATTRIBUTES.iter().all(|(name, value)| match setxattr(path, *name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(errno) => {
            eprintln!("skipped: {name}: {errno}");
            false
        }
    })
}

fn marks(path: &Path) -> Vec<Option<Vec<u8>>> {
    let one = |(name, _): &(&str, &[u8])| {
        let mut value = vec![0; 1 << 10];
        let length = getxattr(path, *name, &mut value).ok()?;
        value.truncate(length);
        Some(value)
    };
    ATTRIBUTES.iter().map(one).collect()
}

fn all() -> Vec<Option<Vec<u8>>> {
    ATTRIBUTES.iter().map(|(_, value)| Some(value.to_vec())).collect()
}

fn cut_the_power() {
    rustix::mount::unmount("/run/gpuspec/nspawn/guest", rustix::mount::UnmountFlags::DETACH).unwrap();
    fs::remove_dir_all("/run/gpuspec").unwrap();
}

#[test]
fn extended_attributes_and_other_names_stay() {
    if !is_private("kept::extended_attributes_and_other_names_stay") {
        return;
    }
    let mut place = Place::new(DEBIAN);
    let etc = place.root().join("etc");
    let (cache, configuration, settings) =
        (etc.join("ld.so.cache"), etc.join("ld.so.conf"), Path::new(SETTINGS));
    fs::write(&configuration, "/opt/lib\n").unwrap();
    fs::write(settings, "[Files]\nBind=/srv\n").unwrap();
    fs::hard_link(&cache, etc.join("ld.so.cache.linked")).unwrap();
    if ![&cache, &configuration, settings].iter().all(|path| mark(path)) {
        return;
    }
    place.begin_again();
    let inode = cache.metadata().unwrap().ino();
    let inodes = || [&configuration, settings].map(|path: &Path| path.metadata().unwrap().ino());
    let others = inodes();
    let is_kept = |when: &str| {
        assert_eq!(place.state(), place.before(), "{when}");
        assert_eq!(marks(&cache), all(), "{when}");
        let now = cache.metadata().unwrap();
        assert_eq!((now.ino(), now.nlink()), (inode, 2), "{when}");
        assert_eq!((marks(&configuration), marks(settings)), (all(), all()), "{when}");
        assert_eq!(inodes(), others, "{when}");
    };

    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    for path in [&cache, &configuration] {
        assert_eq!(marks(path)[..OPEN], all()[..OPEN], "{path:?}, while it runs");
    }
    assert_eq!(marks(settings), all(), "while it runs");
    assert_eq!(cleanup().status, Some(0));
    is_kept("after the stop");

    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    cut_the_power();
    assert_eq!(cleanup().status, Some(0));
    is_kept("after a power cut");
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    cut_the_power();
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    assert_eq!(cleanup().status, Some(0));
    is_kept("after a start that followed one");
    fs::remove_file(settings).unwrap();
    place.assert_untouched("at last");
}

/// A machine whose power was cut, and which made its own cache before it was started again.
#[test]
fn what_was_put_aside_goes_where_the_machine_has_made_it_anew() {
    if !is_private("kept::what_was_put_aside_goes_where_the_machine_has_made_it_anew") {
        return;
    }
    let mut place = Place::new(DEBIAN);
    let etc = place.root().join("etc");
    let anew = fs::read(etc.join("ld.so.cache")).unwrap();
    fs::remove_file(etc.join("ld.so.cache")).unwrap();
    fs::write(etc.join("ld.so.cache"), "").unwrap();
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    cut_the_power();
    fs::write(etc.join("ld.so.cache"), &anew).unwrap();
    fs::write(etc.join(".ld.so.conf.gpuspec"), "cut short").unwrap();
    assert!(etc.join(".ld.so.cache.gpuspec").exists());
    let ended = cleanup();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let left: Vec<_> =
        files(&etc).into_iter().filter(|path| path.to_string_lossy().contains("gpuspec")).collect();
    assert_eq!(left, [] as [std::path::PathBuf; 0]);
    assert_eq!(fs::read(etc.join("ld.so.cache")).unwrap(), anew);
    place.begin_again();
    place.assert_untouched("at last");
}

#[test]
fn a_tree_looks_unread() {
    if !is_private("kept::a_tree_looks_unread") {
        return;
    }
    let place = Place::new(DEBIAN);
    let files = ["etc/ld.so.cache", "etc/ld.so.conf", "etc/group", "usr/lib/x86_64-linux-gnu/libc.so.6"];
    let times = || files.map(|file| place.root().join(file).metadata().unwrap().atime());
    for file in files {
        let mut touch = Command::new("touch");
        touch.args(["-a", "-d", "@1000000000"]).arg(place.root().join(file));
        assert!(touch.status().unwrap().success());
    }
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    assert_eq!(cleanup().status, Some(0));
    assert_eq!(times(), [1_000_000_000; 4]);
}

/// Whoever is root in the machine finds the file that was put aside, and does what he likes with it.
#[test]
fn what_was_put_aside_is_not_believed() {
    if !is_private("kept::what_was_put_aside_is_not_believed") {
        return;
    }
    fs::write("/tmp/outside", "canary").unwrap();
    for attack in [
        "rm \"$0\"",
        "echo x >\"$0\"",
        "rm \"$0\"; mkfifo \"$0\"",
        "rm \"$0\"; ln -s /tmp/outside \"$0\"",
        "rm \"$0\"; ln /tmp/outside \"$0\"",
        "rm \"$0\"; mknod \"$0\" c 1 5",
        "rm \"$0\"; truncate -s 8G \"$0\"",
    ] {
        let place = Place::new(DEBIAN);
        let cache = place.cache();
        assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
        let aside = place.root().join("etc/.ld.so.cache.gpuspec");
        assert!(aside.exists());
        assert!(Command::new("sh").args(["-euc", attack]).arg(&aside).status().unwrap().success());
        let ended = cleanup();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{attack}");
        assert!(aside.symlink_metadata().is_err() && place.cache() == cache, "{attack}");
        assert_eq!(fs::read("/tmp/outside").unwrap(), b"canary", "{attack}");
        fs::remove_file("/var/lib/machines/guest").unwrap();
    }
}
