//! A container that a runtime has prepared, a tree beside it that nothing may touch, and the hook run on it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::rootfs;

/// `bundle/config.json`, `bundle/rootfs/`, and `outside/`, which is not the container's.
pub(crate) struct Container {
    directory: tempfile::TempDir,
    outside_before: Vec<String>,
}

/// Lets the hook take a root that no runtime has mounted.
pub(crate) const PLAIN: &str = "--allow-plain-root";

/// How a run of the hook ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stderr: String,
}

impl Container {
    /// A container of this tree (see [`rootfs::make`]); `OUTSIDE` in it is the path of the other one.
    pub(crate) fn new(page: &str) -> Container {
        let directory = tempfile::tempdir().unwrap();
        let (outside, tree) = (directory.path().join("outside"), directory.path().join("bundle/rootfs"));
        rootfs::make(&outside, "etc/ld.so.conf = canary\netc/ld.so.cache = canary\nfile = canary\nlib/");
        rootfs::make(&tree, &page.replace("OUTSIDE", outside.to_str().unwrap()));
        let config = serde_json::json!({ "ociVersion": "1.0.2", "root": { "path": "rootfs" }, "mounts": [] });
        std::fs::write(directory.path().join("bundle/config.json"), config.to_string()).unwrap();
        let outside_before = rootfs::manifest(&outside);
        Container { directory, outside_before }
    }

    /// A path beside the bundle.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The container's tree.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path("bundle/rootfs")
    }

    /// The state as runc writes it: without a root.
    pub(crate) fn state(&self) -> String {
        let bundle = self.path("bundle");
        serde_json::json!({ "ociVersion": "1.0.2", "id": "c", "status": "created", "pid": 1, "bundle": bundle })
            .to_string()
    }

    /// Runs the hook with these arguments behind `create-container`.
    pub(crate) fn hook(&self, arguments: &[&str]) -> Ended {
        self.verb(&[&["create-container"], arguments].concat())
    }

    /// Runs the hook with a verb and its arguments. The root is not mounted, so that tests need no privilege.
    pub(crate) fn verb(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        command.args(words);
        if !words.contains(&PLAIN) {
            command.arg(PLAIN);
        }
        let ended = run(&mut command, self.state().as_bytes());
        self.assert_outside_unchanged();
        ended
    }

    /// Whatever happens in the container, the rest of the machine stays as it was.
    pub(crate) fn assert_outside_unchanged(&self) {
        assert_eq!(rootfs::manifest(&self.path("outside")), self.outside_before, "outside the container");
    }

    /// The entries of the container's cache, as `NAME PATH`.
    pub(crate) fn cache(&self) -> Vec<String> {
        let bytes = std::fs::read(self.rootfs().join("etc/ld.so.cache")).unwrap();
        let entries = libgpuspec::ldcache::entries(&bytes).unwrap();
        entries.into_iter().map(|entry| format!("{} {}", entry.name, entry.path)).collect()
    }

    /// A file of the container as text.
    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.rootfs().join(name)).unwrap()
    }
}

/// Runs a command on this input with a deadline: a hook that hangs must fail its test, not hang it.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ended {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A hook that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("the hook hangs");
        }
        std::thread::yield_now();
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "standard output");
    Ended { status: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
}

/// Whether a test that needs it can be run; says so where not.
pub(crate) fn is_root() -> bool {
    let is_root =
        Path::new("/proc/self").metadata().is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !is_root {
        skipped("needs root");
    }
    is_root
}

/// Says that a test could not be run, past the harness, which keeps what a passing test prints.
pub(crate) fn skipped(why: &str) {
    std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
}
