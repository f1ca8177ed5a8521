//! X03, X04: beside processes of other containers the hook runs from what none of them can ever write to.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::container::{Container, PLAIN, is_root, run, skipped};

const ARGUMENTS: [&str; 5] =
    ["create-container", PLAIN, "--hide-device-files", "--libraries", "x86-64:/usr/lib/x:libcuda.so.1"];
const ENTRY: &str = "libcuda.so.1 /usr/lib/x/libcuda.so.1";
/// The namespace's first process is a neighbour; the hook's parent is its child.
const BESIDE_OTHERS: [&str; 6] = ["unshare", "--pid", "--fork", "sh", "-c", "(\"$@\"; exit $?)"];
/// open(2), the generic value and x86's.
const O_PATH: i32 = 0o10_000_000;

/// Starts the hook behind these words and without its state, so that it can be looked at.
fn waiting(words: &[&str]) -> Child {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(env!("CARGO_BIN_EXE_oci-hook")).args(ARGUMENTS);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The process and the program's file of each that runs below one.
fn descendants(pid: u32) -> Vec<(u32, String)> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let own =
        fs::read_link(format!("/proc/{pid}/exe")).map(|path| (pid, path.to_string_lossy().into_owned()));
    let below = children.split_whitespace().flat_map(|child| descendants(child.parse().unwrap()));
    own.into_iter().chain(below).collect()
}

/// Runs the hook to its end behind these words, and says whether a neighbour that had its file open could have
/// written to it, then or afterwards; `file` is what its file is called when it waits.
fn can_be_written(words: &[&str], file: &str) -> Option<bool> {
    let container = Container::new("");
    let mut child = waiting(words);
    let started = Instant::now();
    let mut found = None;
    while started.elapsed() < Duration::from_secs(5) && found.is_none() {
        found = descendants(child.id()).into_iter().find(|(_, path)| path == file);
    }
    let kept = found.map(|(pid, _)| {
        let exe = format!("/proc/{pid}/exe");
        let at_once = OpenOptions::new().write(true).open(&exe).is_ok();
        assert!(!at_once, "a program that runs");
        OpenOptions::new().read(true).custom_flags(O_PATH).open(&exe).unwrap()
    });
    child.stdin.take().unwrap().write_all(container.state().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") || said.contains("strace:") {
        skipped("no pid namespaces or no tracing on this machine");
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    assert_eq!(container.cache(), [ENTRY]);
    let kept: File = kept.unwrap_or_else(|| panic!("it never ran from {file}"));
    let again = OpenOptions::new().write(true).open(format!("/proc/self/fd/{}", kept.as_raw_fd()));
    Some(match again {
        // The program's own file must not be changed by its test, beside which others may run it at the moment.
        again if file == env!("CARGO_BIN_EXE_oci-hook") => {
            again.map_or_else(|error| error.kind() == ErrorKind::ExecutableFileBusy, |_| true)
        }
        // A sealed file is opened and not written to.
        again => again.is_ok_and(|mut again| again.write(b"x").is_ok()),
    })
}

#[test]
fn x03_the_program_runs_from_what_cannot_be_written_beside_others() {
    if !is_root() {
        return;
    }
    let own = env!("CARGO_BIN_EXE_oci-hook");
    // In a namespace of the container's own the program is its file, which the test's attack can then reach.
    let alone = ["unshare", "--pid", "--fork", "sh", "-c", "\"$@\"; exit $?", "sh"];
    let Some(reached) = can_be_written(&alone, own) else { return };
    assert!(reached, "an attack that fails on a plain file proves nothing");
    let beside = [&BESIDE_OTHERS[..], &["sh"]].concat();
    assert_eq!(can_be_written(&beside, "/oci-hook"), Some(false), "an overlay");
    let without =
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsopen", "-e", "inject=fsopen:error=EPERM"];
    let traced = [&beside[..], &without].concat();
    assert_ne!(can_be_written(&traced, "/memfd:oci-hook (deleted)"), Some(true), "a file in memory");
}

/// X04: where no copy can be executed the hook goes on without one, and says so.
#[test]
fn x04_without_a_copy_it_goes_on() {
    if !is_root() || Command::new("strace").arg("-V").output().is_err() {
        return skipped("needs root and strace");
    }
    // No overlay and, as with vm.memfd_noexec=2, no file in memory; or either may begin and fail.
    for (call, error) in [("fsopen,memfd_create", "EACCES"), ("fsconfig,sendfile", "EPERM")] {
        let container = Container::new("");
        let mut command = Command::new(BESIDE_OTHERS[0]);
        command.args(&BESIDE_OTHERS[1..]).args(["sh", "strace", "-qq", "-o", "/dev/null", "-e"]);
        command.args([&format!("trace={call}"), "-e", &format!("inject={call}:error={error}")]);
        let ended =
            run(command.arg(env!("CARGO_BIN_EXE_oci-hook")).args(ARGUMENTS), container.state().as_bytes());
        if ended.stderr.contains("unshare:") || ended.stderr.contains("strace:") {
            return skipped("no tracing or no pid namespaces on this machine");
        }
        assert_eq!((ended.status, container.cache()), (Some(0), vec![ENTRY.to_owned()]), "{ended:?}");
        assert!(ended.stderr.contains("no sealed copy"), "{call}: {ended:?}");
    }
}
