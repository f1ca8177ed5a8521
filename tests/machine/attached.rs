//! Attachments to a machine that runs: a process in mounts of its own. Killed anywhere, stalled by the machine, ended.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use camino::Utf8PathBuf;
use libgpuspec::cdi::Registry;
use libgpuspec::nspawn::attach::{self, Alive, Attached, Attachment, Detached, Gate, Grant, Leader, errand};
use libgpuspec::nspawn::{Order, Told};
use libgpuspec::{Error, Root};

use crate::faults::{CHANGES, can_trace};
use crate::place::{DEBIAN, Place, cleanup, files, is_private, prepare};

const DEVICE: &str = "nvidia.com/gpu=all";
const STATE: &str = "/run/gpuspec/nspawn/guest";
/// What the machine's unit has been told.
const GATE: &str = "/tmp/gate";
/// Whether the machine's unit can be told nothing.
const STUCK: &str = "/tmp/stuck";
/// What a test of this file is to be instead: the machine, or the program that attaches to it.
const LEADER: &str = "LIBGPUSPEC_LEADER";
const WORK: &str = "LIBGPUSPEC_WORK";
/// Or the process that works in the machine for it: this is the file for its answer.
const ERRAND: &str = "LIBGPUSPEC_ERRAND";

/// A machine that runs.
struct Running {
    place: Place,
    child: Child,
    before: Vec<String>,
}

impl Running {
    fn new() -> Running {
        let place = Place::new(&format!("{DEBIAN}dev dir\nproc dir\n"));
        let mounts = "mount -n --bind \"$0\" \"$0\"; mount -n -t tmpfs run \"$0/run\"; mount -n -t tmpfs dev \"$0/dev\"; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", mounts]).arg(place.root());
        command.arg(std::env::current_exe().unwrap()).args(["--exact", "attached::leads", "--nocapture"]);
        let mut child = command
            .env(LEADER, place.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let before = machine(&child);
        Running { place, child, before }
    }

    /// A path of the machine's, from outside.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.child.id()))
    }

    /// The program that attaches or detaches, to be run.
    fn work(&self, verb: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "attached::works", "--nocapture", "--test-threads=1"]);
        command.env(WORK, format!("{verb} {}", self.child.id()));
        command
    }

    fn assert_attached(&self, when: &str) {
        for path in ["/run/gpuspec/lib/libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"] {
            assert!(self.path(path).symlink_metadata().is_ok(), "{when}: {path}");
        }
        assert_eq!(self.path("/dev/nvidia0").metadata().unwrap().rdev(), 195 << 8, "{when}");
        assert_eq!(fs::read(GATE).unwrap(), b"open", "{when}");
        // H3: nodes with the machine's numbers, and sockets of closed directories, are in `inside`.
        for closed in ["/run/gpuspec/nspawn", "/run/gpuspec/nspawn/guest"] {
            let mode = Path::new(closed).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{when}: {closed}");
        }
    }

    fn assert_detached(&self, when: &str) {
        assert_eq!(machine(&self.child), self.before, "{when}: the machine");
        assert!(!Path::new(GATE).exists(), "{when}: its unit");
        self.place.assert_untouched(when);
    }

    fn stop(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// What is mounted in the machine, and what is where something is made.
fn machine(child: &Child) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", child.id())).unwrap();
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    for top in ["dev", "run"] {
        let found = files(Path::new(&format!("/proc/{}/root/{top}", child.id())));
        lines.extend(found.iter().map(|path| path.display().to_string()));
    }
    lines
}

fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Where it is asked for, this is the machine's first process, which ends with its standard input.
#[test]
fn leads() {
    let Some(root) = std::env::var_os(LEADER) else { return };
    rustix::process::chroot(&*root).unwrap();
    std::env::set_current_dir("/").unwrap();
    std::io::stderr().write_all(b"x").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Where it is asked for, this is the program that attaches and detaches.
#[test]
fn works() {
    let Ok(work) = std::env::var(WORK) else { return };
    let (verb, leader) = work.split_once(' ').unwrap();
    let host = Root::open("/".into()).unwrap();
    let gate = |_: &Grant, gate: Gate| match gate {
        Gate::Open => fs::write(GATE, "open").map_err(|error| error.to_string()),
        Gate::Close(Alive::Yes) if Path::new(STUCK).exists() => {
            Err("systemctl set-property: refused".to_owned())
        }
        Gate::Close(Alive::Yes | Alive::No) => {
            // It may have been open or not.
            let _ = fs::remove_file(GATE);
            Ok(())
        }
    };
    let mut notices = Vec::new();
    let done = match verb {
        "attach" => attach_to(&host, leader.parse().unwrap(), &gate, &mut notices),
        _ => attach::detach(&host, "guest", &gate, messenger, &mut notices)
            .map(|done| assert!(done != Detached::Prepared))
            .map_err(|error| libgpuspec::error::chain(&error)),
    };
    let told = notices.iter().map(ToString::to_string).chain(done.err());
    let told: Vec<String> = told.collect();
    eprint!("{}", told.join("\n"));
    std::process::exit(i32::from(!told.is_empty()));
}

/// As cdi-gen does it, but for a file where that has a pipe.
fn messenger(errand: &[u8]) -> libgpuspec::error::Result<Vec<u8>> {
    let answer = format!("/tmp/answer-{}", std::process::id());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "attached::runs_an_errand", "--nocapture", "--test-threads=1"]);
    command.env(ERRAND, &answer).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(errand).unwrap();
    for _ in 0..300 {
        if let Some(status) = child.try_wait().unwrap() {
            let said = fs::read(&answer).unwrap_or_default();
            let _ = fs::remove_file(&answer);
            let lost = || Error::Machine(format!("work in the machine: {status}"));
            return status.success().then_some(said).ok_or_else(lost);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    Err(Error::Lost("not done; the next attach or detach takes back what was done".to_owned()))
}

/// Where it is asked for, this is the process that works in the machine.
#[test]
fn runs_an_errand() {
    let Some(answer) = std::env::var_os(ERRAND) else { return };
    let mut errand = Vec::new();
    std::io::stdin().read_to_end(&mut errand).unwrap();
    // In the machine this path is another's.
    let mut answer = fs::File::create(answer).unwrap();
    let sandbox = |root: Root, work: Box<dyn FnOnce(&Root) + Send>| {
        work(&root);
        Ok(())
    };
    let said = errand::run(&Root::open("/".into()).unwrap(), &errand, sandbox).unwrap();
    answer.write_all(&said).unwrap();
    std::process::exit(0);
}

fn attach_to(
    host: &Root,
    leader: i32,
    gate: attach::Gatekeeper<'_>,
    notices: &mut Vec<libgpuspec::Notice>,
) -> Result<(), String> {
    let registry = Registry::unwatched(Root::open("/".into()).unwrap(), &[Utf8PathBuf::from("/tmp/cdi")]);
    let devices = [DEVICE.to_owned()];
    let edits = registry.resolve(&devices).unwrap();
    let (requests, _) = oci_hook::meanings(&edits.hooks);
    let order = Order {
        machine: "guest",
        root: None,
        edits: &edits,
        requests: &requests,
        unknown_hooks: &[],
        allowed_hooks: &[],
        loader: None,
        root_kind: None,
        user_namespace: None,
        told: Told::Arguments,
    };
    let leader = Leader::open(leader).unwrap();
    let grant = Grant {
        unit: "guest.service".into(),
        rules: vec!["/dev/char/195:0 rw".into()],
        rules_before: Vec::new(),
        kept_in: GATE.into(),
        before: None,
    };
    let wanted = Attachment { order: &order, leader: &leader, devices: &devices };
    let grant = || Ok(Some(grant.clone()));
    match attach::attach(host, &wanted, &grant, gate, messenger, notices) {
        Ok(Attached::Now(_) | Attached::Before(_)) => Ok(()),
        Ok(Attached::Prepared) => Err("prepared".to_owned()),
        Err(error) => Err(libgpuspec::error::chain(&error)),
    }
}

#[test]
fn a_machine_keeps_what_is_attached_until_it_is_detached_or_ends() {
    if !is_private("attached::a_machine_keeps_what_is_attached_until_it_is_detached_or_ends") {
        return;
    }
    let mut running = Running::new();
    assert_eq!(said(&mut running.work("attach")), (Some(0), String::new()));
    running.assert_attached("attached");
    for refused in [cleanup(), prepare(&[])] {
        assert_ne!(refused.status, Some(0), "{}", refused.stderr);
        assert!(refused.stderr.contains("`cdi-gen nspawn detach guest` first"), "{}", refused.stderr);
        running.assert_attached("refused");
    }
    let _ = fs::remove_dir_all(crate::place::FAILED);
    assert_eq!(said(&mut running.work("detach")), (Some(0), String::new()));
    running.assert_detached("detached");

    assert_eq!(said(&mut running.work("attach")), (Some(0), String::new()));
    running.stop();
    let ended = cleanup();
    assert_eq!(ended.status, Some(0));
    assert!(ended.stderr.contains("/tmp/gate: guest.service may still use"), "{}", ended.stderr);
    running.place.assert_untouched("ended");
}

#[test]
fn a_machine_whose_unit_cannot_be_told_counts_as_attached() {
    if !is_private("attached::a_machine_whose_unit_cannot_be_told_counts_as_attached") {
        return;
    }
    let mut running = Running::new();
    assert_eq!(said(&mut running.work("attach")), (Some(0), String::new()));
    fs::write(STUCK, "").unwrap();
    let host = Root::open("/".into()).unwrap();
    for verb in ["detach", "detach", "attach"] {
        let (status, told) = said(&mut running.work(verb));
        let has = ["set-property: refused", "may still use", "`cdi-gen nspawn detach guest` again"];
        assert!(status == Some(1) && has.iter().all(|text| told.contains(text)), "{verb}: {status:?} {told}");
        assert!(Path::new(GATE).exists(), "{verb}");
        assert_eq!(attach::attached(&host, "guest").unwrap(), Some(vec![DEVICE.to_owned()]), "{verb}");
        assert!(!running.path("/dev/nvidia0").exists(), "{verb}: its mounts");
    }
    fs::remove_file(STUCK).unwrap();
    assert_eq!(said(&mut running.work("detach")), (Some(0), String::new()));
    running.assert_detached("detached");

    assert_eq!(said(&mut running.work("attach")), (Some(0), String::new()));
    fs::write(STUCK, "").unwrap();
    assert_eq!(said(&mut running.work("detach")).0, Some(1));
    running.stop();
    // One that has ended uses nothing.
    assert_eq!(said(&mut running.work("detach")), (Some(0), String::new()));
    running.place.assert_untouched("ended");
}

#[test]
fn killed_anywhere_it_is_taken_back_by_the_next() {
    if !is_private("attached::killed_anywhere_it_is_taken_back_by_the_next") || !can_trace() {
        return;
    }
    let mut running = Running::new();
    for verb in ["attach", "detach"] {
        let begin = || {
            if verb == "detach" {
                assert_eq!(said(&mut running.work("attach")), (Some(0), String::new()));
            }
        };
        begin();
        let strace = |more: &[&str]| {
            let work = running.work(verb);
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-e", "signal=none", "-o", "/tmp/trace"]).args(more);
            command.arg(work.get_program()).args(work.get_args());
            command.env(WORK, format!("{verb} {}", running.child.id()));
            said(&mut command)
        };
        assert_eq!(strace(&["-e", &format!("trace={}", CHANGES.join(","))]), (Some(0), String::new()));
        let trace = fs::read_to_string("/tmp/trace").unwrap();
        let mut killed = 0;
        for call in CHANGES.iter().filter(|call| **call != "write") {
            let made = trace.lines().filter(|line| line.contains(&format!(" {call}("))).count();
            for number in 1..=made {
                let when = format!("{verb} killed before {call} {number} of {made}");
                assert_eq!(said(&mut running.work("detach")), (Some(0), String::new()), "{when}");
                running.assert_detached(&when);
                begin();
                let inject = format!("inject={call}:signal=KILL:when={number}");
                let (status, told) = strace(&["-e", &format!("trace={call}"), "-e", &inject]);
                match status {
                    // What is done in the machine is done by another process.
                    Some(1) if told.contains("work in the machine: signal") => killed += 1,
                    // Processes are counted by themselves.
                    Some(status) => assert_eq!((status, told.as_str()), (0, ""), "{when}"),
                    None => killed += 1,
                }
                assert_eq!(said(&mut running.work("attach")), (Some(0), String::new()), "{when}");
                running.assert_attached(&when);
            }
        }
        let least = if verb == "attach" { 40 } else { 5 };
        assert!(killed >= least, "{verb}: only {killed}");
        assert_eq!(said(&mut running.work("detach")), (Some(0), String::new()));
        running.assert_detached(verb);
    }
    running.stop();
}

/// A machine can have a file system that never answers where something is looked for.
#[test]
fn nothing_is_taken_back_beside_work_that_may_go_on() {
    if !is_private("attached::nothing_is_taken_back_beside_work_that_may_go_on") {
        return;
    }
    let mut running = Running::new();
    let stall = "exec 5<>/dev/fuse; mkdir \"$0/dev/dri\"; \
                 mount -n -i -t fuse -o fd=5,rootmode=40000,user_id=0,group_id=0 x \"$0/dev/dri\"; echo; read x || :; \
                 umount -n -l \"$0/dev/dri\"; rmdir \"$0/dev/dri\"";
    let mut stalled = Command::new("nsenter");
    stalled.arg(format!("--mount=/proc/{}/ns/mnt", running.child.id())).args(["sh", "-euc", stall]);
    let piped = stalled.arg(running.place.root()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stalled = piped.spawn().unwrap();
    let is_stalled = stalled.stdout.as_mut().unwrap().read_exact(&mut [0]).is_ok();
    if is_stalled {
        let (status, told) = said(&mut running.work("attach"));
        assert!(status == Some(1) && told.contains("next attach or detach takes back"), "{status:?} {told}");
        assert!(Path::new(STATE).join("attached.json").exists() && Path::new(GATE).exists());
    } else {
        eprintln!("skipped: no FUSE on this machine");
    }
    drop(stalled.stdin.take());
    stalled.wait().unwrap();
    if is_stalled {
        assert_eq!(said(&mut running.work("detach")), (Some(0), String::new()));
        running.assert_detached("detached");
    }
    running.stop();
}
