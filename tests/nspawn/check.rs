//! `cdi-gen nspawn check`, `status` and `enable` of machines that are there to be looked at.

use std::fs;
use std::process::{Command, Output};

use crate::tree::Tree;

const HOST: &str = r#"
etc/systemd/system dir
run dir
m/etc/ld.so.cache cache x86-64:/lib/x86_64-linux-gnu:libc.so.6
m/usr/bin/sh elf64 interp=/lib64/ld-linux-x86-64.so.2 needs=libc.so.6
m/lib64/ld-linux-x86-64.so.2 elf64 soname=ld-linux-x86-64.so.2
m/lib/x86_64-linux-gnu/libc.so.6 elf64 soname=libc.so.6 defines=GLIBC_2.2.5,GLIBC_2.36
var/lib/machines/m -> ../../../m
var/lib/machines/i.raw "an image"
driver/libold.so.1 elf64 soname=libold.so.1 needs=libc.so.6 wants=GLIBC_2.9
driver/libnew.so.1 elf64 soname=libnew.so.1 needs=libc.so.6 wants=GLIBC_2.99
"#;

const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "containerEdits": {"env": ["A=B"]}, "devices": [
  {"name": "old", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}], "mounts": [{"hostPath": "HERE/driver/libold.so.1", "containerPath": "/x/libold.so.1"}]}},
  {"name": "new", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}], "mounts": [{"hostPath": "HERE/driver/libnew.so.1", "containerPath": "/x/libnew.so.1"}]}},
  {"name": "data", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}], "mounts": [{"hostPath": "HERE/cdi/v.json", "containerPath": "/etc/v.json"}]}},
  {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}], "mounts": [{"hostPath": "/no/such.so", "containerPath": "/x/no.so"}]}}]}"#;

fn place() -> Tree {
    let tree = Tree::build(HOST);
    fs::create_dir(tree.path().join("cdi")).unwrap();
    fs::write(tree.path().join("cdi/v.json"), SPEC.replace("HERE", tree.path().as_str())).unwrap();
    tree
}

fn nspawn(tree: &Tree, words: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-gen"));
    command.arg("nspawn").args(words.replace("HERE", tree.path().as_str()).split_whitespace());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// As its start would fail.
#[test]
fn a_loader_that_cannot_be_told_is_a_failure() {
    for (made, text) in [
        ("etc/ld.so.conf.d/00-gpuspec.conf", "/etc/ld.so.conf.d/00-gpuspec.conf"),
        ("etc/.ld.so.cache.gpuspec", "/etc/ld.so.cache: .ld.so.cache.gpuspec is a directory"),
    ] {
        let tree = place();
        fs::create_dir_all(tree.path().join("m").join(made)).unwrap();
        let check = |words: &str| {
            nspawn(&tree, &format!("check HERE/m --spec-dir HERE/cdi --device v.com/c=old {words}"))
        };
        let (status, stdout, stderr) = check("--loader cache");
        assert!(
            status == Some(5) && stdout.starts_with("failure: ") && stdout.contains(text),
            "{made}: {stdout}{stderr}"
        );
        assert!(stdout.ends_with("/m: cannot be given its devices now\n"), "{stdout}");
        let (status, stdout, stderr) = check("--loader overlay");
        assert_eq!(status, Some(0), "{made}: {stdout}{stderr}");
    }
}

#[test]
fn a_machine_is_judged_before_it_is_started() {
    let tree = place();
    let check = |words: &str| nspawn(&tree, &format!("check HERE/m --spec-dir HERE/cdi {words}"));
    let (status, stdout, stderr) = check("--device v.com/c=old");
    assert_eq!(status, Some(0), "{stdout}{stderr}");
    let root = tree.path();
    assert_eq!(stdout, format!("{root}/m: will find its devices\n"));
    assert_eq!(nspawn(&tree, "check --directory HERE/m --spec-dir HERE/cdi --device v.com/c=old").1, stdout);
    let (status, stdout, _) = check("--device v.com/c=new");
    let too_new =
        format!("failure: {root}/driver/libnew.so.1: needs glibc 2.99, and the machine has 2.36; a newer");
    assert!(status == Some(5) && stdout.starts_with(&too_new), "{stdout}");
    assert_eq!(stdout.matches("glibc 2.99").count(), 1, "{stdout}");
    assert!(stdout.ends_with("/m: will not find all of its devices\n"), "{stdout}");
    let (status, stdout, _) = check("--device v.com/c=new --device v.com/c=old");
    assert!(status == Some(0) && stdout.contains("warning: "), "{stdout}");
    // That is so in every machine, and no start says it.
    let (status, stdout, _) = check("--device v.com/c=data");
    assert!(
        status == Some(0) && stdout.starts_with("note: /etc/v.json: looked for at that path"),
        "{stdout}"
    );
    let (status, stdout, _) = check("--device v.com/c=gone --json");
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["findings"][0]["severity"]), (Some(5), &"failure".into()));
    assert_eq!(report["findings"][0]["what"], "/no/such.so: in the spec, and not on this host");
    assert_eq!(report["findings"][0]["remedy"], "make the spec anew (cdi-gen generate --install)");
    assert_eq!(report["verdict"], "cannot be given its devices now");
    assert_eq!(check("--device v.com/c=none").0, Some(4));
    assert_eq!(check("").0, Some(2));
    let (status, _, stderr) = nspawn(&tree, "check HERE/m --spec-dir HERE/none --device nvidia.com/gpu=all");
    let end =
        format!("no spec for nvidia.com/gpu lies in {root}/none; cdi-gen generate --install makes one\n");
    assert!(status == Some(4) && stderr.ends_with(&end), "{stderr}");
    let (_, _, stderr) = nspawn(&tree, "check HERE/m --spec-dir HERE/none --device v.com/c=all");
    assert!(!stderr.contains("generate"), "of another vendor: {stderr}");
    assert_eq!(nspawn(&tree, "check HERE/none --device v.com/c=old").0, Some(1));
    assert_eq!(nspawn(&tree, "check no_name --device v.com/c=old").0, Some(1));
}

