//! R04: the place of a mount is exchanged for a link that leads outside, between its look-up and the mount.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use libgpuspec::root::Restrictions;
use rustix::fs::{Mode, OFlags, RenameFlags, open, renameat_with};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::{ATTEMPTS, Place, races, rootfs};

/// Set in the process that has a mount namespace of its own.
const WITHIN: &str = "LIBGPUSPEC_TEST_WITHIN";

/// Whether this is that process; where it is not, the test of this name is run in one.
pub(super) fn is_within(test: &str) -> bool {
    if std::env::var_os(WITHIN).is_some() {
        return true;
    }
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = command.env(WITHIN, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.starts_with("unshare:") {
        eprintln!("skipped: no mounts on this machine: {said}");
    } else {
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{test} was not run");
    }
    false
}

/// `usr/lib64/target` of the container, and the same outside it.
struct Targets {
    place: Place,
    outside: PathBuf,
    untouched: u64,
}

impl Targets {
    fn new() -> Targets {
        let place = Place::new();
        rootfs::make(&place.path("rootfs"), "usr/lib64/target = x\nsource = x");
        let outside = place.path("outside/lib64/target");
        fs::write(&outside, "canary").unwrap();
        symlink(place.path("outside/lib64"), place.path("rootfs/usr/decoy")).unwrap();
        symlink(&outside, place.path("rootfs/usr/lib64/bait")).unwrap();
        let untouched = outside.metadata().unwrap().ino();
        Targets { place, outside, untouched }
    }

    /// Exchanges the directory and the file with links that lead outside, until told to stop.
    fn exchange_until(&self, stop: &AtomicBool) {
        // By the directory itself, whatever its name is just now.
        let directory = open(self.place.path("rootfs/usr/lib64"), OFlags::PATH, Mode::empty()).unwrap();
        let usr = open(self.place.path("rootfs/usr"), OFlags::PATH, Mode::empty()).unwrap();
        while !stop.load(Ordering::Relaxed) {
            renameat_with(&usr, "lib64", &usr, "decoy", RenameFlags::EXCHANGE).unwrap();
            // What has a mount on it cannot be renamed; the next round has none.
            let _ = renameat_with(&directory, "target", &directory, "bait", RenameFlags::EXCHANGE);
        }
    }

    /// Runs `attempt` while the exchange goes on, until something is mounted outside; how many were inside.
    fn race(&self, attempts: usize, attempt: impl Fn(&Place)) -> (bool, usize) {
        let (stop, root) = (AtomicBool::new(false), self.place.path("rootfs"));
        let (mut escaped, mut inside) = (false, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| self.exchange_until(&stop));
            for _ in 0..attempts / ROUND {
                // All that is mounted in the tree goes with it, at the price of one unmounting.
                mount_bind(&root, &root).unwrap();
                for _ in 0..ROUND {
                    attempt(&self.place);
                    escaped |= self.outside.metadata().unwrap().ino() != self.untouched;
                }
                let below = format!(" {}/", root.display());
                inside += fs::read_to_string("/proc/self/mountinfo").unwrap().matches(&below).count();
                unmount(&root, UnmountFlags::DETACH).unwrap();
                if escaped {
                    break;
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        (escaped, inside)
    }
}

/// Attempts between two unmountings.
const ROUND: usize = 20;
const PLACE: &str = "/usr/lib64/target";

#[test]
fn r04_nothing_is_mounted_outside() {
    if !is_within("attach::r04_nothing_is_mounted_outside") {
        return;
    }
    let targets = Targets::new();
    // One that was not attached is taken again: to drop it takes the kernel longer than all the rest.
    let spare = Cell::new(None);
    let (escaped, inside) = targets.race(ATTEMPTS * races(), |place| {
        let root = place.root();
        let source = || root.find("/source".into()).unwrap().unwrap().clone_mount().unwrap();
        let source = spare.take().unwrap_or_else(source);
        match root.attach(&source, PLACE.into(), Restrictions { read_only: true, ..Restrictions::default() })
        {
            Err(error) if !error.to_string().contains("restricting") => spare.set(Some(source)),
            Err(_) | Ok(()) => {}
        }
    });
    assert!(!escaped, "mounted outside");
    // How many find the file in place depends on the machine's load; some must, or nothing was tried.
    assert!(inside > ATTEMPTS / 100, "mounted in the container: {inside}");
}

/// The race must be one that careless code loses, or the test above proves nothing.
#[test]
fn r04_the_exchange_catches_careless_code() {
    if !is_within("attach::r04_the_exchange_catches_careless_code") {
        return;
    }
    let targets = Targets::new();
    let looks_safe = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink());
    let (escaped, _) = targets.race(2_000_000, |place| {
        let root = place.path("rootfs");
        if ["usr", "usr/lib64", "usr/lib64/target"].iter().all(|name| looks_safe(&root.join(name))) {
            let _ = mount_bind(root.join("source"), root.join("usr/lib64/target"));
        }
    });
    assert!(escaped, "careless code stayed inside");
}
