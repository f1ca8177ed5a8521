//! What holds for every spec, every edit and every order of files.

// The lints' leave for tests does not reach helper functions, and these trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::cdi::{
    ContainerEdits, Device, DeviceNode, HOOK_NAMES, Hook, IntelRdt, Mount, NetDevice, Reader, Registry, Spec,
    Version, compare, downlevel, json, minimum_version, read, validate, yaml,
};
use libgpuspec::render::oci;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Strings that some YAML reader takes for something else, and any others.
fn text() -> impl Strategy<Value = String> {
    const TRICKY: &[&str] = &[
        "on",
        "No",
        "y",
        "010",
        "0x1F",
        "1_000",
        "1e3",
        "1.50",
        ".5",
        "1:0",
        "190:20:30",
        "2001-12-14",
        "~",
        "null",
        "",
        " ",
        "a ",
        " a",
        "-",
        "- a",
        "? a",
        ": a",
        "a: b",
        "a #b",
        "#",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "{a}",
        "[a]",
        "a,b",
        "'",
        "\"",
        "\\",
        "<<",
        "=",
        ".inf",
        "a\n",
        "\na",
        "a\n\nb\n\n",
        "\t",
        "a\tb",
        "---",
        "...",
        "\u{7f}",
        "\u{85}",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}",
        "\u{feff}a",
        "\u{fffe}",
        "\u{1f600}",
        "\0",
        "\r\n",
    ];
    prop_oneof![select(TRICKY).prop_map(str::to_owned), any::<String>(), "[ -~]{0,120}"]
}

fn filled() -> impl Strategy<Value = String> {
    text().prop_filter("must not be empty", |text| !text.is_empty())
}

fn env() -> impl Strategy<Value = Vec<String>> {
    let entry = (filled().prop_filter("a name", |name| !name.contains('=')), text());
    vec(entry.prop_map(|(name, value)| format!("{name}={value}")), 0..3)
}

fn node() -> impl Strategy<Value = DeviceNode> {
    let types = select(["", "b", "c", "u", "p"].as_slice());
    let permissions = select(["", "r", "rw", "mwr", "none"].as_slice());
    let owner = (any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>());
    (filled(), text(), types, any::<i64>(), any::<i64>(), permissions, owner).prop_map(
        |(path, host_path, node_type, major, minor, permissions, (file_mode, uid, gid))| DeviceNode {
            path,
            host_path,
            node_type: node_type.to_owned(),
            major,
            minor,
            file_mode,
            permissions: permissions.to_owned(),
            uid,
            gid,
        },
    )
}

fn mount() -> impl Strategy<Value = Mount> {
    (filled(), filled(), vec(text(), 0..3), text()).prop_map(
        |(host_path, container_path, options, mount_type)| Mount {
            host_path,
            container_path,
            options,
            mount_type,
        },
    )
}

fn hook() -> impl Strategy<Value = Hook> {
    (select(HOOK_NAMES.as_slice()), filled(), vec(text(), 0..3), env(), any::<Option<i64>>()).prop_map(
        |(name, path, args, env, timeout)| Hook { hook_name: name.to_owned(), path, args, env, timeout },
    )
}

fn rdt() -> impl Strategy<Value = IntelRdt> {
    let schemata = proptest::option::of(vec(text(), 0..2));
    ("[a-z]{0,5}", text(), text(), schemata, any::<bool>()).prop_map(
        |(clos_id, l3_cache_schema, mem_bw_schema, schemata, enable_monitoring)| IntelRdt {
            clos_id,
            l3_cache_schema,
            mem_bw_schema,
            schemata,
            enable_monitoring,
        },
    )
}

fn edits() -> impl Strategy<Value = ContainerEdits> {
    let net = vec(Just(()), 0..2).prop_map(|some| {
        let device =
            |index| NetDevice { host_interface_name: format!("e{index}"), name: format!("n{index}") };
        (0..some.len()).map(device).collect()
    });
    let gids = vec(any::<u32>(), 0..3);
    (env(), vec(node(), 0..3), net, vec(hook(), 0..3), vec(mount(), 0..3), proptest::option::of(rdt()), gids)
        .prop_map(|(env, device_nodes, net_devices, hooks, mounts, intel_rdt, additional_gids)| {
            ContainerEdits { env, device_nodes, net_devices, hooks, mounts, intel_rdt, additional_gids }
        })
}

