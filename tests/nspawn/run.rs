//! `cdi-gen nspawn run` and `args`, with a program in systemd-nspawn's place that tells what it was given.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::tree::Tree;

const MACHINE: &str = r#"
m/etc/ld.so.conf "include /etc/ld.so.conf.d/*.conf\n"
m/etc/ld.so.cache cache x86-64:/lib/x86_64-linux-gnu:libc.so.6
m/lib64/ld-linux-x86-64.so.2 elf64 soname=ld-linux-x86-64.so.2
m/usr/bin/sh elf64 interp=/lib64/ld-linux-x86-64.so.2 needs=libc.so.6
m/lib/x86_64-linux-gnu/libc.so.6 elf64 soname=libc.so.6 defines=GLIBC_2.2.5,GLIBC_2.36
m/run dir
m.nspawn "[Exec]\nEnvironment=UNTRUSTED=1\n[Files]\nBind=/etc:/mnt\n"
driver/libx.so.1.2 elf64 soname=libx.so.1 needs=libc.so.6
"#;

const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "all", "containerEdits": {
  "deviceNodes": [{"path": "/dev/null"}], "env": ["A=B"],
  "mounts": [{"hostPath": "HERE/driver/libx.so.1.2", "containerPath": "/usr/lib/libx.so.1.2", "options": ["ro", "bind"]}]}}]}"#;

/// Tells its arguments and what the state has; then what the test wants of it.
const PROGRAM: &str = r#"#!/bin/sh
PATH=/usr/bin:/bin
for argument; do echo "$argument"; done >"$HERE/arguments"
for state in /run/gpuspec/nspawn/run_*; do (cd "$state" && find . -name 'libx*' | sort) >"$HERE/state"; done
ready() { echo "$PPID" >"$HERE/parent.new" && mv "$HERE/parent.new" "$HERE/parent"; }
eval "$THEN"
"#;

struct Place(Tree);

impl Place {
    fn new() -> Option<Place> {
        let enter = ["--mount", "--propagation", "private", "sh", "-euc", "mount -n -t tmpfs t /run"];
        let entered = Command::new("unshare").args(enter).output();
        if !entered.is_ok_and(|output| output.status.success()) {
            std::io::stderr().write_all(b"skipped: needs unshare(1) and CAP_SYS_ADMIN\n").unwrap();
            return None;
        }
        let place = Place(Tree::build(MACHINE));
        fs::create_dir(place.path("cdi")).unwrap();
        fs::write(place.path("cdi/v.json"), SPEC.replace("HERE", place.here())).unwrap();
        fs::create_dir(place.path("bin")).unwrap();
        fs::write(place.path("bin/systemd-nspawn"), PROGRAM).unwrap();
        fs::set_permissions(place.path("bin/systemd-nspawn"), fs::Permissions::from_mode(0o755)).unwrap();
        Some(place)
    }

    fn here(&self) -> &str {
        self.0.path().as_str()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name).into()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs cdi-gen with a /run of its own; what is left there is the last that is printed on stdout.
    fn cdi_gen(&self, verb: &str, words: &str, then: &str) -> (Option<i32>, String, String) {
        const ENTERED: &str = "mount -n -t tmpfs -o mode=0755 run /run; mount -n --make-shared /run
            status=0; PATH=$BIN \"$@\" || status=$?; find /run -mindepth 1 ! -path /run/gpuspec; grep -c ' /run/' /proc/self/mounts || :; exit $status";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", ENTERED, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_cdi-gen")).args(["nspawn", verb]);
        command.arg("--spec-dir").arg(self.path("cdi"));
        command.args(words.replace("HERE", self.here()).split_whitespace());
        command.env("BIN", self.path("bin")).env("HERE", self.here()).env("THEN", then);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn machine(&self) -> Vec<String> {
        crate::rootfs::manifest(&self.path("m"))
    }
}

/// Nothing in /run but the directory of all that is ours, no mount below it.
const NOTHING_LEFT: &str = "0\n";

