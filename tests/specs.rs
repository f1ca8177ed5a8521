//! cdi-gen's verbs over specs: what is printed where, and the exit status of each outcome.
// A test's helpers may fail loudly, and make their trees by plain means.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const GOOD: &str =
    "cdiVersion: \"0.5.0\"\nkind: v.com/c\ndevices: [{name: \"0\", containerEdits: {env: [A=B]}}]\n";

fn run(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cdi-gen"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    texts(&output)
}

fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Two spec directories, `low` and `high`.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("low")).unwrap();
    fs::create_dir(tree.path().join("high")).unwrap();
    for (name, text) in files {
        fs::write(tree.path().join(name), text).unwrap();
    }
    tree
}

const DIRS: [&str; 4] = ["--spec-dir", "low", "--spec-dir", "high"];

fn list(tree: &tempfile::TempDir, more: &[&str]) -> (i32, String, String) {
    run(tree.path(), &[&["list"], DIRS.as_slice(), more].concat())
}

#[test]
fn list_prints_names_and_exits_0() {
    let more = GOOD.replace("\"0\"", "all").replace("v.com", "a.com");
    let tree = tree(&[("low/x.yaml", GOOD), ("high/y.json", &more)]);
    assert_eq!(list(&tree, &[]), (0, "a.com/c=all\nv.com/c=0\n".into(), String::new()));
}

#[test]
fn list_of_nothing_is_empty_says_so_and_exits_0() {
    let tree = tree(&[]);
    let (status, names, told) = list(&tree, &["--spec-dir", "missing"]);
    assert_eq!((status, names.as_str()), (0, ""));
    assert!(told.contains("no device"), "{told}");
}

