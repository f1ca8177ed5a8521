//! N7: a file system that never answers keeps no stage from its end.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::container::{Container, is_root, skipped};
use crate::created::{Bundle, FILE};
use crate::rootfs;

/// Mounts FUSE at `$F`, whose requests nobody reads, then runs the words.
const HANGING: &str = "mount -t tmpfs t /run; exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other f $F || \
    { echo mount: no FUSE >&2; exit 9; }; timeout -s KILL 22 \"$@\" <$S; exit $?";

/// The status and the lines of a program that is given this input, where the directory hangs.
fn ended(container: &Container, hangs: &str, input: &str, words: &[&str]) -> Option<(Option<i32>, String)> {
    let state = container.path("input");
    fs::write(&state, input).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", HANGING, "sh"]).args(words);
    command.env("F", container.path(hangs)).env("S", state);
    let started = Instant::now();
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if stderr.contains("mount:") || stderr.contains("/dev/fuse") {
        skipped(&format!("no FUSE on this machine: {}", stderr.trim()));
        return None;
    }
    assert!(started.elapsed() < Duration::from_secs(25), "{words:?}: {:?}", started.elapsed());
    Some((output.status.code(), stderr))
}

fn assert_ends(hangs: &str, words: &[&str], status: i32) {
    let container = Container::new("");
    let spec = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"x","containerEdits":{"env":["A=B"]}}]}"#;
    rootfs::make(&container.path(""), &format!("cdi/v.json = {spec}\nelsewhere/\nmachine/"));
    let path = |name: &str| container.path(name).to_str().unwrap().to_owned();
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            ["bundle", "cdi", "elsewhere", "machine"]
                .iter()
                .fold((*word).to_owned(), |word, name| word.replace(&format!("{{{name}}}"), &path(name)))
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let input = if words.contains(&"precreate") {
        "{\"ociVersion\":\"1.0.2\",\"process\":{}}".to_owned()
    } else {
        container.state()
    };
    let Some((found, stderr)) = ended(&container, hangs, &input, &words) else { return };
    assert_eq!(found, Some(status), "{hangs}: {words:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{hangs}: {words:?}: {stderr}");
    assert!(stderr.contains("not done after"), "{hangs}: {words:?}: {stderr}");
}

#[test]
fn n7_hooks_end_where_a_file_system_hangs() {
    if !is_root() {
        return;
    }
    let (hook, inject) = (env!("CARGO_BIN_EXE_oci-hook"), env!("CARGO_BIN_EXE_oci-hook-inject"));
    let link = "x::/y";
    let devices = ["--device", "v.com/c=x", "--spec-dir", "{cdi}"];
    let cases: [(&str, Vec<&str>, i32); 9] = [
        ("bundle/rootfs", vec![hook, "create-container", "--link", link], 69),
        ("bundle/rootfs", vec![hook, "create-container", "--allow-plain-root", "--link", link], 69),
        ("bundle/rootfs", vec![hook, "update-ldcache", "--folder", "/lib"], 69),
        ("bundle", vec![hook, "create-container", "--link", link], 69),
        (
            "elsewhere",
            vec![hook, "create-symlinks", "--link", link, "--container-spec", "{elsewhere}/state"],
            69,
        ),
        ("cdi", [&[inject, "precreate"][..], &devices].concat(), 84),
        ("bundle", [&[inject, "prestart"][..], &devices].concat(), 85),
        (
            "machine",
            [&[inject, "nspawn-prepare", "--machine", "n7a", "--directory", "{machine}"][..], &devices]
                .concat(),
            85,
        ),
        (
            "cdi",
            [&[inject, "nspawn-prepare", "--machine", "n7b", "--directory", "{machine}"][..], &devices]
                .concat(),
            85,
        ),
    ];
    // They wait most of the time.
    std::thread::scope(|scope| {
        for (hangs, words, status) in &cases {
            scope.spawn(move || assert_ends(hangs, words, *status));
        }
    });
}

/// The container's root hangs in its namespace, which the hook enters.
#[test]
fn n7_prestart_ends_where_the_containers_root_hangs() {
    let bundle = Bundle::new("usr/lib/", FILE);
    let fuse =
        "exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0,allow_other f $R";
    let Some(created) = bundle.created(fuse) else { return };
    let ended = bundle.hook_on(&created);
    assert_eq!(ended.status, Some(85), "{ended:?}");
    assert_eq!(ended.stderr, "oci-hook-inject: not done after 5s\n");
}
