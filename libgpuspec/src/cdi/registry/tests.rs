//! Directory states and what follows from them, with the kernel's queue and without.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Some spec directories below one throw-away root, and a registry of `/a` and `/b`.
struct Tree {
    root: tempfile::TempDir,
    registry: Registry,
}

impl Tree {
    fn new() -> Tree {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        Tree { registry: registry(root.path()), root }
    }

    /// The same without a queue, as where the system has no more of them.
    fn unwatched() -> Tree {
        let tree = Tree::new();
        tree.registry.locked().watch = None;
        tree
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn devices(&self) -> Vec<String> {
        self.registry.listing().devices.iter().map(|name| name.replace("v.com/c=", "")).collect()
    }

    fn bad_files(&self) -> Vec<String> {
        let listing = self.registry.listing();
        let bad = listing.files.iter().filter(|file| file.spec.is_err());
        bad.map(|file| file.path.to_string()).collect()
    }
}

fn registry(root: &Path) -> Registry {
    let root = Root::open(camino::Utf8Path::from_path(root).unwrap()).unwrap();
    Registry::new(root, &["/a".into(), "/b".into()])
}

/// A spec of kind v.com/c whose devices have an env entry that tells the file: `mark`.
fn spec(mark: &str, devices: &[&str]) -> String {
    let devices: Vec<String> = devices
        .iter()
        .map(|name| format!("{{name: \"{name}\", containerEdits: {{env: [\"{mark}={name}\"]}}}}"))
        .collect();
    format!(
        "cdiVersion: \"0.5.0\"\nkind: v.com/c\ncontainerEdits: {{env: [ALL={mark}]}}\ndevices: [{}]\n",
        devices.join(", ")
    )
}

#[test]
fn files_are_json_and_yaml_directly_in_the_directory() {
    let tree = Tree::new();
    for name in ["1.yaml", "2.json", ".yaml", ".3.json", "4.yml", "5.YAML", "6.JSON", "7.yaml.tmp", "8"] {
        tree.write(&format!("a/{name}"), &spec("M", &[name.trim_matches('.').split('.').next().unwrap()]));
    }
    fs::create_dir_all(tree.path("a/sub.yaml")).unwrap();
    tree.write("a/sub.yaml/9.yaml", &spec("M", &["9"]));
    assert_eq!(tree.devices(), ["1", "2", "3", "yaml"]);
    assert_eq!(tree.bad_files(), Vec::<String>::new());
}

#[test]
fn a_later_directory_wins_device_by_device() {
    let tree = Tree::new();
    tree.write("a/x.yaml", &spec("LOW", &["0", "1"]));
    tree.write("b/x.yaml", &spec("HIGH", &["1", "2"]));
    assert_eq!(tree.devices(), ["0", "1", "2"]);
    let edits = tree.registry.resolve(&["v.com/c=1"]).unwrap();
    assert_eq!(edits.env, ["ALL=HIGH", "HIGH=1"], "only the edits of the file that gives the device");
    let files = vec!["/a/x.yaml".into(), "/b/x.yaml".into()];
    let shadowed = Contested { device: "v.com/c=1".into(), files };
    assert_eq!(tree.registry.listing().shadowed, [shadowed]);
}

#[test]
fn two_files_of_one_directory_conflict_and_nobody_gets_the_device() {
    let tree = Tree::new();
    tree.write("a/nvidia.json", &spec("M", &["0", "1"]));
    tree.write("a/nvidia.yaml", &spec("M", &["1"]));
    assert_eq!(tree.devices(), ["0"]);
    let contested = Contested {
        device: "v.com/c=1".into(),
        files: vec!["/a/nvidia.json".into(), "/a/nvidia.yaml".into()],
    };
    assert_eq!(tree.registry.listing().conflicts, std::slice::from_ref(&contested));
    let reason = Unresolved::Conflict(contested);
    assert_eq!(tree.registry.find("v.com/c=1").unwrap_err(), reason);
    assert!(reason.to_string().contains("/a/nvidia.json and /a/nvidia.yaml"), "{reason}");
    // The specs themselves are good: their vendors and classes are listed.
    assert_eq!(
        (tree.registry.listing().vendors(), tree.registry.listing().classes()),
        (vec!["v.com".into()], vec!["c".into()])
    );
}

#[test]
fn a_conflict_in_a_lower_directory_also_drops_the_device_of_a_higher_one() {
    let tree = Tree::new();
    tree.write("a/1.yaml", &spec("M", &["0"]));
    tree.write("a/2.yaml", &spec("M", &["0"]));
    tree.write("b/3.yaml", &spec("M", &["0", "1"]));
    assert_eq!(tree.devices(), ["1"]);
    assert_eq!(tree.registry.listing().conflicts[0].files, ["/a/1.yaml", "/a/2.yaml"]);
    fs::remove_file(tree.path("a/1.yaml")).unwrap();
    assert_eq!(tree.devices(), ["0", "1"]);
}

#[test]
fn a_bad_file_costs_only_its_own_devices() {
    let tree = Tree::new();
    tree.write("a/good.yaml", &spec("M", &["0"]));
    tree.write("a/syntax.yaml", "{{{");
    tree.write("a/unknown.yaml", &(spec("M", &["1"]) + "extra: 1\n"));
    tree.write("a/empty.json", "");
    assert_eq!(tree.devices(), ["0"]);
    assert_eq!(tree.bad_files(), ["/a/empty.json", "/a/syntax.yaml", "/a/unknown.yaml"]);
}

#[test]
fn a_bad_directory_costs_only_its_own_files() {
    let tree = Tree::new();
    tree.write("b/good.yaml", &spec("M", &["0"]));
    fs::remove_dir(tree.path("a")).unwrap();
    assert_eq!((tree.devices(), tree.registry.listing().directory_errors.len()), (vec!["0".into()], 0));
    tree.write("a", "a file where a directory is wanted");
    let listing = tree.registry.listing();
    assert_eq!((tree.devices(), listing.directory_errors.len()), (vec!["0".into()], 1));
    assert!(listing.directory_errors[0].error.to_string().contains("a regular file, not a directory"));
    fs::remove_file(tree.path("a")).unwrap();
    std::os::unix::fs::symlink("a", tree.path("a")).unwrap();
    assert_eq!(tree.registry.listing().directory_errors.len(), 1, "a loop");
    assert_eq!(tree.devices(), ["0"]);
}

#[test]
fn a_directory_that_is_a_link_is_read() {
    let tree = Tree::new();
    fs::create_dir(tree.path("real")).unwrap();
    tree.write("real/x.yaml", &spec("M", &["0"]));
    fs::remove_dir(tree.path("b")).unwrap();
    std::os::unix::fs::symlink("/real", tree.path("b")).unwrap();
    assert_eq!(tree.devices(), ["0"]);
    tree.write("real/x.yaml", &spec("M", &["1"]));
    assert_eq!(tree.devices(), ["1"]);
    fs::create_dir(tree.path("other")).unwrap();
    fs::remove_file(tree.path("b")).unwrap();
    std::os::unix::fs::symlink("/other", tree.path("b")).unwrap();
    assert_eq!(tree.devices(), Vec::<String>::new());
}

#[test]
fn hostile_entries_neither_hang_nor_hide_the_good_ones() {
    let tree = Tree::new();
    tree.write("a/good.yaml", &spec("M", &["0"]));
    let fifo = std::process::Command::new("mkfifo").arg(tree.path("a/fifo.yaml")).status().unwrap();
    assert!(fifo.success());
    std::os::unix::fs::symlink("/a/fifo.yaml", tree.path("a/to-fifo.yaml")).unwrap();
    std::os::unix::fs::symlink("/nowhere", tree.path("a/dangling.yaml")).unwrap();
    std::os::unix::fs::symlink("loop.yaml", tree.path("a/loop.yaml")).unwrap();
    std::os::unix::fs::symlink("/b", tree.path("a/to-directory.yaml")).unwrap();
    std::os::unix::fs::symlink("../../../../etc/passwd", tree.path("a/out.yaml")).unwrap();
    let huge = fs::File::create(tree.path("a/huge.yaml")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    tree.write("a/deep.json", &deep);
    let bomb: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{p}, *a{p}, *a{p}]\n", p = n - 1)).collect();
    tree.write("a/bomb.yaml", &format!("a0: &a0 [x]\n{bomb}"));
    assert_eq!(tree.devices(), ["0"]);
    let bad = [
        "bomb.yaml",
        "dangling.yaml",
        "deep.json",
        "fifo.yaml",
        "huge.yaml",
        "loop.yaml",
        "out.yaml",
        "to-directory.yaml",
        "to-fifo.yaml",
    ];
    assert_eq!(tree.bad_files(), bad.map(|name| format!("/a/{name}")));
}

#[test]
fn edits_come_in_the_order_of_the_names_and_a_files_own_once() {
    let tree = Tree::new();
    tree.write("a/x.yaml", &spec("X", &["0", "1"]));
    tree.write("b/y.yaml", &spec("Y", &["2"]));
    let edits = tree.registry.resolve(&["v.com/c=1", "v.com/c=2", "v.com/c=0", "v.com/c=1"]).unwrap();
    assert_eq!(edits.env, ["ALL=X", "X=1", "ALL=Y", "Y=2", "X=0", "X=1"]);
}

#[test]
fn what_does_not_resolve_is_returned_with_reasons_and_nothing_else() {
    let tree = Tree::new();
    tree.write("a/x.yaml", &spec("X", &["0"]));
    let unresolved = tree.registry.resolve(&["v.com/c=0", "v.com/c=9", "w.com/c=0", "nonsense"]).unwrap_err();
    let texts: Vec<String> = unresolved.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "v.com/c=9: no spec defines it; v.com/c has 0",
            "w.com/c=0: no spec defines it; no spec for w.com/c lies in /a, /b",
            "\"nonsense\" is not of the form vendor/class=device",
        ]
    );
    tree.write("a/y.yaml", "{");
    let unresolved = tree.registry.find("w.com/c=0").unwrap_err();
    assert!(unresolved.to_string().contains("not valid, and so without devices: /a/y.yaml"), "{unresolved}");
}