#[test]
fn list_tells_bad_files_and_exits_4() {
    let tree = tree(&[("low/x.yaml", GOOD), ("low/bad.yaml", "kind: [\n")]);
    let (status, stdout, stderr) = list(&tree, &[]);
    assert_eq!((status, stdout.as_str()), (4, "v.com/c=0\n"));
    assert!(stderr.starts_with("cdi-gen: warning: /") && stderr.contains("low/bad.yaml:"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

#[test]
fn list_tells_conflicts_and_exits_4() {
    let tree = tree(&[("low/x.yaml", GOOD), ("low/x.json", GOOD)]);
    let (status, stdout, stderr) = list(&tree, &[]);
    assert_eq!((status, stdout.as_str()), (4, ""));
    assert!(stderr.contains("v.com/c=0: conflicting definitions in /"), "{stderr}");
    assert!(stderr.contains("low/x.json and /") && stderr.contains("low/x.yaml"), "{stderr}");
}

#[test]
fn list_tells_shadowed_devices_and_exits_4() {
    let tree = tree(&[("low/x.yaml", GOOD), ("high/x.yaml", GOOD)]);
    let (status, stdout, stderr) = list(&tree, &[]);
    assert_eq!((status, stdout.as_str()), (4, "v.com/c=0\n"));
    assert!(stderr.contains("high/x.yaml, which shadows /") && stderr.contains("low/x.yaml"), "{stderr}");
}

#[test]
fn list_tells_unreadable_directories_and_exits_4() {
    let tree = tree(&[("high/x.yaml", GOOD)]);
    fs::write(tree.path().join("file"), "").unwrap();
    let (status, stdout, stderr) = list(&tree, &["--spec-dir", "file"]);
    assert_eq!((status, stdout.as_str()), (4, "v.com/c=0\n"));
    assert!(stderr.contains("file: a regular file, not a directory of specs"), "{stderr}");
}

#[test]
fn list_prints_json_for_programs() {
    let conflict = GOOD.replace("\"0\"", "x");
    let tree = tree(&[
        ("low/x.yaml", GOOD),
        ("high/x.yaml", GOOD),
        ("low/1.yaml", &conflict),
        ("low/2.yaml", &conflict),
        ("low/bad.yaml", &GOOD.replace("v.com/c", "v.com")),
    ]);
    let (status, stdout, stderr) = list(&tree, &["--json"]);
    assert_eq!((status, stderr.as_str()), (4, ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["devices"], serde_json::json!(["v.com/c=0"]));
    assert_eq!(report["conflicts"][0]["device"], "v.com/c=x");
    assert_eq!(report["shadowed"][0]["files"].as_array().unwrap().len(), 2);
    let problem = &report["bad_files"][0]["problems"][0];
    assert_eq!(
        (&problem["path"], &problem["line"], &problem["column"]),
        (&"kind".into(), &2.into(), &7.into())
    );
    assert_eq!(report["bad_directories"], serde_json::json!([]));
}

/// N8: who lists and explains sees the spec that is not read, and why.
#[test]
fn n8_specs_of_others_are_reported() {
    for path in ["low", "low/x.yaml"] {
        let tree = tree(&[("low/x.yaml", GOOD)]);
        fs::set_permissions(tree.path().join(path), fs::Permissions::from_mode(0o777)).unwrap();
        let (status, stdout, stderr) = list(&tree, &[]);
        assert_eq!((status, stdout.as_str()), (4, ""), "{path}");
        assert!(stderr.contains("can be written by all users"), "{path}: {stderr}");
        let (status, stdout, _) = run(tree.path(), &[&["explain"], &DIRS[..], &["v.com/c=0"]].concat());
        assert!(status == 4 && stdout.contains("can be written by all users"), "{path}: {stdout}");
        let (status, stdout, stderr) = run(tree.path(), &["validate", "low/x.yaml"]);
        assert_eq!((status, stdout.as_str()), (0, ""), "{path}: its text is valid");
        assert!(stderr.contains("can be written by all users"), "{path}: {stderr}");
    }
}

/// H5: a directory of broken files gives some lines, and the number of the others.
#[test]
fn h5_many_broken_files_give_few_lines() {
    let tree = tree(&[]);
    for index in 0..200 {
        fs::write(tree.path().join(format!("low/{index}.json")), "{\"devices\": [1, 1, 1]}").unwrap();
    }
    let (status, _, stderr) = list(&tree, &[]);
    assert!(
        status == 4 && stderr.lines().count() < 110 && stderr.contains(" more warnings like these"),
        "{stderr}"
    );
    let (status, stdout, _) = run(tree.path(), &[&["explain"], &DIRS[..], &["v.com/c=0"]].concat());
    assert!(status == 4 && stdout.lines().count() < 110 && stdout.contains("100 more"), "{stdout}");
    let all = ["validate", "low/0.json"];
    assert_eq!(run(tree.path(), &all).0, 4);
}

#[test]
fn validate_is_silent_and_exits_0_when_all_are_valid() {
    let tree = tree(&[("x.yaml", GOOD), ("any.name", GOOD)]);
    assert_eq!(run(tree.path(), &["validate", "x.yaml", "any.name"]), (0, String::new(), String::new()));
}

#[test]
fn validate_prints_one_line_a_problem_and_exits_4() {
    let bad =
        "cdiVersion: \"0.4.0\"\nkind: v.com/c\ndevices:\n- name: \"0\"\n  containerEdits:\n    foo: 1\n";
    let tree = tree(&[("good.yaml", GOOD), ("bad.yaml", bad)]);
    let (status, stdout, stderr) = run(tree.path(), &["validate", "good.yaml", "bad.yaml"]);
    assert_eq!((status, stderr.as_str()), (4, ""));
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    assert!(lines[0].starts_with("bad.yaml:4:9: devices[0].name: needs version 0.5.0"), "{stdout}");
    assert!(lines[1].starts_with("bad.yaml:6:5: devices[0].containerEdits.foo: unknown field"), "{stdout}");
}

#[test]
fn validate_exits_1_when_a_file_cannot_be_read_and_judges_the_others() {
    let tree = tree(&[("bad.yaml", "{")]);
    let (status, stdout, stderr) = run(tree.path(), &["validate", "missing.yaml", "low", "bad.yaml"]);
    assert_eq!((status, stdout.lines().count(), stderr.lines().count()), (1, 1, 2), "{stdout}{stderr}");
    assert!(
        stderr.contains("missing.yaml: no such file") && stderr.contains("a directory, not a regular file")
    );
}

#[test]
fn validate_reads_standard_input_and_prints_json() {
    let tree = tree(&[("bad.yaml", &GOOD.replace("kind", "kinds"))]);
    let output = Command::new(env!("CARGO_BIN_EXE_cdi-gen"))
        .args(["validate", "--json", "-"])
        .stdin(fs::File::open(tree.path().join("bad.yaml")).unwrap())
        .output()
        .unwrap();
    let (status, stdout, _) = texts(&output);
    let verdicts: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &verdicts[0]["file"], &verdicts[0]["valid"]), (4, &"-".into(), &false.into()));
    assert_eq!(verdicts[0]["problems"].as_array().unwrap().len(), 2, "{stdout}");
}

#[test]
fn validate_refuses_what_is_too_large_for_a_spec() {
    let tree = tree(&[("big.yaml", &format!("{GOOD}# {}\n", "x".repeat(5 << 20)))]);
    let (status, stdout, stderr) = run(tree.path(), &["validate", "big.yaml"]);
    assert_eq!((status, stderr.as_str()), (4, ""));
    assert_eq!(stdout, "big.yaml: more than 4194304 bytes, which no spec needs\n");
}

#[test]
fn usage_errors_exit_2() {
    let tree = tree(&[]);
    assert_eq!(run(tree.path(), &["validate"]).0, 2);
    assert_eq!(run(tree.path(), &["list", "--nonsense"]).0, 2);
}

const CONFIG: &str = r#"{"ociVersion":"1.0.2","process":{"env":["A=1"],"future":true},"annotations":{"cdi.k8s.io/x_y":"v.com/c=0"}}"#;

fn inject(tree: &tempfile::TempDir, more: &[&str]) -> (i32, String, String) {
    run(tree.path(), &[&["inject", "--spec-dir", "low", "--config", "config.json"], more].concat())
}

/// A tree with one spec and a config, and what the config is after `A=B`.
fn bundle() -> (tempfile::TempDir, serde_json::Value) {
    let tree = tree(&[("low/x.yaml", GOOD), ("config.json", CONFIG)]);
    let mut after: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
    after["process"]["env"][0] = "A=B".into();
    (tree, after)
}

fn read(tree: &tempfile::TempDir, name: &str) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(tree.path().join(name)).unwrap()).unwrap()
}

