//! A preparation as the kernel sees it: no program, no path of the machine's tree, mounts by descriptors alone.

use std::fs;
use std::process::Command;

use crate::place::{CLEANUP, DEBIAN, PREPARE, Place, is_private, run};

#[test]
fn every_operation_goes_through_a_descriptor() {
    if !is_private("trace::every_operation_goes_through_a_descriptor") {
        return;
    }
    let place = Place::new(DEBIAN);
    for words in [&PREPARE[..], &CLEANUP] {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "4096", "-o", "/tmp/trace", "-e"]);
        command.arg("trace=%file,%process,mount,umount2,move_mount,open_tree,openat2,fsopen,mkdirat,unlinkat,renameat,renameat2");
        command.arg(env!("CARGO_BIN_EXE_oci-hook-inject")).args(words);
        let ended = run(&mut command);
        if ended.stderr.contains("strace:") || ended.status.is_none() {
            eprintln!("skipped: no tracing on this machine: {}", ended.stderr);
            return;
        }
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{words:?}");
        let trace = fs::read_to_string("/tmp/trace").unwrap();
        let calls = trace.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()));
        let (guest, mut executed, mut resolved) = (place.root(), 0, 0);
        for call in calls.filter(|call| !call.starts_with("<...") && !call.starts_with("+++")) {
            let name = call.split('(').next().unwrap();
            let text = call.split('"').nth(1).unwrap_or_default();
            match name {
                "execve" | "execveat" => executed += 1,
                "chroot" | "pivot_root" | "fork" | "vfork" => panic!("{call}"),
                // rustix has no mount_setattr(2): a mount of ours is named by the kernel's link to its descriptor.
                "mount" => assert!(call.contains(", \"/proc/self/fd/"), "{call}"),
                "umount2" => {
                    assert!(text.starts_with("/proc/self/fd/") && call.contains("MNT_DETACH"), "{call}")
                }
                "move_mount" | "open_tree" => assert!(text.is_empty(), "{call}"),
                "openat2" => {
                    resolved += 1;
                    assert!(
                        call.contains("RESOLVE_IN_ROOT") && call.contains("RESOLVE_NO_MAGICLINKS"),
                        "{call}"
                    );
                }
                "mkdirat" | "unlinkat" | "renameat" | "renameat2" | "mknodat" | "utimensat" | "fchownat" => {
                    assert!(!call.contains("AT_FDCWD") && !text.contains('/'), "{call}");
                }
                "symlinkat" => assert!(!call.contains("AT_FDCWD"), "{call}"),
                "openat" | "open" => {
                    let is_own = ["/proc/self/maps", "/", "/tmp/cdi"].contains(&text)
                        || text.starts_with("/proc/self/fd/");
                    let is_root = guest.to_str() == Some(text)
                        || text == "/var/lib/machines/guest"
                        || ["/run", "/proc"].contains(&text)
                        || text == "/run/gpuspec/nspawn/guest";
                    let by_descriptor = !call.contains("AT_FDCWD") && !text.contains('/');
                    assert!(is_own || (is_root && call.contains("O_PATH")) || by_descriptor, "{call}");
                }
                _ => {}
            }
        }
        assert_eq!(executed, 1, "the program itself");
        assert!(resolved > 10, "{resolved}");
    }
    place.assert_untouched("after both");
}
