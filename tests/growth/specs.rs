//! Spec texts and spec directories that no generator writes.

use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::cdi::{Registry, Violation, compare, read};

use super::{UNIT, grows_linearly};

const HEAD: &str = "\"cdiVersion\":\"1.1.0\",\"kind\":\"v.com/c\"";

fn repeated(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

fn device(name: &str) -> String {
    format!("{{\"name\":\"{name}\",\"containerEdits\":{{\"env\":[\"A=B\"]}}}}")
}

/// A text of that many parts.
type Text = fn(usize) -> String;

/// Texts by their name, each a function of the number of its parts.
fn texts() -> Vec<(&'static str, Text)> {
    vec![
        ("devices that are numbers", |n| format!("{{\"devices\":[{}]}}", repeated(n, |_| "1".into()))),
        ("devices that are empty", |n| format!("{{{HEAD},\"devices\":[{}]}}", repeated(n, |_| "{}".into()))),
        ("unknown fields in devices", |n| {
            format!("{{{HEAD},\"devices\":[{}]}}", repeated(n, |i| format!("{{\"name\":\"d{i}\",\"x\":1}}")))
        }),
        ("unknown fields", |n| format!("{{{HEAD},{}}}", repeated(n, |i| format!("\"x{i}\":1")))),
        ("wrong variables", |n| {
            let env = repeated(n, |_| "\"a\"".into());
            format!("{{{HEAD},\"devices\":[{{\"name\":\"d\",\"containerEdits\":{{\"env\":[{env}]}}}}]}}")
        }),
        ("one name for all devices", |n| {
            format!("{{{HEAD},\"devices\":[{}]}}", repeated(n, |_| device("d")))
        }),
        ("one key for all fields", |n| format!("{{{HEAD},{}}}", repeated(n, |_| "\"kind\":\"a/b\"".into()))),
        ("one key for annotations", |n| {
            format!("{{{HEAD},\"annotations\":{{{}}}}}", repeated(n, |_| "\"a\":\"b\"".into()))
        }),
        ("nested lists", |n| {
            format!("{{\"devices\":[{}]}}", repeated(n / 60, |_| "[".repeat(60) + &"]".repeat(60)))
        }),
        ("a long string", |n| format!("{{{HEAD},\"devices\":[{{\"name\":\"{}\"}}]}}", "a b".repeat(n))),
        ("many anchors", |n| (0..n).map(|i| format!("- &a{i} x\n")).collect()),
        ("blank lines with tabs", |n| format!("a: b\n{}c: d", " \t\n".repeat(n))),
        ("blank lines in quotes", |n| format!("a: \"{}\"", "\n".repeat(n))),
        ("comments", |n| "#\n".repeat(n)),
        ("keys without values", |n| format!("{{{}}}", repeated(n, |i| format!("a{i}")))),
        ("a version too low", |n| {
            let devices = repeated(n, |i| device(&i.to_string()));
            format!("{{\"cdiVersion\":\"0.3.0\",\"kind\":\"v.com/c\",\"devices\":[{devices}]}}")
        }),
        ("valid devices", |n| {
            format!("{{{HEAD},\"devices\":[{}]}}", repeated(n, |i| device(&format!("d{i}"))))
        }),
    ]
}

/// H5: a broken spec costs what its bytes cost, not its mistakes times its mistakes.
#[test]
fn h5_reading_a_spec_is_linear() {
    for (name, text) in texts() {
        grows_linearly(name, |size| text(size * UNIT), |text| drop(read(text.as_bytes())));
    }
}

/// H5: the text of all mistakes stays small.
#[test]
fn h5_a_broken_spec_gives_few_words() {
    for (name, text) in texts() {
        let violations = read(text(20_000).as_bytes()).err().unwrap_or_default();
        assert!(violations.len() <= 101, "{name}: {}", violations.len());
        let words: usize = violations.iter().map(|violation: &Violation| violation.to_string().len()).sum();
        assert!(words < 100_000, "{name}: {words} bytes");
    }
}

fn directory(files: impl Iterator<Item = String>) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (index, text) in files.enumerate() {
        std::fs::write(directory.path().join(format!("{index}.json")), text).unwrap();
    }
    directory
}

fn listing(directory: &tempfile::TempDir) -> libgpuspec::cdi::Listing {
    let root = Root::open(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
    Registry::unwatched(root, &["/".into()]).listing()
}

/// H5: neither many broken files nor many files that define the same device.
#[test]
fn h5_listing_a_directory_is_linear() {
    let broken = format!("{{\"devices\":[{}]}}", repeated(100, |_| "1".into()));
    let conflicting = format!("{{{HEAD},\"devices\":[{}]}}", device("d"));
    for (name, text) in [("broken files", &broken), ("files with one device", &conflicting)] {
        let make = |size| directory((0..size * UNIT / 10).map(|_| text.clone()));
        grows_linearly(name, make, |directory| drop(listing(directory)));
    }
}

/// H5: `diff` of two large specs.
#[test]
fn h5_comparing_specs_is_linear() {
    let spec = |size: usize, prefix: &str| {
        let devices = repeated(size * UNIT / 4, |i| device(&format!("{prefix}{i}")));
        read(format!("{{{HEAD},\"devices\":[{devices}]}}").as_bytes()).unwrap()
    };
    let make = |size| (spec(size, "a"), spec(size, "b"));
    grows_linearly("different specs", make, |(one, other)| drop(compare(one, other)));
}
