//! `cdi-gen generate` and `inventory` as they are called: files, exit statuses, words.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/elf.rs"]
mod elf;
#[path = "generate/groups.rs"]
mod groups;
#[path = "support/hostile.rs"]
mod hostile;
#[path = "support/tree.rs"]
mod tree;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use tree::Tree;

const NAME: &str = "nvidia.com-gpu.yaml";

/// A host with a driver and no GPU, since device nodes need privilege: `--allow-no-gpu` is for it.
fn host() -> Tree {
    let page = include_str!("hosts/fedora.tree").lines().filter(|line| !line.starts_with("proc/"));
    Tree::build(&page.fold(String::new(), |page, line| page + line + "\n"))
}

fn command(root: &Utf8Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-gen"));
    command.args(arguments).args(["--root", root.as_str()]);
    command
}

fn generate(root: &Utf8Path, arguments: &[&str]) -> Output {
    let hook = ["--hook-path", "/usr/libexec/libgpuspec/oci-hook"];
    let hook = if arguments.contains(&"--hook-path") { &[][..] } else { &hook[..] };
    command(root, &[&["generate", "--allow-no-gpu"], hook, arguments].concat()).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{}", told(output)))
}

/// A spec directory of its own, with what a case puts there.
fn spec_directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(directory.path().join("cdi")).unwrap();
    (directory, path)
}

fn spec_of(device: &str) -> String {
    format!(
        "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: [{{name: {device}, containerEdits: {{env: [A=1]}}}}]\n"
    )
}

