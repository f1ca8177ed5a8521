//! Whatever a spec says, a preparation keeps its own rules.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::apply::{Link, Request};
use libgpuspec::cdi::{ContainerEdits, DeviceNode, Mount};
use libgpuspec::ldcache::{self, Abi};
use libgpuspec::nspawn::guest::{Cache, Layout, Libc, Programs};
use libgpuspec::nspawn::sources::{HostNode, Object, Source};
use libgpuspec::nspawn::{
    BindSource, Content, Guest, Loader, Node, Options, RootKind, Sources, TREE, Wanted, plan,
};
use libgpuspec::root::{Entry, Kind};
use proptest::prelude::*;

/// Paths that meet and nest.
fn path() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "usr",
        "lib",
        "lib64",
        "bin",
        "share",
        "gbm",
        "nvidia",
        "run",
        "dev",
        "etc",
        "opt",
        "liba.so",
        "liba.so.1",
        "libb.so.2",
        "tool",
        "x.json",
        "..",
        "params",
    ]);
    let any = prop::collection::vec(part, 1..5).prop_map(|parts| format!("/{}", parts.join("/")));
    let known = prop::sample::select(vec![
        "/etc/OpenCL/vendors",
        "/etc/OpenCL/vendors/x.icd",
        "/usr/lib64/liba.so.1",
        "/usr/share/vulkan/icd.d/x.json",
        "/dev/v0",
        "/dev/v/by-path/a",
    ]);
    prop_oneof![4 => any, 1 => known.prop_map(str::to_owned)]
}

fn node() -> impl Strategy<Value = (DeviceNode, Entry)> {
    let paths = vec!["/dev/v0", "/dev/v/1", "/dev/../x", "/opt/v0", "/run/v0"];
    let kind = prop::sample::select(vec![Kind::CharDevice, Kind::BlockDevice, Kind::File]);
    let numbers = (0..3_u32, prop::sample::select(vec![0o666, 0o660]), prop::sample::select(vec![0, 44]));
    (prop::sample::select(paths), kind, numbers).prop_map(|(path, kind, (minor, mode, gid))| {
        let entry = Entry { kind, mode, uid: 0, gid, size: 0, major: 195, minor, identity: (0, 0) };
        (DeviceNode { path: path.to_owned(), ..DeviceNode::default() }, entry)
    })
}

fn source() -> impl Strategy<Value = Source> {
    let soname = prop::option::of(prop::sample::select(vec!["liba.so.1", "libb.so.2", "../x", "", "odd"]));
    let abi = prop::option::of(prop::sample::select(vec![Abi::X86_64, Abi::I386, Abi::Aarch64]));
    let object = (abi, soname, any::<bool>()).prop_map(|(abi, soname, program)| {
        let soname = soname.map(str::to_owned);
        Source::Object(Object { abi, soname, program, glibc_floor: None, needed: Vec::new() })
    });
    prop_oneof![object, Just(Source::File), Just(Source::Directory), Just(Source::Socket)]
}

fn link() -> impl Strategy<Value = Link> {
    (path(), path(), "[a-z]{1,3}|liba[.]so").prop_map(|(target, directory, name)| Link {
        target: target.into(),
        directory,
        name,
    })
}

/// Links that lead to nodes mostly, and meet them.
fn device_link() -> impl Strategy<Value = Link> {
    let target = prop::sample::select(vec!["/dev/v0", "../v0", "/dev/v/1", "../v/1", "/run/v0"]);
    let directory = prop::sample::select(vec!["/dev", "/dev/v", "/dev/v0", "/dev/v/x", "/dev/w"]);
    let known = (target, directory, "[a-z]").prop_map(|(target, directory, name)| Link {
        target: target.into(),
        directory: directory.to_owned(),
        name,
    });
    prop_oneof![3 => known, 1 => link()]
}

