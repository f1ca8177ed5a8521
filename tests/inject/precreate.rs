//! The config before and after: what an entry of hooks.d allows is in it, and nothing else is different.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const OURS: &str = r#"
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, type: c, major: 195}]}
- name: all
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, type: c, major: 195}, {path: /dev/nvidia1, type: c, major: 195, minor: 1}]}
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  hooks:
  - hookName: createContainer
    path: /hook
    args: [oci-hook, create-container, --link, "libcuda.so.1::/usr/lib64/libcuda.so", --libraries, "x86-64:/usr/lib64:libcuda.so.1:libnvidia-ml.so.1"]
  mounts:
  - {hostPath: /d/libcuda.so.1, containerPath: /usr/lib64/libcuda.so.1, options: [ro, bind]}
  - {hostPath: /d/libnvidia-ml.so.1, containerPath: /usr/lib64/libnvidia-ml.so.1, options: [ro, bind]}
"#;
const FOREIGN: &str = r#"
cdiVersion: "0.5.0"
kind: amd.com/gpu
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/dri/renderD128, type: c, major: 226, minor: 128}]}
- name: "1"
  containerEdits: {deviceNodes: [{path: /dev/dri/renderD129, type: c, major: 226, minor: 129}]}
"#;

/// A spec directory, and the files that conditions are judged by.
struct Host(tempfile::TempDir);

struct Ended {
    status: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Ended {
    fn config(&self) -> Value {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        serde_json::from_slice(&self.stdout).unwrap()
    }

    fn paths(&self, list: &str, field: &str) -> Vec<String> {
        let config = self.config();
        let list = config.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
    }

    fn devices(&self) -> Vec<String> {
        self.paths("/linux/devices", "path")
    }

    fn mounts(&self) -> Vec<String> {
        self.paths("/mounts", "destination")
    }
}

impl Host {
    fn new() -> Host {
        let host = Host(tempfile::tempdir().unwrap());
        for name in ["libcuda.so.1", "libnvidia-ml.so.1"] {
            host.file(&format!("d/{name}"), "x");
        }
        host.file("cdi/nvidia.yaml", &host.spec());
        host.file("cdi/amd.yaml", FOREIGN);
        host.file(
            "proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  x\n",
        );
        host.file(
            "proc/driver/nvidia/gpus/0000:01:00.0/information",
            "Model: \t NVIDIA A10\nDevice Minor: \t 0\n",
        );
        host.file("sys/bus/pci/devices/0000:01:00.0/device", "0x2236\n");
        host
    }

