//! `cdi-gen hooks`: entries written, shown and removed, and nobody else's file touched.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::{Value, json};

const GPU: [&str; 2] = ["--allow-environment", "nvidia.com/gpu"];

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn hooks(&self, verb: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-gen"));
        command.args(["hooks", verb, "--hooks-dir"]).arg(self.0.path().join("hooks.d")).args(arguments);
        if verb == "install" {
            command.args(["--hook-path", "/usr/libexec/libgpuspec/oci-hook-inject"]);
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn entry(&self) -> std::path::PathBuf {
        self.0.path().join("hooks.d/gpuspec.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.entry()).unwrap()
    }
}

#[test]
fn an_entry_is_written_shown_replaced_and_removed() {
    let directory = Directory::new();
    let (status, _, stderr) =
        directory.hooks("install", &[&GPU[..], &["--device", "v.com/c=a", "--spec-dir", "/cdi"]].concat());
    assert_eq!(status, Some(0), "{stderr}");
    let args = [
        "oci-hook-inject",
        "precreate",
        "--device",
        "v.com/c=a",
        "--allow-environment",
        "nvidia.com/gpu",
        "--spec-dir",
        "/cdi",
    ];
    let expected = json!({
        "version": "1.0.0",
        "hook": {"path": "/usr/libexec/libgpuspec/oci-hook-inject", "args": args, "env": ["LC_ALL=C"], "timeout": 10},
        "when": {"always": true},
        "stages": ["precreate"],
    });
    assert_eq!(serde_json::from_str::<Value>(&directory.text()).unwrap(), expected);
    assert_eq!(directory.entry().metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(directory.hooks("show", &[]).1, directory.text());

    assert_eq!(directory.hooks("install", &GPU).0, Some(0));
    assert!(!directory.text().contains("--device"));
    assert_eq!(directory.hooks("remove", &[]).0, Some(0));
    assert!(!directory.entry().exists());
    assert_eq!(directory.hooks("remove", &[]).0, Some(0), "there is nothing to remove");
    assert_eq!(directory.hooks("show", &[]).0, Some(4));
}

#[test]
fn n13_an_entry_that_opens_devices_to_images_warns() {
    let directory = Directory::new();
    for (arguments, what) in [
        (["--allow-annotations", "nvidia.com/gpu"], "annotations"),
        (["--allow-environment", "nvidia.com/gpu"], "variables"),
        (["--environment-variable", "DOCKER_RESOURCE_GPU=nvidia.com/gpu"], "variables"),
    ] {
        let (status, _, stderr) = directory.hooks("install", &arguments);
        assert_eq!(status, Some(0), "{stderr}");
        let warning = format!("{}: images can set {what} too", arguments[0]);
        assert!(stderr.contains(&warning), "{stderr}");
        assert!(directory.text().contains(arguments[1]), "{}", directory.text());
    }
    let (_, _, stderr) = directory.hooks("install", &["--device", "v.com/c=a"]);
    assert!(!stderr.contains("any image"), "{stderr}");
    let (_, help, _) = directory.hooks("install", &["--help"]);
    let help: Vec<&str> = help.split_whitespace().collect();
    assert_eq!(help.join(" ").matches("an image can set").count(), 3);
    for wrong in ["DOCKER_RESOURCE_GPU", "=nvidia.com/gpu", "A B=nvidia.com/gpu", "A=gpu", "A="] {
        assert_eq!(directory.hooks("install", &["--environment-variable", wrong]).0, Some(2), "{wrong}");
    }
}

#[test]
fn an_entry_has_the_engines_stage() {
    let directory = Directory::new();
    let (status, _, stderr) =
        directory.hooks("install", &[&GPU[..], &["--engine", "cri-o", "--device-cgroup"]].concat());
    assert_eq!(status, Some(0), "{stderr}");
    let entry: Value = serde_json::from_str(&directory.text()).unwrap();
    assert_eq!(entry["stages"], json!(["createRuntime"]));
    let args =
        ["oci-hook-inject", "create-runtime", "--allow-environment", "nvidia.com/gpu", "--device-cgroup"];
    assert_eq!(entry["hook"]["args"], json!(args));
    assert_eq!(directory.hooks("install", &[&GPU[..], &["--device-cgroup"]].concat()).0, Some(1), "podman");
}

#[test]
fn a_file_of_another_maker_stays() {
    // None is a link that leads nowhere.
    let makers = [
        ("another hook", Some(r#"{"version": "1.0.0", "hook": {"path": "/x", "args": ["x"]}}"#)),
        ("no JSON", Some("oci-hook-inject")),
        ("empty", Some("")),
        ("a link", None),
    ];
    for (what, text) in makers {
        let directory = Directory::new();
        fs::create_dir(directory.0.path().join("hooks.d")).unwrap();
        match text {
            Some(text) => fs::write(directory.entry(), text).unwrap(),
            None => std::os::unix::fs::symlink("/nowhere", directory.entry()).unwrap(),
        }
        let before = fs::symlink_metadata(directory.entry()).unwrap();
        for (verb, arguments) in [("install", &GPU[..]), ("remove", &[]), ("show", &[])] {
            let (status, stdout, stderr) = directory.hooks(verb, arguments);
            assert_eq!((status, stdout.as_str()), (Some(4), ""), "{what}: {verb}: {stderr}");
            assert!(stderr.contains("left alone"), "{what}: {stderr}");
        }
        let after = fs::symlink_metadata(directory.entry()).unwrap();
        assert_eq!(
            (before.len(), before.modified().unwrap()),
            (after.len(), after.modified().unwrap()),
            "{what}"
        );
    }
}

#[test]
fn an_entry_that_gives_nothing_is_refused() {
    let directory = Directory::new();
    assert_eq!(directory.hooks("install", &[]).0, Some(2));
    assert_eq!(directory.hooks("install", &["--allow-environment", "nonsense"]).0, Some(2));
    assert!(!directory.entry().exists());
}