fn guest() -> impl Strategy<Value = Guest> {
    let programs = |abi, directory: &str| Programs { abi, directory: directory.into(), glibc: None };
    let both = vec![programs(Abi::X86_64, "/usr/lib64"), programs(Abi::I386, "/usr/lib")];
    let entry = |directory: &str, name: &str| ldcache::Entry {
        name: name.to_owned(),
        path: format!("{directory}/{name}").into(),
        abi: Abi::X86_64,
        hwcap: 0,
    };
    let entries = vec![
        entry("/opt/old", "liba.so.1"),
        entry("/run/gpuspec/lib", "liba.so.1"),
        entry("/usr/lib64", "libc.so.6"),
    ];
    let opencl = ["x.icd", "own.icd"].map(str::to_owned).into();
    let glibc = Guest {
        libc: Libc::Glibc,
        programs: both.clone(),
        opencl,
        cache: Cache::Usable(entries),
        ..Guest::default()
    };
    prop::sample::select(vec![
        Guest { layout: Layout::Store, ..glibc.clone() },
        Guest { libc: Libc::Musl, ..glibc.clone() },
        Guest::default(),
        glibc,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_preparation_is_sorted_without_doubles_and_stays_in_its_tree(
        mounts in prop::collection::vec((path(), path(), source()), 0..12),
        links in prop::collection::vec(link(), 0..8),
        device_links in prop::collection::vec(device_link(), 0..4),
        nodes in prop::collection::vec(node(), 0..4),
        guest in guest(),
        read_only in any::<bool>(),
    ) {
        let mount = |(host, container, _): &(String, String, Source)| Mount {
            host_path: host.clone(),
            container_path: container.clone(),
            ..Mount::default()
        };
        let edits = ContainerEdits { mounts: mounts.iter().map(mount).collect(), device_nodes: nodes.iter().map(|(node, _)| node.clone()).collect(), ..ContainerEdits::default() };
        let files: BTreeMap<Utf8PathBuf, Source> =
            mounts.iter().map(|(host, _, source)| (host.as_str().into(), source.clone())).collect();
        let found = |(node, entry): &(DeviceNode, Entry)| (node.source().to_owned(), HostNode { entry: entry.clone(), group: None });
        let sources = Sources { files, nodes: nodes.iter().map(found).collect(), ..Sources::default() };
        let requests = [Request { links, device_links, ..Request::default() }];
        let wanted = Wanted { edits: &edits, requests: &requests, unknown_hooks: &[], sources: &sources };
        let root = if read_only { RootKind::ReadOnly } else { RootKind::Directory };
        let options = Options { root, ..Options::default() };
        let given = plan::plan(&wanted, &guest, &options).unwrap();
        prop_assert_eq!(&plan::plan(&wanted, &guest, &options).unwrap(), &given);

        prop_assert!(given.tree.is_sorted_by(|one, other| one.at < other.at));
        prop_assert!(given.binds.is_sorted_by(|one, other| one.at <= other.at && one != other));
        prop_assert!(given.environment.is_sorted_by(|one, other| one.0 < other.0));
        prop_assert!(given.notices.is_sorted_by(|one, other| one < other));
        prop_assert!(given.usual.is_sorted_by(|one, other| one < other));
        let names: Vec<&Utf8Path> = given.tree.iter().map(|entry| entry.at.as_path()).collect();
        prop_assert!(given.nodes.is_sorted_by(|one, other| one.path < other.path));
        for node in &given.nodes {
            prop_assert!(["/dev/", "/run/"].iter().any(|top| node.path.as_str().starts_with(top)), "{node:?}");
        }
        let is_bound = |at: &Utf8Path| {
            let parent = BindSource::Tree(at.parent().unwrap().to_owned());
            given.binds.iter().any(|bind| bind.source == parent)
        };
        for entry in &given.tree {
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            prop_assert!(entry.at.as_str().split('/').all(plain), "{}", entry.at);
            // Nothing but directories that are made has names below it.
            prop_assert!(!names.iter().any(|name| *name != entry.at && name.starts_with(&entry.at)), "{}", entry.at);
            match &entry.content {
                Content::File(source) | Content::Directory(source) => {
                    prop_assert!(sources.files.contains_key(source));
                }
                // The machine's own OpenCL drivers stay where they are.
                Content::Link(text) if text.starts_with("/etc/OpenCL/vendors") => {
                    prop_assert_eq!(entry.at.parent(), Some(Utf8Path::new("share/OpenCL/vendors")));
                    prop_assert!(guest.opencl.contains(text.file_name().unwrap()), "{} -> {text}", entry.at);
                }
                // Links among nodes lead to nodes, which are no names of the tree.
                Content::Link(text) if entry.at.starts_with("dev") && is_bound(&entry.at) => {
                    let end = place(&Utf8Path::new("/").join(&entry.at), text);
                    prop_assert!(given.nodes.iter().any(|node| node.path == end), "{} -> {text}", entry.at);
                }
                Content::Link(text) => {
                    let end = ended(&entry.at, text);
                    prop_assert!(names.iter().any(|name| *name == end || name.starts_with(&end)), "{} -> {text}", entry.at);
                }
                Content::Text(_) => {}
            }
        }
        let is_there = |directory: &Utf8Path, name: &str| {
            let at = directory.strip_prefix(TREE).unwrap().join(name);
            names.contains(&at.as_path())
        };
        match &given.loader {
            Loader::Cache(libraries) => for one in libraries {
                prop_assert!(one.names.iter().all(|name| is_there(&one.directory, name)), "{one:?}");
            },
            Loader::Overlay(farms) => for (name, text) in farms.iter().flat_map(|farm| &farm.links) {
                prop_assert!(is_there(text.parent().unwrap(), name), "{name} -> {text}");
            },
            Loader::Environment | Loader::Nothing => {}
        }
        for bind in given.binds.iter().filter(|bind| matches!(bind.source, BindSource::Tree(_))) {
            let hides = |node: &Node| node.path.starts_with(&bind.at) || bind.at.starts_with(&node.path);
            prop_assert!(!given.nodes.iter().any(hides), "{bind:?}");
        }
        for bind in &given.binds {
            prop_assert!(["/run/", "/tmp/", "/dev/"].iter().any(|top| bind.at.as_str().starts_with(top)), "{bind:?}");
        }
    }
}

/// Where a link of a machine leads.
fn place(at: &Utf8Path, text: &Utf8Path) -> Utf8PathBuf {
    let mut end = Utf8PathBuf::from("/");
    for part in at.parent().unwrap().join(text).as_str().split('/') {
        match part {
            "" | "." => {}
            ".." => drop(end.pop()),
            part => end.push(part),
        }
    }
    end
}

/// Where a link of the tree leads in it.
fn ended(at: &Utf8Path, text: &Utf8Path) -> Utf8PathBuf {
    let mut end = at.parent().unwrap().to_owned();
    for part in text.as_str().split('/') {
        if part == ".." { assert!(end.pop(), "{at} -> {text}") } else { end.push(part) }
    }
    end
}
