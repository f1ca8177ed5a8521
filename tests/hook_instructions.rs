//! What the hook costs, in instructions: the same on every run, on a busy machine too.
//!
//! Needs a counter that executes openat2(2) and the hook as it is released; `tests/hook-instructions.sh`
//! brings both, in `LIBGPUSPEC_COUNTER` (valgrind's callgrind tool) and `LIBGPUSPEC_HOOK`.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use camino::Utf8Path;
use libgpuspec::ldcache::{self, Abi, Library};

/// For the whole process, from execve(2) to its end.
const BUDGET: u64 = 1_000_000;
/// For each further entry of the image's cache.
const BUDGET_PER_ENTRY: u64 = 550;
const MAX_SIZE: u64 = 2 << 20;

const DIRECTORY: &str = "/usr/lib/x86_64-linux-gnu";
/// Names of a driver's libraries, and those of them that also get a development link.
const SONAMES: [&str; 22] = [
    "libcuda.so.1",
    "libnvidia-ml.so.1",
    "libnvcuvid.so.1",
    "libnvidia-encode.so.1",
    "libnvidia-opencl.so.1",
    "libnvidia-fbc.so.1",
    "libcudadebugger.so.1",
    "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-nvvm.so.4",
    "libnvidia-opticalflow.so.1",
    "libGLX_nvidia.so.0",
    "libEGL_nvidia.so.0",
    "libGLESv1_CM_nvidia.so.1",
    "libGLESv2_nvidia.so.2",
    "libnvidia-cfg.so.1",
    "libnvidia-allocator.so.1",
    "libnvoptix.so.1",
    "libnvidia-ngx.so.1",
    "libnvidia-api.so.1",
    "libnvidia-egl-gbm.so.1",
    "libnvidia-egl-wayland.so.1",
    "libnvidia-vksc-core.so.1",
];
const DEVELOPMENT_LINKS: usize = 6;

/// Names of libraries that a Debian image has, one a line.
const IMAGE: &str = include_str!("hook/libraries-of-an-image.txt");

fn arguments() -> Vec<String> {
    let stem = |name: &str| name.split(".so").next().unwrap().to_owned();
    let link = |name: &str, version: &str| {
        ["--link".to_owned(), format!("{name}::{DIRECTORY}/{}.so{version}", stem(name))]
    };
    let mut arguments: Vec<String> = SONAMES.iter().flat_map(|name| link(name, ".550.163.01")).collect();
    arguments.extend(SONAMES.iter().take(DEVELOPMENT_LINKS).flat_map(|name| link(name, "")));
    assert_eq!(arguments.len(), 2 * 28, "28 links");
    arguments.extend(["--libraries".to_owned(), format!("x86-64:{DIRECTORY}:{}", SONAMES.join(":"))]);
    arguments
}

/// A cache of so many entries, of the image's names and of names like them.
fn cache(entries: usize) -> Vec<u8> {
    let round = |index: usize| if index == 0 { String::new() } else { format!("-{index}") };
    let names: Vec<String> = (0..)
        .flat_map(|index| {
            IMAGE.lines().map(move |name| name.replacen(".so", &format!("{}.so", round(index)), 1))
        })
        .take(entries)
        .collect();
    let directory = Utf8Path::new("/lib/x86_64-linux-gnu");
    let libraries: Vec<Library<'_>> =
        names.iter().map(|name| Library { abi: Abi::X86_64, directory, name }).collect();
    let file = ldcache::insert(None, &libraries).unwrap().unwrap();
    assert_eq!(ldcache::entries(&file).unwrap().len(), entries);
    file
}

/// As an engine writes it for a container with a GPU: 21 KB, `root` near the end.
fn config(root: &Path) -> String {
    let capabilities =
        ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETFCAP"];
    let mount = |index: usize| {
        serde_json::json!({
            "destination": format!("{DIRECTORY}/libnvidia-library-{index}.so.1"), "type": "bind",
            "source": format!("{DIRECTORY}/nvidia/current/libnvidia-library-{index}.so.550.163.01"),
            "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]
        })
    };
    let device = |index: usize| {
        serde_json::json!({ "path": format!("/dev/nvidia{index}"), "type": "c", "major": 195, "minor": index,
            "fileMode": 438, "uid": 0, "gid": 0 })
    };
    let text = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 }, "args": ["sh"], "cwd": "/",
            "env": (0..20).map(|index| format!("VARIABLE_{index}={}", "v".repeat(30))).collect::<Vec<_>>(),
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities }
        },
        "mounts": (0..48).map(mount).collect::<Vec<_>>(),
        "linux": {
            "devices": (0..12).map(device).collect::<Vec<_>>(),
            "seccomp": { "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{ "action": "SCMP_ACT_ALLOW",
                "names": (0..460).map(|index| format!("system_call_{index}")).collect::<Vec<_>>() }] }
        },
        "root": { "path": root },
        "hostname": "container"
    })
    .to_string();
    assert!((20_000..22_000).contains(&text.len()), "{} bytes", text.len());
    text
}

