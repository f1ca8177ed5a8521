//! What no runtime and no generator would give the hook: one clear error, one status a class, no change.

use std::fs;
use std::process::Command;

use crate::container::{Container, Ended, PLAIN, run};
use crate::rootfs;

const ARGUMENTS: [&str; 6] =
    ["create-container", PLAIN, "--link", "a::/usr/lib64/b", "--libraries", "x86-64:/usr/lib64:libcuda.so.1"];

const STATE: i32 = 65;
const CONFIG: i32 = 66;
const ROOT: i32 = 67;

fn hook(container: &Container, input: &[u8]) -> Ended {
    hook_asked(container, &ARGUMENTS, input)
}

fn hook_asked(container: &Container, arguments: &[&str], input: &[u8]) -> Ended {
    let ended = run(Command::new(env!("CARGO_BIN_EXE_oci-hook")).args(arguments), input);
    container.assert_outside_unchanged();
    assert_eq!(rootfs::listing(&container.rootfs()), Vec::<String>::new());
    ended
}

#[test]
fn states_that_cannot_be_used() {
    let container = Container::new("");
    let deep = format!("{{\"bundle\":\"/b\",\"x\":{}", "[".repeat(30_000));
    let large = format!("{{\"bundle\":\"/b\",\"x\":\"{}\"}}", "x".repeat(65_536));
    let cases = [
        ("", "EOF"),
        ("garbage", "expected value"),
        ("null", "null"),
        ("[]", "invalid length"),
        ("{}", "missing field `bundle`"),
        (r#"{"bundle":1}"#, "invalid type"),
        (r#"{"bundle":"relative"}"#, "not absolute"),
        (r#"{"bundle":""}"#, "not absolute"),
        (r#"{"bundle":"/a","bundle":"/b"}"#, "duplicate field"),
        (r#"{"bundle":"/a"} trailing"#, "trailing"),
        ("{\"bundle\":\"/a\u{0}\"}", "control character"),
        (deep.as_str(), "EOF"),
        (large.as_str(), "more than 65536 bytes"),
    ];
    for (state, word) in cases {
        let ended = hook(&container, state.as_bytes());
        let start: String = state.chars().take(40).collect();
        assert_eq!(ended.status, Some(STATE), "{start}: {ended:?}");
        assert!(ended.stderr.contains(word), "{start}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{start}: {ended:?}");
    }
    let ended = hook(&container, b"{\"bundle\":\"/\xff\"}");
    assert_eq!(ended.status, Some(STATE), "{ended:?}");
}

#[test]
fn configs_that_cannot_be_used() {
    let huge = format!("{{\"root\":{{\"path\":\"rootfs\"}},\"x\":\"{}\"}}", "x".repeat(8 << 20));
    let cases: [(Option<&str>, &str); 9] = [
        (None, "no config.json"),
        (Some(""), "config.json: EOF"),
        (Some("{}"), "missing field `root`"),
        (Some(r#"{"root":{}}"#), "missing field `path`"),
        (Some(r#"{"root":{"path":""}}"#), "root.path is empty"),
        (Some(r#"{"root":{"path":3}}"#), "invalid type"),
        (Some(r#"{"root":{"path":"a"},"root":{"path":"b"}}"#), "duplicate field"),
        (Some(r#"{"root":{"path":"rootfs"}"#), "config.json: EOF"),
        (Some(huge.as_str()), "larger than"),
    ];
    for (config, word) in cases {
        let container = Container::new("");
        let path = container.path("bundle/config.json");
        fs::remove_file(&path).unwrap();
        if let Some(config) = config {
            fs::write(&path, config).unwrap();
        }
        let ended = hook(&container, container.state().as_bytes());
        assert_eq!(ended.status, Some(CONFIG), "{word}: {ended:?}");
        assert!(ended.stderr.contains(word), "{word}: {ended:?}");
    }
}

#[test]
fn a_config_that_is_no_file_is_not_waited_for() {
    for (page, word) in [("config.json |", "a FIFO"), ("config.json/", "a directory")] {
        let container = Container::new("");
        fs::remove_file(container.path("bundle/config.json")).unwrap();
        rootfs::make(&container.path("bundle"), page);
        let ended = hook(&container, container.state().as_bytes());
        assert_eq!(ended.status, Some(CONFIG), "{ended:?}");
        assert!(ended.stderr.contains(word), "{ended:?}");
    }
}

#[test]
fn roots_that_cannot_be_used() {
    let container = Container::new("");
    let file = container.path("outside/file");
    let cases = [
        ("/", "this machine's own"),
        ("/proc/self/root", "this machine's own"),
        ("/nowhere/at/all", "/nowhere/at/all: opening it as a root: No such file"),
        (file.to_str().unwrap(), "Not a directory"),
    ];
    // Nothing is asked for: were the machine's own tree taken, this test would not harm it.
    let harmless = |state: &str| hook_asked(&container, &["create-container", PLAIN], state.as_bytes());
    for (root, word) in cases {
        let state = serde_json::json!({ "bundle": container.path("bundle"), "root": root }).to_string();
        let ended = harmless(&state);
        assert_eq!(ended.status, Some(ROOT), "{root}: {ended:?}");
        assert!(ended.stderr.contains(word), "{root}: {ended:?}");
    }
    let config = r#"{"root":{"path":"../../../../../../../../.."}}"#;
    fs::write(container.path("bundle/config.json"), config).unwrap();
    assert_eq!(harmless(&container.state()).status, Some(ROOT));
}

#[test]
fn command_lines_that_cannot_be_meant() {
    let container = Container::new("");
    let cases: [&[&str]; 12] = [
        &[],
        &["create-container", "--link"],
        &["create-container", "--link", "x"],
        &["create-container", "--link", "x::y"],
        &["create-container", "--link", "x::/"],
        &["create-container", "--link", "x::/a/.."],
        &["create-container", "--link", "a::/b::/c"],
        &["create-container", "--device-link", "::/y"],
        &["create-container", "--libraries", "x86-64:/usr/lib64"],
        &["create-container", "--libraries", "vax:/usr/lib64:liba.so"],
        &["create-container", "--no-such-flag"],
        &["create-container", "stray"],
    ];
    for arguments in cases {
        let ended =
            run(Command::new(env!("CARGO_BIN_EXE_oci-hook")).args(arguments), container.state().as_bytes());
        assert_eq!(ended.status, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
        assert_eq!(rootfs::listing(&container.rootfs()), Vec::<String>::new());
    }
}

/// A spec made by a newer generator must not keep containers from starting.
#[test]
fn an_unknown_hook_is_a_warning() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
    let ended = run(command.args(["mask-params", "--flag", "x"]), b"");
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("unknown hook `mask-params`; ignored"), "{ended:?}");
}

/// runc 1.1 gives a hook without `env` the image's environment, and the image's root as working directory.
#[test]
fn neither_environment_nor_working_directory_matter() {
    let container = Container::new("config.json = {\"root\":{\"path\":\"/nowhere\"}}\nevil.so\nrootfs/");
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
    command.args(ARGUMENTS).current_dir(container.rootfs());
    for name in
        ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "LOCPATH", "TMPDIR", "HOME", "PATH"]
    {
        command.env(name, "/proc/self/cwd/evil.so");
    }
    command.env("GLIBC_TUNABLES", "glibc.malloc.check=3:".repeat(1000)).env("RUST_LOG", "trace");
    command.envs((0..5000).map(|index| (format!("VARIABLE_{index}"), "x")));
    let ended = run(&mut command, container.state().as_bytes());
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(container.cache(), ["libcuda.so.1 /usr/lib64/libcuda.so.1"]);
    assert!(rootfs::listing(&container.rootfs().join("rootfs")).is_empty(), "the working directory's bundle");
}

/// No loader, no library, nothing that an environment could bend: the hook brings all it needs.
#[test]
fn the_hook_is_static() {
    let bytes = fs::read(env!("CARGO_BIN_EXE_oci-hook")).unwrap();
    assert_eq!(bytes[..5], *b"\x7fELF\x02", "a 64-bit ELF file");
    let number = |at: usize, size: usize| {
        bytes[at..at + size].iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte))
    };
    assert_eq!(number(16, 2), 3, "position-independent");
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let types: Vec<usize> = (0..count).map(|index| number(table + index * size, 4)).collect();
    assert!(types.contains(&1) && !types.contains(&3), "PT_LOAD and no PT_INTERP: {types:?}");
    let dynamic = (0..count).map(|index| table + index * size).find(|at| number(*at, 4) == 2).unwrap();
    let (start, length) = (number(dynamic + 8, 8), number(dynamic + 32, 8));
    assert!((start..start + length).step_by(16).all(|at| number(at, 8) != 1), "no DT_NEEDED");
}

/// N7: standard error can be a pipe that nobody reads.
#[test]
fn n7_a_full_pipe_as_standard_error_does_not_keep_the_hook() {
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // As much as it holds (pipe(7)).
    std::io::Write::write_all(&mut writer, &[0; 65536]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
    let command = command.args(ARGUMENTS).stdin(std::process::Stdio::null()).stderr(writer);
    let started = std::time::Instant::now();
    assert!(!command.status().unwrap().success());
    assert!(started.elapsed() < std::time::Duration::from_secs(8), "{:?}", started.elapsed());
}
