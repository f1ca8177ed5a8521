//! Containers that are created and not started: this test is their runtime, which makes a namespace and calls the hook.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::container::{Container, Ended, is_root, run, skipped};
use crate::rootfs;

/// Root of the container in a user namespace is this one of the machine.
const SHIFTED: u32 = 100_000;

/// A bundle, a directory of specs, and the process of a container that has its namespaces.
pub(crate) struct Bundle {
    pub(crate) container: Container,
    /// Apart from the container, since a spec below another user's directory is not read.
    pub(crate) specs: tempfile::TempDir,
}

pub(crate) struct Created {
    pub(crate) process: Child,
}

impl Drop for Created {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Created {
    /// The container's mounts below this path of the machine.
    pub(crate) fn mounts(&self, path: &std::path::Path) -> Vec<String> {
        mounts(&self.process.id().to_string(), path)
    }

    /// A path as it is in the container's mount namespace.
    pub(crate) fn path(&self, path: &std::path::Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.process.id(), path.display()))
    }
}

/// The mount points below a path in a process's mount namespace, with their options.
fn mounts(process: &str, path: &std::path::Path) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let fields = table.lines().map(|line| line.split(' ').skip(4).take(2).collect::<Vec<_>>());
    let prefix = format!("{}/", path.display());
    fields.filter_map(|it| Some(format!("{} {}", it[0].strip_prefix(&prefix)?, it[1]))).collect()
}

impl Bundle {
    /// A tree for the container, and the edits of the one device, YAML of one line each; `OUTSIDE` is the other tree.
    pub(crate) fn new(page: &str, edits: &str) -> Bundle {
        let container = Container::new(page);
        let outside = container.path("outside");
        let spec =
            format!("cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- name: x\n  containerEdits:\n{edits}\n");
        let specs = tempfile::tempdir().unwrap();
        fs::write(specs.path().join("v.yaml"), spec.replace("OUTSIDE", outside.to_str().unwrap())).unwrap();
        Bundle { container, specs }
    }

    /// The container after these commands in its mount namespace (`$R` is its root, `$O` outside).
    pub(crate) fn created(&self, commands: &str) -> Option<Created> {
        is_root().then_some(())?;
        self.unshared(words("unshare --mount"), &format!("mount --bind $R $R; {commands}"))
    }

    /// The same with a user namespace, whose root owns the tree and can not come to it from this machine's root.
    fn created_for_a_user(&self, commands: &str) -> Option<Created> {
        is_root().then_some(())?;
        let Some(namespace) = user_namespace() else {
            skipped("no user namespaces on this machine");
            return None;
        };
        let directory = self.container.path("");
        shift(&self.container.rootfs());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711)).unwrap();
        let enter = format!("nsenter --target {} --user --setuid 0 --setgid 0", namespace.process.id());
        let command = words(&format!("{enter} unshare --mount"));
        let created = self.unshared(command, &format!("mount --bind $R $R; {commands}"));
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        created
    }

    /// The container in a mount namespace inside another's, which is held by the first.
    fn created_within(&self, outer: &str, unshare: &str, inner: &str) -> Option<(Created, Created)> {
        let outer = self.created(outer)?;
        let enter = format!("nsenter --target {} --mount {unshare}", outer.process.id());
        let inner = self.unshared(words(&enter), inner)?;
        Some((outer, inner))
    }

    fn unshared(&self, mut unshare: Command, commands: &str) -> Option<Created> {
        let script = format!("set -e; {commands}; echo ready; exec sleep 600");
        unshare.args(["sh", "-c", &script]);
        unshare.env("R", self.container.rootfs()).env("O", self.container.path("outside"));
        let mut process = unshare.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "ready\n" {
            let said = process.wait_with_output().unwrap().stderr;
            skipped(&format!("no mounts on this machine: {}", String::from_utf8_lossy(&said).trim()));
            return None;
        }
        Some(Created { process })
    }

    /// Runs the hook on the process of this number.
    fn hook(&self, pid: i64) -> Ended {
        self.hook_after(pid, "true")
    }

    /// The same by a shell that becomes the hook after these commands (`$C` is the number of the container's process).
    fn hook_after(&self, pid: i64, commands: &str) -> Ended {
        let state = self.container.state().replace("\"pid\":1", &format!("\"pid\":{pid}"));
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("{commands}; exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_oci-hook-inject"),
        ]);
        command.args(["prestart", "--device", "v.com/c=x", "--spec-dir"]).arg(self.specs.path());
        command.env("C", pid.to_string());
        let before = mounts("self", self.container.path("").as_path());
        let ended = run(&mut command, state.as_bytes());
        self.container.assert_outside_unchanged();
        assert_eq!(mounts("self", self.container.path("").as_path()), before, "this machine's mounts");
        ended
    }

    pub(crate) fn hook_on(&self, created: &Created) -> Ended {
        self.hook(created.process.id().into())
    }
}