/// One way in which a file can arrive, and what devices are there before and after.
type Arrival = (&'static str, fn(&Tree), fn(&Tree), &'static [&'static str]);

const ARRIVALS: &[Arrival] = &[
    ("a new file", |_| {}, |tree| tree.write("a/x.yaml", &spec("M", &["1"])), &["1"]),
    (
        "written in place",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| tree.write("a/x.yaml", &spec("M", &["1"])),
        &["1"],
    ),
    (
        "a temporary file renamed",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| {
            tree.write("a/x.tmp", &spec("M", &["1"]));
            fs::rename(tree.path("a/x.tmp"), tree.path("a/x.yaml")).unwrap();
        },
        &["1"],
    ),
    (
        "renamed from another directory",
        |_| {},
        |tree| {
            tree.write("x.yaml", &spec("M", &["1"]));
            fs::rename(tree.path("x.yaml"), tree.path("a/x.yaml")).unwrap();
        },
        &["1"],
    ),
    (
        "renamed to another directory",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| {
            fs::rename(tree.path("a/x.yaml"), tree.path("x.yaml")).unwrap();
        },
        &[],
    ),
    (
        "removed",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| fs::remove_file(tree.path("a/x.yaml")).unwrap(),
        &[],
    ),
    (
        "a hard link",
        |_| {},
        |tree| {
            tree.write("x", &spec("M", &["1"]));
            fs::hard_link(tree.path("x"), tree.path("a/x.yaml")).unwrap();
        },
        &["1"],
    ),
    (
        "written by another name of it",
        |tree| {
            tree.write("x", &spec("M", &["0"]));
            fs::hard_link(tree.path("x"), tree.path("a/x.yaml")).unwrap();
        },
        |tree| tree.write("x", &spec("M", &["1"])),
        &["1"],
    ),
    (
        "a new link",
        |_| {},
        |tree| {
            tree.write("x", &spec("M", &["1"]));
            std::os::unix::fs::symlink("/x", tree.path("a/x.yaml")).unwrap();
        },
        &["1"],
    ),
    (
        "a link's target rewritten",
        |tree| {
            tree.write("x", &spec("M", &["0"]));
            std::os::unix::fs::symlink("/x", tree.path("a/x.yaml")).unwrap();
        },
        |tree| tree.write("x", &spec("M", &["1"])),
        &["1"],
    ),
    (
        "a link's target replaced",
        |tree| {
            tree.write("x", &spec("M", &["0"]));
            std::os::unix::fs::symlink("../x", tree.path("a/x.yaml")).unwrap();
        },
        |tree| {
            tree.write("y", &spec("M", &["1"]));
            fs::rename(tree.path("y"), tree.path("x")).unwrap();
        },
        &["1"],
    ),
    (
        "a dangling link's target made",
        |tree| {
            std::os::unix::fs::symlink("/x", tree.path("a/x.yaml")).unwrap();
        },
        |tree| tree.write("x", &spec("M", &["1"])),
        &["1"],
    ),
    (
        "the directory made",
        |tree| fs::remove_dir(tree.path("a")).unwrap(),
        |tree| {
            fs::create_dir(tree.path("a")).unwrap();
            tree.write("a/x.yaml", &spec("M", &["1"]));
        },
        &["1"],
    ),
    (
        "the directory removed",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| fs::remove_dir_all(tree.path("a")).unwrap(),
        &[],
    ),
    (
        "the directory made anew",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| {
            fs::remove_dir_all(tree.path("a")).unwrap();
            fs::create_dir(tree.path("a")).unwrap();
            tree.write("a/x.yaml", &spec("M", &["1"]));
        },
        &["1"],
    ),
    (
        "the directory renamed and replaced",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| {
            fs::rename(tree.path("a"), tree.path("old")).unwrap();
            fs::create_dir(tree.path("c")).unwrap();
            tree.write("c/x.yaml", &spec("M", &["1"]));
            fs::rename(tree.path("c"), tree.path("a")).unwrap();
            tree.write("old/x.yaml", &spec("M", &["2"]));
        },
        &["1"],
    ),
    (
        "a bad file mended",
        |tree| tree.write("a/x.yaml", "{"),
        |tree| tree.write("a/x.yaml", &spec("M", &["1"])),
        &["1"],
    ),
    (
        "a file spoilt",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| tree.write("a/x.yaml", "{"),
        &[],
    ),
    (
        "a conflict made",
        |tree| tree.write("a/x.yaml", &spec("M", &["0"])),
        |tree| tree.write("a/y.yaml", &spec("M", &["0"])),
        &[],
    ),
];

#[test]
fn every_arrival_is_noticed_at_the_next_question() {
    for (name, before, change, expected) in ARRIVALS {
        for (queue, tree) in [("watched", Tree::new()), ("unwatched", Tree::unwatched())] {
            before(&tree);
            tree.devices();
            change(&tree);
            assert_eq!(tree.devices(), *expected, "{name}, {queue}");
            // The next change is noticed too, whatever the first one did to the watch.
            if tree.path("a").is_dir() {
                tree.write("a/z.yaml", &spec("M", &["z"]));
                assert!(tree.devices().contains(&"z".to_owned()), "{name}, {queue}: the change after");
            }
        }
    }
}

#[test]
fn changes_within_one_tick_of_the_clock_are_noticed() {
    let tree = Tree::new();
    tree.write("real", &spec("M", &["000"]));
    std::os::unix::fs::symlink("/real", tree.path("b/link.yaml")).unwrap();
    for round in 0..200 {
        let (one, other) = (format!("{round:03}"), format!("{:03}", 500 + round));
        tree.write("a/x.yaml", &spec("M", &[&one]));
        tree.write("real", &spec("M", &[&other]));
        assert_eq!(tree.devices(), [one, other]);
    }
}

#[test]
fn only_what_changed_is_read_again() {
    let tree = Tree::new();
    for index in 0..20 {
        tree.write(&format!("a/{index}.yaml"), &spec("M", &[&index.to_string()]));
    }
    let first = tree.registry.listing().files;
    tree.write("a/7.yaml", &spec("M", &["seven"]));
    let second = tree.registry.listing().files;
    let changed: Vec<&str> = (first.iter().zip(&second))
        .filter(|(before, after)| !Arc::ptr_eq(before, after))
        .map(|(before, _)| before.path.as_str())
        .collect();
    assert_eq!(changed, ["/a/7.yaml"]);
    let third = tree.registry.listing().files;
    assert!(second.iter().zip(&third).all(|(before, after)| Arc::ptr_eq(before, after)));
}

#[test]
fn an_unchanged_link_is_not_read_again_once_its_stamp_is_settled() {
    for tree in [Tree::new(), Tree::unwatched()] {
        tree.write("x", &spec("M", &["0"]));
        std::os::unix::fs::symlink("/x", tree.path("a/x.yaml")).unwrap();
        let started = std::time::Instant::now();
        let same = || Arc::ptr_eq(&tree.registry.listing().files[0], &tree.registry.listing().files[0]);
        while !same() {
            assert!(started.elapsed().as_secs() < 20, "it is read each time");
        }
    }
}

#[test]
fn a_flood_of_changes_loses_none() {
    let tree = Tree::new();
    tree.devices();
    for round in 0..3_000 {
        tree.write(&format!("a/{}.yaml", round % 50), &spec("M", &[&(round % 50).to_string()]));
    }
    tree.write("a/last.yaml", &spec("M", &["last"]));
    assert_eq!(tree.devices().len(), 51);
}

#[test]
fn one_directory_under_two_names_is_two_of_them() {
    let tree = Tree::new();
    let root = Root::open(camino::Utf8Path::from_path(tree.root.path()).unwrap()).unwrap();
    let registry = Registry::new(root, &["/a".into(), "/a".into()]);
    tree.write("a/x.yaml", &spec("M", &["0"]));
    assert_eq!(registry.listing().devices, ["v.com/c=0"]);
    tree.write("a/x.yaml", &spec("M", &["1"]));
    assert_eq!(registry.listing().devices, ["v.com/c=1"]);
}

#[test]
fn the_default_directories_are_the_specifications() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc/cdi")).unwrap();
    fs::create_dir_all(root.path().join("run/cdi")).unwrap();
    fs::create_dir_all(root.path().join("var")).unwrap();
    std::os::unix::fs::symlink("/run", root.path().join("var/run")).unwrap();
    fs::write(root.path().join("etc/cdi/x.yaml"), spec("STATIC", &["0", "1"])).unwrap();
    fs::write(root.path().join("run/cdi/x.yaml"), spec("DYNAMIC", &["0"])).unwrap();
    let opened = Root::open(camino::Utf8Path::from_path(root.path()).unwrap()).unwrap();
    let registry = Registry::new(opened, &[]);
    assert_eq!(registry.directories(), ["/etc/cdi", "/var/run/cdi"]);
    assert_eq!(registry.resolve(&["v.com/c=0"]).unwrap().env, ["ALL=DYNAMIC", "DYNAMIC=0"]);
    assert_eq!(registry.resolve(&["v.com/c=1"]).unwrap().env, ["ALL=STATIC", "STATIC=1"]);
}

#[test]
fn threads_share_a_registry_while_files_change() {
    let tree = Tree::new();
    tree.write("a/fixed.yaml", &spec("M", &["fixed"]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert!(tree.registry.resolve(&["v.com/c=fixed"]).is_ok());
                }
            });
        }
        for round in 0..200 {
            tree.write("a/other.yaml", &spec("M", &[&round.to_string()]));
        }
    });
    assert_eq!(tree.devices(), ["199", "fixed"]);
}
