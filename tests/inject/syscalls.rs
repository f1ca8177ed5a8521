//! oci-hook-inject as the kernel sees it: no program, and in a container's tree nothing but descriptors and single names.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::container::{Container, is_root, skipped};
use crate::created::{Bundle, FILE, NODE};
use crate::trace;

const CLASS: [&str; 2] = [
    "-e",
    "trace=%file,%desc,%process,mount,umount2,move_mount,open_tree,mount_setattr,chroot,pivot_root,bpf,fsopen,setns",
];

/// O4: a config that comes and goes by pipes, and nothing on disk is changed.
#[test]
fn precreate_reads_specs_and_changes_nothing() {
    let container = Container::new("");
    let spec = "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: x\n  containerEdits:\n    env: [A=B]\n";
    fs::create_dir(container.path("cdi")).unwrap();
    fs::write(container.path("cdi/v.yaml"), spec).unwrap();
    let specs = container.path("cdi");
    let specs = specs.to_str().unwrap();
    // What is written to standard output would be taken for words.
    let words =
        ["sh", "-c", "exec \"$@\" >/dev/null", "sh", env!("CARGO_BIN_EXE_oci-hook-inject"), "precreate"];
    let words = [&words[..], &["--device", "v.com/c=x", "--spec-dir", specs]].concat();
    let Some((ended, calls)) = trace::traced(&container, &CLASS, &words, b"{\"process\":{}}") else { return };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let started = calls.iter().rposition(|call| call.starts_with("execve")).unwrap();
    let calls = &calls[started + 1..];
    assert!(calls.iter().any(|call| call.contains("v.yaml")), "{calls:#?}");
    let changing =
        ["O_WRONLY", "O_RDWR", "O_CREAT", "mkdir", "symlink", "rename", "unlink", "link(", "linkat", "mknod"];
    for call in calls {
        assert!(!trace::mounts(call), "{call}");
        let is_changing = changing.iter().any(|word| call.contains(word)) && !call.starts_with("readlink");
        assert!(!is_changing, "{call}");
        // /proc says in which user namespace this is, and so who may own a spec.
        let own = |path: &str| {
            ["/", "/proc"].contains(&path) || path.starts_with("/proc/") || path.starts_with("/run")
        };
        trace::assert_by_descriptor(call, own, |path| specs.starts_with(path));
    }
}

/// O4: from the moment that the hook is in the container's mount namespace.
#[test]
fn prestart_works_by_descriptors_in_the_containers_part() {
    let hook = "    hooks:\n    - {hookName: createContainer, path: /x, args: [oci-hook, create-container, --link, \
        'a.so.1::/usr/lib/deep/a.so', --libraries, 'x86-64:/usr/lib:a.so.1', --hide-device-files]}";
    let bundle = Bundle::new("dev/\nusr/\netc/ld.so.cache", &format!("{NODE}\n{FILE}\n{hook}"));
    let Some(created) = bundle.created("mount -t tmpfs tmpfs $R/dev") else { return };
    let container = &bundle.container;
    let state = container.state().replace("\"pid\":1", &format!("\"pid\":{}", created.process.id()));
    let specs = bundle.specs.path();
    let words = [env!("CARGO_BIN_EXE_oci-hook-inject"), "prestart", "--device", "v.com/c=x", "--spec-dir"];
    let words = [&words[..], &[specs.to_str().unwrap()]].concat();
    let Some((ended, calls)) = trace::traced(container, &CLASS, &words, state.as_bytes()) else { return };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    container.assert_outside_unchanged();
    let entered = calls.iter().position(|call| call.starts_with("setns(")).unwrap();
    let executed = calls.iter().filter(|call| call.starts_with("execve")).count();
    assert_eq!(executed, 1, "the hook itself: {calls:#?}");
    let calls = &calls[entered + 1..];
    for wanted in ["mknodat(", "move_mount(", "symlinkat(", "renameat("] {
        assert!(calls.iter().any(|call| call.starts_with(wanted)), "{wanted}: {calls:#?}");
    }
    let root = container.rootfs();
    let own = |path: &str| ["/", "/dev", "/proc"].contains(&path);
    for call in calls {
        if trace::mounts(call) {
            // Of a mount that is held, its restrictions; and nothing that has a path.
            let restricts = call.starts_with("mount(") || call.starts_with("umount2(");
            let held = |text: &str| ["", "none"].contains(&text) || text.starts_with("/proc/self/fd/");
            assert!(restricts && trace::paths(call).iter().all(|(_, text)| held(text)), "{call}");
            continue;
        }
        trace::assert_by_descriptor(call, own, |path| Path::new(path) == root);
    }
}

/// Words of a hook that is in the container's namespace are this machine's, whatever lies on /run there.
#[test]
fn what_is_said_in_the_containers_namespace_is_kept_by_the_machine() {
    let bundle = Bundle::new("volume/\ndata/", &FILE.replace("/usr/lib/file", "/data/new"));
    let Some(created) = bundle.created("mount --bind $R/volume $R/data; mount -t tmpfs tmpfs /run") else {
        return;
    };
    if Path::new("/run/systemd/journal/socket").exists() {
        return skipped("a machine with a journal, whose words are not read here");
    }
    let ended = bundle.hook_on(&created);
    assert!(ended.stderr.contains("nothing is made there"), "{ended:?}");
    let log = fs::read_to_string("/run/gpuspec/hook.log").unwrap();
    let place = bundle.container.rootfs().join("data/new");
    assert!(log.contains(place.to_str().unwrap()), "{log}");
    assert_eq!(fs::read_dir(created.path(Path::new("/run"))).unwrap().count(), 0);
}

/// C01: what the program can still do when it reads what others wrote.
#[test]
fn c01_the_stages_keep_no_capability_that_they_do_not_need() {
    if !is_root() {
        return;
    }
    // SYS_ADMIN, SYS_PTRACE, SYS_CHROOT, SETUID, SETGID, MKNOD, FOWNER, DAC_OVERRIDE, CHOWN of linux/capability.h.
    let prestart = [21, 19, 18, 7, 6, 27, 3, 1, 0].iter().fold(0_u64, |set, bit| set | 1 << bit);
    for (stage, expected) in [("precreate", 0), ("prestart", prestart), ("create-runtime", prestart)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook-inject"));
        let piped = command.arg(stage).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = piped.spawn().unwrap();
        // It waits for its input, all of which is somebody else's.
        let path = format!("/proc/{}/status", child.id());
        let started = Instant::now();
        let field = |name: &str| {
            let status = fs::read_to_string(&path).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        while field("NoNewPrivs") == 0 || field("CapPrm") != expected {
            assert!(started.elapsed() < Duration::from_secs(5), "{stage}: {:#x}", field("CapPrm"));
        }
        assert_eq!(["CapInh", "CapEff", "CapAmb"].map(field), [0, expected, 0], "{stage}");
        child.stdin.take();
        child.wait().unwrap();
    }
}