/// A command of these words.
fn words(line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// A process with a user namespace, in which ids from 0 on are those from [`SHIFTED`] on.
fn user_namespace() -> Option<Created> {
    let process =
        Command::new("unshare").args(["--user", "sleep", "600"]).stderr(Stdio::null()).spawn().unwrap();
    let mut created = Created { process };
    let proc = PathBuf::from(format!("/proc/{}", created.process.id()));
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    while fs::read_link(proc.join("ns/user")).ok()? == own {
        if created.process.try_wait().unwrap().is_some() {
            return None;
        }
        std::thread::yield_now();
    }
    for map in ["uid_map", "gid_map"] {
        fs::write(proc.join(map), format!("0 {SHIFTED} 65536")).ok()?;
    }
    Some(created)
}

/// Gives a tree to root of the user namespace.
fn shift(tree: &std::path::Path) {
    let owner = format!("{SHIFTED}:{SHIFTED}");
    assert!(Command::new("chown").args(["-hR", &owner]).arg(tree).status().unwrap().success());
}

pub(crate) const NODE: &str = "    deviceNodes: [{path: /dev/full-of, hostPath: /dev/full}]";
pub(crate) const FILE: &str =
    "    mounts: [{hostPath: OUTSIDE/file, containerPath: /usr/lib/file, options: [ro, bind]}]";

#[test]
fn a_created_container_gets_nodes_and_mounts() {
    let bundle = Bundle::new("dev/\nusr/", &format!("{NODE}\n{FILE}"));
    let Some(created) = bundle.created("mount -t tmpfs tmpfs $R/dev") else { return };
    let ended = bundle.hook_on(&created);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let root = bundle.container.rootfs();
    assert_eq!(created.mounts(&root), ["dev rw,relatime", "usr/lib/file ro,relatime"]);
    let node = created.path(&root.join("dev/full-of")).metadata().unwrap();
    assert_eq!((node.mode() & 0o777, node.uid(), node.rdev()), (0o666, 0, 0x107));
}

/// Nobody makes a node in a user namespace, and what this machine's root makes there belongs to nobody.
#[test]
fn in_a_user_namespace_nodes_are_bound_and_files_are_its_roots() {
    let bundle = Bundle::new("dev/\nusr/\nbin/node = x", &format!("{NODE}\n{FILE}"));
    let Some(created) = bundle.created_for_a_user("mount -t tmpfs tmpfs $R/dev") else { return };
    let ended = bundle.hook_on(&created);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let root = bundle.container.rootfs();
    let mounts = created.mounts(&root);
    assert_eq!(
        mounts[1..],
        ["dev/full-of rw,nosuid,noexec,relatime", "usr/lib/file ro,relatime"],
        "{mounts:?}"
    );
    let made = root.join("usr/lib/file").metadata().unwrap();
    assert_eq!((made.uid(), made.gid()), (SHIFTED, SHIFTED));
    assert_eq!(created.path(&root.join("dev/full-of")).metadata().unwrap().rdev(), 0x107);
}

#[test]
fn in_a_user_namespace_a_node_that_this_machine_has_not_is_refused() {
    let node = "    deviceNodes: [{path: /dev/full, type: c, major: 195}]";
    let bundle = Bundle::new("dev/", node);
    let Some(created) = bundle.created_for_a_user("mount -t tmpfs tmpfs $R/dev") else { return };
    let ended = bundle.hook_on(&created);
    assert_eq!(ended.status, Some(83), "{ended:?}");
    assert!(ended.stderr.contains("/dev/full: not this machine's 195:0"), "{ended:?}");
}

/// What the user has mounted may be this machine's own directory.
#[test]
fn nothing_is_made_on_a_users_mount() {
    let mount = |at: &str| {
        format!("    mounts: [{{hostPath: OUTSIDE/file, containerPath: {at}, options: [ro, bind]}}]")
    };
    let cases = [
        (mount("/data/new"), "/data/new", 0),
        (mount("/data/a/b/new"), "/data/a/b/new", 0),
        (mount("/link/new"), "/link/new", 0),
        // What is there is mounted on, which writes nothing.
        (mount("/data/card0"), "", 1),
        (NODE.replace("/dev/full-of", "/data/full"), "/data/full", 0),
        (NODE.replace("/dev/full-of", "/data/dri/full"), "/data/dri/full", 0),
    ];
    for (edits, told, mounted) in cases {
        let bundle = Bundle::new("volume/card0 = x\ndata/\nlink -> data", &edits);
        let Some(created) = bundle.created("mount --bind $R/volume $R/data") else { return };
        let ended = bundle.hook_on(&created);
        assert_eq!(ended.status, Some(0), "{edits}: {ended:?}");
        assert!(ended.stderr.contains(told), "{edits}: {ended:?}");
        assert_eq!(ended.stderr.contains("nothing is made there"), !told.is_empty(), "{edits}: {ended:?}");
        assert_eq!(rootfs::listing(&bundle.container.rootfs().join("volume")), ["card0"], "{edits}");
        assert_eq!(created.mounts(&bundle.container.rootfs()).len(), 1 + mounted, "{edits}");
    }
}

/// U01: a number that is not that of a container which this very runtime has made.
#[test]
fn u01_no_process_but_the_runtimes_own_container_is_believed() {
    let bundle = Bundle::new("dev/\nusr/", &format!("{NODE}\n{FILE}"));
    let Some(created) = bundle.created("true") else { return };
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    // Ended, and its number kept from others until this test asks for its end.
    let mut ended = Command::new("unshare").args(["--mount", "true"]).spawn().unwrap();
    while !fs::read_to_string(format!("/proc/{}/status", ended.id())).unwrap().contains("State:\tZ") {
        std::thread::yield_now();
    }
    // A container of another runtime, which is not this test but the shell.
    let other = "unshare --mount sh -c 'echo $$; exec sleep 600' & wait";
    let mut other = Command::new("sh").args(["-c", other]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let others: i64 = line.trim().parse().unwrap();
    let own = i64::from(std::process::id());
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    for (pid, word) in [
        (0, "is no container's"),
        (1, "is no container's"),
        (-1, "is no container's"),
        (1 << 31, "is no container's"),
        (i64::MAX, "is no container's"),
        (i64::from(i32::MAX), "cannot be opened"),
        (gone.id().into(), "cannot be opened"),
        (ended.id().into(), ""),
        (own, "is not the runtime's child"),
        (others, "is not the runtime's child"),
        (child.id().into(), "has no mount namespace of its own"),
    ] {
        let ended = bundle.hook(pid);
        assert_eq!(ended.status, Some(65), "{pid}: {ended:?}");
        assert!(ended.stderr.contains(word), "{pid}: {ended:?}");
        assert_eq!(rootfs::listing(&bundle.container.rootfs()), ["dev/", "usr/"], "{pid}");
    }
    child.kill().unwrap();
    let status = Command::new("kill").arg(others.to_string()).status().unwrap();
    assert!(status.success() && ended.wait().is_ok() && child.wait().is_ok() && other.wait().is_ok());
    assert_eq!(bundle.hook_on(&created).status, Some(0), "the container itself is");
}

/// L02: whatever the mount is like on which something is mounted, no other namespace sees it.
#[test]
fn l02_no_mount_is_seen_in_another_namespace() {
    let at = |path: &str| {
        format!("    mounts: [{{hostPath: OUTSIDE/file, containerPath: {path}, options: [ro, bind]}}]")
    };
    let (file, new, tmpfs) =
        (at("/usr/file"), at("/usr/new"), "mount -t tmpfs tmpfs $R/run; touch $R/run/file");
    let shared_tmpfs = format!("{tmpfs}; mount --make-shared $R/run");
    let cases = [
        ("slave", "true", &file, 0, ""),
        ("slave", "true", &new, 0, ""),
        ("shared", "true", &file, 85, "on a shared mount"),
        ("shared", "true", &new, 85, "on a shared mount"),
        // It passes on what it gets, and what it is given below.
        ("slave", "mount --make-shared $R", &file, 85, "on a shared mount"),
        ("slave", "mount --make-unbindable $R", &file, 0, ""),
        ("slave", "mount -o remount,bind,ro $R", &file, 0, ""),
        ("slave", "mount -o remount,bind,ro $R", &new, 85, "Read-only file system"),
        ("slave", tmpfs, &at("/run/file"), 0, ""),
        ("slave", tmpfs, &at("/run/new"), 0, "nothing is made there"),
        ("slave", &shared_tmpfs, &at("/run/file"), 85, "on a shared mount"),
    ];
    for (propagation, commands, edits, status, word) in cases {
        let bundle = Bundle::new("usr/file = x\nrun/", edits);
        let root = bundle.container.rootfs();
        let unshare = format!("unshare --mount --propagation {propagation}");
        let Some((outer, inner)) = bundle.created_within("mount --make-shared $R", &unshare, commands) else {
            return;
        };
        let before = (outer.mounts(&root), inner.mounts(&root));
        let ended = bundle.hook_on(&inner);
        assert_eq!(ended.status, Some(status), "{propagation} {commands} {edits}: {ended:?}");
        assert!(ended.stderr.contains(word), "{propagation} {commands} {edits}: {ended:?}");
        assert_eq!(outer.mounts(&root), before.0, "{propagation} {commands} {edits}");
        let more = usize::from(word.is_empty());
        assert_eq!(inner.mounts(&root).len(), before.1.len() + more, "{propagation} {commands} {edits}");
    }
}

/// L02: a mount whose owners are shifted, as podman has them for a user namespace.
#[test]
fn l02_on_a_mount_with_shifted_owners_files_belong_to_root() {
    // open_tree, mount_setattr with MOUNT_ATTR_IDMAP, move_mount: the numbers are those of every architecture.
    const SHIFT: &str = r#"perl -e '
        open(my $users, "<", "/proc/$ENV{U}/ns/user") or die;
        my ($none, $root, $shifted) = ("", $ENV{R}, pack("QQQQ", 0x100000, 0, 0, fileno($users)));
        my $tree = syscall(428, -100, $root, 1);
        syscall(442, $tree, $none, 0x1000, $shifted, 32) == 0 or die "mount_setattr: $!";
        syscall(429, $tree, $none, -100, $root, 4) == 0 or die "move_mount: $!"'"#;
    let bundle = Bundle::new("dev/\nusr/", &format!("{NODE}\n{FILE}"));
    let Some(users) = is_root().then(user_namespace).flatten() else { return };
    let id = users.process.id();
    let open =
        |mode| fs::set_permissions(bundle.container.path(""), fs::Permissions::from_mode(mode)).unwrap();
    open(0o711);
    let unshare = format!("nsenter --target {id} --user --setuid 0 --setgid 0 unshare --mount");
    let outer = format!("U={id} {SHIFT}");
    let inner = "mount -t tmpfs tmpfs $R/dev";
    let Some((outer, inner)) = bundle.created_within(&outer, &unshare, inner) else { return };
    open(0o700);
    let root = bundle.container.rootfs();
    let before = outer.mounts(&root);
    let ended = bundle.hook_on(&inner);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!((outer.mounts(&root), inner.mounts(&root).len()), (before, 3));
    assert_eq!(root.join("usr/lib/file").metadata().unwrap().uid(), 0, "on the disk");
    assert_eq!(inner.path(&root.join("usr/lib")).metadata().unwrap().uid(), SHIFTED, "in the container");
}

/// L03: what was mounted before a failure goes with the container, which does not start.
#[test]
fn l03_mounts_before_a_failure_go_with_the_container() {
    let mounts = "    mounts: [{hostPath: OUTSIDE/file, containerPath: /first}, {hostPath: OUTSIDE/file, containerPath: /usr}, \
        {hostPath: OUTSIDE/file, containerPath: /third}]";
    let bundle = Bundle::new("usr/", mounts);
    let Some((outer, inner)) = bundle.created_within("true", "unshare --mount", "true") else { return };
    let root = bundle.container.rootfs();
    let ended = bundle.hook_on(&inner);
    assert_eq!(ended.status, Some(85), "{ended:?}");
    assert!(ended.stderr.contains("usr: a regular file cannot be mounted on a directory"), "{ended:?}");
    assert_eq!((outer.mounts(&root).len(), inner.mounts(&root)), (0, vec!["first rw,relatime".to_owned()]));
    drop(inner);
    // What was made to mount at is a file of the container's tree, as runtimes leave it.
    assert_eq!(rootfs::listing(&root), ["first", "usr/"]);
    fs::remove_file(root.join("first")).unwrap();
}

/// V04: what lies over /proc is not believed. The files of the hook's own process: `tests/hook/steps.rs`.
#[test]
fn v04_a_proc_that_is_mounted_over_is_not_believed() {
    for before in ["mount -t tmpfs tmpfs /proc", "mount --bind /proc/1 /proc"] {
        let bundle = Bundle::new("usr/lib/file = x", FILE);
        let Some(created) = bundle.created(before) else { return };
        let ended = bundle.hook_on(&created);
        assert_eq!(ended.status, Some(85), "{before}: {ended:?}");
        assert!(ended.stderr.contains("mounted over this machine's own /proc"), "{before}: {ended:?}");
        assert_eq!(created.mounts(&bundle.container.rootfs()), [""; 0], "{before}");
    }
}

/// T04: a /dev that leads elsewhere holds no device of this machine.
#[test]
fn t04_a_dev_that_is_a_link_leads_nowhere_outside() {
    for (page, made) in [
        ("dev -> OUTSIDE/lib", false),
        ("dev -> ../../../../../../../../../../dev", false),
        ("dev -> /proc/self/root/dev", false),
        ("dev -> /devices\ndevices/", true),
    ] {
        let bundle = Bundle::new(page, NODE);
        let Some(created) = bundle.created("true") else { return };
        let ended = bundle.hook_on(&created);
        assert_eq!(ended.status == Some(0), made, "{page}: {ended:?}");
        let node = bundle.container.rootfs().join("devices/full-of");
        assert_eq!(created.path(&node).symlink_metadata().is_ok(), made, "{page}");
        assert!(!std::path::Path::new("/dev/full-of").exists());
    }
}
