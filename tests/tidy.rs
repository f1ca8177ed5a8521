//! The house rules that no lint knows, over the sources themselves.

// The lints' leave for tests does not reach helper functions, and the sources are not a host's tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

const LONGEST_FILE: usize = 500;

/// Words that only some files may hold: (word, paths that begin so).
const ROOMS: [(&str, &[&str]); 7] = [
    // umask(2) takes its type of a mode; a file in memory is in no tree.
    (
        "rustix::fs",
        &["libgpuspec/src/root", "oci-hook/src/contract.rs", "oci-hook/src/sealed.rs", "cdi-gen/src/main.rs"],
    ),
    ("landlock::", &["oci-hook/src/sandbox.rs"]),
    ("serde_yaml::", &["libgpuspec/src/cdi/yaml"]),
    ("goblin::", &["libgpuspec/src/elf"]),
    ("oci_spec::", &["libgpuspec/src/cdi", "libgpuspec/src/render/oci"]),
    ("clap::", &["cdi-gen/src", "oci-hook/src"]),
    ("anyhow::", &["cdi-gen/src", "oci-hook/src"]),
];

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every Rust file of the crates, with its path in the checkout and its text.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for crate_name in ["libgpuspec", "cdi-gen", "oci-hook"] {
        for entry in walkdir::WalkDir::new(checkout().join(crate_name).join("src")) {
            let path = entry.unwrap().into_path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(checkout()).unwrap().to_str().unwrap().to_owned();
                sources.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 30, "only {} sources", sources.len());
    sources
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{name}: {lines} lines");
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for (name, text) in sources() {
        // Tests are a room of the file they stand beside.
        assert!(name.ends_with("tests.rs") || text.starts_with("//! "), "{name}: no first sentence");
    }
}

#[test]
fn each_crate_is_known_in_its_room_alone() {
    for (name, text) in sources() {
        for (word, rooms) in ROOMS {
            let allowed = rooms.iter().any(|room| name.starts_with(room));
            let used = text.lines().any(|line| line.contains(word) && !line.trim_start().starts_with("//"));
            assert!(allowed || !used, "{name}: {word} belongs to {rooms:?}");
        }
    }
}

/// Crates forbid unsafe code at their root; the one with a room for it forbids it in every other file.
#[test]
fn unsafe_code_has_one_room() {
    for (name, text) in sources() {
        let is_root = ["libgpuspec/src/lib.rs", "cdi-gen/src/main.rs"].contains(&name.as_str());
        let is_beside = name.starts_with("oci-hook/src/")
            && !["oci-hook/src/lib.rs", "oci-hook/src/kernel.rs"].contains(&name.as_str());
        let forbids = text.contains("\n#![forbid(unsafe_code)]\n");
        assert!(forbids || !(is_root || is_beside), "{name}: forbid(unsafe_code) at its head");
        let allows = text.contains("allow(unsafe_code)");
        assert_eq!(allows, name == "oci-hook/src/kernel.rs", "{name}");
    }
}

#[test]
fn the_top_level_holds_what_it_should() {
    const TOP: [&str; 13] = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "cdi-gen",
        "docs",
        "examples",
        "libgpuspec",
        "oci-hook",
        "specs",
        "tests",
    ];
    for entry in fs::read_dir(checkout()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || name == "target" || TOP.contains(&name.as_str()), "{name}");
    }
}
