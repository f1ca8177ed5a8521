//! Starts and ends as they should be: what is made, and that it is gone.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::place::{DEBIAN, Place, cleanup, files, is_private, prepare, state};

const STATE: &str = "/run/gpuspec/nspawn/guest";
const USERS: &str = "/etc/systemd/nspawn/guest.nspawn";
const SETTINGS: &str = "/run/systemd/nspawn/guest.nspawn";

#[test]
fn a_machine_is_prepared_and_left_as_it_was() {
    if !is_private("start::a_machine_is_prepared_and_left_as_it_was") {
        return;
    }
    let place = Place::new(DEBIAN);
    let ended = prepare(&[]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));

    let tree = Path::new(STATE).join("tree");
    let names: Vec<String> = files(&tree)
        .iter()
        .filter(|path| !path.is_dir())
        .map(|path| path.strip_prefix(&tree).unwrap().display().to_string())
        .collect();
    let expected = [
        "lib/libcuda.so",
        "lib/libcuda.so.1",
        "lib/libcuda.so.550.1",
        "lib/libnvidia-ml.so.1",
        "lib/libnvidia-ml.so.550.1",
        "share/glvnd/egl_vendor.d/10_nvidia.json",
    ];
    assert_eq!(names, expected);
    let (ours, hosts) = (tree.join("lib/libcuda.so"), place.driver().join("libcuda.so.550.1"));
    assert!(fs::read(&ours).unwrap() == fs::read(&hosts).unwrap());
    let is_read_only = |path: &Path| {
        let found = rustix::fs::statfs(path).unwrap().f_type;
        // OVERLAYFS_SUPER_MAGIC: the host's own file through a file system that cannot be written to (view.rs).
        i128::from(found) == 0x794c_7630
    };
    assert!(is_read_only(&ours) && !is_read_only(&hosts));
    let refused = fs::write(tree.join("lib/libcuda.so.1"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);

    let node = Path::new(STATE).join("dev/dev/dri/renderD128").metadata().unwrap();
    assert!(node.file_type().is_char_device() && node.rdev() == (226 << 8 | 128));
    assert_eq!(
        (node.mode() & 0o7777, node.uid(), node.gid()),
        (0o660, 0, 27),
        "the machine's number of the group"
    );
    let above = Path::new(STATE).join("dev").metadata().unwrap();
    assert_eq!(above.mode() & 0o7777, 0o700, "which is another group's on the host");

    let cache = place.cache();
    assert_eq!(cache.iter().filter(|line| line.contains("/run/gpuspec/lib/")).count(), 4 + 1, "{cache:?}");
    let first = cache.iter().find(|line| line.starts_with("libcuda.so.1 ")).unwrap();
    assert_eq!(first, "libcuda.so.1 /run/gpuspec/lib/libcuda.so.1");
    let list = fs::read_to_string(place.root().join("etc/ld.so.conf.d/00-gpuspec.conf")).unwrap();
    assert!(list.ends_with("\n/run/gpuspec/lib\n"), "{list}");

    let settings = fs::read_to_string(SETTINGS).unwrap();
    for line in [
        "BindReadOnly=/run/gpuspec/nspawn/guest/tree:/run/gpuspec\n",
        "Bind=/tmp/dev/nvidia0:/dev/nvidia0\n",
        "Bind=/run/gpuspec/nspawn/guest/link/dev/dri/renderD128:/dev/dri/renderD128:idmap\n",
        "Environment=NVIDIA_VISIBLE_DEVICES=void\n",
    ] {
        assert!(settings.contains(line), "{line}: {settings}");
    }

    let ended = cleanup();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    place.assert_untouched("after the stop");
    assert_eq!(cleanup().status, Some(0), "once more");
    place.assert_untouched("after a second clean-up");
}

