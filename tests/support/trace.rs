//! A program as strace(1) sees it: its calls, the paths in them, and whether they keep to descriptors.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::container::{Container, Ended, run, skipped};

/// Runs a program on this input under strace(1) with these options; its calls come back beside how it ended.
///
/// It is a child of this process, not of strace.
pub(crate) fn traced(
    container: &Container,
    options: &[&str],
    words: &[&str],
    input: &[u8],
) -> Option<(Ended, Vec<String>)> {
    if Command::new("strace").arg("-V").output().is_err() {
        skipped("no strace on this machine");
        return None;
    }
    let trace = container.path("trace");
    let _ = fs::remove_file(&trace);
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-q", "-s", "4096", "-o"]).arg(&trace).args(options).args(words);
    let ended = run(&mut command, input);
    if ended.stderr.contains("strace:") {
        skipped(&format!("no tracing on this machine: {}", ended.stderr.trim()));
        return None;
    }
    // The tracer goes on for a moment.
    let started = Instant::now();
    let mut text = String::new();
    while !text.lines().last().is_some_and(|line| line.contains("+++")) {
        assert!(started.elapsed() < Duration::from_secs(10), "an end of the trace: {text}");
        text = fs::read_to_string(&trace).unwrap_or_default();
    }
    Some((ended, text.lines().map(call).filter(|call| !call.is_empty()).collect()))
}

/// A line without the number of its thread; what resumes another line has its paths there.
fn call(line: &str) -> String {
    let call = line.split_once(' ').map_or(line, |(_, rest)| rest.trim_start());
    if ["<...", "+++", "---"].iter().any(|start| call.starts_with(start)) {
        String::new()
    } else {
        call.to_owned()
    }
}

/// The texts in quotes of a call that are paths or names, and the descriptor before each.
pub(crate) fn paths(call: &str) -> Vec<(&str, &str)> {
    let arguments = call.split_once('(').map_or("", |(_, rest)| rest);
    let mut found = Vec::new();
    let mut rest = arguments;
    while let Some((before, after)) = rest.split_once('"') {
        let (text, after) = after.split_once('"').unwrap_or((after, ""));
        let words: Vec<&str> = before.split([',', '(', ' ']).filter(|word| !word.is_empty()).collect();
        found.push((words.last().copied().unwrap_or(""), text));
        rest = after;
    }
    found
}

/// Whether a call changes mounts or the process's root, or starts a program.
pub(crate) fn mounts(call: &str) -> bool {
    let name = call.split('(').next().unwrap_or_default();
    ["mount", "umount2", "chroot", "pivot_root", "bpf", "fork", "vfork"].contains(&name)
}

/// Whether a call names things by a descriptor and one name, or resolves below one; `own` are paths that are the
/// process's or the machine's, `whole` the roots of trees as they are opened.
pub(crate) fn assert_by_descriptor(call: &str, own: impl Fn(&str) -> bool, whole: impl Fn(&str) -> bool) {
    let name = call.split('(').next().unwrap();
    match name {
        "write" | "read" | "pread64" | "sendto" => {}
        "mkdirat" | "symlinkat" | "renameat" | "renameat2" | "unlinkat" | "linkat" | "mknodat"
        | "fchownat" => {
            // A file without a name has one in /proc alone (open(2), O_TMPFILE).
            let unnamed = usize::from(call.starts_with("linkat(AT_FDCWD, \"/proc/self/fd/"));
            for (at, text) in paths(call).into_iter().skip(unnamed) {
                let is_text_of_link =
                    name == "symlinkat" && call.starts_with(&format!("symlinkat(\"{text}\""));
                assert!(is_text_of_link || !text.contains('/'), "{call}");
                assert!(is_text_of_link || at.parse::<u32>().is_ok(), "by a descriptor: {call}");
            }
        }
        _ => {
            // The text of a link, or names of attributes, come behind the path.
            let is_answer = name.starts_with("readlink") || name.contains("xattr");
            let count = if is_answer { 1 } else { usize::MAX };
            for (at, text) in paths(call).into_iter().take(count) {
                let is_own = own(text) || text.starts_with("/proc/self/fd/");
                let is_opened_as_root = whole(text) && call.contains("O_PATH");
                let is_by_descriptor = at.parse::<u32>().is_ok();
                let is_resolved =
                    !text.contains('/') || (name == "openat2" && call.contains("RESOLVE_IN_ROOT"));
                assert!(is_own || is_opened_as_root || (is_by_descriptor && is_resolved), "{call}");
            }
        }
    }
}
