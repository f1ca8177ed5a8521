//! Whatever a spec says, a preparation keeps its own rules.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::apply::{Link, Request};
use libgpuspec::cdi::{ContainerEdits, Mount};
use libgpuspec::ldcache::Abi;
use libgpuspec::nspawn::guest::{Layout, Libc, Programs};
use libgpuspec::nspawn::sources::{Object, Source};
use libgpuspec::nspawn::{Content, Guest, Loader, Options, RootKind, Sources, TREE, Wanted, plan};
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
    prop::collection::vec(part, 1..5).prop_map(|parts| format!("/{}", parts.join("/")))
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

fn guest() -> impl Strategy<Value = Guest> {
    let programs = |abi, directory: &str| Programs { abi, directory: directory.into(), glibc: None };
    let both = vec![programs(Abi::X86_64, "/usr/lib64"), programs(Abi::I386, "/usr/lib")];
    let glibc = Guest { libc: Libc::Glibc, programs: both.clone(), ..Guest::default() };
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
        guest in guest(),
        read_only in any::<bool>(),
    ) {
        let mount = |(host, container, _): &(String, String, Source)| Mount {
            host_path: host.clone(),
            container_path: container.clone(),
            ..Mount::default()
        };
        let edits = ContainerEdits { mounts: mounts.iter().map(mount).collect(), ..ContainerEdits::default() };
        let files: BTreeMap<Utf8PathBuf, Source> =
            mounts.iter().map(|(host, _, source)| (host.as_str().into(), source.clone())).collect();
        let sources = Sources { files, ..Sources::default() };
        let requests = [Request { links, ..Request::default() }];
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
        for entry in &given.tree {
            let plain = |part: &str| !matches!(part, "" | "." | "..");
            prop_assert!(entry.at.as_str().split('/').all(plain), "{}", entry.at);
            // Nothing but directories that are made has names below it.
            prop_assert!(!names.iter().any(|name| *name != entry.at && name.starts_with(&entry.at)), "{}", entry.at);
            match &entry.content {
                Content::File(source) | Content::Directory(source) => {
                    prop_assert!(sources.files.contains_key(source));
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
        for bind in given.binds {
            prop_assert!(["/run/", "/tmp/", "/dev/"].iter().any(|top| bind.at.as_str().starts_with(top)), "{bind:?}");
        }
    }
}

/// Where a link of the tree leads in it.
fn ended(at: &Utf8Path, text: &Utf8Path) -> Utf8PathBuf {
    let mut end = at.parent().unwrap().to_owned();
    for part in text.as_str().split('/') {
        if part == ".." { assert!(end.pop(), "{at} -> {text}") } else { end.push(part) }
    }
    end
}
