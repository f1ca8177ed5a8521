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
musl/lib/ld-musl-x86_64.so.1 elf64 soname=libc.musl-x86_64.so.1
musl/bin/sh elf64 interp=/lib/ld-musl-x86_64.so.1 needs=libc.musl-x86_64.so.1
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

pub(crate) struct Place(Tree);

impl Place {
    pub(crate) fn new() -> Option<Place> {
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

    pub(crate) fn here(&self) -> &str {
        self.0.path().as_str()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name).into()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs cdi-gen with a /run of its own; what is left there is the last that is printed on stdout.
    pub(crate) fn cdi_gen(&self, verb: &str, words: &str, then: &str) -> (Option<i32>, String, String) {
        self.cdi_gen_with("", verb, words, then)
    }

    /// The same with what these commands have put into /run before.
    fn cdi_gen_with(
        &self,
        first: &str,
        verb: &str,
        words: &str,
        then: &str,
    ) -> (Option<i32>, String, String) {
        const ENTERED: &str = "mount -n -t tmpfs -o mode=0755 run /run; mount -n --make-shared /run
            eval \"$FIRST\"; status=0; PATH=$BIN \"$@\" || status=$?; find /run -mindepth 1 ! -path /run/gpuspec; grep -c ' /run/' /proc/self/mounts || :; exit $status";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", ENTERED, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_cdi-gen")).args(["nspawn", verb]);
        command.arg("--spec-dir").arg(self.path("cdi"));
        command.args(words.replace("HERE", self.here()).split_whitespace());
        command.env("BIN", self.path("bin")).env("HERE", self.here()).env("THEN", then).env("FIRST", first);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    pub(crate) fn machine(&self) -> Vec<String> {
        crate::rootfs::manifest(&self.path("m"))
    }
}

/// Nothing in /run but the directory of all that is ours, no mount below it.
pub(crate) const NOTHING_LEFT: &str = "0\n";

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
         --overlay-ro={state}/below/0:{state}/farm/0:{libraries}\n--\nls\n--device\nx\n",
        place.here()
    );
    assert_eq!(arguments, expected);
    let seen = place.text("state");
    assert!(seen.contains("./tree/lib/libx.so.1\n") && seen.contains("./farm/0/libx.so.1\n"), "{seen}");
}

#[test]
fn the_command_needs_no_dashes_before_it() {
    let Some(place) = Place::new() else { return };
    let (status, _, stderr) = place.cdi_gen("run", "-D HERE/m --device v.com/c=all id --device x", "");
    assert_eq!(status, Some(0), "{stderr}");
    let arguments = place.text("arguments");
    assert!(arguments.ends_with("/x86_64-linux-gnu\n--\nid\n--device\nx\n"), "{arguments}");
    let (status, stdout, stderr) = place.cdi_gen("run", "-D HERE/m --device v.com/c=all --new id", "");
    assert_eq!((status, stdout.as_str()), (Some(2), NOTHING_LEFT), "{stderr}");
    assert!(stderr.contains("put `--` before the command"), "{stderr}");
}

