//! What becomes of device nodes: whose they are in the machine, and where.

use std::collections::BTreeMap;

use libgpuspec::cdi::{self, ContainerEdits};
use libgpuspec::nspawn::{Bind, BindSource, Guest, Options, Way};

use crate::plans::{edits, given, notices_of, on, tree_of};
use crate::tree::Tree;

#[test]
fn nodes_belong_to_the_group_of_the_same_name() {
    let host = r#"
        etc/group     "root:x:0:\nvideo:x:44:\nrender:x:105:\nodd:x:300:\n"
        dev/open      c 195:0 0666 0:0
        dev/video     c 226:0 0660 0:44
        dev/render    c 226:128 0660 0:105
        dev/odd       c 9:1 0660 0:300
        dev/nameless  c 9:2 0660 0:77
        dev/closed    c 9:3 0600 0:0"#;
    let names = ["open", "video", "render", "odd", "nameless", "closed", "gone"];
    let device = |name: &&str| cdi::DeviceNode { path: format!("/dev/{name}"), ..cdi::DeviceNode::default() };
    let mut edits =
        ContainerEdits { device_nodes: names.iter().map(device).collect(), ..ContainerEdits::default() };
    edits.device_nodes.push(cdi::DeviceNode {
        gid: Some(5),
        file_mode: Some(0o640),
        host_path: "/dev/open".to_owned(),
        ..device(&"asked")
    });
    for user_namespace in [false, true] {
        let clone = |gid, mode| Way::Cloned { uid: 0, gid, mode, mapped: user_namespace };
        let cases = [
            ("closed", Way::Plain, clone(0, 0o600)),
            ("nameless", Way::Plain, clone(77, 0o660)),
            ("odd", clone(0, 0o660), clone(0, 0o660)),
            ("open", Way::Plain, Way::Plain),
            ("render", clone(104, 0o660), clone(104, 0o660)),
            ("video", Way::Plain, clone(44, 0o660)),
        ];
        let options = Options { user_namespace, ..Options::default() };
        let given = given(&Tree::build(host), &edits, &on("debian"), &options).unwrap();
        let found: Vec<(&str, Way)> = given.nodes.iter().map(|node| (node.path.as_str(), node.way)).collect();
        let mut expected = vec![("/dev/asked".to_owned(), clone(5, 0o640))];
        expected.extend(cases.iter().map(|(name, plain, shifted)| {
            (format!("/dev/{name}"), if user_namespace { *shifted } else { *plain })
        }));
        let expected: Vec<(&str, Way)> = expected.iter().map(|(path, way)| (path.as_str(), *way)).collect();
        assert_eq!(found, expected, "user namespace: {user_namespace}");
        assert_eq!(
            notices_of(&given),
            [
                "/dev/gone: not on this host: load its driver's module, or make the spec anew if the device is gone (cdi-gen generate --install)",
                "/dev/odd: for the machine's root alone, since it has no group odd; after `groupadd -r odd` in it, start it again",
            ]
        );
    }
}

#[test]
fn a_group_that_is_not_there_is_told_by_what_helps() {
    let host = "etc/group     \"root:x:0:\\nvideo:x:44:\\n\"\ndev/video  c 81:0 0660 0:44\ndev/roots  c 9:3 0660 0:0";
    let node = |path: &str| cdi::DeviceNode { path: path.to_owned(), ..cdi::DeviceNode::default() };
    let nodes = ["/dev/video", "/dev/roots"].map(node).to_vec();
    let edits = ContainerEdits { device_nodes: nodes, ..ContainerEdits::default() };
    let without = Guest { groups: BTreeMap::new(), ..on("debian") };
    let image = Guest::default();
    let cases = [
        (&without, false, "since it has no group video; after `groupadd -r video` in it, start it again"),
        (
            &without,
            true,
            "since it has no group video; after `groupadd -r video` in it, detach and attach again",
        ),
    ];
    for (guest, runs, why) in cases {
        let options = Options { user_namespace: true, runs, ..Options::default() };
        let given = given(&Tree::build(host), &edits, guest, &options).unwrap();
        assert_eq!(notices_of(&given), [format!("/dev/video: for the machine's root alone, {why}")]);
    }
    let options = Options { user_namespace: true, ..Options::default() };
    let given = given(&Tree::build(host), &edits, &image, &options).unwrap();
    let why = "/dev/video: for the machine's root alone: an image's groups are not known before it starts";
    assert_eq!(notices_of(&given), [why]);
}

#[test]
fn a_node_is_where_it_leaves_nothing() {
    let host = "dev/x  c 195:0 0666 0:0";
    let node = |path: &str| cdi::DeviceNode {
        path: path.to_owned(),
        host_path: "/dev/x".to_owned(),
        ..cdi::DeviceNode::default()
    };
    let nodes = ["/dev/y", "/var/run/y", "/opt/y", "/etc/passwd", "/dev"].map(node).to_vec();
    let edits = ContainerEdits { device_nodes: nodes, ..ContainerEdits::default() };
    let given = given(&Tree::build(host), &edits, &on("debian"), &Options::default()).unwrap();
    let found: Vec<&str> = given.nodes.iter().map(|node| node.path.as_str()).collect();
    assert_eq!(found, ["/dev/y", "/run/y"]);
    let notice =
        "/dev, /etc/passwd, /opt/y: a node outside /dev would leave an empty file in the machine; left out";
    assert_eq!(notices_of(&given), [notice]);
}

#[test]
fn links_among_nodes_never_hide_nodes() {
    let host = "dev/dri/card0  c 226:0 0666 0:0";
    let card = cdi::DeviceNode { path: "/dev/dri/card0".to_owned(), ..cdi::DeviceNode::default() };
    let words = [
        "--device-link",
        "../card0::/dev/dri/by-path/pci-0-card",
        "--device-link",
        "../card9::/dev/dri/by-path/pci-9-card",
        "--device-link",
        "card0::/dev/dri/first",
        "--device-link",
        "dri/card0::/dev/first",
    ];
    let edits = ContainerEdits { device_nodes: vec![card], ..edits(&[], &words) };
    let given = given(&Tree::build(host), &edits, &on("debian"), &Options::default()).unwrap();
    assert_eq!(tree_of(&given), ["dev/dri/by-path/pci-0-card -> ../card0"]);
    let directory = BindSource::Tree("dev/dri/by-path".into());
    assert_eq!(given.binds, [Bind { at: "/dev/dri/by-path".into(), source: directory, read_only: true }]);
    assert_eq!(
        notices_of(&given),
        ["/dev/dri/first, /dev/first: a link beside device nodes, which nspawn cannot make"]
    );
}
