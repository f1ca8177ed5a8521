//! Nodes that belong to a group: the spec gives it, and stays one that the engines here read.

use std::fs;
use std::process::{Command, Output};

use super::{NAME, command, status, told};
use crate::tree::Tree;

const PODMAN: &str = "Package: podman\nStatus: install ok installed\nVersion: VERSION\n\n";

/// Generates for a host.
fn generate(host: &Tree, arguments: &[&str]) -> Output {
    let own = ["generate", "--hook-path", "/usr/libexec/libgpuspec/oci-hook"];
    command(host.path(), &[&own[..], arguments].concat()).output().unwrap()
}

/// Makes the nodes of a GPU: one for all, one for a group.
fn make_nodes(host: &Tree) -> bool {
    let dev = host.path().join("dev");
    [("nvidia0", "666", "195 0", 0), ("dri/card0", "660", "226 0", 44)].iter().all(
        |(name, mode, numbers, group)| {
            let node = dev.join(name);
            fs::create_dir_all(node.parent().unwrap()).unwrap();
            let words = ["-m", mode, node.as_str(), "c"];
            let made = Command::new("mknod").args(words).args(numbers.split(' ')).output().unwrap();
            made.status.success() && std::os::unix::fs::chown(&node, None, Some(*group)).is_ok()
        },
    )
}

/// A host whose GPU has both nodes, and this podman in its package database.
fn host_with_groups(podman: Option<&str>) -> Option<Tree> {
    let drm = "sys/bus/pci/devices/0000:01:00.0/drm/card0";
    let gpu = format!(
        "{drm}/dev \"226:0\\n\"\n{drm}/uevent \"MAJOR=226\\nMINOR=0\\nDEVNAME=dri/card0\\nDEVTYPE=drm_minor\\n\""
    );
    let status = podman.map(|version| PODMAN.replace("VERSION", version).replace('\n', "\\n"));
    let status = status.map(|text| format!("var/lib/dpkg/status \"{text}\"\n")).unwrap_or_default();
    let host = Tree::build(&format!("{}\n{gpu}\n{status}", include_str!("../hosts/fedora.tree")));
    if make_nodes(&host) {
        return Some(host);
    }
    eprintln!("skipped: needs CAP_MKNOD and CAP_CHOWN");
    None
}

/// Case Q: a group that a node is for is the container's too, in a version that every installed engine reads.
#[test]
fn runtime_q_nodes_have_their_groups_and_old_engines_are_served() {
    let groups = "additionalGids:\n    - 44\n";
    // What podman is installed; the version declared; whether the group is given; what is said.
    let cases = [
        (None, "0.7.0", true, ""),
        (Some("5.4.2+ds1-2"), "0.7.0", true, ""),
        (
            Some("4.3.1+ds1-8+deb12u1"),
            "0.5.0",
            false,
            "podman-4.3.1 is installed and reads cdiVersion 0.5.0 at most",
        ),
        (Some("4.9.3+ds1-1ubuntu0.2"), "0.5.0", false, "additionalGids"),
    ];
    for (podman, version, given, word) in cases {
        let Some(host) = host_with_groups(podman) else { return };
        let path = host.path().join("etc/cdi");
        let output = generate(&host, &["--install", "--spec-dir", path.as_str()]);
        assert_eq!(status(&output), 0, "{podman:?}: {}", told(&output));
        let spec = fs::read_to_string(path.join(NAME)).unwrap();
        assert!(spec.contains(&format!("cdiVersion: \"{version}\"")), "{podman:?}: {spec}");
        assert_eq!(spec.contains(groups), given, "{podman:?}: {spec}");
        assert!(spec.contains("gid: 44") && !spec.contains("uid:"), "{spec}");
        assert!(told(&output).contains(word), "{podman:?}: {}", told(&output));
    }
    let Some(host) = host_with_groups(Some("4.3.1")) else { return };
    for (arguments, version, word) in [
        (&[][..], "0.7.0", "cdiVersion 0.7.0 is read by podman from 5.1"),
        (&["--target", "podman-4.3"], "0.5.0", "additionalGids"),
        (&["--cdi-version", "0.5.0"], "0.5.0", "additionalGids"),
    ] {
        let output = generate(&host, arguments);
        assert!(told(&output).contains(word), "{arguments:?}: {}", told(&output));
        let spec = String::from_utf8(output.stdout).unwrap();
        assert!(spec.contains(&format!("cdiVersion: \"{version}\"")), "{arguments:?}: {spec}");
    }
}
