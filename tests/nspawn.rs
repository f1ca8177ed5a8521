//! `cdi-gen nspawn`: what is written for a machine, and that it goes without a trace.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "nspawn/attach.rs"]
mod attach;
#[path = "nspawn/bundle.rs"]
mod bundle;
#[path = "nspawn/check.rs"]
mod check;
#[path = "support/elf.rs"]
#[allow(dead_code)]
mod elf;
#[path = "nspawn/exec_start.rs"]
mod exec_start;
#[path = "nspawn/hangs.rs"]
mod hangs;
#[path = "support/real.rs"]
mod real;
#[path = "nspawn/real.rs"]
mod real_machines;
#[path = "support/rootfs.rs"]
#[allow(dead_code)]
mod rootfs;
#[path = "nspawn/run.rs"]
mod run;
#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [
  {"name": "all", "containerEdits": {"deviceNodes": [{"path": "/dev/v0"}], "env": ["A=B"]}},
  {"name": "foreign", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/usr/bin/v-hook", "args": ["v-hook", "x"]}]}}]}"#;

const UNIT: &str = "etc/systemd/system/systemd-nspawn@m.service.d";

/// A host that does not run, with systemd and a spec on it.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Host {
        let host = Host(tempfile::tempdir().unwrap());
        for directory in ["etc/systemd/system", "etc/systemd/nspawn", "run/systemd/nspawn", "proc", "cdi"] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        fs::write(host.path("cdi/v.json"), SPEC).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn nspawn(&self, verb: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-gen"));
        command.args(["nspawn", verb, "--root"]).arg(self.0.path()).args(arguments);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn enable(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let spec_dir = "/cdi";
        let always = ["--spec-dir", spec_dir, "--hook-path", "/usr/libexec/libgpuspec/oci-hook-inject"];
        self.nspawn("enable", &[&always[..], arguments].concat())
    }

    fn dropin(&self) -> String {
        fs::read_to_string(self.path(UNIT).join("50-gpuspec.conf")).unwrap()
    }

    /// Names, types, modes and contents.
    fn manifest(&self) -> Vec<String> {
        let entry = |line: &String| {
            let path = self.path(line.split(" -> ").next().unwrap());
            let mode = path.symlink_metadata().unwrap().permissions().mode();
            let content = if path.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            format!("{line} {mode:o} {content:?}")
        };
        rootfs::listing(self.0.path()).iter().map(entry).collect()
    }
}

const ALL: [&str; 3] = ["m", "--device", "v.com/c=all"];

#[test]
fn a_machine_is_enabled_and_disabled_without_a_trace() {
    let host = Host::new();
    let before = host.manifest();
    let (status, stdout, stderr) = host.enable(&ALL);
    assert_eq!((status, stdout.as_str()), (Some(0), ""), "{stderr}");
    let spec_dir = "/cdi";
    let text = host.dropin();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let prepare = format!(
        "ExecStartPre=-/usr/libexec/libgpuspec/oci-hook-inject nspawn-prepare --machine=%i --device=v.com/c=all --spec-dir={spec_dir}"
    );
    let expected = [
        "[Unit]",
        "Wants=gpuspec-refresh.service",
        "After=gpuspec-refresh.service",
        "[Service]",
        &prepare,
        "ExecStartPost=-/usr/libexec/libgpuspec/oci-hook-inject nspawn-report --machine=%i",
        "ExecStopPost=-/usr/libexec/libgpuspec/oci-hook-inject nspawn-cleanup --machine=%i",
        "DeviceAllow=/dev/v0 rw",
    ];
    assert_eq!(lines, expected);
    assert!(text.starts_with("# Made by cdi-gen nspawn enable"), "{text}");
    let metadata = host.path(UNIT).join("50-gpuspec.conf").metadata().unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);

    assert_eq!(host.enable(&ALL).0, Some(0), "again");
    assert_eq!(host.dropin(), text, "the same gives the same");
    let (status, _, stderr) = host.nspawn("disable", &["m"]);
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(host.manifest(), before);
    assert_eq!(host.nspawn("disable", &["m"]).0, Some(0), "nothing to do");
}

