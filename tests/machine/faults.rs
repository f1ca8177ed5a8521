//! Faults: killed at any step, refused by the kernel at any step, a full disk, two at once. Nothing is ever left.

use std::process::{Child, Command, Stdio};

use crate::place::{CLEANUP, DEBIAN, PREPARE, Place, cleanup, files, is_private, prepare, program, run};

/// The system calls that change something, each as often as it is made.
pub(crate) const CHANGES: [&str; 15] = [
    "mkdirat",
    "write",
    "renameat",
    "renameat2",
    "unlinkat",
    "symlinkat",
    "mknodat",
    "fchownat",
    "fchown",
    "fchmod",
    "utimensat",
    "fsmount",
    "move_mount",
    "mount",
    "umount2",
];

/// Where calls are counted. strace(1) counts those of each thread from one on: what is done in the machine's tree, in
/// threads of its own, is reached for certain where it alone is counted.
struct Watched(Vec<String>);

impl Watched {
    fn everywhere() -> Watched {
        Watched(Vec::new())
    }

    fn guest(place: &Place) -> Watched {
        let root = place.root().to_str().unwrap().to_owned();
        let names = [
            "",
            "/etc",
            "/etc/ld.so.conf.d",
            "/etc/.ld.so.cache.gpuspec",
            "/etc/ld.so.conf.d/.00-gpuspec.conf.gpuspec",
        ];
        Watched(names.iter().map(|name| format!("{root}{name}")).collect())
    }

    fn filter(&self, command: &mut Command) {
        for path in &self.0 {
            command.args(["-P", path]);
        }
    }
}

/// The program under strace(1), which does this to the call of this number.
fn injected(words: &[&str], place: &Watched, call: &str, fault: &str, number: usize) -> Command {
    let mut command = Command::new("strace");
    place.filter(&mut command);
    command.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
    command.arg("-e").arg(format!("inject={call}:{fault}:when={number}"));
    command.arg(env!("CARGO_BIN_EXE_oci-hook-inject")).args(words);
    command
}

pub(crate) fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    let can = traced.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: no strace(1), or no tracing on this machine");
    }
    can
}

/// How often the program makes each of the calls when all goes well.
fn counts(words: &[&str], place: &Watched) -> Vec<(&'static str, usize)> {
    let mut command = Command::new("strace");
    place.filter(&mut command);
    command.args(["-f", "-qq", "-o", "/tmp/trace", "-e"]).arg(format!("trace={}", CHANGES.join(",")));
    assert_eq!(run(command.arg(env!("CARGO_BIN_EXE_oci-hook-inject")).args(words)).status, Some(0));
    let trace = std::fs::read_to_string("/tmp/trace").unwrap();
    let is = |line: &&str, call: &str| {
        line.split_once(' ').is_some_and(|(_, rest)| rest.trim_start().starts_with(&format!("{call}(")))
    };
    CHANGES.iter().map(|call| (*call, trace.lines().filter(|line| is(line, call)).count())).collect()
}

/// Kills the program before each change that it makes; what follows each time is told where it happened.
fn killed_everywhere(words: &[&str], place: &Watched, between: impl Fn(), after: impl Fn(&str)) -> usize {
    between();
    let counts = counts(words, place);
    after("not killed");
    let mut killed = 0;
    for (call, count) in counts {
        for number in 1..=count {
            between();
            let ended = run(&mut injected(words, place, call, "signal=KILL", number));
            let when = format!("{words:?} killed before {call} {number} of {count}");
            after(&when);
            match ended.status {
                // Threads are counted by themselves.
                Some(0) => {}
                None => killed += 1,
                Some(status) => panic!("{when}: {status}: {}", ended.stderr),
            }
        }
    }
    killed
}

#[test]
fn a_killed_preparation_is_taken_back() {
    if !is_private("faults::a_killed_preparation_is_taken_back") || !can_trace() {
        return;
    }
    let place = Place::new(DEBIAN);
    let after = |when: &str| {
        let ended = cleanup();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{when}");
        place.assert_untouched(when);
    };
    let killed = killed_everywhere(&PREPARE, &Watched::everywhere(), || {}, after);
    assert!(killed > 50, "only {killed}");
    let killed = killed_everywhere(&PREPARE, &Watched::guest(&place), || {}, after);
    assert!(killed > 7, "only {killed} in the machine's tree");
}