#[test]
fn a_machine_is_run_with_its_devices_and_nothing_is_left() {
    let Some(place) = Place::new() else { return };
    let before = place.machine();
    let words = "-D HERE/m --register=no --device v.com/c=all --keep-unit -- ls --device x";
    let (status, stdout, stderr) = place.cdi_gen("run", words, "exit 7");
    assert_eq!((status, stdout.as_str()), (Some(7), NOTHING_LEFT), "{stderr}");
    assert_eq!(place.machine(), before);

    let arguments = place.text("arguments");
    let state = arguments.split("--bind-ro=").nth(1).unwrap().split("/tree:").next().unwrap();
    assert!(state.starts_with("/run/gpuspec/nspawn/run_"), "{arguments}");
    let libraries = "/lib/x86_64-linux-gnu";
    let expected = format!(
        "-D\n{}/m\n--register=no\n--keep-unit\n--setenv=UNTRUSTED=1\n--setenv=A=B\n--bind-ro={state}/tree:/run/gpuspec\n--bind=/dev/null\n\
         --overlay-ro=+{libraries}:{state}/farm/0:{libraries}\n--\nls\n--device\nx\n",
        place.here()
    );
    assert_eq!(arguments, expected);
    let seen = place.text("state");
    assert!(seen.contains("./tree/lib/libx.so.1\n") && seen.contains("./farm/0/libx.so.1\n"), "{seen}");
}

#[test]
fn a_settings_file_of_the_hosts_own_counts_wholly() {
    let Some(place) = Place::new() else { return };
    let words = "-D HERE/m -b --settings=trusted --device=v.com/c=all";
    let (status, stdout, stderr) = place.cdi_gen("run", words, "");
    assert_eq!((status, stdout.as_str()), (Some(0), NOTHING_LEFT), "{stderr}");
    let arguments = place.text("arguments");
    assert!(arguments.contains("\n--bind=/etc:/mnt\n"), "{arguments}");
    assert!(arguments.contains("\n--setenv=SYSTEMD_PROC_CMDLINE=systemd.setenv=A=B\n"), "{arguments}");
    let (status, _, stderr) = place.cdi_gen("run", "-D HERE/m --settings=override --device=v.com/c=all", "");
    assert!(status == Some(1) && stderr.contains("leave it out"), "{stderr}");
}

