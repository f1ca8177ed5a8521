//! Designs by which container tools were attacked, one test each, by the numbers of their catalogue
//! (docs/hook.md): what the image, the caller or a neighbour prepares, and what must come of it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::container::{Container, Ended, PLAIN, is_root, run, skipped};
use crate::rootfs;

const ARGUMENTS: [&str; 7] = [
    PLAIN,
    "--link",
    "libcuda.so.1::/usr/lib/x/libcuda.so",
    "--libraries",
    "x86-64:/usr/lib/x:libcuda.so.1",
    "--cuda-compat",
    "550.1",
];
const ENTRY: &str = "libcuda.so.1 /usr/lib/x/libcuda.so.1";

/// Runs the hook, which must end well, and says what it said.
fn done(container: &Container) -> String {
    let ended = container.hook(&ARGUMENTS);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    ended.stderr
}

fn link(container: &Container, path: &str) -> String {
    fs::read_link(container.rootfs().join(path))
        .map(|text| text.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

#[test]
fn t01_t02_a_directory_that_is_a_link_leads_nowhere_outside() {
    for target in [
        "OUTSIDE",
        "OUTSIDE/lib",
        "../../../../outside",
        "../../../../../../../../outside/lib",
        "/proc/self/cwd",
    ] {
        let container = Container::new(&format!("usr/lib/x -> {target}"));
        assert!(done(&container).contains("/usr/lib/x"), "{target}");
    }
    // `..` stops at the root, so this one is a place inside.
    let container = Container::new("usr/lib/x -> ../../../../../../opt\nopt/");
    assert_eq!(done(&container), "");
    assert_eq!(link(&container, "opt/libcuda.so"), "libcuda.so.1");
}

#[test]
fn t03_whatever_has_the_links_name_is_replaced() {
    for target in ["OUTSIDE/file", "nowhere", "libcuda.so", "../x/libcuda.so", "/"] {
        let container = Container::new(&format!("usr/lib/x/libcuda.so -> {target}"));
        assert_eq!(done(&container), "", "{target}");
        assert_eq!(link(&container, "usr/lib/x/libcuda.so"), "libcuda.so.1", "{target}");
    }
}

#[test]
fn t05_what_is_no_directory_is_not_taken_for_one() {
    for (page, place) in [("usr |", "/usr"), ("usr/lib = file", "/usr/lib"), ("usr/lib/x |", "/usr/lib/x")] {
        let container = Container::new(page);
        assert!(done(&container).contains(place), "{page}");
    }
    let container = Container::new("usr/lib/");
    let _socket = std::os::unix::net::UnixListener::bind(container.rootfs().join("usr/lib/x")).unwrap();
    assert!(done(&container).contains("/usr/lib/x"));
}

#[test]
fn t06_links_that_images_honestly_have_are_followed() {
    for (page, place) in [
        ("usr/lib -> ../lib64\nlib64/", "lib64/x/libcuda.so"),
        ("usr -> /system\nsystem/", "system/lib/x/libcuda.so"),
        ("usr/lib -> /lib64\nlib64 -> usr/lib64\nusr/lib64/", "usr/lib64/x/libcuda.so"),
    ] {
        let container = Container::new(page);
        assert_eq!(done(&container), "", "{page}");
        assert_eq!(link(&container, place), "libcuda.so.1", "{page}");
        assert_eq!(container.cache(), [ENTRY], "{page}");
    }
}

#[test]
fn t09_chains_and_names_at_their_limits() {
    let chain = |length: usize| {
        let links: String = (1..length).map(|index| format!("l{index} -> l{}\n", index + 1)).collect();
        format!("usr/lib/x -> /l1\n{links}l{length} -> /opt\nopt/")
    };
    for (length, done_in) in [(39, true), (40, false), (60, false)] {
        let container = Container::new(&chain(length));
        done(&container);
        assert_eq!(link(&container, "opt/libcuda.so") == "libcuda.so.1", done_in, "{length}");
    }
    let container = Container::new("");
    for (length, status) in [(255, 0), (256, 2)] {
        let argument = format!("a::/usr/{}", "n".repeat(length));
        assert_eq!(container.hook(&["--link", &argument]).status, Some(status), "{length}");
    }
    assert_eq!(container.hook(&["--link", &format!("{}::/a", "t".repeat(5000))]).status, Some(0));
    // What an image or a spec says reaches nobody's terminal as it is.
    let ended = container.hook(&["--link", "a::/file\u{1b}[31m/x\u{9b}", "--link", "a::/usr/lib/\u{1b}[2J"]);
    assert!(!ended.stderr.contains('\u{1b}'), "{ended:?}");
    let container = Container::new("usr/\u{1b}[31m = file");
    let ended = container.hook(&["--link", "a::/usr/\u{1b}[31m/x"]);
    assert!(ended.stderr.contains("\\u{1b}[31m") && !ended.stderr.contains('\u{1b}'), "{ended:?}");
}

#[test]
fn t10_a_cache_is_replaced_and_never_written_through() {
    let container = Container::new("etc/");
    // A file of the host's that the image's name is another name of.
    fs::hard_link(container.path("outside/file"), container.rootfs().join("etc/ld.so.cache")).unwrap();
    fs::hard_link(container.path("outside/etc/ld.so.conf"), container.rootfs().join("etc/ld.so.conf"))
        .unwrap();
    let before: Vec<_> =
        ["file", "etc/ld.so.conf"].map(|name| fs::read(container.path("outside").join(name)).unwrap()).into();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
    let ended = run(command.arg("create-container").args(ARGUMENTS), container.state().as_bytes());
    assert_eq!(ended.status, Some(0));
    let after: Vec<_> =
        ["file", "etc/ld.so.conf"].map(|name| fs::read(container.path("outside").join(name)).unwrap()).into();
    assert_eq!(after, before, "through a hard link");
}

#[test]
fn t10_an_immutable_cache_is_a_warning() {
    if !is_root() {
        return;
    }
    let container = Container::new("etc/ld.so.cache");
    let cache = container.rootfs().join("etc/ld.so.cache");
    let set = |flag: &str| {
        Command::new("chattr").arg(flag).arg(&cache).status().is_ok_and(|status| status.success())
    };
    if !set("+i") {
        return skipped("no immutable files on this file system");
    }
    let said = done(&container);
    assert!(set("-i"));
    assert!(said.contains("ld.so.cache"), "{said}");
    assert!(!rootfs::listing(&container.rootfs()).iter().any(|name| name.ends_with(".tmp")));
}

#[test]
fn t11_no_byte_of_the_host_is_read_into_the_container() {
    for page in [
        "etc/ld.so.conf -> OUTSIDE/etc/ld.so.conf",
        "etc/ld.so.conf.d -> OUTSIDE/etc",
        "etc/ld.so.conf.d/00-gpuspec-cuda-compat.conf -> OUTSIDE/etc/ld.so.conf",
        "etc/ld.so.cache -> OUTSIDE/etc/ld.so.cache",
    ] {
        let container = Container::new(page);
        done(&container);
        for name in ["etc/ld.so.conf", "etc/ld.so.cache"] {
            let path = container.rootfs().join(name);
            // A link that is left alone means something else inside the container.
            let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            let text = if is_file { fs::read(path).unwrap() } else { Vec::new() };
            assert!(!String::from_utf8_lossy(&text).contains("canary"), "{page}: {name}");
        }
    }
}

#[test]
fn t13_arguments_that_no_generator_makes() {
    let (long, container) = ("x".repeat(40_000), Container::new(""));
    for text in
        ["x::/", "x::..", "x::/a/..", "x::", "::y", "a::b::c", "::", "x::/a//b", &format!("x::/{long}")]
    {
        for verb in ["create-container", "create-symlinks"] {
            assert_eq!(
                container.verb(&[verb, "--link", text]).status,
                Some(2),
                "{verb} {}",
                &text[..text.len().min(20)]
            );
        }
    }
    for folder in ["", "/", "x", "/a/../b", "/a\nb"] {
        assert_eq!(container.verb(&["update-ldcache", "--folder", folder]).status, Some(2), "{folder}");
    }
    assert!(rootfs::listing(&container.rootfs()).is_empty());
}

#[test]
fn t14_odd_modes_of_directories_are_kept() {
    let container = Container::new("usr/lib/x/\netc/");
    for (name, mode) in [("usr/lib/x", 0o1777), ("etc", 0o2775), ("usr", 0o700)] {
        fs::set_permissions(container.rootfs().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    assert_eq!(done(&container), "");
    for (name, mode) in [("usr/lib/x", 0o1777), ("etc", 0o2775), ("usr", 0o700)] {
        assert_eq!(container.rootfs().join(name).metadata().unwrap().mode() & 0o7777, mode, "{name}");
    }
}

/// R06: the directory that was opened counts, whatever has its name afterwards.
#[test]
fn r06_a_root_that_is_exchanged_after_the_state_was_read() {
    let container = Container::new("");
    symlink(container.path("outside"), container.path("bundle/decoy")).unwrap();
    for _ in 0..200 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        command.arg("create-container").args(ARGUMENTS).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(container.state().as_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(u64::from(child.id()) % 1500));
        // Not to a link: who can change the bundle is the runtime's user.
        fs::rename(container.rootfs(), container.path("bundle/moved")).unwrap();
        child.wait().unwrap();
        fs::rename(container.path("bundle/moved"), container.rootfs()).unwrap();
        container.assert_outside_unchanged();
    }
}

/// X01, X02: programs and modules of the image that other hooks came to run.
#[test]
fn x01_x02_nothing_of_the_image_is_run() {
    let programs =
        ["sbin/ldconfig", "sbin/ldconfig.real", "bin/sh", "usr/bin/xz", "usr/bin/nsenter", "bin/true"];
    let others =
        ["etc/nsswitch.conf", "etc/passwd", "etc/ld.so.preload", "etc/localtime", "lib/libnss_files.so.2"];
    let container = Container::new(&others.join("\n"));
    for name in programs {
        let path = container.rootfs().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", container.path("marker").display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    done(&container);
    container.verb(&["update-ldcache", "--folder", "/lib", "--ldconfig-path", "/sbin/ldconfig"]);
    assert!(!container.path("marker").exists());
}

/// F01: a descriptor of the runtime's that the hook has inherited is closed before it reads anything.
#[test]
fn f01_inherited_descriptors_are_closed() {
    let container = Container::new("");
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec 7>&1; exec \"$@\" >/dev/null",
        "sh",
        env!("CARGO_BIN_EXE_oci-hook"),
        "create-container",
    ]);
    command.args(ARGUMENTS).stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    drop(command);
    // The end comes while the hook waits for its state, or after its deadline for that.
    let started = Instant::now();
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(child.try_wait().unwrap().is_none(), "it waits for its state still");
    child.stdin.take().unwrap().write_all(container.state().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn f02_the_working_directory_may_be_gone() {
    let container = Container::new("");
    let script = "mkdir $D && cd $D && rmdir $D && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"]).args(ARGUMENTS);
    let ended = run(command.env("D", container.path("gone")), container.state().as_bytes());
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

fn with_input(input: Stdio) -> (Ended, Duration) {
    let started = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
    let child =
        command.arg("create-container").args(ARGUMENTS).stdin(input).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    (Ended { status: output.status.code(), stderr }, started.elapsed())
}

#[test]
fn f03_an_input_without_sense_or_end_is_refused_in_time() {
    let (reader, _writer) = std::io::pipe().unwrap();
    let zero = File::open("/dev/zero").unwrap();
    for input in [Stdio::from(OwnedFd::from(reader)), Stdio::from(zero), Stdio::null()] {
        let (ended, took) = with_input(input);
        assert_eq!(ended.status, Some(65), "{ended:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    let mut closed = Command::new("sh");
    closed
        .args(["-c", "exec \"$@\" <&-", "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"])
        .args(ARGUMENTS);
    assert_eq!(run(&mut closed, b"").status, Some(65));
}

/// A runtime that takes nothing of what a hook writes must not make it fail.
#[test]
fn f03_an_output_that_nobody_takes_is_no_failure() {
    for output in ["2>/dev/full", "2>&-", ">&- 2>&-"] {
        let container = Container::new("etc = file");
        let script = format!("exec \"$@\" {output}");
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook"), "create-container"])
            .args(ARGUMENTS);
        assert_eq!(run(&mut command, container.state().as_bytes()).status, Some(0), "{output}");
    }
}

/// U02, U03: numbers and paths of a state that would mislead who believes them.
#[test]
fn u02_u03_the_states_pid_is_not_believed() {
    for pid in ["0", "1", "-1", "2147483648", "4194304"] {
        let container = Container::new("");
        let state = container.state().replace("\"pid\":1", &format!("\"pid\":{pid}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        let ended = run(command.arg("create-container").args(ARGUMENTS), state.as_bytes());
        assert_eq!((ended.status, container.cache()), (Some(0), vec![ENTRY.to_owned()]), "{pid}: {ended:?}");
    }
}

#[test]
fn u04_a_config_that_is_no_honest_file() {
    for page in ["config.json |", "config.json/", "config.json -> /dev/zero", "config.json -> OUTSIDE/file"] {
        let container = Container::new("");
        fs::remove_file(container.path("bundle/config.json")).unwrap();
        let outside = container.path("outside");
        rootfs::make(&container.path("bundle"), &page.replace("OUTSIDE", outside.to_str().unwrap()));
        assert_eq!(container.hook(&ARGUMENTS).status, Some(66), "{page}");
    }
}

/// D01, D02: files that never end, never answer, or say the same a million times.
#[test]
fn d01_d02_the_images_files_cost_no_time() {
    let container = Container::new("etc/ld.so.conf.d/");
    let etc = container.rootfs().join("etc");
    let sparse = |name: &str| File::create(etc.join(name)).unwrap().set_len(4 << 40).unwrap();
    let many = |name: &str, line: &str, count: usize| fs::write(etc.join(name), line.repeat(count)).unwrap();
    let cases: [&dyn Fn(); 6] = [
        &|| sparse("ld.so.conf"),
        &|| sparse("ld.so.cache"),
        &|| many("ld.so.conf", "include *\n", 1_000_000),
        &|| many("ld.so.conf.d/00-gpuspec-cuda-compat.conf", "/usr/lib/x\n", 6_000),
        &|| many("ld.so.cache", "glibc-ld.so.cache1.1", 700_000),
        &|| (0..3000).for_each(|index| many(&format!("ld.so.conf.d/{index}.conf"), "include *\n", 1)),
    ];
    for case in cases {
        case();
        let started = Instant::now();
        done(&container);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let _ = (fs::remove_file(etc.join("ld.so.conf")), fs::remove_file(etc.join("ld.so.cache")));
    }
}

/// D03: what calls itself a library, in the two places whose libraries are looked into.
#[test]
fn d03_hostile_libraries_are_passed_over() {
    let honest = crate::elf::Stub::x86_64("libcuda.so.1").bytes();
    let mut hostile =
        vec![Vec::new(), b"\x7fELF".to_vec(), honest[..70].to_vec(), honest[..honest.len() - 1].to_vec()];
    for at in (16..honest.len()).step_by(2) {
        let mut changed = honest.clone();
        changed[at] = 0xff;
        changed[at + 1] = 0xff;
        hostile.push(changed);
    }
    let container = Container::new("usr/lib/x/\nusr/local/cuda/compat/");
    for (index, bytes) in hostile.iter().enumerate() {
        fs::write(container.rootfs().join(format!("usr/lib/x/libh{index}.so.1")), bytes).unwrap();
    }
    let started = Instant::now();
    let ended = container.verb(&["update-ldcache", "--folder", "/usr/lib/x"]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    let compat = container.rootfs().join("usr/local/cuda/compat/libcuda.so.999.1");
    for bytes in hostile.iter().step_by(5) {
        fs::write(&compat, bytes).unwrap();
        let ended = container.verb(&["enable-cuda-compat", "--host-driver-version", "550.1"]);
        assert_eq!(ended.status, Some(0), "{ended:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// E03: what the C library itself reads of the environment, before main, may keep the hook from its work and no more.
///
/// Specs of ours give the hook an environment, so that an image's never gets here.
#[test]
fn e03_tunables_of_the_c_library_change_nothing_that_is_done() {
    let numbers = ["0", "1", "16000000", "2147483647", "4294967296", "9223372036854775807", "-1", "x"];
    let names = [
        "glibc.malloc.check",
        "glibc.malloc.perturb",
        "glibc.malloc.top_pad",
        "glibc.malloc.mmap_threshold",
        "glibc.malloc.arena_max",
        "glibc.malloc.hugetlb",
        "glibc.malloc.tcache_count",
        "glibc.rtld.nns",
        "glibc.rtld.optional_static_tls",
        "glibc.pthread.rseq",
        "glibc.pthread.stack_cache_size",
        "glibc.cpu.hwcaps",
        "glibc.cpu.x86_non_temporal_threshold",
        "glibc.mem.tagging",
    ];
    let (mut done, mut failed) = (0, 0);
    for (name, number) in names.iter().flat_map(|name| numbers.map(|number| (name, number))) {
        let container = Container::new("");
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        command.arg("create-container").args(ARGUMENTS).env("GLIBC_TUNABLES", format!("{name}={number}"));
        let ended = run(&mut command, container.state().as_bytes());
        container.assert_outside_unchanged();
        if ended.status == Some(0) {
            assert_eq!(
                (container.cache(), ended.stderr.as_str()),
                (vec![ENTRY.to_owned()], ""),
                "{name}={number}"
            );
            done += 1;
        } else {
            assert!(rootfs::listing(&container.rootfs()).is_empty(), "{name}={number}: {ended:?}");
            failed += 1;
        }
    }
    assert!(done > 90, "{done} were done, {failed} were not begun");
}

/// E03: an environment as large as the kernel lets one be.
#[test]
fn e03_a_large_environment_is_not_looked_at() {
    for (count, length) in [(10_000, 10), (10, 100_000)] {
        let container = Container::new("");
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        command.arg("create-container").args(ARGUMENTS);
        command.envs((0..count).map(|index| (format!("V{index}"), "x".repeat(length))));
        let ended = run(&mut command, container.state().as_bytes());
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
        assert_eq!(container.cache(), [ENTRY]);
    }
}
