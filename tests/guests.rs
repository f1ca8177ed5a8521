//! Machines of every distribution: what their trees say, and what a driver's spec becomes for each.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/elf.rs"]
mod elf;
#[path = "guests/findings.rs"]
mod findings;
#[path = "guests/nodes.rs"]
mod nodes;
#[path = "guests/plans.rs"]
mod plans;
#[path = "guests/properties.rs"]
mod properties;
#[path = "support/real.rs"]
#[allow(dead_code)]
mod real;
#[path = "support/tree.rs"]
mod tree;
#[path = "guests/trees.rs"]
mod trees;

use libgpuspec::nspawn::{Guest, guest};
use libgpuspec::{Notice, Root};

use tree::Tree;

/// What a tree says of itself, the notices without the tree's own path.
fn inspect(page: &str) -> (Guest, Vec<String>) {
    let tree = Tree::build(page);
    let (guest, notices) = guest::inspect(&Root::open(tree.path()).unwrap());
    let told = |notice: Notice| notice.0.replace(tree.path().as_str(), "");
    (guest, notices.into_iter().map(told).collect())
}

fn machine(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(path.join("tests/machines").join(name).with_extension("tree")).unwrap()
}
