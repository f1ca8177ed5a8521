//! The hook as the kernel sees it: no path of the container's tree, no program, and no harm from failures.

use std::fs;
use std::process::Command;

use crate::container::{Container, Ended, PLAIN, run};
use crate::elf::Stub;
use crate::rootfs;
use crate::trace::{self, paths};

const CREATE: [&str; 10] = [
    "create-container",
    PLAIN,
    "--link",
    "libcuda.so.1::/usr/lib/x/deep/libcuda.so",
    "--libraries",
    "x86-64:/usr/lib/x:libcuda.so.1",
    "--cuda-compat",
    "550.1",
    "--hide-device-files",
    "--application-profile",
];
const FOLDER: [&str; 4] = ["update-ldcache", PLAIN, "--folder", "/usr/lib/x"];
const CUDA: [&str; 4] = ["enable-cuda-compat", PLAIN, "--host-driver-version", "550.1"];

/// Paths that are the machine's or the process's own.
const OWN_PLACES: [&str; 6] =
    ["/run", "/proc/self/exe", "/proc/self/maps", "/proc/self/ns/pid", "/proc", "/"];

/// A container whose every step has something to do.
fn container() -> Container {
    let container = Container::new("etc/ld.so.conf = /opt/lib\nusr/lib/x/libcuda.so = old\netc/ld.so.cache");
    for path in ["usr/lib/x/libone.so.1.2", "usr/local/cuda/compat/libcuda.so.575.1"] {
        let path = container.rootfs().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, Stub::x86_64("libcuda.so.1").bytes()).unwrap();
    }
    container
}

/// Runs the hook under strace(1) with these options; its calls come back beside how it ended.
fn traced(container: &Container, options: &[&str], words: &[&str]) -> Option<(Ended, Vec<String>)> {
    let words = [&[env!("CARGO_BIN_EXE_oci-hook")], words].concat();
    let traced = trace::traced(container, options, &words, container.state().as_bytes());
    container.assert_outside_unchanged();
    traced
}

#[test]
fn every_operation_on_the_tree_goes_through_its_descriptor() {
    let class = ["-e", "trace=%file,%desc,%process,mount,umount2,move_mount,chroot,pivot_root,bpf,fsopen"];
    for words in [&CREATE[..], &FOLDER, &CUDA] {
        let container = container();
        let Some((ended, calls)) = traced(&container, &class, words) else { return };
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{words:?}");
        let (bundle, root) = (container.path("bundle"), container.rootfs());
        let whole = |path: &str| path == bundle.to_str().unwrap() || path == root.to_str().unwrap();
        assert!(calls.iter().filter(|call| call.starts_with("openat2(")).count() > 5, "{calls:#?}");
        let own = |path: &str| OWN_PLACES.contains(&path);
        let executed = calls.iter().filter(|call| call.starts_with("execve")).count();
        assert_eq!(executed, 1, "the hook itself: {calls:#?}");
        for call in calls.iter().filter(|call| !call.starts_with("execve")) {
            assert!(!trace::mounts(call), "{words:?}: {call}");
            trace::assert_by_descriptor(call, own, whole);
        }
    }
}

/// E02, E04: what stands in the environment changes no call.
#[test]
fn e02_e04_the_environment_changes_nothing() {
    let names = [
        "GCONV_PATH",
        "LOCPATH",
        "NLSPATH",
        "MALLOC_ARENA_MAX",
        "HOSTALIASES",
        "RES_OPTIONS",
        "TMPDIR",
        "PATH",
    ];
    let more = [
        "BASH_ENV",
        "RUST_BACKTRACE",
        "RUST_LOG",
        "RUST_MIN_STACK",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "LD_PRELOAD",
    ];
    let opened = |extra: &[&str]| {
        let container = container();
        let options: Vec<&str> = extra.iter().flat_map(|variable| ["-E", variable]).collect();
        let options = [&["-e", "trace=%file"][..], &options].concat();
        let (ended, calls) = traced(&container, &options, &CREATE)?;
        assert_eq!(ended.status, Some(0), "{ended:?}");
        let shown =
            |call: &String| call.split_once('(').map(|(name, _)| (name.to_owned(), paths(call).len()));
        Some(calls.iter().skip(1).filter_map(shown).collect::<Vec<_>>())
    };
    let hostile: Vec<String> =
        names.iter().chain(&more).map(|name| format!("{name}=/proc/self/cwd/evil")).collect();
    let hostile: Vec<&str> = hostile.iter().map(String::as_str).collect();
    let Some(plain) = opened(&[]) else { return };
    assert_eq!(opened(&hostile).unwrap(), plain);
}