#[test]
fn a_killed_preparation_is_begun_anew() {
    if !is_private("faults::a_killed_preparation_is_begun_anew") || !can_trace() {
        return;
    }
    let place = Place::new(DEBIAN);
    let after = |when: &str| {
        let ended = prepare(&[]);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{when}");
        assert_eq!(cleanup().status, Some(0), "{when}");
        place.assert_untouched(when);
    };
    let killed = killed_everywhere(&PREPARE, &Watched::everywhere(), || {}, after);
    assert!(killed > 50, "only {killed}");
    let killed = killed_everywhere(&PREPARE, &Watched::guest(&place), || {}, after);
    assert!(killed > 7, "only {killed} in the machine's tree");
}

#[test]
fn a_killed_clean_up_is_finished_by_the_next() {
    if !is_private("faults::a_killed_clean_up_is_finished_by_the_next") || !can_trace() {
        return;
    }
    let place = Place::new(DEBIAN);
    let before = || assert_eq!(prepare(&[]).status, Some(0));
    let after = |when: &str| {
        let ended = cleanup();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{when}");
        place.assert_untouched(when);
    };
    let killed = killed_everywhere(&CLEANUP, &Watched::everywhere(), before, after);
    assert!(killed > 9, "only {killed}");
    let killed = killed_everywhere(&CLEANUP, &Watched::guest(&place), before, after);
    assert!(killed > 5, "only {killed} in the machine's tree");
}

#[test]
fn a_preparation_that_fails_takes_itself_back() {
    if !is_private("faults::a_preparation_that_fails_takes_itself_back") || !can_trace() {
        return;
    }
    let mut place = Place::new(DEBIAN);
    let (mut failed, mut twice) = (0, 0);
    for watched in [Watched::everywhere(), Watched::guest(&place)] {
        let counts = counts(&PREPARE, &watched);
        assert_eq!(cleanup().status, Some(0));
        // What takes back is not to fail here.
        for (call, count) in counts.into_iter().filter(|(call, _)| !["umount2", "unlinkat"].contains(call)) {
            for number in 1..=count {
                let ended = run(&mut injected(&PREPARE, &watched, call, "error=ENOSPC", number));
                let when = format!("{call} {number} of {count} fails: {}", ended.stderr);
                match ended.status {
                    // Some failures keep nothing from being done.
                    Some(0) => assert_eq!(cleanup().status, Some(0), "{when}"),
                    Some(_) => failed += 1,
                    None => panic!("{when}"),
                }
                assert!(ended.status == Some(0) || !ended.stderr.is_empty(), "{when}");
                // The call of this number fails in each thread: what keeps from taking back is told.
                if ended.stderr.lines().count() > 1 {
                    twice += 1;
                    place.assert_nothing_made(&when);
                    place.begin_again();
                } else {
                    place.assert_untouched(&when);
                }
            }
        }
    }
    assert!(failed > 50 && twice < 12, "{failed} failed, of these {twice} in taking back as well");
}

/// Why it failed is not lost in why it could not be taken back.
#[test]
fn a_preparation_that_cannot_be_taken_back_tells_both() {
    if !is_private("faults::a_preparation_that_cannot_be_taken_back_tells_both") || !can_trace() {
        return;
    }
    let place = Place::new(DEBIAN);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=mknodat,umount2"]);
    command.args(["-e", "inject=mknodat:error=ENOSPC", "-e", "inject=umount2:error=EPERM"]);
    let ended = run(command.arg(env!("CARGO_BIN_EXE_oci-hook-inject")).args(PREPARE));
    let told = ["making a device node", "unmounting what covers it"];
    assert!(ended.status == Some(85) && told.iter().all(|text| ended.stderr.contains(text)), "{ended:?}");
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("cleaned up");
}