#[test]
fn what_others_wrote_for_the_unit_stays() {
    let host = Host::new();
    fs::create_dir(host.path(UNIT)).unwrap();
    let empty = host.manifest();
    assert_eq!(host.enable(&ALL).0, Some(0));
    assert_eq!(host.nspawn("disable", &["m"]).0, Some(0));
    assert_eq!(host.manifest(), empty, "a directory that was there stays, empty as it is");

    for (name, text) in [
        ("10-mine.conf", "[Service]\nDeviceAllow="),
        ("50-gpuspec.confx", "\u{feff}\0"),
        (".50-gpuspec.conf", ""),
    ] {
        fs::write(host.path(UNIT).join(name), text).unwrap();
    }
    fs::create_dir(host.path(UNIT).join("sub.conf")).unwrap();
    let before = host.manifest();
    assert_eq!(host.enable(&ALL).0, Some(0));
    assert_eq!(host.nspawn("disable", &["m"]).0, Some(0));
    assert_eq!(host.manifest(), before);
}

#[test]
fn a_directory_that_others_use_by_now_stays() {
    let host = Host::new();
    assert_eq!(host.enable(&ALL).0, Some(0));
    fs::write(host.path(UNIT).join("10-mine.conf"), "mine").unwrap();
    let (status, _, stderr) = host.nspawn("disable", &["m"]);
    assert!(status == Some(0) && stderr.contains("others have files in it"), "{stderr}");
    assert_eq!(fs::read_dir(host.path(UNIT)).unwrap().count(), 1);
}

#[test]
fn a_file_of_another_maker_stays() {
    for what in ["text", "empty", "link", "directory"] {
        let host = Host::new();
        fs::create_dir(host.path(UNIT)).unwrap();
        let path = host.path(UNIT).join("50-gpuspec.conf");
        match what {
            "text" => fs::write(path, "[Service]\n# Made by cdi-gen nspawn enable\n").unwrap(),
            "empty" => fs::write(path, "").unwrap(),
            "link" => std::os::unix::fs::symlink("/nowhere", path).unwrap(),
            _ => fs::create_dir(path).unwrap(),
        }
        let before = host.manifest();
        let (status, _, stderr) = host.enable(&ALL);
        assert!(status == Some(4) && stderr.contains("left alone"), "{what}: {stderr}");
        assert_eq!(host.nspawn("disable", &["m"]).0, Some(4), "{what}");
        assert_eq!(host.manifest(), before, "{what}");
    }
}

#[test]
fn a_dry_run_prints_the_file_and_writes_none() {
    let host = Host::new();
    let before = host.manifest();
    let (status, stdout, stderr) = host.enable(&[&ALL[..], &["--dry-run"]].concat());
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(host.manifest(), before);
    assert_eq!(host.enable(&ALL).0, Some(0));
    assert!(stdout.starts_with(&format!("# /{UNIT}/50-gpuspec.conf\n{}", host.dropin())), "{stdout}");
}

#[test]
fn names_that_systemd_does_not_take_are_usage_errors() {
    let host = Host::new();
    let before = host.manifest();
    let long = "a".repeat(300);
    for name in ["a b", "../x", "a/../../x", "", ".", "a\nb", &long] {
        for verb in ["enable", "disable", "status"] {
            let mut arguments = vec![name];
            arguments.extend((verb == "enable").then_some(["--device", "v.com/c=all"]).into_iter().flatten());
            assert_eq!(host.nspawn(verb, &arguments).0, Some(2), "{verb} {name:?}");
        }
    }
    assert_eq!(host.enable(&["--device", "v.com/c=all", "--", "-x"]).0, Some(2));
    assert_eq!(host.manifest(), before);
}

#[test]
fn a_directory_of_the_machine_is_named_as_its_programs_do() {
    let host = Host::new();
    let before = host.manifest();
    for directory in ["usr/lib64", "/usr/../lib"] {
        let (status, _, stderr) = host.enable(&[&ALL[..], &["--library-directory", directory]].concat());
        assert!(status == Some(2) && stderr.contains("as /usr/lib64"), "{directory}: {stderr}");
        let words = ["nspawn", "run", "-D", "/m", "--device=v.com/c=all", "--library-directory", directory];
        let ended = Command::new(env!("CARGO_BIN_EXE_cdi-gen")).args(words).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.code() == Some(2) && said.contains("as /usr/lib64"), "{directory}: {said}");
    }
    assert_eq!(host.manifest(), before);
}

#[test]
fn what_does_not_resolve_is_told_and_nothing_written() {
    let host = Host::new();
    let before = host.manifest();
    let (status, _, stderr) = host.enable(&["m", "--device", "v.com/c=none"]);
    assert!(status == Some(4) && stderr.contains("v.com/c=none: no spec defines it"), "{stderr}");
    let (status, _, stderr) = host.enable(&["m", "--device", "v.com/c=foreign"]);
    assert!(status == Some(4) && stderr.contains("--allow-hook v-hook"), "{stderr}");
    assert_eq!(host.enable(&["m"]).0, Some(2), "no device");
    assert_eq!(host.manifest(), before);
    assert_eq!(host.enable(&["m", "--device", "v.com/c=foreign", "--allow-hook", "v-hook"]).0, Some(0));
    assert!(host.dropin().contains(" --allow-hook=v-hook\n"));
}