#[test]
fn inject_prints_the_config_and_leaves_the_file() {
    let (tree, after) = bundle();
    let (status, stdout, stderr) = inject(&tree, &["v.com/c=0"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap(), after);
    assert_eq!(fs::read_to_string(tree.path().join("config.json")).unwrap(), CONFIG);
}

#[test]
fn inject_writes_in_place_with_mode_kept_or_to_another_file() {
    use std::os::unix::fs::PermissionsExt;
    let (tree, after) = bundle();
    let (status, stdout, stderr) = inject(&tree, &["--output", "out.json", "--json", "v.com/c=0"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["injected"][0]["device"], "v.com/c=0");
    assert_eq!(
        (read(&tree, "out.json"), read(&tree, "config.json")["process"]["env"][0].as_str()),
        (after.clone(), Some("A=1"))
    );
    fs::set_permissions(tree.path().join("config.json"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(inject(&tree, &["--in-place", "v.com/c=0"]), (0, String::new(), String::new()));
    assert_eq!(read(&tree, "config.json"), after);
    let mode = fs::metadata(tree.path().join("config.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn inject_takes_annotations_only_when_told_to() {
    let (tree, after) = bundle();
    assert_eq!(inject(&tree, &[]).0, 2);
    let (status, stdout, _) = inject(&tree, &["--from-annotations"]);
    assert_eq!((status, serde_json::from_str::<serde_json::Value>(&stdout).unwrap()), (0, after));
}

#[test]
fn inject_exits_4_when_annotations_do_not_tell_what_they_ask_for() {
    for (annotations, reason) in [
        ("{\"cdi.k8s.io/x\": [\"v.com/c=0\"], \"other\": 1}", "cdi.k8s.io/x is not a string"),
        ("[\"v.com/c=0\"]", "not an object"),
        ("{\"cdi.k8s.io/x\": \"nonsense\"}", "cdi.k8s.io/x: "),
    ] {
        let config = format!("{{\"process\": {{}}, \"annotations\": {annotations}}}");
        let tree = tree(&[("low/x.yaml", GOOD), ("config.json", &config)]);
        let (status, stdout, stderr) = inject(&tree, &["--from-annotations", "v.com/c=0"]);
        assert_eq!((status, stdout.as_str()), (4, ""), "{stderr}");
        assert!(stderr.contains(&format!("config.json: annotations: {reason}")), "{stderr}");
    }
}

#[test]
fn file_names_reach_no_terminal_as_they_are() {
    let tree = tree(&[("low/a\n\u{1b}[31m.yaml", "{")]);
    let (_, _, stderr) = list(&tree, &[]);
    assert!(stderr.contains("low/a\\n\\u{1b}[31m.yaml") && stderr.matches('\u{1b}').count() == 0, "{stderr}");
    let (_, stdout, _) = run(tree.path(), &["explain", "--spec-dir", "low", "v.com/c=0"]);
    assert!(stdout.contains("low/a\\n\\u{1b}[31m.yaml: ") && !stdout.contains('\u{1b}'), "{stdout}");
}

#[test]
fn inject_exits_4_with_the_reason_when_a_device_does_not_resolve() {
    let (tree, _) = bundle();
    let (status, stdout, stderr) = inject(&tree, &["--in-place", "v.com/c=0", "v.com/c=9"]);
    assert_eq!((status, stdout.as_str()), (4, ""));
    assert_eq!(stderr, "cdi-gen: v.com/c=9: no spec defines it; v.com/c has 0\n");
    assert_eq!(fs::read_to_string(tree.path().join("config.json")).unwrap(), CONFIG);
    let (status, stdout, _) = inject(&tree, &["--json", "nonsense"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, report["unresolved"].as_array().unwrap().len()), (4, 1));
}

#[test]
fn inject_exits_4_when_a_device_node_is_not_on_this_host() {
    let node = GOOD.replace("env: [A=B]", "deviceNodes: [{path: /dev/no-such-node}]");
    let tree = tree(&[("low/x.yaml", &node), ("config.json", CONFIG)]);
    let (status, _, stderr) = inject(&tree, &["v.com/c=0"]);
    assert!(status == 4 && stderr.contains("/dev/no-such-node: no such device on this host"), "{stderr}");
}

#[test]
fn inject_exits_1_when_the_config_is_none() {
    let (tree, _) = bundle();
    fs::write(tree.path().join("config.json"), "{").unwrap();
    let (status, _, stderr) = inject(&tree, &["v.com/c=0"]);
    assert!(status == 1 && stderr.starts_with("cdi-gen: config.json: "), "{stderr}");
    fs::write(tree.path().join("config.json"), "{\"process\": 1}").unwrap();
    let (status, _, stderr) = inject(&tree, &["v.com/c=0"]);
    assert!(status == 1 && stderr.contains("process is not an object"), "{stderr}");
}

#[test]
fn minversion_prints_what_the_content_needs() {
    let more = GOOD.replace("0.5.0", "9.9.9").replace("env: [A=B]", "env: [A=B], additionalGids: [1]");
    let tree = tree(&[("x.yaml", GOOD), ("more.yaml", &more), ("bad.yaml", "{}")]);
    let digit = "cdi-gen: devices[0].name needs 0.5.0\n";
    assert_eq!(run(tree.path(), &["minversion", "x.yaml"]), (0, "0.5.0\n".into(), digit.into()));
    let (status, stdout, _) = run(tree.path(), &["minversion", "--json", "more.yaml"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["needed"], &report["declared"]), (0, &"0.7.0".into(), &"9.9.9".into()));
    assert_eq!(report["because"][1][0], "devices[0].containerEdits.additionalGids");
    assert_eq!(run(tree.path(), &["minversion", "bad.yaml"]).0, 4);
    assert_eq!(run(tree.path(), &["minversion", "missing.yaml"]).0, 1);
}

#[test]
fn convert_leaves_out_what_a_reader_cannot_read_and_says_so() {
    let gids = GOOD.replace("0.5.0", "0.7.0").replace("env: [A=B]", "env: [A=B], additionalGids: [1]");
    let tree = tree(&[("gids.yaml", &gids)]);
    let (status, stdout, stderr) = run(tree.path(), &["convert", "gids.yaml", "--target", "podman-4.9"]);
    assert_eq!(status, 0, "{stderr}");
    assert!(stdout.starts_with("cdiVersion: \"0.5.0\"\n") && !stdout.contains("additionalGids"), "{stdout}");
    let loss = "cdi-gen: warning: devices[0].containerEdits.additionalGids: left out, ";
    assert!(stderr.starts_with(loss), "{stderr}");
    let (_, stdout, _) = run(tree.path(), &["convert", "gids.yaml", "--cdi-version", "0.6.0", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["cdiVersion"], "0.6.0");
    let (status, stdout, stderr) = run(tree.path(), &["convert", "gids.yaml", "--output", "out.yaml"]);
    assert_eq!((status, stdout.as_str(), stderr.as_str()), (0, "", ""));
    assert_eq!(run(tree.path(), &["diff", "gids.yaml", "out.yaml"]), (0, String::new(), String::new()));
}

#[test]
fn convert_exits_4_when_a_reader_cannot_do_without() {
    let net =
        GOOD.replace("0.5.0", "1.1.0").replace("env: [A=B]", "netDevices: [{hostInterfaceName: a, name: b}]");
    let tree = tree(&[("net.yaml", &net), ("bad.yaml", "{")]);
    let (status, stdout, stderr) = run(tree.path(), &["convert", "net.yaml", "--target", "docker-27"]);
    assert_eq!((status, stdout.as_str()), (4, ""));
    assert!(stderr.contains("netDevices: cannot be left out"), "{stderr}");
    assert_eq!(run(tree.path(), &["convert", "bad.yaml"]).0, 4);
    for target in ["podman", "podman-3.0", "nonsense-1"] {
        assert_eq!(run(tree.path(), &["convert", "net.yaml", "--target", target]).0, 2, "{target}");
    }
}

#[test]
fn diff_tells_differences_in_meaning_and_exits_5() {
    let other = GOOD.replace("A=B", "A=C").replace("\"0.5.0\"", "v0.5.0") + "# a comment\n";
    let tree = tree(&[("x.yaml", GOOD), ("y.yaml", &other), ("bad.yaml", "{")]);
    let line = "~ devices.0.env.A: \"B\" -> \"C\"\n";
    assert_eq!(run(tree.path(), &["diff", "x.yaml", "y.yaml"]), (5, line.into(), String::new()));
    let (status, stdout, _) = run(tree.path(), &["diff", "--json", "x.yaml", "y.yaml"]);
    let found: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &found[0]["before"], &found[0]["after"]), (5, &"B".into(), &"C".into()));
    assert_eq!(run(tree.path(), &["diff", "x.yaml", "x.yaml"]), (0, String::new(), String::new()));
    assert_eq!(run(tree.path(), &["diff", "x.yaml", "bad.yaml"]).0, 4);
}

#[test]
fn explain_says_where_a_device_comes_from_and_who_reads_it() {
    let tree = tree(&[("low/x.yaml", GOOD)]);
    let (status, stdout, stderr) = run(tree.path(), &["explain", "--spec-dir", "low", "v.com/c=0"]);
    assert_eq!((status, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.starts_with("v.com/c=0\n  given by /") && stdout.contains("low/x.yaml\n"), "{stdout}");
    assert!(stdout.contains("declares version 0.5.0: readable from podman 4.3, docker 25.0"), "{stdout}");
}

#[test]
fn explain_exits_4_for_what_does_not_resolve_and_5_for_what_does_not_fit_the_host() {
    let gone = GOOD.replace("env: [A=B]", "mounts: [{hostPath: /no/such/file, containerPath: /x}]");
    let tree = tree(&[("low/x.yaml", &gone), ("low/bad.yaml", "{")]);
    let (status, stdout, _) = run(tree.path(), &["explain", "--spec-dir", "low", "v.com/c=9"]);
    assert_eq!(status, 4);
    assert!(stdout.starts_with("v.com/c=9: no spec defines it; v.com/c has 0\n"), "{stdout}");
    assert!(stdout.contains("low/bad.yaml: line 1"), "{stdout}");
    let (status, stdout, _) = run(tree.path(), &["explain", "--json", "--spec-dir", "low", "v.com/c=0"]);
    let report: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((status, &report["host"][0]["problem"]), (5, &"/no/such/file: not on this host".into()));
}
