//! The library's public interface, item by item, as the listing in docs/api.txt has it.
//!
//! A change of it is a change of the listing: `UPDATE_EXPECT=1 cargo test --test api` writes it anew.
//! What is `pub` here is public: the lint `unreachable_pub` sees to that.

// The lints' leave for tests does not reach helper functions, and the sources are not a host's tree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn the_public_interface_is_the_listed_one() {
    let listing = listing();
    assert!(listing.lines().count() > 300, "only {} lines", listing.lines().count());
    expect_test::expect_file![checkout().join("docs/api.txt")].assert_eq(&listing);
}

fn listing() -> String {
    let mut listing =
        "# The public interface of libgpuspec, file by file. tests/api.rs writes and checks it.\n".to_owned();
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in walkdir::WalkDir::new(checkout().join("libgpuspec/src")) {
        let path = entry.unwrap().into_path();
        if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    files.sort();
    for file in files {
        let name = file.strip_prefix(checkout().join("libgpuspec/src")).unwrap().display().to_string();
        let items = items(&fs::read_to_string(&file).unwrap());
        if !items.is_empty() {
            listing.push_str(&format!("\n{name}\n"));
            items.iter().for_each(|item| listing.push_str(&format!("  {item}\n")));
        }
    }
    listing
}

/// The public items of a source that rustfmt has laid out, each on one line: what it is and its type.
fn items(source: &str) -> Vec<String> {
    let mut items = Vec::new();
    let mut of = String::new();
    let mut in_enum = false;
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("mod tests") {
            break;
        }
        if line.starts_with("impl") || line.starts_with("    impl") {
            of = line.trim().trim_end_matches(" {").to_owned();
            if of.contains(" for ") && !of.contains("}") {
                items.push(of.clone());
            }
        }
        let trimmed = line.trim_start();
        let depth = line.len() - trimmed.len();
        if depth == 0 && !trimmed.is_empty() {
            in_enum = trimmed.starts_with("pub enum") && !trimmed.ends_with('}');
        }
        let variant =
            in_enum && depth == 4 && trimmed.starts_with(|letter: char| letter.is_ascii_uppercase());
        let field_of_variant = in_enum && depth == 8 && trimmed.ends_with(',') && trimmed.contains(": ");
        if !(trimmed.starts_with("pub ") || variant || field_of_variant) {
            continue;
        }
        let mut item = trimmed.to_owned();
        while !whole(&item) {
            let Some(next) = lines.next() else { break };
            item.push(' ');
            item.push_str(next.trim());
        }
        let item = item.trim_end_matches(['{', ',', ';', ' ']).replace("( ", "(").replace(", )", ")");
        items.push(match depth {
            0 => item,
            4 if item.starts_with("pub fn") && !of.is_empty() => format!("{of}: {item}"),
            _ => format!("{}{item}", " ".repeat(depth)),
        });
    }
    items
}

/// Whether an item's signature ends here.
fn whole(item: &str) -> bool {
    let balanced = item.matches(['(', '[']).count() == item.matches([')', ']']).count();
    balanced && item.ends_with(['{', ';', ',', '}'])
}
