//! Specs and spec directories that a user who is not trusted can write to (N8).

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use camino::Utf8Path;

use super::*;

const SPEC: &str = "cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{name: x, containerEdits: {env: [A=B]}}]\n";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A root with /cdi/x.yaml, and /elsewhere/y.yaml.
fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for (directory, file) in [("cdi", "x.yaml"), ("elsewhere", "y.yaml")] {
        let directory = tree.path().join(directory);
        fs::create_dir(&directory).unwrap();
        mode(&directory, 0o755);
        fs::write(directory.join(file), SPEC).unwrap();
        mode(&directory.join(file), 0o644);
    }
    tree
}

fn listing(tree: &tempfile::TempDir) -> Listing {
    let root = Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
    Registry::unwatched(root, &["/cdi".into()]).listing()
}

/// What is wrong with the only directory or file.
fn problem(tree: &tempfile::TempDir) -> String {
    let listing = listing(tree);
    let directories = listing.directory_errors.iter().map(|it| it.error.to_string());
    let files = listing.files.iter().filter_map(|it| it.spec.as_ref().err().map(ToString::to_string));
    let problems: Vec<String> = directories.chain(files).collect();
    assert_eq!(problems.is_empty(), listing.devices == ["v.com/c=x"], "{problems:?} {:?}", listing.devices);
    problems.join("; ")
}

#[test]
fn n8_what_all_users_can_write_is_no_spec() {
    for (path, bits) in [("cdi", 0o777), ("cdi", 0o757), ("cdi/x.yaml", 0o666), ("", 0o777)] {
        let tree = tree();
        assert_eq!(problem(&tree), "");
        mode(&tree.path().join(path), bits);
        assert!(problem(&tree).contains("can be written by all users"), "{path}: {}", problem(&tree));
    }
    let sticky = tree();
    mode(&sticky.path().join("cdi"), 0o1777);
    assert_eq!(problem(&sticky), "", "others cannot replace a file in it");
}

#[test]
fn n8_a_link_counts_with_all_that_it_passes() {
    let tree = tree();
    fs::remove_file(tree.path().join("cdi/x.yaml")).unwrap();
    symlink("../elsewhere/y.yaml", tree.path().join("cdi/x.yaml")).unwrap();
    assert_eq!(problem(&tree), "");
    mode(&tree.path().join("elsewhere"), 0o777);
    assert!(problem(&tree).contains("/elsewhere can be written by all users"), "{}", problem(&tree));
}

#[test]
fn n8_what_another_user_owns_is_no_spec() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: files of another user need root");
        return;
    }
    for path in ["cdi", "cdi/x.yaml", ""] {
        let tree = tree();
        chown(tree.path().join(path), Some(1001), Some(1001)).unwrap();
        assert!(problem(&tree).contains("belongs to user 1001"), "{path}: {}", problem(&tree));
    }
    let tree = tree();
    chown(tree.path().join("cdi/x.yaml"), None, Some(1001)).unwrap();
    assert_eq!(problem(&tree), "", "the group cannot write");
    mode(&tree.path().join("cdi/x.yaml"), 0o664);
    assert!(problem(&tree).contains("can be written by its group"), "{}", problem(&tree));
}

/// A program that runs on notices that a directory has been opened to others, and closed again.
#[test]
fn n8_a_change_of_mode_is_noticed() {
    let tree = tree();
    let root = Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
    let registry = Registry::new(root, &["/cdi".into()]);
    for (path, open, closed) in [("cdi", 0o777, 0o755), ("cdi/x.yaml", 0o666, 0o644)] {
        assert!(registry.find("v.com/c=x").is_ok(), "{path}");
        mode(&tree.path().join(path), open);
        assert!(registry.find("v.com/c=x").is_err(), "{path}");
        mode(&tree.path().join(path), closed);
    }
    assert!(registry.find("v.com/c=x").is_ok());
}

/// H5: the files of a directory are read up to a total; a file that is not read does not count.
#[test]
fn h5_the_specs_of_a_directory_have_a_total() {
    let tree = tree();
    let padding = " ".repeat((1 << 17) - 100);
    for index in 0..10 {
        fs::write(tree.path().join(format!("cdi/{index}.yaml")), &padding).unwrap();
    }
    let listing = listing(&tree);
    let beyond = |file: &&Arc<SpecFile>| matches!(file.spec, Err(FileError::Unreadable(_)));
    assert_eq!(listing.files.iter().filter(beyond).count(), 2);
    assert_eq!(listing.devices, ["v.com/c=x"], "a small file still fits");
}
