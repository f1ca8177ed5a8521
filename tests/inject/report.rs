//! Where words go: crun throws away what hooks write, so the journal or a file has them too.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::container::{Container, Ended, is_root, run, skipped};

/// Each program with arguments that make it say one line: at its end, and as a warning.
const SAYING: [(&str, &[&str], &str); 4] = [
    (env!("CARGO_BIN_EXE_oci-hook"), &["create-container"], "PRIORITY=3\nSYSLOG_IDENTIFIER=oci-hook\n"),
    (env!("CARGO_BIN_EXE_oci-hook"), &["tele\u{7}port"], "PRIORITY=4\nSYSLOG_IDENTIFIER=oci-hook\n"),
    (
        env!("CARGO_BIN_EXE_oci-hook-inject"),
        &["precreate"],
        "PRIORITY=3\nSYSLOG_IDENTIFIER=oci-hook-inject\n",
    ),
    (
        env!("CARGO_BIN_EXE_oci-hook-inject"),
        &["tele\u{7}port"],
        "PRIORITY=4\nSYSLOG_IDENTIFIER=oci-hook-inject\n",
    ),
];

/// Runs a program where /run is empty but for what the script puts there; `$D` is a directory of the test's.
fn with_own_run(container: &Container, script: &str, program: &str, words: &[&str]) -> Option<Ended> {
    is_root().then_some(())?;
    let script = format!(
        "set -e; mount -t tmpfs tmpfs /run; {script}; \"$@\" && s=0 || s=$?; cp -r /run/gpuspec $D/log 2>/dev/null || :; exit $s"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", program]).args(words);
    let ended = run(command.env("D", container.path("")), b"nonsense");
    if ended.stderr.contains("unshare:") || ended.stderr.contains("mount:") {
        skipped(&format!("no mounts on this machine: {}", ended.stderr.trim()));
        return None;
    }
    Some(ended)
}

#[test]
fn what_a_program_says_is_in_the_journal() {
    for (program, words, expected) in SAYING {
        let container = Container::new("");
        fs::create_dir(container.path("journal")).unwrap();
        let journal = UnixDatagram::bind(container.path("journal/socket")).unwrap();
        journal.set_nonblocking(true).unwrap();
        let script = "mkdir -p /run/systemd/journal; mount --bind $D/journal /run/systemd/journal";
        let Some(ended) = with_own_run(&container, script, program, words) else { return };
        let mut datagram = [0; 4096];
        let length =
            journal.recv(&mut datagram).unwrap_or_else(|error| panic!("{words:?}: {error}: {ended:?}"));
        let text = str::from_utf8(&datagram[..length]).unwrap();
        assert!(text.starts_with("MESSAGE=") && text.ends_with(expected), "{text}");
        assert!(!text.contains('\u{7}'), "{text}");
        let said = text.lines().next().unwrap().trim_start_matches("MESSAGE=");
        assert!(ended.stderr.ends_with(&format!(": {said}\n")), "{text} {ended:?}");
        assert!(!container.path("log").exists(), "once is enough");
    }
}

#[test]
fn without_a_journal_it_is_in_a_file_that_does_not_grow_for_ever() {
    for (program, words, _) in SAYING {
        for (before, kept) in [(0, true), (1000, true), ((1 << 20) - 10, false)] {
            let container = Container::new("");
            let script = format!("mkdir /run/gpuspec; head -c {before} /dev/zero >/run/gpuspec/hook.log");
            let Some(ended) = with_own_run(&container, &script, program, words) else { return };
            let log = fs::read(container.path("log/hook.log")).unwrap();
            let text = String::from_utf8_lossy(&log);
            let said = ended.stderr.split_once(": ").unwrap().1;
            assert!(text.ends_with(&format!(" {said}")), "{words:?}: {text:.200} {ended:?}");
            assert_eq!(log.len() > before, kept, "{before}");
        }
    }
}

/// A log that is a link, a FIFO or a directory is no log, and no reason to fail or to wait.
#[test]
fn a_log_that_is_none_is_left_alone() {
    for odd in [
        "ln -s $D/victim /run/gpuspec/hook.log",
        "mkfifo /run/gpuspec/hook.log",
        "mkdir /run/gpuspec/hook.log",
    ] {
        let container = Container::new("");
        let (program, words, _) = SAYING[3];
        let Some(ended) = with_own_run(&container, &format!("mkdir /run/gpuspec; {odd}"), program, words)
        else {
            return;
        };
        assert_eq!(ended.status, Some(0), "{odd}: {ended:?}");
        assert!(!container.path("victim").exists(), "{odd}");
    }
}

/// A config whose container asks by variables that are this long, and this many.
fn loud(length: usize, count: usize) -> Vec<u8> {
    let unknown: Vec<String> = (0..count).map(|index| format!("f{index}>=1")).collect();
    let variables = [
        "NVIDIA_VISIBLE_DEVICES=none".to_owned(),
        format!("NVIDIA_DRIVER_CAPABILITIES={}", unknown.join(",")),
        format!("NVIDIA_REQUIRE_X=brand={}", "x".repeat(length)),
    ];
    serde_json::json!({ "ociVersion": "1.0.2", "process": { "env": variables } }).to_string().into_bytes()
}

/// N5: an image's variables make no log large, and no line so long that the journal drops it.
#[test]
fn n5_variables_of_an_image_make_short_lines_and_few() {
    if !is_root() {
        return;
    }
    for (length, count) in [(1 << 20, 1), (10, 100_000), (300_000, 20_000)] {
        let container = Container::new("");
        fs::create_dir(container.path("journal")).unwrap();
        let script =
            "set -e; mount -t tmpfs tmpfs /run; \"$@\" >/dev/null || :; cp -r /run/gpuspec $D/log || :";
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_oci-hook-inject"),
            "precreate",
        ]);
        command.args(["--allow-environment", "nvidia.com/gpu"]).env("D", container.path(""));
        let ended = run(&mut command, &loud(length, count));
        assert!(ended.stderr.contains("oci-hook-inject: "), "{ended:?}");
        let log = fs::read_to_string(container.path("log/hook.log")).unwrap();
        for text in [&ended.stderr, &log] {
            assert!(text.lines().count() <= 41, "{}", text.lines().count());
            assert!(text.lines().all(|line| line.len() < 4200), "{length} {count}");
        }
    }
}