#[test]
fn status_says_what_a_machine_will_see() {
    let tree = place();
    // Of a host elsewhere: its files are below its root, and so are those that the spec names.
    let spec = SPEC.replace("HERE", "").replace(r#""deviceNodes": [{"path": "/dev/null"}], "#, "");
    fs::write(tree.path().join("cdi/v.json"), spec).unwrap();
    let enable =
        "enable --root HERE m --spec-dir /cdi --device v.com/c=old --hook-path /usr/bin/oci-hook-inject";
    let (status, stdout, stderr) = nspawn(&tree, &format!("{enable} --dry-run"));
    assert_eq!(status, Some(0), "{stderr}");
    let said = "\n# /run/systemd/nspawn/m.nspawn, while it runs\n[Exec]\nEnvironment=A=B\n";
    assert!(
        stdout.contains(said) && stdout.contains("\nBindReadOnly=/run/gpuspec/nspawn/m/tree:/run/gpuspec\n"),
        "{stdout}"
    );
    let (status, _, stderr) = nspawn(&tree, enable);
    assert_eq!(status, Some(0), "{stderr}");
    let (status, stdout, _) = nspawn(&tree, "status --root HERE");
    let expected = "m: enabled, not running\n  devices: v.com/c=old\n  if they cannot be had, it starts without them\n  nodes: none\n  libraries: 1 names in \
                    /run/gpuspec/lib; its loader's cache lists them while it runs\n  variables: A=B\n";
    assert!(status == Some(0) && stdout.starts_with(expected), "{stdout}");
    fs::create_dir_all(tree.path().join("run/systemd/machines")).unwrap();
    fs::write(tree.path().join("run/systemd/machines/m"), "").unwrap();
    let (status, stdout, _) = nspawn(&tree, "status --root HERE");
    assert!(
        status == Some(5) && stdout.starts_with("m: enabled, runs without its devices: restart it\n"),
        "{stdout}"
    );
    fs::remove_file(tree.path().join("driver/libold.so.1")).unwrap();
    for (more, verdict) in [("", "will start without its devices"), (" --required", "will not start")] {
        let (status, stdout, stderr) = nspawn(&tree, &format!("{enable}{more}"));
        assert_eq!((status, stdout.as_str()), (Some(0), ""), "{stderr}");
        let warning = "warning: /driver/libold.so.1: in the spec, and not on this host: make the spec anew";
        assert!(stderr.contains(warning) && stderr.contains("systemd does not run here"), "{stderr}");
        assert!(!stderr.contains("next: "), "no start without systemd: {stderr}");
        let (status, stdout, _) = nspawn(&tree, "check --root HERE m");
        assert!(status == Some(5) && stdout.ends_with(&format!("m: {verdict}\n")), "{stdout}");
    }
    let (status, stdout, _) = nspawn(&tree, "status --root HERE m");
    assert!(status == Some(5) && stdout.starts_with("m: enabled, runs without its devices\n"), "{stdout}");
    assert!(
        stdout.contains("\n  cannot be made ready: /driver/libold.so.1: in the spec, and not on"),
        "{stdout}"
    );
}

#[test]
fn no_cache_is_written_into_an_image() {
    let tree = place();
    let of = "--spec-dir HERE/cdi --device v.com/c=old";
    for words in [
        "enable --root HERE i",
        "enable --root HERE x --image HERE/i.raw",
        "check --image HERE/var/lib/machines/i.raw",
    ] {
        let hook = if words.starts_with("enable") { "--hook-path /x" } else { "" };
        let (status, _, stderr) = nspawn(&tree, &format!("{words} {of} {hook} --loader cache"));
        assert!(
            status == Some(2) && stderr.contains("nothing is written into a disk image"),
            "{words}: {stderr}"
        );
    }
    let image = "check --image HERE/var/lib/machines/i.raw";
    let (status, _, stderr) = nspawn(&tree, &format!("{image} {of} --loader overlay"));
    assert!(
        status == Some(2) && stderr.contains("no links are laid over libraries in a disk image"),
        "{stderr}"
    );
    let (_, stdout, _) = nspawn(&tree, &format!("{image} {of} --library-directory /usr/lib64"));
    assert!(stdout.contains("--library-directory: of no effect"), "{stdout}");
    assert!(stdout.contains("LD_LIBRARY_PATH") && !stdout.contains("read-only"), "{stdout}");
}

#[test]
fn an_enabled_machine_is_judged_by_what_it_is_enabled_for() {
    let tree = place();
    let spec = SPEC.replace("HERE", "").replace(r#""deviceNodes": [{"path": "/dev/null"}], "#, "");
    fs::write(tree.path().join("cdi/v.json"), spec).unwrap();
    let enable = "enable --root HERE m --spec-dir /cdi --device v.com/c=old --hook-path /x";
    assert_eq!(nspawn(&tree, enable).0, Some(0));
    let check = |more: &str| nspawn(&tree, &format!("check --root HERE m {more}"));
    assert!(!check("").1.contains("read-only"));
    let (_, stdout, _) = check("--loader overlay");
    assert!(stdout.contains("/lib/x86_64-linux-gnu: read-only"), "one flag of several: {stdout}");
    let (status, stdout, _) = check("--device v.com/c=new");
    assert!(status == Some(5) && stdout.contains("needs glibc 2.99"), "the specs of before: {stdout}");

    let path = tree.path().join("etc/systemd/system/systemd-nspawn@m.service.d/50-gpuspec.conf");
    let text = fs::read_to_string(&path).unwrap();
    for line in ["# asked for: {", "# asked for: {\"loader\":\"odd\","] {
        fs::write(&path, text.replace("# asked for: {", line).replace("\"devices\"", "\"things\"")).unwrap();
        let edited = "its drop-in was edited, or made by another release";
        let (status, stdout, stderr) = check("");
        assert!(status == Some(5) && stdout.is_empty() && stderr.contains(edited), "{stdout}{stderr}");
        let (_, stdout, _) = check("--spec-dir /cdi --device v.com/c=old");
        assert!(stdout.contains(&format!("warning: {edited}; `cdi-gen nspawn enable` again")), "{stdout}");
    }
}

#[test]
fn a_tree_that_cannot_be_read_in_time_ends_the_program() {
    let traced = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    if !traced.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no strace(1), or no tracing on this machine");
        return;
    }
    let tree = place();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(tree.path().join("m"));
    command.args(["-e", "trace=openat2", "-e", "inject=openat2:delay_enter=7000000:when=2+"]);
    // Without the tree it would print the file all the same.
    let words = "nspawn enable --root HERE m --spec-dir /cdi --device v.com/c=data --dry-run --hook-path /x";
    command.arg(env!("CARGO_BIN_EXE_cdi-gen"));
    command.args(words.replace("HERE", tree.path().as_str()).split_whitespace());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.as_slice()), (Some(1), &b""[..]), "{said}");
    assert_eq!(said.matches("not done after 5s").count(), 1, "{said}");
}
