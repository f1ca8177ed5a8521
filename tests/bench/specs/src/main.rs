//! How long loading, refreshing and injecting take, beside the crate container-device-interface, in one run.
//!
//! `cargo run --release` prints medians of interleaved rounds; README.md says what they mean.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use camino::Utf8Path;
use container_device_interface::cache::Cache;
use libgpuspec::Root;
use libgpuspec::cdi::Registry;
use libgpuspec::render::oci;
use oci_spec::runtime::Spec;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

const DEVICES: usize = 16;
const ROUNDS: usize = 15;

fn main() {
    println!(
        "{:<44} {:>12} {:>12} {:>8}",
        "processor time, median of one operation", "libgpuspec", "the peer", "ratio"
    );
    for files in [10, 100, 1000] {
        registry(files);
    }
    injection();
}

/// A directory of spec files, cold, after one changed, and unchanged.
fn registry(files: usize) {
    let directory = tempfile::tempdir().unwrap();
    for index in 0..files {
        write(directory.path(), index, 0);
    }
    let path = directory.path().to_str().unwrap();
    let (mut cold, mut changed, mut still) = (Pair::default(), Pair::default(), Pair::default());
    // The big ones take the peer seconds.
    for round in 0..if files < 1000 { ROUNDS } else { 5 } {
        let registry = Registry::new(root(), &[path.into()]);
        cold.ours(|| assert_eq!(registry.listing().devices.len(), files * DEVICES));
        let mut cache = Cache::new(vec![path.to_owned()], HashMap::new(), HashMap::new());
        cold.theirs(|| cache.refresh().unwrap());
        assert_eq!(cache.list_devices().len(), files * DEVICES);

        still.ours(|| assert!(registry.find(&name(files / 2, 3)).is_ok()));
        still.theirs(|| cache.refresh().unwrap());

        write(directory.path(), files / 2, round + 1);
        changed.ours(|| assert!(registry.find(&name(files / 2, 3)).is_ok()));
        changed.theirs(|| cache.refresh().unwrap());
    }
    cold.print(&format!("load {files} files of {DEVICES} devices, cold"));
    changed.print(&format!("find a device after 1 of {files} files changed"));
    still.print(&format!("find a device, {files} files unchanged"));
}

/// One device injected into a config of 500 lines: the edits alone, and from text to text.
fn injection() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), 0, 0);
    let path = directory.path().to_str().unwrap();
    let registry = Registry::new(root(), &[path.into()]);
    let mut cache = Cache::new(vec![path.to_owned()], HashMap::new(), HashMap::new());
    cache.refresh().unwrap();
    let (host, device) = (root(), name(0, 3));
    let text = config();
    println!("(the config has {} lines)", text.lines().count());
    let (value, spec): (Value, Spec) =
        (serde_json::from_str(&text).unwrap(), serde_json::from_str(&text).unwrap());

    let (mut edits, mut whole) = (Pair::default(), Pair::default());
    for _ in 0..ROUNDS * 20 {
        let (mut ours, mut theirs) = (value.clone(), spec.clone());
        edits.ours(|| oci::inject(&mut ours, &registry.resolve(&[&device]).unwrap(), &host).unwrap());
        edits.theirs(|| drop(cache.inject_devices(Some(&mut theirs), vec![device.clone()]).unwrap()));

        whole.ours(|| {
            let mut config: Value = serde_json::from_str(&text).unwrap();
            oci::inject(&mut config, &registry.resolve(&[&device]).unwrap(), &host).unwrap();
            drop(serde_json::to_string(&config).unwrap());
        });
        whole.theirs(|| {
            let mut config: Spec = serde_json::from_str(&text).unwrap();
            cache.inject_devices(Some(&mut config), vec![device.clone()]).unwrap();
            drop(serde_json::to_string(&config).unwrap());
        });
    }
    edits.print("inject one device");
    whole.print("inject one device, JSON text to JSON text");
}

fn root() -> Root {
    Root::open(Utf8Path::new("/")).unwrap()
}

fn name(file: usize, device: usize) -> String {
    format!("vendor{file}.com/device=dev{device}")
}

/// A spec file as generators write them: nodes, mounts and a hook.
fn write(directory: &Path, file: usize, round: usize) {
    let mut text = format!("cdiVersion: \"0.5.0\"\nkind: vendor{file}.com/device\ndevices:\n");
    for device in 0..DEVICES {
        text.push_str(&format!(
            "- name: dev{device}\n  containerEdits:\n    env:\n    - ROUND={round}\n    deviceNodes:\n    - path: /dev/vendor{device}\n      \
             type: c\n      major: 195\n      minor: {device}\n      fileMode: 438\n    mounts:\n    - hostPath: /usr/lib/libvendor.so.1\n      \
             containerPath: /usr/lib/libvendor.so.1\n      options:\n      - ro\n      - nosuid\n      - nodev\n      - bind\n"
        ));
    }
    text.push_str("containerEdits:\n  hooks:\n  - hookName: createContainer\n    path: /usr/bin/hook\n    args:\n    - hook\n    env:\n    - LC_ALL=C\n");
    fs::write(directory.join(format!("{file}.yaml")), text).unwrap();
}

/// A config of about 500 lines in the usual layout.
fn config() -> String {
    let mounts: Vec<Value> = (0..24)
        .map(|index| json!({"destination": format!("/mnt/a/{index}"), "type": "bind", "source": "/srv", "options": ["rbind", "ro", "nosuid", "nodev"]}))
        .collect();
    let env: Vec<String> = (0..60).map(|index| format!("VARIABLE_{index}=value")).collect();
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {"terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": env, "cwd": "/",
            "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]}},
        "root": {"path": "rootfs", "readonly": false}, "hostname": "bench", "mounts": mounts,
        "annotations": (0..40).map(|index| (format!("io.example.annotation.{index}"), json!("value"))).collect::<serde_json::Map<_, _>>(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
            "maskedPaths": (0..60).map(|index| format!("/proc/masked/{index}")).collect::<Vec<_>>(),
            "readonlyPaths": (0..60).map(|index| format!("/proc/readonly/{index}")).collect::<Vec<_>>()
        }
    });
    serde_json::to_string_pretty(&config).unwrap()
}

/// Times of the same operation in both crates, taken in turn.
#[derive(Default)]
struct Pair {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

impl Pair {
    fn ours(&mut self, operation: impl FnOnce()) {
        self.ours.push(time(operation));
    }

    fn theirs(&mut self, operation: impl FnOnce()) {
        self.theirs.push(time(operation));
    }

    fn print(mut self, what: &str) {
        let (ours, theirs) = (median(&mut self.ours), median(&mut self.theirs));
        println!("{what:<44} {:>9.1} µs {:>9.1} µs {:>8.1}", ours, theirs, theirs / ours);
    }
}

/// The processor time of an operation: what else the machine does hardly counts.
fn time(operation: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let start = now();
    operation();
    now() - start
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}
