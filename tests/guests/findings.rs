//! What a check tells of a machine before it starts: each kind of finding, by value.

use std::collections::BTreeMap;

use libgpuspec::Root;
use libgpuspec::cdi::{ContainerEdits, DeviceNode, Mount};
use libgpuspec::nspawn::findings::{Checked, DevicePolicy, check};
use libgpuspec::nspawn::{Node, NodeKind, Options, RootKind, Sources, Wanted, Way, guest, plan};

use crate::machine;
use crate::tree::Tree;

const HOST: &str = "
    dev/gpu0                    c 195:0 0666 0:0
    usr/lib64/libmain.so.1      elf64 soname=libmain.so.1 needs=libc.so.6,libpart.so.1,libX11.so.6,libz.so.1,ld-linux-x86-64.so.2
    usr/lib64/libpart.so.1      elf64 soname=libpart.so.1 needs=libc.so.6
    usr/lib64/libnew.so.1       elf64 soname=libnew.so.1 needs=libgone.so.1 wants=GLIBC_2.38
    usr/lib/firmware/gsp.bin    elf64 machine=243";

const LIBRARIES: [&str; 4] = [
    "/usr/lib64/libmain.so.1",
    "/usr/lib64/libpart.so.1",
    "/usr/lib64/libnew.so.1",
    "/usr/lib/firmware/gsp.bin",
];

/// `SEVERITY: WHAT` of each finding; every one has a remedy.
fn findings(page: &str, names: &[&str], root: RootKind, policy: Option<&DevicePolicy>) -> Vec<String> {
    let (host, tree) = (Tree::build(HOST), Tree::build(page));
    let mount = |path: &&str| Mount {
        host_path: (*path).to_owned(),
        container_path: (*path).to_owned(),
        ..Mount::default()
    };
    let node = DeviceNode { path: "/dev/gpu0".to_owned(), ..DeviceNode::default() };
    let edits = ContainerEdits {
        mounts: names.iter().map(mount).collect(),
        device_nodes: vec![node],
        ..ContainerEdits::default()
    };
    let guests = Root::open(tree.path()).unwrap();
    let (guest, _) = guest::inspect(&guests);
    let (libraries, _) = guest::libraries(&guests, &guest);
    let (sources, _) = Sources::read(&host.host().dev, &edits, &[]);
    let wanted = Wanted { edits: &edits, requests: &[], unknown_hooks: &[], sources: &sources };
    let preparation = plan::plan(&wanted, &guest, &Options { root, ..Options::default() }).unwrap();
    let checked = Checked {
        preparation: &preparation,
        guest: &guest,
        sources: &sources,
        libraries: &libraries,
        policy,
    };
    let found = check(&checked);
    assert!(found.iter().all(|finding| !finding.remedy.is_empty()), "{found:?}");
    found.iter().map(|finding| format!("{}: {}", finding.severity, finding.what)).collect()
}

#[test]
fn what_a_machine_lacks_is_told_before_it_starts() {
    let debian = machine("debian");
    let with = |more: &str| format!("{debian}\n{more}");
    let needs = "warning: libmain.so.1: needs libX11.so.6, libz.so.1, which the machine does not have";
    let new = "warning: /usr/lib64/libnew.so.1: needs glibc 2.38, and the machine has 2.36";
    let strangers = "failure: libraries for x86-64 programs, and the machine has aarch64 only";
    let overlay = "note: /usr/lib/x86_64-linux-gnu: read-only in the machine while it runs";
    let musl = "failure: the machine's C library is musl, and the driver's libraries are made for glibc";
    let absent = "failure: the machine has no C library, and the driver's libraries are made for glibc";
    let x11 = with("usr/lib/x86_64-linux-gnu/libX11.so.6 elf64 soname=libX11.so.6");
    let both = format!("{x11}\nusr/lib/x86_64-linux-gnu/libz.so.1 elf64 soname=libz.so.1");
    let other = "usr/lib/aarch64-linux-gnu/libc.so.6  elf64 machine=183 defines=GLIBC_2.36".to_owned();
    let cases: [(&str, String, RootKind, &[&str]); 7] = [
        ("nothing of X", debian.clone(), RootKind::Directory, &[new, needs]),
        ("half of it", x11, RootKind::Directory, &[new, &needs.replace("libX11.so.6, ", "")]),
        ("all of it", both.clone(), RootKind::Directory, &[new]),
        ("read-only", both, RootKind::ReadOnly, &[new, overlay]),
        ("another processor", other, RootKind::Directory, &[strangers]),
        ("musl", machine("alpine"), RootKind::Directory, &[musl]),
        ("empty", "etc/x dir".to_owned(), RootKind::Directory, &[absent]),
    ];
    for (name, page, root, expected) in cases {
        assert_eq!(findings(&page, &LIBRARIES, root, None), expected, "{name}");
    }
    assert_eq!(findings(&machine("alpine"), &[], RootKind::Directory, None), Vec::<String>::new());
    // Where it is the only one, nothing can be done without it.
    let alone = findings(&debian, &["/usr/lib64/libnew.so.1"], RootKind::Directory, None);
    assert_eq!(alone, [new.replace("warning", "failure")]);
}

#[test]
fn a_node_that_the_unit_keeps_out_is_a_failure() {
    let closed = ["failure: /dev/gpu0: the unit's device policy does not let it through".to_owned()];
    let cases: [(&[&str], bool); 10] = [
        (&[], false),
        (&["/dev/gpu1", "/dev/char/195:1", "/dev/block/195:0"], false),
        (&["/dev/gpu0"], true),
        (&["/dev/char/195:0"], true),
        (&["char-vendor"], true),
        (&["char-*"], true),
        (&["char-v*r"], true),
        (&["char-v*x"], false),
        (&["char-vendo"], false),
        (&["block-vendor"], false),
    ];
    for (devices, covered) in cases {
        let devices: Vec<String> = devices.iter().map(|&device| device.to_owned()).collect();
        let policy = DevicePolicy { devices, majors: BTreeMap::from([(195, "vendor".to_owned())]) };
        let expected = if covered { Vec::new() } else { closed.to_vec() };
        assert_eq!(
            findings(&machine("debian"), &[], RootKind::Directory, Some(&policy)),
            expected,
            "{policy:?}"
        );
    }
}

#[test]
fn block_devices_are_no_character_devices() {
    let node = |kind| Node {
        path: "/dev/x".into(),
        source: "/dev/x".into(),
        kind,
        major: 8,
        minor: 1,
        way: Way::Plain,
    };
    let policy = DevicePolicy {
        devices: vec!["/dev/block/8:1".to_owned(), "char-x".to_owned()],
        majors: BTreeMap::from([(8, "x".to_owned())]),
    };
    assert!(policy.covers(&node(NodeKind::Block)));
    // The drivers' numbers are of character devices.
    let policy = DevicePolicy { devices: vec!["char-x".to_owned(), "block-x".to_owned()], ..policy };
    assert_eq!((policy.covers(&node(NodeKind::Block)), policy.covers(&node(NodeKind::Char))), (false, true));
}
