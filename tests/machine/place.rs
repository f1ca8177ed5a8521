//! A host that is this machine, but for /run, /tmp, /var/lib and /etc/systemd; a machine on it, a driver, and a spec.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::tree::Tree;

/// A machine as Debian is laid out; its group of render nodes has another number than this host's (44).
pub(crate) const DEBIAN: &str = r#"
etc/os-release "ID=debian\n"
etc/group "root:x:0:\nvideo:x:27:\n"
etc/ld.so.conf "include /etc/ld.so.conf.d/*.conf\n"
etc/ld.so.conf.d/libc.conf "/usr/local/lib\n"
etc/ld.so.cache cache x86-64:/lib/x86_64-linux-gnu:libc.so.6 x86-64:/lib/x86_64-linux-gnu:libcuda.so.1
bin -> usr/bin
lib -> usr/lib
lib64 -> usr/lib64
usr/bin/sh elf64 interp=/lib64/ld-linux-x86-64.so.2 needs=libc.so.6
usr/lib/x86_64-linux-gnu/libc.so.6 elf64 soname=libc.so.6 defines=GLIBC_2.2.5,GLIBC_2.36
run dir
"#;

const DRIVER: &str = r#"
driver/libcuda.so.550.1 elf64 soname=libcuda.so.1 needs=libc.so.6 wants=GLIBC_2.9
driver/libnvidia-ml.so.550.1 elf64 soname=libnvidia-ml.so.1 needs=libc.so.6
driver/10_nvidia.json "{}\n"
"#;

