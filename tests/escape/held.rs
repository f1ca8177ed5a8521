//! R05: directories of a machine are exchanged for links that lead outside while they are held for it (H1).

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::cdi::{ContainerEdits, Registry};
use libgpuspec::ldcache::{self, Abi, Library};
use libgpuspec::nspawn::{
    self, LoaderKind, MachineRoot, Order, RootKind, Told, cleanup, prepare, state_directory,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use super::attach::is_within;
use super::tree::Tree;
use super::{ATTEMPTS, races};

const MACHINE: &str = r#"
m/bin/sh elf64 interp=/lib64/ld-linux-x86-64.so.2 needs=libc.so.6
m/usr/lib64/libc.so.6 elf64 soname=libc.so.6 defines=GLIBC_2.2.5,GLIBC_2.36
m/old/libx.so.1 elf64 soname=libx.so.1
m/etc/ld.so.conf "x"
outside/libc.so.6 elf64 soname=libc.so.6 defines=GLIBC_2.2.5,GLIBC_2.36
outside/canary "x"
driver/libx.so.1.2 elf64 soname=libx.so.1 needs=libc.so.6
cdi/v.json "{}"
"#;
const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "all", "containerEdits": {
  "mounts": [{"hostPath": "HERE/driver/libx.so.1.2", "containerPath": "/usr/lib/libx.so.1.2", "options": ["ro", "bind"]}]}}]}"#;
/// What is exchanged with what.
const PAIRS: [(&str, &str); 2] = [("m/usr/lib64", "m/usr/decoy"), ("m/old", "m/decoy")];

struct Place(Tree);

impl Place {
    /// With a /run of its own.
    fn new() -> Place {
        mount("run", "/run", "tmpfs", MountFlags::empty(), c"mode=0755").unwrap();
        let place = Place(Tree::build(MACHINE));
        fs::write(place.path("cdi/v.json"), SPEC.replace("HERE", place.0.path().as_str())).unwrap();
        let old = Library { abi: Abi::OWN, directory: "/old".into(), name: "libx.so.1" };
        let cache = ldcache::insert(None, &[old]).unwrap().unwrap();
        fs::write(place.path("m/etc/ld.so.cache"), cache).unwrap();
        for (_, decoy) in PAIRS {
            symlink(place.path("outside"), place.path(decoy)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name).into()
    }

    fn edits(&self) -> ContainerEdits {
        let host = Root::open("/".into()).unwrap();
        Registry::unwatched(host, &[self.0.path().join("cdi")]).resolve(&["v.com/c=all".to_owned()]).unwrap()
    }

    /// Runs `attempt` while the exchange goes on, until it says that it got out; whether it did.
    fn race(&self, attempts: usize, attempt: impl Fn() -> bool) -> bool {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    for (one, other) in PAIRS {
                        let (one, other) = (self.path(one), self.path(other));
                        // What is a mount point just now cannot be renamed.
                        let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                    }
                }
            });
            let escaped = (0..attempts).any(|_| attempt());
            stop.store(true, Ordering::Relaxed);
            escaped
        })
    }
}

fn unconfined(root: Root, work: Box<dyn FnOnce(&Root) + Send>) -> Result<(), String> {
    work(&root);
    drop(root);
    Ok(())
}

#[test]
fn r05_no_directory_outside_is_held() {
    if !is_within("held::r05_no_directory_outside_is_held") {
        return;
    }
    let place = Place::new();
    let (host, edits) = (Root::open("/".into()).unwrap(), place.edits());
    let order = Order {
        machine: "m",
        root: Some(MachineRoot::Directory(place.0.path().join("m"))),
        edits: &edits,
        requests: &[],
        unknown_hooks: &[],
        allowed_hooks: &[],
        loader: Some(LoaderKind::Overlay),
        root_kind: Some(RootKind::ReadOnly),
        user_namespace: Some(false),
        told: Told::Arguments,
    };
    let below = state_directory("m").join("below");
    let held = Cell::new(0);
    let escaped = place.race(ATTEMPTS * races(), || {
        let prepared = prepare(&host, &order, unconfined, &mut Vec::new());
        let directories: Vec<_> = fs::read_dir(&below).into_iter().flatten().flatten().collect();
        held.set(held.get() + directories.len());
        let escaped = directories.iter().any(|directory| directory.path().join("canary").exists());
        if let Ok(nspawn::Preparation { loader: nspawn::Loader::Overlay(farms), .. }) = prepared {
            assert_eq!(farms.len(), directories.len(), "what is named is held");
        }
        // The next one begins with what this one left.
        escaped
    });
    cleanup(&host, "m", unconfined).unwrap();
    assert!(!escaped, "a directory outside the machine is held");
    // How many find a directory in place depends on the machine's load; some must, or nothing was tried.
    assert!(held.get() > ATTEMPTS / 100, "held: {}", held.get());
}

/// The race must be one that careless code loses, or the test above proves nothing. This is what systemd-nspawn does
/// with `+DIR`: it joins two paths.
#[test]
fn r05_the_exchange_catches_careless_code() {
    if !is_within("held::r05_the_exchange_catches_careless_code") {
        return;
    }
    let place = Place::new();
    let machine = place.0.path().join("m");
    let at = place.path("at");
    fs::create_dir(&at).unwrap();
    let escaped = place.race(2_000_000, || {
        let root = Root::open(&machine).unwrap();
        let Ok(Some(real)) = root.resolve(Utf8Path::new("/usr/lib64")) else { return false };
        let joined = Path::new(machine.as_str()).join(real.as_str().trim_start_matches('/'));
        if mount_bind(&joined, &at).is_err() {
            return false;
        }
        let escaped = at.join("canary").exists();
        unmount(&at, UnmountFlags::DETACH).unwrap();
        escaped
    });
    assert!(escaped, "careless code stayed inside");
}