#[test]
fn a_host_without_systemd_is_told_so() {
    let host = Host::new();
    fs::remove_dir_all(host.path("etc/systemd")).unwrap();
    let before = host.manifest();
    let (status, _, stderr) = host.enable(&ALL);
    assert!(status == Some(1) && stderr.contains("systemd is not there"), "{stderr}");
    assert_eq!(host.manifest(), before);
}

#[test]
fn a_prepared_machine_keeps_its_devices_until_it_stops() {
    let host = Host::new();
    assert_eq!(host.enable(&[&ALL[..], &["--no-touch"]].concat()).0, Some(0));
    fs::create_dir_all(host.path("run/gpuspec/nspawn/m")).unwrap();
    let settings = host.path("run/systemd/nspawn/m.nspawn");
    fs::write(&settings, "# BEGIN gpuspec\n[Files]\n# END gpuspec\n").unwrap();
    let (status, _, stderr) = host.nspawn("disable", &["m"]);
    assert!(status == Some(0) && stderr.contains("keeps its devices until it stops"), "{stderr}");
    assert!(!host.path(UNIT).exists());
    let left = fs::read_to_string(host.path("run/systemd/system/systemd-nspawn@m.service.d/50-gpuspec.conf"))
        .unwrap();
    let lines: Vec<&str> = left.lines().skip(1).collect();
    let expected = [
        "[Service]",
        "ExecStopPost=-+nsenter --mount=/proc/1/ns/mnt /usr/libexec/libgpuspec/oci-hook-inject nspawn-cleanup --machine=%i",
        "DeviceAllow=/dev/v0 rw",
        "ExecStopPost=-+/bin/rm -f /run/systemd/system/systemd-nspawn@m.service.d/50-gpuspec.conf",
    ];
    assert_eq!(lines, expected);
    assert!(fs::read_to_string(settings).unwrap().contains("BEGIN"), "its clean-up takes it back");
}