const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu",
  "devices": [
    {"name": "all", "containerEdits": {"deviceNodes": [
      {"path": "/dev/nvidia0", "hostPath": "/tmp/dev/nvidia0"},
      {"path": "/dev/dri/renderD128", "hostPath": "/tmp/dev/renderD128"}]}},
    {"name": "foreign", "containerEdits": {"hooks": [
      {"hookName": "createContainer", "path": "/usr/bin/v-hook", "args": ["v-hook", "x"]}]}}],
  "containerEdits": {
    "env": ["NVIDIA_VISIBLE_DEVICES=void"],
    "hooks": [{"hookName": "createContainer", "path": "/usr/libexec/libgpuspec/oci-hook", "args": ["oci-hook",
      "create-container", "--link", "libcuda.so.550.1::/usr/lib/x/libcuda.so.1", "--link", "libcuda.so.1::/usr/lib/x/libcuda.so", "--libraries", "x86-64:/usr/lib/x:libcuda.so.1"]}],
    "mounts": [
      {"hostPath": "DRIVER/libcuda.so.550.1", "containerPath": "/usr/lib/x/libcuda.so.550.1", "options": ["ro", "bind"]},
      {"hostPath": "DRIVER/libnvidia-ml.so.550.1", "containerPath": "/usr/lib/x/libnvidia-ml.so.550.1", "options": ["ro", "bind"]},
      {"hostPath": "DRIVER/10_nvidia.json", "containerPath": "/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "options": ["ro", "bind"]}]}}"#;

/// What is mounted before a test begins: /run spreads what is mounted on it, as systemd has it.
///
/// What was built may lie below one of these places; it stays where it is.
const MOUNTS: &str = "
build=$(dirname \"$(dirname \"$1\")\"); exec 9<\"$build\"
mount -n -t tmpfs -o mode=0755 run /run; mount -n --make-shared /run; mkdir /run/systemd
mount -n -t tmpfs -o mode=0755 lib /var/lib; mkdir /var/lib/machines
mount -n -t tmpfs -o mode=0755 etc /etc/systemd; mkdir /etc/systemd/nspawn
mount -n -t tmpfs -o mode=1777 tmp /tmp
[ -e \"$1\" ] || { mkdir -p \"$build\"; mount -n -c --bind /proc/self/fd/9 \"$build\"; }
exec 9<&-
mount -n -o remount,bind,ro /
exec \"$@\"";

/// Whether the test goes on here; else it has been run to its end in mounts of its own, or cannot be.
pub(crate) fn is_private(test: &str) -> bool {
    if std::env::var_os("LIBGPUSPEC_PRIVATE_MOUNTS").is_some() {
        return true;
    }
    if let Some(why) = why_not() {
        std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", MOUNTS, "sh"]);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let Output { status, stdout, stderr } =
        command.env("LIBGPUSPEC_PRIVATE_MOUNTS", "1").current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.contains("1 passed"), "{test}:\n{said}");
    for line in said.lines().filter(|line| line.starts_with("skipped: ")) {
        std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
    false
}

fn why_not() -> Option<&'static str> {
    if Path::new("/proc/self").metadata().unwrap().uid() != 0 {
        return Some("needs root");
    }
    let try_it = "mount -n -t tmpfs t /tmp; mknod -m 0660 /tmp/x c 226 128";
    let tried =
        Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-euc", try_it]).output();
    let can = tried.is_ok_and(|output| output.status.success());
    if can { None } else { Some("needs unshare(1), CAP_SYS_ADMIN and CAP_MKNOD") }
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stderr: String,
}

/// A machine named `guest`, and what it is before anything is done.
pub(crate) struct Place {
    pub(crate) guest: Tree,
    driver: Tree,
    before: Vec<String>,
    mounts: Vec<String>,
}

impl Place {
    pub(crate) fn new(page: &str) -> Place {
        let (guest, driver) = (Tree::build(page), Tree::build(DRIVER));
        fs::create_dir_all("/tmp/dev").unwrap();
        for (name, mode, numbers, group) in
            [("nvidia0", "666", "195 0", 0), ("renderD128", "660", "226 128", 44)]
        {
            let node = format!("test -e /tmp/dev/{name} || mknod -m {mode} /tmp/dev/{name} c {numbers}");
            assert!(Command::new("sh").args(["-euc", &node]).status().unwrap().success());
            std::os::unix::fs::chown(format!("/tmp/dev/{name}"), Some(0), Some(group)).unwrap();
        }
        let place = Place { guest, driver, before: Vec::new(), mounts: mounts() };
        symlink(place.root(), "/var/lib/machines/guest").unwrap();
        place.write_spec();
        let before = place.state();
        Place { before, ..place }
    }

    pub(crate) fn write_spec(&self) {
        fs::create_dir_all("/tmp/cdi").unwrap();
        let spec = SPEC.replace("DRIVER", self.driver().to_str().unwrap());
        fs::write("/tmp/cdi/nvidia.json", spec).unwrap();
    }

    /// The directory of the driver's files.
    pub(crate) fn driver(&self) -> PathBuf {
        self.driver.path().join("driver").into()
    }

    /// The machine's tree.
    pub(crate) fn root(&self) -> PathBuf {
        self.guest.path().into()
    }

    /// Takes the machine's tree as it is now for what it was before.
    pub(crate) fn begin_again(&mut self) {
        self.before = self.state();
    }

    /// The machine's tree before anything was done.
    pub(crate) fn before(&self) -> &[String] {
        &self.before
    }

    /// All that can be told of the machine's tree.
    pub(crate) fn state(&self) -> Vec<String> {
        state(&self.root())
    }

    /// The entries of the machine's cache, as `NAME PATH`.
    pub(crate) fn cache(&self) -> Vec<String> {
        let bytes = fs::read(self.root().join("etc/ld.so.cache")).unwrap();
        let entries = libgpuspec::ldcache::entries(&bytes).unwrap();
        entries.into_iter().map(|entry| format!("{} {}", entry.name, entry.path)).collect()
    }

    /// Nothing is left of a preparation: on the host, in the machine, among the mounts.
    pub(crate) fn assert_untouched(&self, when: &str) {
        self.assert_nothing_made(when);
        assert_eq!(self.state(), self.before, "{when}: the machine's tree");
    }

    /// The same but for the machine's tree.
    pub(crate) fn assert_nothing_made(&self, when: &str) {
        // A start that failed has left why: its stop removes that.
        let _ = fs::remove_dir_all(FAILED);
        assert_eq!(mounts(), self.mounts, "{when}: mounts");
        let left: Vec<PathBuf> = files(Path::new("/run"));
        let known = ["/run/gpuspec", "/run/systemd", "/run/systemd/nspawn"].map(PathBuf::from);
        assert!(left.iter().all(|path| known.contains(path)), "{when}: {left:?}");
        assert_eq!(files(Path::new("/etc/systemd/nspawn")), [] as [PathBuf; 0], "{when}: settings");
    }
}

pub(crate) const PREPARE: [&str; 6] =
    ["nspawn-prepare", "--machine=guest", "--device", "nvidia.com/gpu=all", "--spec-dir", "/tmp/cdi"];
pub(crate) const CLEANUP: [&str; 2] = ["nspawn-cleanup", "--machine=guest"];

pub(crate) fn prepare(more: &[&str]) -> Ended {
    run(&mut program(&[&PREPARE[..], more].concat()))
}

/// Where it is kept why a start failed.
pub(crate) const FAILED: &str = "/run/gpuspec/failed";

pub(crate) fn cleanup() -> Ended {
    let ended = run(&mut program(&CLEANUP));
    assert!(!Path::new(FAILED).exists(), "after a clean-up");
    ended
}

pub(crate) fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook-inject"));
    command.args(words);
    command
}

/// Runs a command with a deadline: what hangs must fail its test, not hang it.
pub(crate) fn run(command: &mut Command) -> Ended {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "standard output");
    Ended { status: output.status.code(), stderr: String::from_utf8(output.stderr).unwrap() }
}

pub(crate) fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = |line: &str| line.split(' ').nth(4).unwrap().to_owned();
    let mut places: Vec<String> = table.lines().map(place).collect();
    places.sort();
    places
}

/// Everything below a directory, deepest last.
pub(crate) fn files(top: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten() {
        let path = entry.unwrap().path();
        found.push(path.clone());
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(files(&path));
        }
    }
    found.sort();
    found
}

/// Type, mode, owner, size, time of change and content of all that is below a directory, and of it.
pub(crate) fn state(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in [vec![top.to_owned()], files(top)].concat() {
        let metadata = path.symlink_metadata().unwrap();
        let content = match metadata.file_type() {
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            // A huge one is there for its size.
            kind if kind.is_file() && metadata.size() < 1 << 20 => fs::read(&path).unwrap(),
            _ => Vec::new(),
        };
        lines.push(format!(
            "{} {:o} {}:{} {} {}.{} {}",
            path.display(),
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            content.escape_ascii(),
        ));
    }
    lines
}