/// One container, on a path of the same length everywhere.
struct Prepared {
    directory: tempfile::TempDir,
}

impl Prepared {
    fn new(entries: usize) -> Prepared {
        let directory = tempfile::Builder::new().prefix("hook-").rand_bytes(6).tempdir_in("/tmp").unwrap();
        let root = directory.path().join("rootfs");
        fs::create_dir_all(root.join("etc/ld.so.conf.d")).unwrap();
        fs::create_dir_all(root.join(&DIRECTORY[1..])).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        fs::write(root.join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n").unwrap();
        fs::write(root.join("etc/ld.so.cache"), cache(entries)).unwrap();
        fs::write(directory.path().join("config.json"), config(&root)).unwrap();
        Prepared { directory }
    }

    /// The instructions of one run, which must have used openat2(2) and done all of its work.
    fn count(&self, counter: &Path, hook: &Path) -> u64 {
        let state = serde_json::json!({ "ociVersion": "1.0.2", "id": "c", "pid": 1, "status": "created",
            "bundle": self.directory.path() });
        // As a runtime does, which needs root, or a user namespace.
        let mut command = Command::new("unshare");
        let script = "mount --bind $R $R && exec \"$@\"";
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(counter);
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-syscalls=yes"]);
        command.arg(hook).arg("create-container").args(arguments()).env_clear();
        command.env("R", self.directory.path().join("rootfs"));
        command.env("VALGRIND_LIB", counter.parent().unwrap()).env("VALGRIND_LAUNCHER", counter);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(state.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("oci-hook: "), "{text}");
        let calls: Vec<_> = text.lines().filter(|line| line.contains("](437) ...")).collect();
        assert!(calls.len() >= 5, "openat2 was called {} times only: {text}", calls.len());
        let refused = calls.iter().find(|line| line.contains("Failure(0x26)"));
        assert_eq!(refused, None, "the counter has no openat2, and what it counted is something else");
        let counted = text.lines().find_map(|line| line.split_once("Collected : ")).unwrap();
        counted.1.trim().parse().unwrap()
    }

    fn assert_done(&self, entries: usize) {
        let root = self.directory.path().join("rootfs");
        let cache = ldcache::entries(&fs::read(root.join("etc/ld.so.cache")).unwrap()).unwrap();
        assert_eq!(cache.len(), entries + SONAMES.len());
        let links = fs::read_dir(root.join(&DIRECTORY[1..])).unwrap().count();
        assert_eq!(links, 28);
        assert!(root.join("etc/ld.so.conf.d/00-gpuspec.conf").is_file());
    }
}

fn tool(name: &str) -> PathBuf {
    std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set; run tests/hook-instructions.sh"))
        .into()
}

#[test]
fn the_hook_stays_within_its_budget() {
    let (counter, hook) = (tool("LIBGPUSPEC_COUNTER"), tool("LIBGPUSPEC_HOOK"));
    assert!(hook.metadata().unwrap().len() <= MAX_SIZE, "{} bytes", hook.metadata().unwrap().len());
    let counts = [114, 542].map(|entries| {
        let container = Prepared::new(entries);
        let first = container.count(&counter, &hook);
        container.assert_done(entries);
        let again = container.count(&counter, &hook);
        container.assert_done(entries);
        println!("{entries} entries: {first} instructions, {again} when all is done already");
        let budget = BUDGET + (entries as u64 - 114) * BUDGET_PER_ENTRY;
        assert!(again <= budget, "{again} instructions where all is done already, the budget is {budget}");
        first
    });
    let [small, large] = counts;
    let per_entry = (large - small) / (542 - 114);
    println!("{per_entry} instructions an entry");
    assert!(small <= BUDGET, "{small} instructions, the budget is {BUDGET}");
    assert!(
        per_entry <= BUDGET_PER_ENTRY,
        "{per_entry} instructions an entry, the budget is {BUDGET_PER_ENTRY}"
    );
}