/// N5: an image that makes each step warn.
#[test]
fn n5_many_warnings_are_counted() {
    if !is_root() {
        return;
    }
    let container = Container::new("etc = file");
    let links: Vec<String> =
        (0..200).flat_map(|index| ["--link".to_owned(), format!("x::/etc/{index}/link")]).collect();
    let script = "mount -t tmpfs tmpfs /run; \"$@\"; cp -r /run/gpuspec $D/log";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"]);
    command.arg("--allow-plain-root").args(links).env("D", container.path(""));
    let ended = run(&mut command, container.state().as_bytes());
    let log = fs::read_to_string(container.path("log/hook.log")).unwrap();
    for text in [&ended.stderr, &log] {
        assert_eq!(text.lines().count(), 40, "{text}");
        assert!(text.ends_with(" 161 more warnings are not shown\n"), "{text}");
    }
}

/// N5: what the journal has no room for is in the file, since crun's user sees neither standard error.
#[test]
fn n5_line_that_the_journal_does_not_take_is_in_the_file() {
    let container = Container::new("");
    fs::create_dir(container.path("journal")).unwrap();
    let journal = UnixDatagram::bind(container.path("journal/socket")).unwrap();
    // A full queue: nobody reads, and the kernel keeps so many datagrams (net.unix.max_dgram_qlen).
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", container.path("journal/socket")).is_ok() {}
    let script = "mkdir -p /run/systemd/journal; mount --bind $D/journal /run/systemd/journal";
    let (program, words, _) = SAYING[3];
    let Some(ended) = with_own_run(&container, script, program, words) else { return };
    let log = fs::read_to_string(container.path("log/hook.log")).unwrap();
    assert!(log.ends_with(&format!(" {}", ended.stderr.split_once(": ").unwrap().1)), "{log} {ended:?}");
    drop(journal);
}