#[test]
fn a_block_that_a_broken_stop_left_goes() {
    let host = Host::new();
    assert_eq!(host.enable(&ALL).0, Some(0));
    for (name, text) in
        [("etc/systemd/nspawn/m.nspawn", "[Exec]\nBoot=yes"), ("run/systemd/nspawn/m.nspawn", "[Exec]\r\n")]
    {
        fs::write(
            host.path(name),
            format!("{text}\n# BEGIN gpuspec: x\n\n[Files]\nBind=/dev/v0\n# END gpuspec\n"),
        )
        .unwrap();
        fs::set_permissions(host.path(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    assert_eq!(host.nspawn("disable", &["m"]).0, Some(0));
    assert_eq!(fs::read_to_string(host.path("etc/systemd/nspawn/m.nspawn")).unwrap(), "[Exec]\nBoot=yes");
    assert_eq!(fs::read_to_string(host.path("run/systemd/nspawn/m.nspawn")).unwrap(), "[Exec]\r\n");
    let mode = host.path("etc/systemd/nspawn/m.nspawn").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
}

#[test]
fn status_says_what_wants_to_be_enabled_again() {
    let host = Host::new();
    assert_eq!(
        host.nspawn("status", &[]),
        (Some(0), String::new(), "cdi-gen: no machine is enabled or has devices\n".to_owned())
    );
    let (status, _, stderr) = host.nspawn("status", &["m"]);
    assert!(status == Some(1) && stderr.contains("m: no such machine"), "{stderr}");
    fs::create_dir_all(host.path("var/lib/machines/m")).unwrap();
    let (status, stdout, _) = host.nspawn("status", &["m"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "m: not enabled\n"));

    assert_eq!(host.enable(&ALL).0, Some(0));
    let (status, stdout, stderr) = host.nspawn("status", &[]);
    assert_eq!(status, Some(5), "{stdout}{stderr}");
    assert!(stdout.starts_with("m: enabled, not running\n  devices: v.com/c=all\n"), "{stdout}");
    let why = "\n  cannot be made ready: /dev/v0: in the spec, and not on this host: load its driver's module, or make the spec anew";
    assert!(stdout.contains(why), "{stdout}");

    let more = SPEC.replace(r#"{"path": "/dev/v0"}"#, r#"{"path": "/dev/v0"}, {"path": "/dev/v1"}"#);
    fs::write(host.path("cdi/v.json"), more).unwrap();
    let (status, stdout, _) = host.nspawn("status", &["m"]);
    assert!(
        status == Some(5) && stdout.contains("not let through by its unit: v1; enable again"),
        "{stdout}"
    );
    let (status, stdout, _) = host.nspawn("status", &["--json"]);
    let reports: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &reports[0]["not_let_through"][0]), (Some(5), &"v1".into()));
    assert_eq!(reports[0]["asked"]["devices"][0], "v.com/c=all");

    fs::remove_file(host.path("cdi/v.json")).unwrap();
    fs::create_dir_all(host.path("run/systemd/machines")).unwrap();
    fs::write(host.path("run/systemd/machines/m"), "").unwrap();
    let (status, stdout, _) = host.nspawn("status", &[]);
    assert!(status == Some(4) && stdout.contains("v.com/c=all: no spec"), "{stdout}");
    assert!(
        stdout.starts_with("m: enabled, runs without its devices\n"),
        "not before the spec is there: {stdout}"
    );
}

#[test]
fn status_lists_whatever_has_devices() {
    let host = Host::new();
    let state = |name: &str| fs::create_dir_all(host.path("run/gpuspec/nspawn").join(name)).unwrap();
    ["prepared", "attached", "run_7", "bundle-0123456789abcdef"].iter().for_each(|name| state(name));
    let record = r#"{"version": 1, "leader": {"pid": 7, "start": 1, "mounts": "x"}, "devices": ["v.com/c=all"],
        "grant": null, "places": [], "done": true}"#;
    fs::write(host.path("run/gpuspec/nspawn/attached/attached.json"), record).unwrap();
    fs::write(host.path("run/gpuspec/nspawn/.prepared.lock"), "").unwrap();
    let (status, stdout, stderr) = host.nspawn("status", &[]);
    let expected = "attached: attached, until `detach` or its stop: v.com/c=all\n\
                    prepared: not enabled any more, keeps its devices until it stops\n";
    assert_eq!((status, stdout.as_str()), (Some(0), expected), "{stderr}");
    assert_eq!(host.nspawn("status", &["attached"]).1, expected.split_inclusive('\n').next().unwrap());
    let (_, stdout, _) = host.nspawn("status", &["--json"]);
    let reports: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(reports[0]["attached"], serde_json::json!(["v.com/c=all"]));
    assert_eq!((&reports[0]["prepared"], &reports[1]["prepared"]), (&false.into(), &true.into()));
}

/// A host that does not run has its own specs and its own hook; nothing of the running host is consulted or written.
#[test]
fn enable_on_another_root_reads_and_names_that_hosts_files_alone() {
    let host = Host::new();
    fs::create_dir_all(host.path("etc/cdi")).unwrap();
    fs::create_dir_all(host.path("var/lib/machines/m/usr")).unwrap();
    fs::create_dir_all(host.path("usr/libexec/libgpuspec")).unwrap();
    fs::rename(host.path("cdi/v.json"), host.path("etc/cdi/v.json")).unwrap();
    let without = host.nspawn("enable", &ALL);
    assert_eq!(
        without.0,
        Some(1),
        "the hook of this program's own directory is another host's: {}",
        without.2
    );
    assert!(without.2.contains("/usr/libexec/libgpuspec/oci-hook-inject: no such file"), "{}", without.2);
    // A static binary that root owns.
    let hook = host.path("usr/libexec/libgpuspec/oci-hook-inject");
    fs::copy(env!("CARGO_BIN_EXE_cdi-gen"), &hook).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(host.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let (status, _, stderr) = host.nspawn("enable", &ALL);
    if fs::metadata(&hook).map(|it| std::os::unix::fs::MetadataExt::uid(&it)).unwrap() != 0 {
        eprintln!("skipped: needs root, whose the hook must be");
        return;
    }
    assert_eq!(status, Some(0), "{stderr}");
    let text = host.dropin();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Exec")).collect();
    assert!(
        lines.iter().all(|line| line.contains("=-/usr/libexec/libgpuspec/oci-hook-inject ")),
        "as that host names it: {lines:?}"
    );
    assert!(!text.contains(host.path("").to_str().unwrap().trim_end_matches('/')), "{text}");
    let (status, stdout, stderr) = host.nspawn("status", &["m", "--json"]);
    assert!(stdout.contains("\"unresolved\": []"), "{status:?} {stdout} {stderr}");
    let (status, stdout, stderr) = host.nspawn("check", &ALL);
    assert!(status != Some(4), "{stdout} {stderr}");
    assert_eq!(host.nspawn("disable", &["m"]).0, Some(0));
    assert!(!host.path(UNIT).exists());
}