fn names(directory: &Utf8Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_missing_has_its_own_exit_status() {
    let empty = Tree::build("");
    let no_driver = command(empty.path(), &["generate"]).output().unwrap();
    assert_eq!(status(&no_driver), 3);
    assert!(
        told(&no_driver).contains("/usr/lib64") && told(&no_driver).contains("libcuda.so"),
        "{no_driver:?}"
    );
    let host = host();
    for verb in ["generate", "inventory"] {
        let no_gpu = command(host.path(), &[verb]).output().unwrap();
        assert_eq!(status(&no_gpu), 3, "{verb}");
        assert!(told(&no_gpu).contains("proc/driver/nvidia/gpus lists none"), "{no_gpu:?}");
    }
    let listed = command(host.path(), &["inventory"]).output().unwrap();
    assert!(String::from_utf8(listed.stdout).unwrap().contains("libcuda.so.1"), "what is there is printed");
    assert_eq!(status(&command(Utf8Path::new("/nowhere"), &["generate"]).output().unwrap()), 1);
    assert_eq!(status(&command(host.path(), &["generate", "--frobnicate"]).output().unwrap()), 2);
}

#[test]
fn the_spec_goes_to_stdout_or_to_a_file_in_the_format_of_its_name() {
    let host = host();
    let (_keep, directory) = spec_directory();
    fs::create_dir(&directory).unwrap();
    let printed = generate(host.path(), &[]).stdout;
    assert!(printed.starts_with(b"# Made by cdi-gen "));
    for (name, format, start) in
        [("a.yaml", None, "# Made by"), ("a.json", None, "{"), ("b.yaml", Some("json"), "{")]
    {
        let file = directory.join(name);
        let mut arguments = vec!["--output", file.as_str()];
        arguments.extend(format.iter().flat_map(|format| ["--format", *format]));
        assert_eq!(status(&generate(host.path(), &arguments)), 0, "{name}");
        assert!(fs::read_to_string(&file).unwrap().starts_with(start), "{name}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644, "{name}");
    }
    assert_eq!(fs::read(directory.join("a.yaml")).unwrap(), printed, "the same host gives the same bytes");
}

#[test]
fn what_is_no_file_is_not_replaced_and_a_failure_keeps_the_old_spec() {
    let host = host();
    let (_keep, directory) = spec_directory();
    fs::create_dir(&directory).unwrap();
    symlink("/dev/null", directory.join("null")).unwrap();
    fs::create_dir(directory.join("directory")).unwrap();
    for name in ["null", "directory", "missing/x.yaml"] {
        let output = generate(host.path(), &["--output", directory.join(name).as_str()]);
        assert_eq!(status(&output), 1, "{name}: {output:?}");
    }
    let file = directory.join("good.yaml");
    fs::write(&file, "good").unwrap();
    let failed = command(Tree::build("").path(), &["generate", "--output", file.as_str()]).output().unwrap();
    assert_eq!((status(&failed), fs::read_to_string(&file).unwrap().as_str()), (3, "good"));
    assert_eq!(names(&directory), ["directory", "good.yaml", "null"], "nothing is left behind");
}

#[test]
fn install_makes_the_directory_and_takes_its_own_place_again() {
    let host = host();
    let (_keep, directory) = spec_directory();
    let install = ["--install", "--spec-dir", directory.as_str()];
    let with_umask = format!("umask 077; exec \"$0\" \"$@\" --root {}", host.path());
    let mut first = Command::new("sh");
    first.args([
        "-c",
        &with_umask,
        env!("CARGO_BIN_EXE_cdi-gen"),
        "generate",
        "--hook-path",
        "/h",
        "--allow-no-gpu",
    ]);
    assert_eq!(status(&first.args(install).output().unwrap()), 0);
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o7777, 0o755, "whatever the umask");
    assert_eq!(status(&generate(host.path(), &install)), 0);
    assert_eq!(names(&directory), [NAME]);
    let json = generate(host.path(), &[&install[..], &["--format", "json"]].concat());
    assert_eq!(
        (status(&json), names(&directory)),
        (0, vec!["nvidia.com-gpu.json".to_owned()]),
        "one file a kind"
    );
}

/// Whatever stands in the way, and is not ours, stays; with --replace it is kept under another name.
#[test]
fn install_never_destroys_what_it_did_not_write() {
    let host = host();
    for (name, content, in_the_way) in [
        ("nvidia.yaml", spec_of("all"), true),
        ("nvidia.yaml", spec_of("other"), false),
        (NAME, spec_of("other"), true),
        (NAME, "no: spec: at all".to_owned(), true),
        (NAME, String::new(), true),
        ("broken.yaml", "no: spec: at all".to_owned(), false),
    ] {
        let (_keep, directory) = spec_directory();
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(name), &content).unwrap();
        fs::write(directory.join("nvidia.yaml.replaced"), "older").unwrap();
        let install = ["--install", "--spec-dir", directory.as_str()];
        let output = generate(host.path(), &install);
        assert_eq!(status(&output), if in_the_way { 4 } else { 0 }, "{name} {content}: {output:?}");
        assert_eq!(fs::read_to_string(directory.join(name)).unwrap(), content);
        if in_the_way {
            assert!(told(&output).contains(name), "{output:?}");
            assert_eq!(status(&generate(host.path(), &[&install[..], &["--replace"]].concat())), 0);
            let kept = names(&directory).into_iter().filter(|kept| kept.contains(".replaced"));
            let kept = kept.map(|kept| fs::read_to_string(directory.join(kept)).unwrap()).collect::<Vec<_>>();
            assert!(kept.contains(&content) && kept.contains(&"older".to_owned()), "{name}: {kept:?}");
            assert!(fs::read_to_string(directory.join(NAME)).unwrap().starts_with("# Made by cdi-gen"));
        }
    }
}

/// A copy of our own spec under a name of the user's choice is the user's.
#[test]
fn a_spec_of_ours_under_another_name_is_not_removed() {
    let host = host();
    let (_keep, directory) = spec_directory();
    fs::create_dir(&directory).unwrap();
    let custom = directory.join("custom.yaml");
    assert_eq!(status(&generate(host.path(), &["--output", custom.as_str()])), 0);
    assert_eq!(status(&generate(host.path(), &["--install", "--spec-dir", directory.as_str()])), 4);
    assert_eq!(names(&directory), ["custom.yaml"]);
}

