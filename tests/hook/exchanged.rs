//! H2: roots whose path somebody else leads elsewhere after the runtime has used it.

use std::fs;
use std::process::Command;

use crate::container::{Container, Ended, PLAIN, is_root, run, skipped};
use crate::rootfs;

const WORDS: [&[&str]; 4] = [
    &["create-container", "--link", "a::/usr/lib/b", "--libraries", "x86-64:/usr/lib:libcuda.so.1"],
    &["create-symlinks", "--link", "a::/usr/lib/b"],
    &["update-ldcache", "--folder", "/usr/lib"],
    &["chmod", "--mode", "777", "--path", "/usr"],
];

/// Runs the hook in a mount namespace of its own, after these commands: `$U` is a directory of another user's, in
/// it the bundle `$U/b`, `$R` its root, `$V` is root's own directory.
fn after(container: &Container, commands: &str, words: &[&str], state: &str) -> Option<Ended> {
    if !is_root() {
        return None;
    }
    let script = format!(
        "set -e; mkdir $U; mv $B $U/b; R=$U/b/rootfs; chown 1001 $U; mkdir -p $V/usr/lib; {commands}; \
         exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook")]).args(words);
    command
        .env("U", container.path("u"))
        .env("V", container.path("victim"))
        .env("B", container.path("bundle"));
    let ended = run(&mut command, state.as_bytes());
    if ended.stderr.starts_with("unshare:") || ended.stderr.contains("mount:") {
        skipped(&format!("no mounts on this machine: {}", ended.stderr.trim()));
        return None;
    }
    Some(ended)
}

/// As runc writes the state, without a root, and as crun does.
fn states(container: &Container) -> [String; 2] {
    let bundle = container.path("u/b");
    [
        serde_json::json!({ "bundle": bundle }).to_string(),
        serde_json::json!({ "bundle": bundle, "root": bundle.join("rootfs") }).to_string(),
    ]
}

const MOUNTED: &str = "mount --bind $R $R";
/// Another takes the bundle away and puts one of his own in its place.
const EXCHANGED: &str = "mv $U/b $U/old; mkdir $U/b; cp $U/old/config.json $U/b; chown 1001 $U/b";

#[test]
fn h2_root_that_is_no_mount_point_is_refused() {
    for words in WORDS {
        let container = Container::new("usr/lib/");
        let before = rootfs::manifest(&container.rootfs());
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        let ended = run(command.args(words), container.state().as_bytes());
        assert_eq!(ended.status, Some(67), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains("bundle/rootfs is not a mount point"), "{words:?}: {ended:?}");
        assert_eq!(rootfs::manifest(&container.rootfs()), before, "{words:?}");
    }
}

#[test]
fn h2_exchanged_bundle_leads_to_no_directory_of_the_host() {
    let cases = [
        ("a link", "ln -s $V $U/b/rootfs"),
        ("a link to a mount", "mount -t tmpfs t $V; mkdir -p $V/usr/lib; ln -s $V $U/b/rootfs"),
        ("a link to a mount of itself", "mount --bind $V $V; ln -s $V $U/b/rootfs"),
        (
            "a bundle that is a link",
            "mount --bind $V $V; rm -r $U/b; ln -s $V/.. $U/b; ln -s $V $V/../rootfs",
        ),
        ("a plain directory", "mkdir -p $U/b/rootfs/usr/lib"),
        (
            "another mount of the user's",
            "mkdir $U/m $U/m/rootfs; mount -t tmpfs t $U/m/rootfs; rmdir $U/b || rm -r $U/b; mv $U/m $U/b; cp $U/old/config.json $U/b",
        ),
    ];
    for (what, exchange) in cases {
        for words in WORDS {
            for index in [0, 1] {
                let container = Container::new("usr/lib/");
                let state = &states(&container)[index];
                let commands =
                    format!("{MOUNTED}; {EXCHANGED}; {exchange}; find $V >$U/before; ls -lR $V >>$U/before");
                let check = format!(
                    "{commands}; \"$@\" && exit 1; status=$?; find $V >$U/after; ls -lR $V >>$U/after; cmp $U/before $U/after || exit 2; exit $status"
                );
                let Some(ended) = after(&container, &check, words, state) else { return };
                assert!([66, 67].contains(&ended.status.unwrap()), "{what}: {words:?}: {ended:?}");
            }
        }
    }
}