    /// Our own spec, for files of this host.
    fn spec(&self) -> String {
        OURS.replace("/d/", &format!("{}/d/", self.path().display()))
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook-inject"));
        command.arg("precreate").args(arguments).arg("--spec-dir").arg(self.path().join("cdi"));
        for root in ["--proc-root", "--sys-root", "--dev-root"] {
            command.arg(root).arg(self.path());
        }
        // Nothing that the engine's caller has set may count.
        command.env("NVIDIA_VISIBLE_DEVICES", "all").env("CDI_SPEC_DIRS", "/nowhere");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        Ended {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn config(&self, arguments: &[&str], env: &[&str]) -> Ended {
        self.run(arguments, config(env).to_string().as_bytes())
    }
}

fn config(env: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2", "futureTop": {"a": [1, 2]},
        "process": {"env": env, "user": {"uid": 0}, "futureProcess": true},
        "annotations": {"cdi.k8s.io/a": "amd.com/gpu=1"},
        "mounts": [{"destination": "/proc", "type": "proc", "futureMount": 1}],
        "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}},
    })
}

const ALLOWED: [&str; 2] = ["--allow-environment", "nvidia.com/gpu"];
const DEVICE_0: [&str; 2] = ["--device", "nvidia.com/gpu=0"];

#[test]
fn a_config_that_asks_for_nothing_stays_to_the_letter() {
    let host = Host::new();
    let odd = b"{\"b\" : 1.50,\n \"a\":\t[\"\\u00e9\"]}";
    for arguments in [&[][..], &ALLOWED, &["--allow-annotations", "nvidia.com/gpu"]] {
        let ended = host.run(arguments, odd);
        assert_eq!((ended.status, ended.stdout.as_slice()), (Some(0), &odd[..]), "{arguments:?}");
    }
}

#[test]
fn only_the_devices_edits_are_added() {
    let host = Host::new();
    let edited = host.config(&DEVICE_0, &["A=1"]).config();
    let mut expected = config(&["A=1", "NVIDIA_VISIBLE_DEVICES=void"]);
    let mount = |name: &str| json!({"destination": format!("/usr/lib64/{name}"), "source": host.path().join("d").join(name), "options": ["ro", "bind"]});
    expected["mounts"].as_array_mut().unwrap().extend([mount("libcuda.so.1"), mount("libnvidia-ml.so.1")]);
    expected["linux"]["devices"] = json!([{"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0}]);
    let rule = json!({"allow": true, "type": "c", "major": 195, "minor": 0, "access": "rwm"});
    expected["linux"]["resources"]["devices"].as_array_mut().unwrap().push(rule);
    let args = [
        "oci-hook",
        "create-container",
        "--link",
        "libcuda.so.1::/usr/lib64/libcuda.so",
        "--libraries",
        "x86-64:/usr/lib64:libcuda.so.1:libnvidia-ml.so.1",
    ];
    expected["hooks"] = json!({"createContainer": [{"path": "/hook", "args": args}]});
    assert_eq!(edited, expected);
}

#[test]
fn a_container_gets_only_what_the_entry_opens_to_it() {
    let host = Host::new();
    let asks = ["NVIDIA_VISIBLE_DEVICES=all", "AMD_VISIBLE_DEVICES=0"];
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &[]),
        (&ALLOWED, &["/dev/nvidia0", "/dev/nvidia1"]),
        (&["--allow-environment", "amd.com/gpu"], &["/dev/dri/renderD128"]),
        (&["--allow-annotations", "amd.com/gpu"], &["/dev/dri/renderD129"]),
        (&["--allow-annotations", "nvidia.com/gpu"], &[]),
        (&DEVICE_0, &["/dev/nvidia0"]),
    ];
    for (arguments, expected) in cases {
        assert_eq!(host.config(arguments, &asks).devices(), expected, "{arguments:?}");
    }
}

#[test]
fn the_variable_means_what_it_means_to_the_vendors_runtime() {
    let host = Host::new();
    for (value, devices, mounts) in [("all", 2, 3), ("0", 1, 3), ("none", 0, 3), ("void", 0, 1), ("", 0, 1)] {
        let ended = host.config(&ALLOWED, &[&format!("NVIDIA_VISIBLE_DEVICES={value}")]);
        assert_eq!((ended.devices().len(), ended.mounts().len()), (devices, mounts), "{value}");
        let expected = if mounts == 1 { value } else { "void" };
        assert_eq!(ended.config()["process"]["env"], json!([format!("NVIDIA_VISIBLE_DEVICES={expected}")]));
    }
}

#[test]
fn capabilities_filter_our_own_spec_and_no_other() {
    let host = Host::new();
    let (all, utility) = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=utility");
    let ended = host.config(&ALLOWED, &[all, utility]);
    assert_eq!(ended.mounts(), ["/proc", "/usr/lib64/libnvidia-ml.so.1"]);
    let args = &ended.config()["hooks"]["createContainer"][0]["args"];
    assert_eq!(
        *args,
        json!(["oci-hook", "create-container", "--libraries", "x86-64:/usr/lib64:libnvidia-ml.so.1"])
    );
    assert_eq!(ended.stderr, "");

    host.file(
        "cdi/nvidia.yaml",
        &host.spec().replace("oci-hook, create-container", "nvidia-cdi-hook, update-ldcache"),
    );
    let ended = host.config(&ALLOWED, &[all, utility]);
    assert_eq!(ended.mounts().len(), 3);
    assert_eq!(ended.stderr.matches("another maker").count(), 1, "{}", ended.stderr);
}

#[test]
fn conditions_are_judged_by_this_host() {
    let host = Host::new();
    for (condition, status, word) in [
        ("CUDA=cuda>=12.4", 0, ""),
        (
            "CUDA=cuda>=99.0",
            82,
            "not met by this host (driver 550.163.01, cuda 12.4, arch 8.6, brand nvidia)",
        ),
        ("X=driver>=550,driver<551", 0, ""),
        ("X=arch>=9.0", 82, "not met"),
        ("X=brand=tesla", 82, "not met"),
        ("X=brand=nvidia", 0, ""),
        ("X=cuda", 82, "is no condition"),
    ] {
        let ended =
            host.config(&ALLOWED, &["NVIDIA_VISIBLE_DEVICES=all", &format!("NVIDIA_REQUIRE_{condition}")]);
        assert_eq!(ended.status, Some(status), "{condition}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{condition}: {}", ended.stderr);
        assert_eq!(ended.stdout.is_empty(), status != 0, "{condition}");
    }
    fs::remove_dir_all(host.path().join("proc")).unwrap();
    let ended = host.config(&ALLOWED, &["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=1.0"]);
    assert_eq!(ended.status, Some(82));
    assert!(
        ended.stderr.contains("cannot be decided: cuda is unknown: no kernel module"),
        "{}",
        ended.stderr
    );
}

#[test]
fn r_what_is_not_known_stops_the_container() {
    let host = Host::new();
    for (variable, status, word) in [
        ("NVIDIA_REQUIRE_CUDA=cuda>=99 foo=bar", 82, "`foo` is an unknown property"),
        ("NVIDIA_REQUIRE_CUDA=foo=bar", 82, "`foo` is an unknown property"),
        ("NVIDIA_REQUIRE_ANY=cuda>=12.4 foo=bar", 0, ""),
        ("NVIDIA_REQUIRE_CUDA=cuda=>12.4", 82, "`cuda=>12.4` is no condition"),
        ("CUDA_VERSION=99.6", 82, "CUDA_VERSION=cuda>=99.6: not met"),
        ("CUDA_VERSION=12.4.1", 0, ""),
        ("CUDA_VERSION=latest", 80, "CUDA_VERSION: `latest` is not a version"),
        (
            "NVIDIA_MIG_CONFIG_DEVICES=all",
            80,
            "NVIDIA_MIG_CONFIG_DEVICES=all: asks for the right to configure MIG",
        ),
        ("NVIDIA_IMEX_CHANNELS=0", 80, "NVIDIA_IMEX_CHANNELS=0: asks for nodes of IMEX channels"),
        ("NVIDIA_GDS=enabled", 80, "NVIDIA_GDS=enabled: asks for nodes of GPUDirect Storage"),
        ("NVIDIA_GDS=1", 0, "NVIDIA_GDS=1: ignored"),
        ("NVIDIA_VISIBLE_DEVICES=all,none", 80, "NVIDIA_VISIBLE_DEVICES: `all,none` is no device"),
        ("NVIDIA_VISIBLE_DEVICES=,", 80, "NVIDIA_VISIBLE_DEVICES: `,` is no device"),
        ("NVIDIA_VISIBLE_DEVICES=any", 81, "nvidia.com/gpu=any"),
    ] {
        let ended = host.config(&ALLOWED, &["NVIDIA_VISIBLE_DEVICES=all", variable]);
        assert_eq!(ended.status, Some(status), "{variable}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{variable}: {}", ended.stderr);
        let off =
            host.config(&ALLOWED, &["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DISABLE_REQUIRE=true", variable]);
        let is_condition = status == 82 || variable.starts_with("CUDA_VERSION");
        assert_eq!(off.status == Some(0), is_condition || status == 0, "{variable}: {}", off.stderr);
    }
}

/// N8: a spec that others can write gives root's hook nothing, and the message says why.
#[test]
fn n8_specs_of_others_are_skipped() {
    use std::os::unix::fs::PermissionsExt;
    for (path, mode) in [("cdi", 0o777), ("cdi/nvidia.yaml", 0o666)] {
        let host = Host::new();
        assert_eq!(host.run(&DEVICE_0, b"{}").status, Some(0));
        fs::set_permissions(host.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        let ended = host.run(&DEVICE_0, b"{}");
        assert_eq!((ended.status, ended.stdout.len()), (Some(81), 0), "{path}: {}", ended.stderr);
        assert!(ended.stderr.contains("can be written by all users"), "{path}: {}", ended.stderr);
    }
}

/// H5: a broken spec of another vendor's does not stop the hook, which has ten seconds of processor time.
#[test]
fn h5_broken_spec_of_another_vendor_costs_little() {
    let host = Host::new();
    host.file("cdi/other.json", &format!("{{\"devices\": [{}1]}}", "1,".repeat(60_000)));
    let ended = host.run(&DEVICE_0, b"{}");
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.len() < 4096, "{}", ended.stderr.len());
}

#[test]
fn each_class_of_failure_has_its_status_and_writes_nothing() {
    let host = Host::new();
    let asks = |value: &str| config(&[&format!("NVIDIA_VISIBLE_DEVICES={value}")]).to_string().into_bytes();
    let deep = [b"{\"a\":".as_slice(), &b"[".repeat(100_000)].concat();
    host.file("cdi/node.yaml", "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{name: a, containerEdits: {deviceNodes: [{path: /dev/none}]}}]\n");
    let cases: [(&[&str], Vec<u8>, i32); 8] = [
        (&ALLOWED, b"".to_vec(), 65),
        (&ALLOWED, b"{".to_vec(), 65),
        (&ALLOWED, deep, 65),
        (&ALLOWED, asks("../../etc"), 80),
        (&ALLOWED, asks("7"), 81),
        (&["--device", "v.com/c=a"], asks("0"), 83),
        (&DEVICE_0, b"{\"mounts\": 1}".to_vec(), 83),
        (&["--device", "nonsense"], asks("0"), 2),
    ];
    for (arguments, input, status) in cases {
        let ended = host.run(arguments, &input);
        assert_eq!((ended.status, ended.stdout.len()), (Some(status), 0), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.len() > 20 || status == 2, "{}", ended.stderr);
    }
}

/// A spec of another maker, as nvidia-ctk makes it: a socket that is gone costs no start, a library that is gone does.
#[test]
fn d1_a_mount_whose_source_is_missing_is_left_out_or_named() {
    let host = Host::new();
    let spec = |source: &str| {
        let (source, options) = source.split_once(' ').unwrap_or((source, ""));
        format!(
            "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{{name: a, containerEdits: {{env: [A=1], mounts: [{{hostPath: {source}, \
             containerPath: /run/x, options: [{options}]}}]}}}}]\n"
        )
    };
    std::os::unix::fs::symlink(host.path().join("d"), host.path().join("link")).unwrap();
    let is_root = fs::metadata("/proc/self").map(|it| std::os::unix::fs::MetadataExt::uid(&it)).unwrap() == 0;
    if is_root {
        std::os::unix::fs::lchown(host.path().join("link"), Some(1001), None).unwrap();
    }
    let there = host.path().join("d/libcuda.so.1");
    let cases = [
        (there.to_str().unwrap().to_owned(), 0, 1, ""),
        (
            "/run/libgpuspec-none/socket".to_owned(),
            0,
            0,
            "/run/libgpuspec-none/socket: not on this host; mount left out",
        ),
        ("/tmp/libgpuspec-none".to_owned(), 0, 0, "mount left out"),
        ("/var/run/libgpuspec-none".to_owned(), 0, 0, "mount left out"),
        ("/dev/shm/libgpuspec-none".to_owned(), 0, 0, "mount left out"),
        ("/usr/lib/libgpuspec-none.so".to_owned(), 84, 0, "/usr/lib/libgpuspec-none.so: not on this host"),
        // A driver container's library.
        ("/run/libgpuspec-none.so ro".to_owned(), 84, 0, "/run/libgpuspec-none.so: not on this host"),
        // H9: the user who made that link could have chosen any directory.
        (
            format!("{}/link", host.path().display()),
            0,
            u8::from(!is_root).into(),
            if is_root { "link owned by user 1001" } else { "" },
        ),
    ];
    for (source, status, mounts, word) in cases {
        host.file("cdi/v.yaml", &spec(&source));
        let ended = host.config(&["--device", "v.com/c=a"], &[]);
        assert_eq!(ended.status, Some(status), "{source}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{source}: {}", ended.stderr);
        if status == 0 {
            // The config has one of its own.
            assert_eq!(ended.mounts().len(), 1 + mounts, "{source}: {}", ended.stderr);
        }
    }
}

#[test]
fn a_stage_of_a_newer_version_keeps_no_container_from_starting() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_oci-hook-inject")).args(["teleport", "--fast"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("`teleport`"));
}