#[test]
fn what_is_there_already_is_begun_anew() {
    if !is_private("start::what_is_there_already_is_begun_anew") {
        return;
    }
    let place = Place::new(DEBIAN);
    // What is missing below /tmp is left out.
    std::os::unix::fs::symlink(place.driver(), "/var/lib/driver").unwrap();
    let spec = fs::read_to_string("/tmp/cdi/nvidia.json").unwrap();
    let spec = spec.replace(place.driver().to_str().unwrap(), "/var/lib/driver");
    fs::write("/tmp/cdi/nvidia.json", spec).unwrap();
    assert_eq!(prepare(&[]).status, Some(0));
    let once = state(&place.root().join("usr"));
    // Upgraded meanwhile: the spec names other files.
    for name in ["libcuda.so", "libnvidia-ml.so"] {
        let file = |version: &str| place.driver().join(format!("{name}.{version}"));
        fs::rename(file("550.1"), file("551.2")).unwrap();
    }
    let ended = prepare(&[]);
    assert_eq!(ended.status, Some(83), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("libcuda.so.550.1") && ended.stderr.contains("make the spec anew"),
        "{}",
        ended.stderr
    );
    place.assert_untouched("a spec of another driver");

    let spec = fs::read_to_string("/tmp/cdi/nvidia.json").unwrap();
    fs::write("/tmp/cdi/nvidia.json", spec.replace("550.1", "551.2")).unwrap();
    assert_eq!(prepare(&[]).status, Some(0));
    assert_eq!(prepare(&[]).status, Some(0), "twice");
    assert!(Path::new(STATE).join("tree/lib/libcuda.so.551.2").exists());
    assert_eq!(state(&place.root().join("usr")), once);
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

#[test]
fn whoever_changed_files_meanwhile_keeps_that() {
    if !is_private("start::whoever_changed_files_meanwhile_keeps_that") {
        return;
    }
    let place = Place::new(DEBIAN);
    let etc = place.root().join("etc");
    let old = place.cache();
    assert_eq!(prepare(&[]).status, Some(0));
    // As the machine's own ldconfig would: ours and its own, and one more.
    let mut added = libgpuspec::ldcache::insert(
        Some(&fs::read(etc.join("ld.so.cache")).unwrap()),
        &[libgpuspec::ldcache::Library {
            abi: libgpuspec::ldcache::Abi::X86_64,
            directory: "/opt/lib".into(),
            name: "libnew.so.3",
        }],
    );
    fs::write(etc.join("ld.so.cache.new"), added.as_mut().unwrap().take().unwrap()).unwrap();
    fs::rename(etc.join("ld.so.cache.new"), etc.join("ld.so.cache")).unwrap();
    fs::write(etc.join("ld.so.conf.d/theirs.conf"), "/opt/lib\n").unwrap();
    let (changed, etc_changed) = (etc.join("ld.so.cache").metadata().unwrap(), etc.metadata().unwrap());

    assert_eq!(cleanup().status, Some(0));
    place.assert_nothing_made("after the stop");
    let left = place.cache();
    assert!(left.contains(&"libnew.so.3 /opt/lib/libnew.so.3".to_owned()), "{left:?}");
    let rest: Vec<String> = left.into_iter().filter(|line| !line.starts_with("libnew")).collect();
    assert_eq!(rest, old);
    assert_eq!(fs::read_dir(etc.join("ld.so.conf.d")).unwrap().count(), 2);
    let now = etc.join("ld.so.cache").metadata().unwrap();
    assert_eq!((now.mtime(), now.mtime_nsec()), (changed.mtime(), changed.mtime_nsec()));
    let now = etc.metadata().unwrap();
    assert_eq!((now.mtime(), now.mtime_nsec()), (etc_changed.mtime(), etc_changed.mtime_nsec()));
}

#[test]
fn a_machine_without_loader_configuration_gets_and_loses_it() {
    if !is_private("start::a_machine_without_loader_configuration_gets_and_loses_it") {
        return;
    }
    let page: Vec<&str> = DEBIAN.lines().filter(|line| !line.starts_with("etc/ld.so.conf")).collect();
    let mut place = Place::new(&page.join("\n"));
    // As nspawn leaves a tree that it has shifted for a user namespace.
    let chown = Command::new("chown").args(["-hR", "270860288:270860288"]).arg(place.root()).status();
    assert!(chown.unwrap().success());
    place.begin_again();
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    for name in ["etc/ld.so.conf", "etc/ld.so.conf.d", "etc/ld.so.conf.d/00-gpuspec.conf", "etc/ld.so.cache"]
    {
        let metadata = place.root().join(name).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (270860288, 270860288), "{name}");
    }
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

#[test]
fn a_tree_that_was_shifted_meanwhile_stays_shifted() {
    if !is_private("start::a_tree_that_was_shifted_meanwhile_stays_shifted") {
        return;
    }
    let mut place = Place::new(DEBIAN);
    let shift = |place: &Place| {
        let owner = "270860288:270860288";
        assert!(Command::new("chown").args(["-hR", owner]).arg(place.root()).status().unwrap().success());
    };
    assert_eq!(prepare(&["--loader=cache"]).status, Some(0));
    // As nspawn does where it cannot map owners.
    shift(&place);
    assert_eq!(cleanup().status, Some(0));
    let after = place.state();
    shift(&place);
    place.begin_again();
    assert_eq!(after, place.before());
    assert!(place.cache().iter().all(|line| !line.contains("/run/gpuspec")));
}

#[test]
fn what_an_interrupted_machine_or_its_copy_brings_is_not_kept() {
    if !is_private("start::what_an_interrupted_machine_or_its_copy_brings_is_not_kept") {
        return;
    }
    let place = Place::new(DEBIAN);
    let etc = place.root().join("etc");
    let (cache, lists) = (place.cache(), fs::read_dir(etc.join("ld.so.conf.d")).unwrap().count());
    fs::write(USERS, "[Files]\nBind=/srv\n").unwrap();
    assert_eq!(prepare(&[]).status, Some(0));
    let cut_the_power = || {
        // /run is gone, the tree is as it was while the machine ran, and so is the user's settings file.
        rustix::mount::unmount(STATE, rustix::mount::UnmountFlags::DETACH).unwrap();
        fs::remove_dir_all("/run/gpuspec").unwrap();
    };
    cut_the_power();
    assert_eq!(prepare(&[]).status, Some(0));
    cut_the_power();
    assert_eq!(cleanup().status, Some(0));
    assert_eq!((place.cache(), fs::read_dir(etc.join("ld.so.conf.d")).unwrap().count()), (cache, lists));
    assert_eq!(fs::read_to_string(USERS).unwrap(), "[Files]\nBind=/srv\n");

    // A start that finds no spec any more is not to meet what is no more either.
    assert_eq!(prepare(&[]).status, Some(0));
    cut_the_power();
    fs::remove_file("/tmp/cdi/nvidia.json").unwrap();
    assert_eq!(prepare(&[]).status, Some(81));
    assert_eq!(fs::read_to_string(USERS).unwrap(), "[Files]\nBind=/srv\n");
    place.write_spec();
    assert_eq!(prepare(&[]).status, Some(0));
    fs::remove_file("/tmp/cdi/nvidia.json").unwrap();
    assert_eq!(prepare(&[]).status, Some(81), "while something is made ready");
    fs::remove_file(USERS).unwrap();
    place.assert_nothing_made("after a start without a spec");
}

#[test]
fn links_over_a_library_directory_touch_nothing() {
    if !is_private("start::links_over_a_library_directory_touch_nothing") {
        return;
    }
    let place = Place::new(DEBIAN);
    assert_eq!(prepare(&["--loader=overlay", "--user-namespace=no"]).status, Some(0));
    let link = fs::read_link(Path::new(STATE).join("farm/0/libcuda.so.1")).unwrap();
    assert_eq!(link, Path::new("/run/gpuspec/lib/libcuda.so.1"));
    let settings = fs::read_to_string(SETTINGS).unwrap();
    let line = "OverlayReadOnly=/run/gpuspec/nspawn/guest/below/0:/run/gpuspec/nspawn/guest/farm/0:/usr/lib/x86_64-linux-gnu\n";
    assert!(settings.contains(line), "{settings}");
    assert_eq!(place.state(), place.before(), "while it runs");
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");

    fs::remove_file("/var/lib/machines/guest").unwrap();
    fs::write("/var/lib/machines/guest.raw", "an image").unwrap();
    for loader in [None, Some("--loader=overlay")] {
        let words = ["--library-directory=/usr/lib64"].into_iter().chain(loader);
        let ended = prepare(&words.collect::<Vec<_>>());
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("LD_LIBRARY_PATH is set instead"), "{}", ended.stderr);
        let settings = fs::read_to_string(SETTINGS).unwrap();
        assert!(!settings.contains("Overlay") && settings.contains("LD_LIBRARY_PATH="), "{settings}");
    }
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the image's stop");
}