/// H11: an access list lets another user write, and shows in the bits of the group, which may be root's.
#[test]
fn h11_bundle_in_a_directory_that_a_group_can_change_leads_to_no_other_mount() {
    let exchange = "chown 0:0 $U; chmod 775 $U; mv $U/b $U/old; P=$V/../prepared; mkdir $P; cp $U/old/config.json $P; \
                    mount -t tmpfs t $V; mkdir -p $V/usr/lib; ln -s $V $P/rootfs; ln -s $P $U/b";
    for words in WORDS {
        for index in [0, 1] {
            let container = Container::new("usr/lib/");
            let state = &states(&container)[index];
            let check = format!(
                "{MOUNTED}; {exchange}; \"$@\" && exit 1; status=$?; test ! -e $V/usr/lib/b; exit $status"
            );
            let Some(ended) = after(&container, &check, words, state) else { return };
            assert!([66, 67].contains(&ended.status.unwrap()), "{words:?}: {ended:?}");
            assert!(ended.stderr.contains("other than root can"), "{words:?}: {ended:?}");
        }
    }
}

/// The config that is read by the bundle's path can be another's, too.
#[test]
fn h2_config_of_another_leads_to_no_directory_of_the_host() {
    for root in ["$V", "../../victim", "/home/../$V", "../b/../../victim"] {
        let container = Container::new("usr/lib/");
        let config = format!(
            "{MOUNTED}; {EXCHANGED}; mount --bind $V $V; echo \"{{\\\"root\\\":{{\\\"path\\\":\\\"{root}\\\"}}}}\" >$U/b/config.json"
        );
        let Some(ended) = after(&container, &config, WORDS[0], &states(&container)[0]) else { return };
        assert_eq!(ended.status, Some(67), "{root}: {ended:?}");
        assert!(ended.stderr.contains("other than root can"), "{root}: {ended:?}");
    }
}

#[test]
fn h2_honest_roots_are_taken_wherever_they_are() {
    let cases = [
        ("in a user's directory", MOUNTED),
        (
            "in a link that root made",
            "mount --bind $R $R; ln -s $U/b $U/../link; mv $U $U.moved; ln -s $U.moved $U",
        ),
        ("a file system that is mounted on itself", "mount -t tmpfs t $R; mount --bind $R $R"),
        (
            "named absolutely by its config",
            "mount --bind $R $R; echo \"{\\\"root\\\":{\\\"path\\\":\\\"$R\\\"}}\" >$U/b/config.json",
        ),
        ("in a directory for all", "mount --bind $R $R; chown 0 $U; chmod 1777 $U"),
        ("of root's own", "chown 0 $U; mount -t tmpfs t $R"),
        ("of root's own, for a group", "chown 0 $U; chmod 775 $U; mount --bind $R $R"),
    ];
    for (what, commands) in cases {
        for words in WORDS {
            for index in [0, 1] {
                let container = Container::new("usr/lib/");
                let state = &states(&container)[index];
                let Some(ended) = after(&container, commands, words, state) else { return };
                assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{what}: {words:?}");
            }
        }
    }
}

/// As `podman --userns=keep-id` of an ordinary user has it: the user's directories belong to none of the namespace's
/// root, and links in them are the user's own.
#[test]
fn h2_users_own_directories_are_taken_in_a_user_namespace() {
    for commands in ["true", "mv $U/b $U/c; ln -s c $U/b; chown -h 1001 $U/b"] {
        let container = Container::new("usr/lib/");
        let state = &states(&container)[0];
        let inner = "mount --bind $U/b/rootfs $U/b/rootfs; exec \"$@\"";
        let enter =
            format!("{commands}; exec unshare --user --map-root-user --mount sh -ec '{inner}' sh \"$@\"");
        let Some(ended) = after(&container, &enter, WORDS[0], state) else { return };
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{commands}");
    }
}

/// A caller who vouches for the path may have any directory.
#[test]
fn h2_plain_root_is_taken_where_the_caller_says_so() {
    let container = Container::new("usr/lib/");
    let words = [WORDS[0], &[PLAIN]].concat();
    let Some(ended) = after(&container, "true", &words, &states(&container)[0]) else { return };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert!(fs::symlink_metadata(container.path("u/b/rootfs/usr/lib/b")).is_ok());
}