/// D04: each call that changes something fails once, in every place; the loader's cache is whole after it.
#[test]
fn d04_a_failure_at_any_point_leaves_the_old_file_or_the_new() {
    let faults = [
        ("write", "ENOSPC"),
        ("linkat", "EIO"),
        ("renameat", "EIO"),
        ("mkdirat", "EDQUOT"),
        ("symlinkat", "ENOSPC"),
        ("fchmod", "EPERM"),
        ("fchown", "EPERM"),
        ("openat", "EMFILE"),
        ("openat2", "EINTR"),
        ("statx", "ENOMEM"),
        ("getdents64", "EIO"),
    ];
    for (call, error) in faults {
        for nth in 1..6 {
            let container = container();
            let inject = format!("inject={call}:error={error}:when={nth}");
            let options = ["-e", &format!("trace={call}"), "-e", &inject];
            let Some((ended, _)) = traced(&container, &options, &CREATE) else { return };
            // The state cannot be read without reading, and the root not opened without opening.
            assert!(matches!(ended.status, Some(0 | 65..=67)), "{call} {nth}: {ended:?}");
            let cache = fs::read(container.rootfs().join("etc/ld.so.cache")).unwrap();
            let is_whole = libgpuspec::ldcache::entries(&cache).is_ok_and(|entries| !entries.is_empty());
            assert!(cache.is_empty() || is_whole, "{call} {nth}");
            let listing = rootfs::listing(&container.rootfs());
            assert!(!listing.iter().any(|name| name.ends_with(".tmp")), "{call} {nth}: {listing:?}");
        }
    }
}

/// What a run has made of a container, but for inodes and times.
fn outcome(container: &Container) -> Vec<String> {
    let whole = |line: &String| {
        let fields: Vec<&str> = line.splitn(7, ' ').collect();
        [&fields[..3], &fields[6..]].concat().join(" ")
    };
    rootfs::manifest(&container.rootfs()).iter().map(whole).collect()
}

/// D04: killed at each call that changes something, it leaves nothing that the next run does not take away.
#[test]
fn d04_a_run_after_one_that_was_killed_leaves_what_an_undisturbed_one_does() {
    let undisturbed = container();
    let Some((ended, _)) = traced(&undisturbed, &["-e", "trace=none"], &CREATE) else { return };
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let (expected, mut kills) = (outcome(&undisturbed), 0);
    for call in
        ["openat", "mkdirat", "symlinkat", "write", "fchmod", "fchown", "linkat", "renameat", "unlinkat"]
    {
        for nth in 1.. {
            let container = container();
            let inject = format!("inject={call}:signal=SIGKILL:when={nth}");
            let options = ["-e", &format!("trace={call}"), "-e", &inject];
            let (ended, _) = traced(&container, &options, &CREATE).unwrap();
            if ended.status == Some(0) {
                break;
            }
            kills += 1;
            let cache = fs::read(container.rootfs().join("etc/ld.so.cache")).unwrap();
            assert!(cache.is_empty() || libgpuspec::ldcache::entries(&cache).is_ok(), "{call} {nth}");
            let ended = container.verb(&CREATE);
            assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{call} {nth}");
            assert_eq!(outcome(&container), expected, "{call} {nth}");
        }
    }
    assert!(kills > 20, "only {kills}");
}

/// A limit on the size of files that is too small for the cache is an error like another, and no signal.
#[test]
fn d04_a_file_that_may_not_grow_is_a_warning() {
    let container = container();
    let before = fs::read(container.rootfs().join("etc/ld.so.conf")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 0 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_oci-hook")]).args(CREATE);
    let ended = run(&mut command, container.state().as_bytes());
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("File too large"), "{ended:?}");
    assert_eq!(fs::read(container.rootfs().join("etc/ld.so.conf")).unwrap(), before);
    assert!(!rootfs::listing(&container.rootfs()).iter().any(|name| name.ends_with(".tmp")));
}

/// C02: a kernel that lacks a call is no reason to do it another way.
#[test]
fn c02_without_openat2_nothing_is_done_and_without_landlock_all() {
    let container = container();
    let before = rootfs::manifest(&container.rootfs());
    let none = ["-e", "trace=openat2", "-e", "inject=openat2:error=ENOSYS"];
    let Some((ended, _)) = traced(&container, &none, &CREATE) else { return };
    assert_eq!(ended.status, Some(66), "{ended:?}");
    assert!(ended.stderr.contains("not implemented"), "{ended:?}");
    assert_eq!(rootfs::manifest(&container.rootfs()), before);
    for call in ["landlock_create_ruleset", "close_range"] {
        let container = self::container();
        let none = ["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error=ENOSYS")];
        let (ended, _) = traced(&container, &none, &CREATE).unwrap();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{call}");
        assert!(!container.cache().is_empty());
    }
    let failing = ["-e", "trace=landlock_restrict_self", "-e", "inject=landlock_restrict_self:error=E2BIG"];
    let (ended, _) = traced(&container, &failing, &CREATE).unwrap();
    assert_eq!(ended.status, Some(70), "a sandbox that fails where there is one: {ended:?}");
    assert_eq!(rootfs::manifest(&container.rootfs()), before);
}