#[test]
fn a_bundles_machine_is_shown_no_directory_of_the_hosts() {
    let Some(place) = Place::new() else { return };
    // Its cache names a directory that is a link out of it, for whoever follows it from outside.
    let cache = Tree::build("cache cache x86-64:/x:libx.so.1 x86-64:/lib/x86_64-linux-gnu:libc.so.6");
    fs::copy(cache.path().join("cache"), place.path("m/etc/ld.so.cache")).unwrap();
    fs::create_dir(place.path("hosts")).unwrap();
    fs::write(place.path("hosts/secret"), "").unwrap();
    std::os::unix::fs::symlink(place.path("hosts"), place.path("m/x")).unwrap();
    fs::create_dir(place.path("b")).unwrap();
    fs::write(place.path("b/config.json"), r#"{"ociVersion": "1.0.0", "root": {"path": "../m"}}"#).unwrap();
    let (status, stdout, stderr) = place.cdi_gen("bundle", "HERE/b HERE/out --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("/below/0/libc.so.6\n") && stdout.contains("/below/1\n"), "{stdout}");
    assert!(!stdout.contains("secret"), "{stdout}");
    let config = place.text("out/config.json");
    for layers in config.split("lowerdir=").skip(1) {
        let mut layers = layers.split('"').next().unwrap().split(':');
        assert!(layers.all(|layer| layer.starts_with("/run/gpuspec/nspawn/bundle-")), "{config}");
    }
}

#[test]
fn a_signal_is_the_machines_and_its_end_is_ours() {
    let Some(place) = Place::new() else { return };
    let here = place.here().to_owned();
    let kill = std::thread::spawn(move || {
        let parent = format!("{here}/parent");
        let started = std::time::Instant::now();
        while fs::metadata(&parent).is_err() && started.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        let pid = fs::read_to_string(parent).unwrap();
        assert!(Command::new("kill").args(["-TERM", pid.trim()]).status().unwrap().success());
    });
    let then = "trap 'exit 9' TERM; ready; for try in $(seq 200); do sleep 0.05; done; exit 3";
    let (status, stdout, stderr) = place.cdi_gen("run", "-D HERE/m --device v.com/c=all", then);
    kill.join().unwrap();
    assert_eq!((status, stdout.as_str()), (Some(9), NOTHING_LEFT), "{stderr}");
    let (status, stdout, _) = place.cdi_gen("run", "-D HERE/m --device v.com/c=all", "kill -KILL $$");
    assert_eq!((status, stdout.as_str()), (Some(137), NOTHING_LEFT));
}

#[test]
fn a_run_that_cannot_be_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let cases = [
        ("-D HERE/m", 1, "no device"),
        ("-D HERE/m --device v.com/c=none", 4, "no spec defines it"),
        ("-D HERE/none --device v.com/c=all", 1, "HERE/none"),
        ("-M none --device v.com/c=all", 1, "no machine none"),
        ("-D HERE/m --device v.com/c=all --loader odd", 2, "odd"),
    ];
    for (words, expected, told) in cases {
        let (status, stdout, stderr) = place.cdi_gen("run", words, "");
        assert_eq!((status, stdout.as_str()), (Some(expected), NOTHING_LEFT), "{words}: {stderr}");
        assert!(stderr.contains(&told.replace("HERE", place.here())), "{words}: {stderr}");
    }
    fs::remove_file(place.path("bin/systemd-nspawn")).unwrap();
    let (status, stdout, stderr) = place.cdi_gen("run", "-D HERE/m --device v.com/c=all", "");
    assert_eq!((status, stdout.as_str()), (Some(1), NOTHING_LEFT), "{stderr}");
    assert!(stderr.contains("systemd-nspawn: No such file"), "{stderr}");
}

#[test]
fn arguments_need_nothing_made() {
    let Some(place) = Place::new() else { return };
    let before = place.machine();
    let (status, stdout, stderr) = place.cdi_gen("args", "--directory HERE/m --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    let library = format!("--bind-ro={}/driver/libx.so.1.2:/run/gpuspec/lib/libx.so", place.here());
    let expected = format!(
        "--setenv=A=B\n--setenv=LD_LIBRARY_PATH=/run/gpuspec/lib\n--bind=/dev/null\n{library}.1\n{library}.1.2\n{NOTHING_LEFT}"
    );
    assert_eq!(stdout, expected);
    let (_, stdout, _) = place.cdi_gen("args", "--root HERE/m --device v.com/c=all --shell --boot", "");
    assert!(stdout.contains(" '--setenv=SYSTEMD_PROC_CMDLINE=systemd.setenv=A=B "), "{stdout}");
    assert_eq!(stdout.lines().count(), 2);
    assert_eq!(place.machine(), before);
}

#[test]
fn a_bundle_is_made_out_of_another_and_taken_back() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("in")).unwrap();
    let config = r#"{"ociVersion": "1.1.0", "process": {"args": ["sh"], "env": ["A=0"]}, "root": {"path": "../m"},
        "hooks": {"poststop": [{"path": "/x"}]}, "future": 1}"#;
    fs::write(place.path("in/config.json"), config).unwrap();
    let before = place.machine();
    let (status, stdout, stderr) = place.cdi_gen("bundle", "HERE/in HERE/out --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("hooks.poststop: left out") && stderr.contains("future: left out"), "{stderr}");
    let made: serde_json::Value = serde_json::from_str(&place.text("out/config.json")).unwrap();
    let state = stdout.lines().find_map(|line| line.strip_suffix("/manifest.json")).unwrap();
    assert!(state.starts_with("/run/gpuspec/nspawn/bundle-"), "{stdout}");
    let (root, libraries) = (format!("{}/m", place.here()), "/lib/x86_64-linux-gnu");
    let expected = serde_json::json!({
        "ociVersion": "1.0.0",
        "process": {"args": ["sh"], "env": ["A=B"]},
        "root": {"path": root},
        "mounts": [
            {"destination": "/run/gpuspec", "source": format!("{state}/tree"), "options": ["rbind"]},
            {"destination": "/dev/null", "source": "/dev/null", "options": ["rbind"]},
            {"destination": libraries, "type": "overlay", "source": "overlay",
             "options": [format!("lowerdir={state}/farm/0:{state}/below/0")]},
        ],
    });
    assert_eq!(made, expected);
    assert_eq!(place.machine(), before);
    assert_eq!(place.text("in/config.json"), config);

    let (status, stdout, stderr) = place.cdi_gen("bundle", "--remove HERE/out", "");
    assert_eq!((status, stdout.as_str()), (Some(0), NOTHING_LEFT), "{stderr}");
    assert!(!place.path("out").exists());
    assert_eq!(place.cdi_gen("bundle", "--remove HERE/in", "").0, Some(4), "another's");
    assert_eq!(place.text("in/config.json"), config);
    for (words, expected) in [
        ("HERE/in HERE/in --device v.com/c=all", 1),
        ("HERE/in HERE/out", 2),
        ("HERE/in --device v.com/c=all", 2),
        ("HERE/m HERE/out --device v.com/c=all", 1),
        ("HERE/in HERE/out --device v.com/c=none", 4),
    ] {
        let (status, stdout, stderr) = place.cdi_gen("bundle", words, "");
        assert_eq!((status, stdout.as_str()), (Some(expected), NOTHING_LEFT), "{words}: {stderr}");
        assert!(!place.path("out").exists(), "{words}");
    }
}