#[test]
fn a_full_disk_lets_nothing_half_done() {
    if !is_private("faults::a_full_disk_lets_nothing_half_done") {
        return;
    }
    let mut place = Place::new(DEBIAN);
    // The machine's tree on a disk of its own, filled to the last byte.
    let disk = place.root();
    let script = "cp -a \"$0\" /var/lib/copy; mount -n -t tmpfs -o mode=0755,size=1m disk \"$0\"; cp -a /var/lib/copy/. \"$0\"; \
                  touch -d @1000000000 \"$0\"/etc; dd if=/dev/zero of=\"$0\"/full bs=4k 2>/dev/null || :";
    assert!(Command::new("sh").args(["-euc", script]).arg(&disk).status().unwrap().success());
    place.begin_again();
    let mounts = crate::place::mounts();
    let ended = prepare(&["--loader=cache"]);
    assert_eq!((ended.status, ended.stderr.lines().count()), (Some(85), 1), "{}", ended.stderr);
    assert_eq!(crate::place::mounts(), mounts);
    assert_eq!(place.state(), place.before());
    std::fs::remove_file(disk.join("full")).unwrap();
    place.begin_again();
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    // Full while it runs: what was there before has to fit again.
    assert!(Command::new("sh").args(["-euc", FILL]).arg(&disk).status().unwrap().success());
    let ended = cleanup();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(crate::place::mounts(), mounts);
    std::fs::remove_file(disk.join("full")).unwrap();
    let without_top = |lines: Vec<String>| lines[1..].to_vec();
    assert_eq!(without_top(place.state()), without_top(place.before().to_vec()));
}

/// The directory of a user's settings files on a disk of its own, which somebody else fills while the machine runs.
const SETTINGS: &str = "/etc/systemd/nspawn/guest.nspawn";
const USERS: &str = "[Exec]\nEnvironment=A=1\n";
const FILL: &str = "dd if=/dev/zero of=\"$0\"/full bs=1 count=1 2>/dev/null; dd if=/dev/zero of=\"$0\"/full bs=4k 2>/dev/null || :";

fn small_disk() {
    let script = "umount -n /etc/systemd/nspawn 2>/dev/null || :; mount -n -t tmpfs -o mode=0755,size=64k s /etc/systemd/nspawn";
    assert!(Command::new("sh").args(["-euc", script]).status().unwrap().success());
    std::fs::write(SETTINGS, USERS).unwrap();
}

fn fill() {
    assert!(Command::new("sh").args(["-euc", FILL, "/etc/systemd/nspawn"]).status().unwrap().success());
}

#[test]
fn a_users_settings_are_on_a_full_disk_at_any_time() {
    if !is_private("faults::a_users_settings_are_on_a_full_disk_at_any_time") || !can_trace() {
        return;
    }
    let place = Place::new(DEBIAN);
    let is_there = |when: &str| {
        let text = std::fs::read_to_string(SETTINGS).unwrap_or_default();
        assert!(text.starts_with(USERS), "{when}: {text:?}");
    };
    let is_back = |when: &str| {
        assert_eq!(std::fs::read_to_string(SETTINGS).unwrap_or_default(), USERS, "{when}");
        let left = files("/etc/systemd/nspawn".as_ref());
        assert!(
            left.iter().all(|path| path.ends_with("guest.nspawn") || path.ends_with("full")),
            "{when}: {left:?}"
        );
    };
    small_disk();
    fill();
    assert_eq!(prepare(&[]).status, Some(85));
    is_back("refused");
    let before = || {
        small_disk();
        assert_eq!(prepare(&[]).status, Some(0));
        fill();
    };
    let after = |when: &str| {
        is_there(when);
        let ended = cleanup();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{when}");
        is_back(when);
    };
    let killed = killed_everywhere(&CLEANUP, &Watched::everywhere(), before, after);
    assert!(killed > 9, "only {killed}");

    // Changed by the user meanwhile, it cannot be written anew: all is kept, and the next tries again.
    before();
    std::fs::remove_file("/etc/systemd/nspawn/full").unwrap();
    std::fs::remove_file("/etc/systemd/nspawn/.guest.nspawn.gpuspec").unwrap();
    let with = std::fs::read_to_string(SETTINGS).unwrap();
    std::fs::write(SETTINGS, format!("{USERS}# {}\n{}", "x".repeat(5000), with.strip_prefix(USERS).unwrap()))
        .unwrap();
    fill();
    let ended = cleanup();
    let told = ["guest.nspawn", "its next start or stop takes it back"];
    assert!(ended.status != Some(0) && told.iter().all(|text| ended.stderr.contains(text)), "{ended:?}");
    is_there("kept");
    assert!(std::path::Path::new("/run/gpuspec/nspawn/guest/manifest.json").exists());
    assert_eq!(prepare(&[]).status, Some(85));
    is_there("refused");
    std::fs::remove_file("/etc/systemd/nspawn/full").unwrap();
    assert_eq!(cleanup().status, Some(0));
    let text = std::fs::read_to_string(SETTINGS).unwrap();
    assert!(text.starts_with(USERS) && text.ends_with("x\n"), "{text}");
    assert!(Command::new("umount").args(["-n", "/etc/systemd/nspawn"]).status().unwrap().success());
    place.assert_untouched("at last");
}