#[test]
fn two_installs_at_once_leave_one_file() {
    let host = host();
    for _ in 0..10 {
        let (_keep, directory) = spec_directory();
        let run = |format: &str| {
            let own = ["generate", "--hook-path", "/h", "--allow-no-gpu", "--install", "--spec-dir"];
            command(host.path(), &[&own[..], &[directory.as_str(), "--format", format]].concat())
                .spawn()
                .unwrap()
        };
        for mut child in [run("yaml"), run("json"), run("yaml"), run("json")] {
            assert!(child.wait().unwrap().success());
        }
        assert_eq!(names(&directory).len(), 1, "{:?}", names(&directory));
    }
}

/// By another process: a descriptor that is open for writing here, when another test's thread forks,
/// would make the copy too busy to run.
fn copy_program(to: &Path) {
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_cdi-gen")).arg(to).status().unwrap().success());
}

/// Engines run the hook as root, so one that is found must be fit for that.
#[test]
fn an_unfit_hook_is_refused_unless_it_is_named() {
    let host = host();
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("cdi-gen");
    copy_program(&copy);
    let hook = directory.path().join("oci-hook");
    let run = |arguments: &[&str]| {
        let own = ["generate", "--allow-no-gpu", "--root", host.path().as_str()];
        Command::new(&copy).args(own).args(arguments).output().unwrap()
    };
    let dynamic = elf::Stub { needed: &["libc.so.6"], ..elf::Stub::x86_64("x") }.bytes();
    let fit = elf::Stub { soname: "", ..elf::Stub::x86_64("") }.bytes();
    let cases: [(&str, Option<&[u8]>, u32); 5] = [
        ("no such file", None, 0),
        ("not an ELF object", Some(b"#!/bin/sh\n"), 0o755),
        ("not a static binary", Some(&dynamic), 0o755),
        ("not executable", Some(&fit), 0o644),
        ("other users can replace it", Some(&fit), 0o777),
    ];
    for (word, content, mode) in cases {
        if let Some(content) = content {
            fs::write(&hook, content).unwrap();
            fs::set_permissions(&hook, fs::Permissions::from_mode(mode)).unwrap();
        }
        let refused = run(&[]);
        assert!(status(&refused) == 1 && told(&refused).contains(word), "{word}: {refused:?}");
        assert!(refused.stdout.is_empty(), "{word}");
        let named = run(&["--hook-path", hook.to_str().unwrap()]);
        assert!(status(&named) == 0 && told(&named).contains(word), "{word}: {named:?}");
    }
}

/// N2: engines follow the path as it is written, so a link of another user is warned about.
#[test]
fn n2_hook_path_through_a_users_link_warns() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: files of another user need root");
        return;
    }
    let (host, directory) = (host(), tempfile::tempdir().unwrap());
    let (users, roots) = (directory.path().join("users"), directory.path().join("roots"));
    fs::create_dir_all(users.join("deep")).unwrap();
    fs::create_dir(&roots).unwrap();
    fs::write(roots.join("oci-hook"), elf::Stub { soname: "", ..elf::Stub::x86_64("") }.bytes()).unwrap();
    fs::set_permissions(roots.join("oci-hook"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink(roots.join("oci-hook"), users.join("file")).unwrap();
    symlink(&roots, users.join("directory")).unwrap();
    symlink("../../roots/oci-hook", users.join("deep/relative")).unwrap();
    symlink(users.join("file"), roots.join("chain")).unwrap();
    let warned = |path: &Path| {
        let output = generate(host.path(), &["--hook-path", path.to_str().unwrap()]);
        assert_eq!(status(&output), 0, "{output:?}");
        told(&output).contains("--hook-path")
    };
    let paths = ["users/file", "users/directory/oci-hook", "users/deep/relative", "roots/chain"];
    assert!(!warned(&roots.join("oci-hook")), "root's own");
    for path in paths {
        assert!(!warned(&directory.path().join(path)), "{path}: all of it root's");
    }
    std::os::unix::fs::chown(&users, Some(1001), Some(1001)).unwrap();
    for path in paths {
        assert!(warned(&directory.path().join(path)), "{path}: a user's");
    }
}

/// H6: whatever there is too much of in a driver root, memory and words stay few.
#[test]
fn h6_a_hostile_driver_root_costs_little() {
    for (name, excess) in hostile::EXCESSES {
        let root = hostile::root(*excess, 120);
        for verb in ["generate", "inventory"] {
            let mut limited = Command::new("sh");
            limited.args(["-c", "ulimit -v 131072; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_cdi-gen"), verb]);
            let output = limited.args(["--allow-no-gpu", "--root"]).arg(root.path()).output().unwrap();
            assert!([0, 1, 3].contains(&status(&output)), "{name}: {verb}: {output:?}");
            let lines = told(&output).lines().count();
            assert!(lines <= 200, "{name}: {verb}: {lines} lines");
        }
    }
}