#[test]
fn what_cannot_be_prepared_is_told_in_one_line() {
    if !is_private("start::what_cannot_be_prepared_is_told_in_one_line") {
        return;
    }
    let place = Place::new(DEBIAN);
    let all = ["--device", "nvidia.com/gpu=all", "--spec-dir", "/tmp/cdi"];
    let cases: [(&str, Vec<&str>, i32, &str); 7] = [
        (
            "no such device",
            vec!["--machine=guest", "--device", "nvidia.com/gpu=7", "--spec-dir", "/tmp/cdi"],
            81,
            "nvidia.com/gpu=7",
        ),
        (
            "no spec",
            vec!["--machine=guest", "--device", "nvidia.com/gpu=all", "--spec-dir", "/tmp/none"],
            81,
            "nvidia.com/gpu=all",
        ),
        ("no such machine", [&["--machine=other"][..], &all].concat(), 65, "no machine other"),
        ("no machine's name", [&["--machine=../guest"][..], &all].concat(), 65, "no machine's name"),
        ("this host", [&["--machine=guest", "--directory=/"][..], &all].concat(), 65, "this machine's own"),
        (
            "a hook",
            vec!["--machine=guest", "--device", "nvidia.com/gpu=foreign", "--spec-dir", "/tmp/cdi"],
            80,
            "--allow-hook v-hook",
        ),
        (
            "a file for a root",
            [&["--machine=guest", "--directory=/tmp/cdi/nvidia.json"][..], &all].concat(),
            65,
            "nvidia.json",
        ),
    ];
    for (name, words, status, said) in cases {
        let ended =
            crate::place::run(&mut crate::place::program(&[&["nspawn-prepare"][..], &words].concat()));
        assert_eq!(ended.status, Some(status), "{name}: {}", ended.stderr);
        assert!(ended.stderr.lines().count() == 1 && ended.stderr.contains(said), "{name}: {}", ended.stderr);
        if words.contains(&"--machine=guest") {
            let again = crate::place::run(&mut crate::place::program(&["nspawn-report", "--machine=guest"]));
            assert_eq!(again.status, Some(0), "{name}");
            let runs = ended.stderr.replacen(": ", ": guest runs without its devices: ", 1);
            assert_eq!(again.stderr, runs, "{name}");
        }
        place.assert_untouched(name);
    }
    let allowed = [
        "nspawn-prepare",
        "--machine=guest",
        "--device",
        "nvidia.com/gpu=foreign",
        "--spec-dir",
        "/tmp/cdi",
        "--allow-hook",
        "v-hook",
    ];
    let ended = crate::place::run(&mut crate::place::program(&allowed));
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("v-hook: a hook that was not run"), "{}", ended.stderr);
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