#[test]
fn machines_do_not_disturb_each_other() {
    if !is_private("faults::machines_do_not_disturb_each_other") {
        return;
    }
    let place = Place::new(DEBIAN);
    let others: Vec<(String, crate::tree::Tree, Vec<String>)> = (0..4)
        .map(|number| {
            let tree = crate::tree::Tree::build(DEBIAN);
            std::os::unix::fs::symlink(tree.path(), format!("/var/lib/machines/m{number}")).unwrap();
            let state = crate::place::state(tree.path().as_std_path());
            (format!("m{number}"), tree, state)
        })
        .collect();
    let start = |verb: &str, machine: &str| -> Child {
        let machine = format!("--machine={machine}");
        let mut words = vec![verb, &machine];
        if verb == "nspawn-prepare" {
            words.extend(&PREPARE[2..]);
        }
        program(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for _ in 0..10 {
        for verb in ["nspawn-prepare", "nspawn-cleanup"] {
            // The same one twice at once, and four others.
            let names = ["guest", "guest", "m0", "m1", "m2", "m3"];
            let children: Vec<Child> = names.iter().map(|name| start(verb, name)).collect();
            for child in children {
                let output = child.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success() && said.is_empty(), "{verb}: {said}");
            }
        }
        place.assert_untouched("all stopped");
        for (name, tree, before) in &others {
            assert_eq!(&crate::place::state(tree.path().as_std_path()), before, "{name}");
        }
    }
}

/// A machine starts as if it were not enabled, or not at all, by what the unit makes of the status; and nothing stays.
#[test]
fn work_without_end_is_given_up_and_taken_back() {
    if !is_private("faults::work_without_end_is_given_up_and_taken_back") || !can_trace() {
        return;
    }
    let place = Place::new(DEBIAN);
    let watched = Watched::guest(&place);
    for (more, next) in [(&[][..], "stop"), (&["--no-touch"], "start")] {
        let words = [&PREPARE[..], more].concat();
        let ended = run(&mut injected(&words, &watched, "renameat2", "delay_enter=7000000", 1));
        assert_eq!(ended.status, Some(85), "{}", ended.stderr);
        assert!(ended.stderr.contains("not done after 5s"), "{}", ended.stderr);
        let said = run(&mut program(&["nspawn-report", "--machine=guest"])).stderr;
        assert!(said.contains("guest runs without its devices: making it ready was cut short"), "{said}");
        let found = ["/run/systemd/nspawn", "/run/gpuspec/nspawn/guest/settings"];
        for directory in found {
            assert_eq!(files(directory.as_ref()), [] as [std::path::PathBuf; 0], "{directory}");
        }
        if next == "start" {
            assert_eq!(prepare(more).status, Some(0));
        }
        assert_eq!(cleanup().status, Some(0));
        place.assert_untouched(next);
    }
}