fn install(host: &Tree, directory: &Utf8Path) -> Output {
    generate(host.path(), &["--install", "--spec-dir", directory.as_str()])
}

/// H4: a user who holds a lock on the directory, which needs no right to write, keeps nobody out.
#[test]
fn h4_a_lock_on_the_directory_keeps_nobody_out() {
    let (host, (_directory, path)) = (host(), spec_directory());
    fs::create_dir(&path).unwrap();
    let mut flock = Command::new("flock");
    let mut flock = flock.arg(&path).args(["sh", "-c", "echo held; read line"]);
    flock = flock.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut holder = flock.spawn().unwrap();
    let mut held = [0; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut held).unwrap();
    let output = install(&host, &path);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(status(&output), 0, "{output:?}");
    assert_eq!(names(&path), [NAME], "no lock file stays");
}

/// H4: a lock file that a killed run left is taken over and removed.
#[test]
fn h4_a_lock_file_of_a_killed_run_is_removed() {
    let (host, (_directory, path)) = (host(), spec_directory());
    fs::create_dir(&path).unwrap();
    fs::write(path.join(".gpuspec.lock"), "").unwrap();
    assert_eq!(status(&install(&host, &path)), 0);
    assert_eq!(names(&path), [NAME]);
    fs::write(path.join(NAME), "foreign").unwrap();
    assert_eq!(status(&install(&host, &path)), 4);
    assert_eq!(names(&path), [NAME], "nor after a refusal");
}

/// N8: who can write in a spec directory gives root's engines their hooks.
#[test]
fn n8_install_refuses_a_directory_of_others() {
    let host = host();
    for (part, mode) in [("", 0o757), ("..", 0o777)] {
        let (_directory, path) = spec_directory();
        fs::create_dir(&path).unwrap();
        let open = path.join(part);
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        let output = install(&host, &path);
        assert_eq!(status(&output), 1, "{output:?}");
        assert!(told(&output).contains("can be written by all users"), "{output:?}");
        assert!(names(&path).is_empty(), "{part}");
    }
}

/// N12: what another user put at the usual temporary name is in nobody's way, and no link is written through.
#[test]
fn n12_a_taken_temporary_name_does_not_stop_output() {
    let host = host();
    let directory = tempfile::tempdir().unwrap();
    let (output, victim) = (directory.path().join("o.yaml"), directory.path().join("victim"));
    let temporary = directory.path().join(".o.yaml.tmp");
    fs::write(&victim, "victim").unwrap();
    let write = || generate(host.path(), &["--output", output.to_str().unwrap()]);
    fs::create_dir(&temporary).unwrap();
    fs::write(temporary.join("full"), "").unwrap();
    assert_eq!(status(&write()), 0, "{:?}", write());
    let found = names(Utf8Path::from_path(directory.path()).unwrap());
    assert_eq!(found, [".o.yaml.tmp", "o.yaml", "victim"], "a name of its own, which is gone");
    fs::remove_dir_all(&temporary).unwrap();
    fs::remove_file(&output).unwrap();
    symlink(&victim, &temporary).unwrap();
    symlink(&victim, &output).unwrap();
    assert_eq!(status(&write()), 0);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "victim");
    assert!(fs::symlink_metadata(&output).unwrap().is_file());
}

