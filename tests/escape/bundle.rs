//! H2: a bundle whose parent is renamed while the hook opens the container's root by the runtime's path.
//!
//! The race needs a mount, so each test runs itself again in a mount namespace of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libgpuspec::Root;
use libgpuspec::apply::container::{PlainRoot, State};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::{ATTEMPTS, races};

const PLACE: &str = "LIBGPUSPEC_BUNDLE";

/// Another user's directory `u` with root's bundle `b`, and `decoy`, which leads to `victim`, a mount of the host.
fn prepare(top: &Path) {
    fs::create_dir_all(top.join("u/b/rootfs/etc")).unwrap();
    fs::create_dir_all(top.join("u/decoy")).unwrap();
    fs::create_dir_all(top.join("victim/etc")).unwrap();
    symlink(top.join("victim"), top.join("u/decoy/rootfs")).unwrap();
    for bundle in ["b", "decoy"] {
        fs::write(top.join("u").join(bundle).join("config.json"), r#"{"root":{"path":"rootfs"}}"#).unwrap();
    }
    std::os::unix::fs::chown(top.join("u"), Some(1001), Some(1001)).unwrap();
}

/// Runs the test of this name in a namespace where root and victim are mounts; whether this is that run already.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(PLACE).is_some() {
        return true;
    }
    let skipped = |why: &str| {
        std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes()).unwrap();
    };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        skipped("needs root");
        return false;
    }
    let place = tempfile::tempdir().unwrap();
    prepare(place.path());
    let script = "mount --bind $T/u/b/rootfs $T/u/b/rootfs && mount -t tmpfs t $T/victim && mkdir $T/victim/etc || exit 9; \
        exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("T", place.path()).env(PLACE, place.path());
    let output = command.output().unwrap();
    if output.status.code() == Some(9) {
        skipped("no mounts on this machine");
    } else {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    false
}

/// Runs `attempt` while another process's user exchanges the bundle for the decoy; how often it did something.
fn race(attempts: usize, attempt: impl Fn(&State) -> bool) -> (usize, bool) {
    let top = std::path::PathBuf::from(std::env::var_os(PLACE).unwrap());
    let state = State { bundle: top.join("u/b").to_str().unwrap().into(), root: None };
    let stop = AtomicBool::new(false);
    let mut done = 0;
    let escaped = || fs::read_dir(top.join("victim/etc")).unwrap().count() > 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (one, other) = (top.join("u/b"), top.join("u/decoy"));
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..attempts {
            done += usize::from(attempt(&state));
            if round % 64 == 0 && escaped() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    (done, escaped())
}

fn write(root: &Root) -> bool {
    let etc = root.directory("/etc".into()).unwrap().unwrap();
    etc.symlink("canary", "x".into()).unwrap();
    etc.remove("canary").unwrap();
    etc.symlink("last", "x".into()).is_ok()
}

#[test]
fn h2_renamed_bundle_leads_to_no_other_mount() {
    if !is_inside("bundle::h2_renamed_bundle_leads_to_no_other_mount") {
        return;
    }
    for _ in 0..races() {
        let opened = |state: &State| state.place().and_then(|place| place.open(PlainRoot::Refused));
        let (done, escaped) = race(ATTEMPTS, |state| opened(state).is_ok_and(|root| write(&root)));
        assert!(!escaped);
        assert!(done > ATTEMPTS / 100, "opened the container's own: {done}");
    }
}

/// The race must be one that a check of the opened directory alone loses.
#[test]
fn h2_exchange_catches_careless_code() {
    if !is_inside("bundle::h2_exchange_catches_careless_code") {
        return;
    }
    let (_, escaped) = race(ATTEMPTS * 10, |state| {
        state.place().and_then(|place| place.open(PlainRoot::Allowed)).is_ok_and(|root| write(&root))
    });
    assert!(escaped);
}