#[test]
fn what_is_no_machine_or_no_directory_of_one_is_refused_alike() {
    if !is_private("start::what_is_no_machine_or_no_directory_of_one_is_refused_alike") {
        return;
    }
    let place = Place::new(DEBIAN);
    for name in ["../guest", ""] {
        let ended = crate::place::run(&mut crate::place::program(&["nspawn-cleanup", "--machine", name]));
        assert_eq!(ended.status, Some(65), "{name}: {}", ended.stderr);
    }
    for directory in ["usr/lib64", "/usr/../lib", "/", ""] {
        let ended = prepare(&["--library-directory", directory]);
        assert_eq!(ended.status, Some(2), "{directory}: {}", ended.stderr);
        assert!(ended.stderr.contains("as /usr/lib64"), "{directory}: {}", ended.stderr);
        place.assert_untouched(directory);
    }
}

#[test]
fn a_machine_that_has_its_devices_is_no_news() {
    if !is_private("start::a_machine_that_has_its_devices_is_no_news") {
        return;
    }
    let place = Place::new(DEBIAN);
    let report = || crate::place::run(&mut crate::place::program(&["nspawn-report", "--machine=guest"]));
    assert_eq!(prepare(&["--spec-dir", "/tmp/none", "--device", "v.com/c=no"]).status, Some(81));
    assert!(report().stderr.contains("v.com/c=no"));
    assert_eq!(prepare(&[]).status, Some(0));
    let ended = report();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}
