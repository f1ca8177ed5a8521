//! N7: a machine whose root is on a file system that never answers.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Host;

/// Mounts FUSE at `$F`, whose requests nobody reads, then runs the words.
const HANGING: &str = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other f $F || \
    { echo mount: no FUSE >&2; exit 9; }; mount -t tmpfs t /run; timeout -s KILL 22 \"$@\"; exit $?";

#[test]
fn n7_commands_end_where_a_machines_root_hangs() {
    let host = Host::new();
    let (machine, specs) = (host.path("machine"), host.path("cdi"));
    std::fs::create_dir(&machine).unwrap();
    let (machine, specs) = (machine.to_str().unwrap(), specs.to_str().unwrap());
    let devices = ["--device", "v.com/c=all", "--spec-dir", specs];
    let check = [&["check", machine][..], &devices].concat();
    let run = [&["run", "-D", machine][..], &devices, &["--register=no", "--keep-unit", "-q", "--", "true"]]
        .concat();
    std::thread::scope(|scope| {
        for words in [&check, &run] {
            scope.spawn(move || {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", HANGING, "sh", env!("CARGO_BIN_EXE_cdi-gen"), "nspawn"]);
                let started = Instant::now();
                let output = command.args(words).env("F", machine).output().unwrap();
                let stderr = String::from_utf8(output.stderr).unwrap();
                if ["unshare:", "mount:", "/dev/fuse"].iter().any(|word| stderr.contains(word)) {
                    let text = format!("skipped: no FUSE on this machine: {}\n", stderr.trim());
                    return std::io::stderr().write_all(text.as_bytes()).unwrap();
                }
                assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
                assert!(stderr.ends_with("cdi-gen: not done after 15s\n"), "{words:?}: {stderr}");
                assert!(started.elapsed() < Duration::from_secs(25), "{words:?}");
            });
        }
    });
}
