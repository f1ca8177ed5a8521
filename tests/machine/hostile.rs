//! Hostile machines: whatever their trees look like, nothing outside of them is read into them or written to.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::place::{DEBIAN, Place, cleanup, is_private, prepare, state};

/// What in the machine is replaced, and by what: `OUTSIDE` is a directory that is not the machine's.
const ATTACKS: [(&str, &str, &str); 16] = [
    ("etc is a link out", "etc", "ln -s OUTSIDE/etc $0"),
    ("etc is a relative link out", "etc", "ln -s ../../../../../../OUTSIDE/etc $0"),
    ("the lists' directory is a link out", "etc/ld.so.conf.d", "ln -s OUTSIDE/etc $0"),
    ("our list is a link out", "etc/ld.so.conf.d/00-gpuspec.conf", "ln -s OUTSIDE/etc/ld.so.cache $0"),
    ("our list is a FIFO", "etc/ld.so.conf.d/00-gpuspec.conf", "mkfifo $0"),
    ("our list is a directory", "etc/ld.so.conf.d/00-gpuspec.conf", "mkdir $0"),
    ("the cache is a link out", "etc/ld.so.cache", "ln -s OUTSIDE/etc/ld.so.cache $0"),
    ("the cache is a FIFO", "etc/ld.so.cache", "mkfifo $0"),
    ("the cache is a device", "etc/ld.so.cache", "mknod $0 c 1 5"),
    ("the cache is huge", "etc/ld.so.cache", "truncate -s 8G $0"),
    ("the cache is no cache", "etc/ld.so.cache", "echo x > $0"),
    ("the configuration is a link out", "etc/ld.so.conf", "ln -s OUTSIDE/etc/ld.so.conf $0"),
    ("the configuration is a FIFO", "etc/ld.so.conf", "mkfifo $0"),
    ("the groups are a FIFO", "etc/group", "mkfifo $0"),
    ("the C library is a FIFO", "usr/lib/x86_64-linux-gnu/libc.so.6", "mkfifo $0"),
    ("libraries are a link out", "usr/lib", "ln -s OUTSIDE $0"),
];

#[test]
fn no_tree_leads_outside() {
    if !is_private("hostile::no_tree_leads_outside") {
        return;
    }
    let outside = Path::new("/tmp/outside");
    fs::create_dir_all(outside.join("etc")).unwrap();
    for name in ["ld.so.cache", "ld.so.conf", "00-gpuspec.conf"] {
        fs::write(outside.join("etc").join(name), "canary").unwrap();
    }
    let before = state(outside);
    for (name, path, attack) in ATTACKS {
        for loader in ["auto", "cache", "overlay"] {
            let mut place = Place::new(DEBIAN);
            let script = format!(
                "rm -rf \"$0\"; {}",
                attack.replace("OUTSIDE", outside.to_str().unwrap()).replace("$0", "\"$0\"")
            );
            let made = std::process::Command::new("sh")
                .args(["-euc", &script])
                .arg(place.root().join(path))
                .status();
            assert!(made.unwrap().success(), "{name}");
            place.begin_again();
            let started = Instant::now();
            let ended = prepare(&[&format!("--loader={loader}")]);
            assert_eq!(state(outside), before, "{name}, {loader}: outside, while it runs");
            assert!(started.elapsed() < Duration::from_secs(3), "{name}: {:?}", started.elapsed());
            assert!(matches!(ended.status, Some(0 | 85)), "{name}, {loader}: {ended:?}");
            let made = [place.state(), state(Path::new("/run"))].concat();
            assert!(!made.iter().any(|line| line.contains("canary")), "{name}, {loader}: {made:?}");
            if ended.status != Some(0) {
                let attacked = format!("/var/lib/machines/guest/{path}");
                assert!(ended.stderr.contains(&attacked), "{name}, {loader}: {}", ended.stderr);
                place.assert_untouched(name);
            }
            assert_eq!(cleanup().status, Some(0), "{name}, {loader}");
            place.assert_untouched(name);
            assert_eq!(state(outside), before, "{name}, {loader}: outside");
            fs::remove_file("/var/lib/machines/guest").unwrap();
        }
    }
}

/// A machine's own root can do what it likes while it runs; the clean-up meets that.
#[test]
fn nothing_outside_is_touched_at_the_end_either() {
    if !is_private("hostile::nothing_outside_is_touched_at_the_end_either") {
        return;
    }
    let outside = Path::new("/tmp/outside");
    fs::create_dir_all(outside.join("etc/ld.so.conf.d")).unwrap();
    for (name, path, attack) in ATTACKS {
        let place = Place::new(DEBIAN);
        assert_eq!(prepare(&[]).status, Some(0), "{name}");
        // What is outside looks as if we had made it.
        for (from, to) in [
            ("ld.so.cache", "ld.so.cache"),
            ("ld.so.conf", "ld.so.conf"),
            ("ld.so.conf.d/00-gpuspec.conf", "00-gpuspec.conf"),
            ("ld.so.conf.d/00-gpuspec.conf", "ld.so.conf.d/00-gpuspec.conf"),
        ] {
            fs::copy(place.root().join("etc").join(from), outside.join("etc").join(to)).unwrap();
        }
        let before = state(outside);
        let script = format!(
            "rm -rf \"$0\"; {}",
            attack.replace("OUTSIDE", outside.to_str().unwrap()).replace("$0", "\"$0\"")
        );
        let made =
            std::process::Command::new("sh").args(["-euc", &script]).arg(place.root().join(path)).status();
        assert!(made.unwrap().success(), "{name}");
        let started = Instant::now();
        let ended = cleanup();
        assert!(started.elapsed() < Duration::from_secs(3), "{name}: {:?}", started.elapsed());
        assert_eq!(ended.status, Some(0), "{name}: {}", ended.stderr);
        place.assert_nothing_made(name);
        assert_eq!(state(outside), before, "{name}: outside");
        fs::remove_file("/var/lib/machines/guest").unwrap();
    }
}