/// N6: names of files cannot forge lines, nor drive the terminal.
#[test]
fn n6_names_in_messages_are_escaped() {
    const HOSTILE: &str = "libnvidia-x\ncdi-gen: wrote /etc/cdi/x\u{1b}[2J\r\u{2028}\u{202e}\u{9b}31m.so.1";
    let host = host();
    let needed = elf::Stub { needed: &[HOSTILE], ..elf::Stub::x86_64("libnvidia-y.so.1") };
    let path = host.path().join("usr/lib64/libnvidia-y.so.580.95.05");
    fs::write(path, needed.bytes()).unwrap();
    fs::write(host.path().join("usr/lib64").join(HOSTILE.replace('/', ".")), "\x7fELF").unwrap();
    let shown = |output: &[u8]| {
        let text = String::from_utf8(output.to_vec()).unwrap();
        let hidden =
            |letter: char| (letter.is_control() && letter != '\n') || "\u{2028}\u{202e}".contains(letter);
        assert!(!text.contains(hidden) && !text.contains("\ncdi-gen: wrote"), "{text:?}");
        text.contains("\\ncdi-gen: wrote /etc/cdi/x\\u{1b}[2J\\r\\u{2028}\\u{202e}\\u{9b}31m")
    };
    let output = generate(host.path(), &[]);
    assert!(shown(&output.stderr), "{output:?}");
    let output = command(host.path(), &["inventory", "--allow-no-gpu"]).output().unwrap();
    assert!(shown(&output.stderr), "{output:?}");
    shown(&output.stdout);
}

/// A directory that may not be read is named, and a device under a library's name is never opened.
#[test]
fn an_unreadable_directory_and_a_device_are_named() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stderr(), "skipped: another user, and device nodes, need root");
        return;
    }
    let host = host();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = host.path().join("cdi-gen");
    copy_program(program.as_std_path());
    let libraries = host.path().join("usr/lib64");
    fs::set_permissions(&libraries, fs::Permissions::from_mode(0o700)).unwrap();
    let mut other = Command::new("setpriv");
    other.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program);
    let output = other.args(["generate", "--root", host.path().as_str()]).output().unwrap();
    assert_eq!(status(&output), 3, "{output:?}");
    assert!(
        told(&output).contains("usr/lib64: ") && told(&output).contains("Permission denied"),
        "{output:?}"
    );

    fs::set_permissions(&libraries, fs::Permissions::from_mode(0o755)).unwrap();
    let device = host.path().join("usr/local/lib/libcuda.so.1");
    fs::create_dir_all(device.parent().unwrap()).unwrap();
    assert!(Command::new("mknod").arg(&device).args(["c", "10", "130"]).status().unwrap().success());
    let output = generate(host.path(), &[]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(told(&output).contains("usr/local/lib/libcuda.so.1: a character device"), "{output:?}");
}

/// What is said of the work is not the work.
#[test]
fn a_full_disk_under_stderr_is_no_crash() {
    let host = host();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let own = ["generate", "--hook-path", "/h", "--allow-no-gpu"];
    let mut command = command(host.path(), &own);
    let output = command.stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", output.status);
}

/// H13: a link in a driver root other than `/` must not lead the hook to a socket of this host.
#[test]
fn h13_no_optional_mount_is_listed_for_another_driver_root() {
    let output = generate(host().path(), &[]);
    let spec = String::from_utf8(output.stdout).unwrap();
    assert!(spec.contains("create-container") && !spec.contains("--optional-mount"), "{spec}");
}