#[test]
fn what_may_not_be_meant_is_told_before_the_start() {
    let Some(place) = Place::new() else { return };
    let cases = [
        ("-D HERE/m", "systemd does not run here: add --register=no --keep-unit\n"),
        ("-D HERE/m --keep-unit", "systemd does not run here: add --register=no\n"),
        ("--register=no", ", the current directory; -D, -M or -i name another\n"),
    ];
    for (words, expected) in cases {
        let words = format!("{words} --device v.com/c=all");
        let (_, _, stderr) = place.cdi_gen("run", &words, "");
        assert!(stderr.contains(expected), "{words}: {stderr}");
    }
    let words = "-D HERE/m --register=no --keep-unit --device v.com/c=all";
    assert_eq!(place.cdi_gen("run", words, "").2, "");
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
    assert!(status == Some(2) && stderr.contains("leave it out"), "{stderr}");
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
        ("-D HERE/m", 2, "no device"),
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
fn what_a_dead_run_left_is_no_fault_of_the_next() {
    let Some(place) = Place::new() else { return };
    let first = "mkdir -p /run/gpuspec/nspawn/run_4194305 /run/gpuspec/nspawn/.run_4194305.lock";
    let (status, _, stderr) = place.cdi_gen_with(first, "run", "-D HERE/m --device v.com/c=all", "exit 7");
    assert_eq!(status, Some(7), "{stderr}");
    assert!(stderr.contains("left of a run that was killed: "), "{stderr}");
}

#[test]
fn arguments_tell_only_loaders_of_glibc() {
    let Some(place) = Place::new() else { return };
    let (status, stdout, stderr) = place.cdi_gen("args", "-D HERE/musl --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(!stdout.contains("LD_LIBRARY_PATH"), "{stdout}");
    assert!(stdout.contains(":/run/gpuspec/lib/libx.so.1\n") && stderr.contains("musl"), "{stdout}{stderr}");
    let asked = "-D HERE/musl --device v.com/c=all --loader environment";
    assert!(place.cdi_gen("args", asked, "").1.contains("LD_LIBRARY_PATH"));
}

#[test]
fn arguments_are_for_the_user_namespace_that_settings_say() {
    let Some(place) = Place::new() else { return };
    let spec = place.text("cdi/v.json").replace(r#""/dev/null""#, r#""/dev/x", "hostPath": "/run/x""#);
    fs::write(place.path("cdi/v.json"), spec).unwrap();
    let first = "mknod -m 660 /run/x c 1 3; mkdir -p /run/systemd/nspawn
        printf '[Exec]\nPrivateUsers=yes\n' | tee /run/systemd/nspawn/m.nspawn >/run/systemd/nspawn/args.nspawn";
    let told = |words: &str| {
        let words = format!("--device v.com/c=all {words}");
        let (status, _, stderr) = place.cdi_gen_with(first, "args", &words, "");
        assert_eq!(status, Some(0), "{words}: {stderr}");
        stderr.contains("lets nobody in a user namespace")
    };
    assert!(told("-D HERE/m"), "by the name that its root gives it");
    assert!(!told("-D HERE/m --user-namespace no"));
    assert!(!told("-D HERE/musl"), "no file says so, nor is it a machine called args");
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
    let (_, stdout, _) = place.cdi_gen("args", "-D HERE/m --device v.com/c=all --shell --boot", "");
    assert!(stdout.contains(" '--setenv=SYSTEMD_PROC_CMDLINE=systemd.setenv=A=B "), "{stdout}");
    assert_eq!(stdout.lines().count(), 2);
    for refused in ["-D HERE/m --loader overlay", "-D HERE/m --loader cache", "--root HERE/m"] {
        let (status, _, stderr) = place.cdi_gen("args", &format!("{refused} --device v.com/c=all"), "");
        assert_eq!(status, Some(2), "{refused}: {stderr}");
    }
    assert_eq!(place.machine(), before);
}

/// Case M1: a root that is not there yet is copied from a template by systemd-nspawn, and what is in that counts.
#[test]
fn runtime_m1_a_machine_is_made_from_a_template() {
    let Some(place) = Place::new() else { return };
    let libraries = "/farm/0:/lib/x86_64-linux-gnu\n";
    for root in [
        "--template=HERE/m -D HERE/new",
        "--template HERE/m --directory=HERE/new",
        "-D HERE/new --template=HERE/m -M m",
    ] {
        let (status, _, stderr) =
            place.cdi_gen("run", &format!("{root} --device v.com/c=all --register=no --keep-unit id"), "");
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "{root}");
        let arguments = place.text("arguments");
        assert!(arguments.contains("/m\n") && arguments.contains(libraries), "{root}: {arguments}");
        assert!(!place.path("new").exists(), "systemd-nspawn makes it");
    }
    let by_name = "--template=HERE/m -M none-of-this-name --device v.com/c=all --register=no --keep-unit id";
    assert_eq!(place.cdi_gen("run", by_name, "").0, Some(0));
    assert!(place.text("arguments").contains(libraries));
    // One that is there is not populated again: it counts by itself.
    fs::create_dir(place.path("new")).unwrap();
    let words = "--template=HERE/m -D HERE/new --device v.com/c=all --register=no --keep-unit id";
    assert_eq!(place.cdi_gen("run", words, "").0, Some(0));
    assert!(!place.text("arguments").contains(libraries), "{}", place.text("arguments"));
    let (status, _, stderr) =
        place.cdi_gen("run", "--template=HERE/none -D HERE/newer --device v.com/c=all id", "");
    assert!(status == Some(1) && stderr.contains("/none"), "{stderr}");
}

/// Case O: a unit with `DevicePolicy=closed` may make no node, which mknod(2) reports as without CAP_MKNOD.
#[test]
fn runtime_o_a_closed_device_policy_is_named_with_its_remedy() {
    let Some(place) = Place::new() else { return };
    // A node of another mode than this host's has to be made.
    let spec = place
        .text("cdi/v.json")
        .replace(r#"{"path": "/dev/null"}"#, r#"{"path": "/dev/null", "fileMode": 432}"#);
    fs::write(place.path("cdi/v.json"), spec).unwrap();
    let words = "-D HERE/m --device v.com/c=all --register=no --keep-unit id";
    assert_eq!(place.cdi_gen("run", words, "").0, Some(0));
    let without = "exec setpriv --bounding-set=-mknod --inh-caps=-mknod env PATH=$BIN \"$@\"";
    let (status, _, stderr) = place.cdi_gen_with(without, "run", words, "");
    assert_eq!(status, Some(1), "{stderr}");
    for word in [
        "/dev/null: making a device node, denied by the device policy",
        "hint: allow the unit",
        "DeviceAllow=",
    ] {
        assert!(stderr.contains(word), "{word}: {stderr}");
    }
}