fn spec() -> impl Strategy<Value = Spec> {
    const NAMES: &[&str] = &["0", "on", "010", "1:0", "y", "0x10", "1e3", "a", "all", "GPU-1.5_0"];
    let devices = (subsequence(NAMES, 1..4), vec((edits(), env()), 4));
    let annotations = || btree_map(text(), text(), 0..2);
    (devices, edits(), annotations(), annotations()).prop_map(
        |((names, edits), container_edits, mine, theirs)| {
            let device = |(name, (mut edits, _)): (&str, (ContainerEdits, Vec<String>))| {
                edits.env.push("A=B".to_owned());
                Device { name: name.to_owned(), annotations: theirs.clone(), container_edits: edits }
            };
            let devices = names.into_iter().zip(edits).map(device).collect();
            let kind = "v-e.nd_or.com/on".to_owned();
            let mut spec = Spec { version: String::new(), kind, annotations: mine, devices, container_edits };
            spec.version = minimum_version(&spec).to_string();
            spec
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_the_same(spec in spec()) {
        prop_assert_eq!(validate(&spec), vec![]);
        let yaml = yaml::to_string(&spec).unwrap();
        prop_assert_eq!(read(yaml.as_bytes()), Ok(spec.clone()), "{}", yaml);
        let json = json::to_string(&spec).unwrap();
        prop_assert_eq!(read(json.as_bytes()), Ok(spec.clone()), "{}", json);
        prop_assert_eq!(compare(&spec, &spec), vec![]);
    }

    #[test]
    fn what_suits_an_older_reader_is_valid_and_stays(spec in spec(), version in select(Version::ALL.as_slice())) {
        if let Ok((fitted, _)) = downlevel(&spec, Reader::from(version)) {
            prop_assert_eq!(validate(&fitted), vec![]);
            prop_assert!(minimum_version(&fitted) <= version);
            prop_assert_eq!(downlevel(&fitted, Reader::from(version)), Ok((fitted, vec![])));
        }
    }

    #[test]
    fn injection_is_deterministic_and_all_or_nothing(edits in edits(), twice in edits()) {
        let host = Root::open(Utf8Path::new("/")).unwrap();
        let config = serde_json::json!({"future": {"a": [1.5, null]}, "process": {"env": ["A=1"], "future": true}});
        let (mut one, mut other) = (config.clone(), config.clone());
        let first = oci::inject(&mut one, &edits, &host).is_ok();
        prop_assert_eq!(first, oci::inject(&mut other, &edits, &host).is_ok());
        prop_assert_eq!(&one, &other);
        prop_assert!(first || one == config);
        prop_assert_eq!(&one["future"], &config["future"]);
        prop_assert_eq!(&one["process"]["future"], &true);
        let before = one.clone();
        prop_assert!(oci::inject(&mut one, &twice, &host).is_ok() || one == before);
    }

    #[test]
    fn a_registry_does_not_depend_on_the_order_in_which_files_came(
        order in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        devices in vec(subsequence(["a", "b", "c", "d"].as_slice(), 1..4), 6),
    ) {
        let tree = |order: &[usize]| {
            let tree = tempfile::tempdir().unwrap();
            let path = Utf8Path::from_path(tree.path()).unwrap();
            for directory in ["low", "high"] {
                std::fs::create_dir(path.join(directory)).unwrap();
            }
            let registry = Registry::new(Root::open(path).unwrap(), &["/low".into(), "/high".into()]);
            for &index in order {
                let directory = if index < 3 { "low" } else { "high" };
                let devices: Vec<String> = devices[index].iter()
                    .map(|name| format!("{{name: {name}, containerEdits: {{env: [FILE={index}]}}}}")).collect();
                let text = format!("cdiVersion: 0.5.0\nkind: v.com/c\ndevices: [{}]\n", devices.join(", "));
                std::fs::write(path.join(directory).join(format!("{index}.yaml")), text).unwrap();
                // Asked in between: what is known already must not matter either.
                registry.listing();
            }
            let listing = registry.listing();
            let edits: Vec<_> = listing.devices.iter().map(|name| registry.resolve(&[name]).unwrap()).collect();
            (listing.devices, listing.conflicts, listing.shadowed, edits)
        };
        let sorted: Vec<usize> = (0..6).collect();
        prop_assert_eq!(tree(&order), tree(&sorted));
    }
}
