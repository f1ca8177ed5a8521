//! Places in a created container that are the kernel's, and cgroups that others are in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::container::{Ended, is_root, run, skipped};
use crate::created::{Bundle, Created, FILE, NODE};

/// H7: a library mounted over a file of procfs or its like takes what a runtime writes there.
#[test]
fn h7_nothing_is_mounted_on_files_of_the_kernel() {
    let cases = [
        ("/proc/1/attr/exec", "proc/", "mount -t proc proc $R/proc"),
        ("/proc/1/oom_score_adj", "proc/", "mount -t proc proc $R/proc"),
        ("/proc/sys/kernel/core_pattern", "proc/", "mount -t proc proc $R/proc"),
        ("../../proc/version", "proc/", "mount -t proc proc $R/proc"),
        ("/sys/kernel/uevent_seqnum", "sys/", "mount -t sysfs sys $R/sys"),
        ("/dev/pts/ptmx", "dev/pts/", "mount -t devpts pts $R/dev/pts"),
        (
            "/proc/version",
            "proc/",
            "mount -t proc proc $R/proc; mount --bind $R/proc/version $R/proc/version",
        ),
        ("/data/version", "data/", "mount -t proc proc $R/data"),
    ];
    for (target, directory, mounted) in cases {
        let bundle = Bundle::new(&format!("usr/lib/file -> {target}\n{directory}"), FILE);
        let Some(created) = bundle.created(mounted) else { return };
        let before = created.mounts(&bundle.container.rootfs());
        let ended = bundle.hook_on(&created);
        assert_eq!(ended.status, Some(85), "{target}: {ended:?}");
        assert!(ended.stderr.contains("usr/lib/file: a file of procfs, sysfs or"), "{target}: {ended:?}");
        assert_eq!(created.mounts(&bundle.container.rootfs()), before, "{target}");
    }
}

/// H2: who can rename above the bundle leads prestart's mounts and nodes to no directory of the host.
#[test]
fn h2_exchanged_bundle_is_refused_in_the_containers_namespace() {
    for victim in
        ["true", "mount -t tmpfs t $O/lib; mkdir $O/lib/dev $O/lib/usr", "mount --bind $O/lib $O/lib"]
    {
        let bundle = Bundle::new("dev/\nusr/", &format!("{NODE}\n{FILE}"));
        let Some(created) = bundle.created(victim) else { return };
        let (top, old) = (bundle.container.path(""), bundle.container.path("old"));
        std::os::unix::fs::chown(&top, Some(1001), Some(1001)).unwrap();
        fs::rename(bundle.container.path("bundle"), &old).unwrap();
        fs::create_dir(bundle.container.path("bundle")).unwrap();
        fs::copy(old.join("config.json"), bundle.container.path("bundle/config.json")).unwrap();
        std::os::unix::fs::symlink(bundle.container.path("outside/lib"), bundle.container.rootfs()).unwrap();
        let inside = created.path(&bundle.container.path("outside/lib"));
        let before = fs::read_dir(&inside).unwrap().count();
        let ended = bundle.hook_on(&created);
        assert_eq!(ended.status, Some(85), "{victim}: {ended:?}");
        assert!(ended.stderr.contains("other than root can"), "{victim}: {ended:?}");
        assert_eq!(fs::read_dir(&inside).unwrap().count(), before, "{victim}");
    }
}

/// N4: a node is made neither on a volume at /dev, nor on a file system in memory that the host has too.
#[test]
fn n4_no_node_is_made_on_a_volume_at_dev() {
    for (volume, made) in [
        ("mount --bind $O/lib $R/dev", false),
        ("mount -t tmpfs tmpfs $O/lib; mount --bind $O/lib $R/dev", false),
        ("mount -t tmpfs tmpfs $O/lib; mkdir $O/lib/x; mount --bind $O/lib/x $R/dev", false),
        ("mount -t tmpfs tmpfs $R/dev", true),
        ("mount -t tmpfs tmpfs $R/dev; mount --bind $R/dev $R/dev", true),
    ] {
        let bundle = Bundle::new("dev/", NODE);
        let Some(created) = bundle.created(volume) else { return };
        let ended = bundle.hook_on(&created);
        assert_eq!(ended.status, Some(0), "{volume}: {ended:?}");
        assert_eq!(ended.stderr.contains("nothing is made there"), !made, "{volume}: {ended:?}");
        let node = created.path(&bundle.container.rootfs().join("dev/full-of"));
        assert_eq!(node.symlink_metadata().is_ok(), made, "{volume}");
    }
}

/// A cgroup of version 1 with these processes in it, which is gone with this.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0.join("inner"));
        let _ = fs::remove_dir(&self.0);
    }
}

impl Cgroup {
    fn new(name: &str) -> Option<Cgroup> {
        let top = Path::new("/sys/fs/cgroup/devices");
        let cgroup = Cgroup(top.join(format!("gpuspec-{name}-{}", std::process::id())));
        if !top.join("devices.allow").exists() && !top.join("cgroup.procs").exists() {
            skipped("no device cgroup of version 1 on this machine");
            return None;
        }
        fs::create_dir(&cgroup.0).unwrap();
        fs::write(cgroup.0.join("devices.deny"), "a").unwrap();
        Some(cgroup)
    }

    fn add(&self, process: u32) {
        fs::write(self.0.join("cgroup.procs"), process.to_string()).unwrap();
    }

    fn rules(&self) -> String {
        fs::read_to_string(self.0.join("devices.list")).unwrap()
    }
}

fn with_device_cgroup(bundle: &Bundle, created: &Created) -> Ended {
    let state = bundle.container.state().replace("\"pid\":1", &format!("\"pid\":{}", created.process.id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook-inject"));
    command.args(["prestart", "--device-cgroup", "--device", "v.com/c=x", "--spec-dir"]);
    run(command.arg(bundle.specs.path()), state.as_bytes())
}

/// H8: what the container may open, all in its cgroup may.
#[test]
fn h8_cgroup_that_others_are_in_is_not_widened() {
    if !is_root() {
        return;
    }
    for case in ["another process", "another below", "an empty one below", "alone"] {
        let bundle = Bundle::new("dev/", NODE);
        let Some(cgroup) = Cgroup::new("h8") else { return };
        let Some(mut other) = bundle.created("true") else { return };
        let Some(mut created) = bundle.created("mount -t tmpfs tmpfs $R/dev") else { return };
        cgroup.add(created.process.id());
        if case.ends_with("below") {
            fs::create_dir(cgroup.0.join("inner")).unwrap();
        }
        match case {
            "another process" => cgroup.add(other.process.id()),
            "another below" => {
                fs::write(cgroup.0.join("inner/cgroup.procs"), other.process.id().to_string()).unwrap();
            }
            _ => {}
        }
        let ended = with_device_cgroup(&bundle, &created);
        let rules = cgroup.rules();
        for one in [&mut other, &mut created] {
            one.process.kill().unwrap();
            one.process.wait().unwrap();
        }
        if case == "alone" {
            assert_eq!((ended.status, rules.as_str()), (Some(0), "c 1:7 rwm\n"), "{ended:?}");
        } else {
            assert_eq!((ended.status, rules.as_str()), (Some(86), ""), "{case}: {ended:?}");
            assert!(ended.stderr.contains("the container is not alone in it"), "{case}: {ended:?}");
        }
    }
}
