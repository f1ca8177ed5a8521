//! What a machine's tree leads to is held before systemd-nspawn sees it, and is open to nobody else on this host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::place::{DEBIAN, FAILED, Place, cleanup, is_private, prepare};
use crate::real::{cache, cannot_run, guest};

const STATES: &str = "/run/gpuspec/nspawn";
const STATE: &str = "/run/gpuspec/nspawn/guest";
const SETTINGS: &str = "/run/systemd/nspawn/guest.nspawn";
/// The host's; no machine has it.
const SECRET: &str = "/var/lib/secret";

fn make_secret() {
    fs::create_dir_all(SECRET).unwrap();
    fs::write(Path::new(SECRET).join("all"), "HOST-LIST").unwrap();
    fs::write(Path::new(SECRET).join("key"), "HOST-KEY").unwrap();
    fs::set_permissions(Path::new(SECRET).join("key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// H1: every layer of every overlay is in the state, whatever the machine's cache names.
#[test]
fn h1_a_settings_file_names_held_directories_only() {
    if !is_private("held::h1_a_settings_file_names_held_directories_only") {
        return;
    }
    make_secret();
    let mut place = Place::new(DEBIAN);
    symlink(SECRET, place.root().join("evil")).unwrap();
    fs::create_dir(place.root().join("old")).unwrap();
    fs::write(place.root().join("old/libcuda.so.1"), "").unwrap();
    for (directory, count) in [
        ("/evil", 1),
        ("/evil/../secret", 1),
        ("/usr/../../../../../../../../var/lib/secret", 1),
        ("/var/lib/secret", 1),
        ("/gone", 1),
        ("/etc/group", 1),
        ("/old", 2),
    ] {
        cache(&place.root(), &[(directory, "libcuda.so.1")]);
        place.begin_again();
        let ended = prepare(&["--read-only"]);
        assert_eq!(ended.status, Some(0), "{directory}: {}", ended.stderr);
        let settings = fs::read_to_string(SETTINGS).unwrap();
        let overlays: Vec<&str> =
            settings.lines().filter_map(|line| line.strip_prefix("OverlayReadOnly=")).collect();
        assert_eq!(overlays.len(), count, "{directory}: {settings}");
        for (index, overlay) in overlays.iter().enumerate() {
            let layers = format!("{STATE}/below/{index}:{STATE}/farm/{index}:/");
            assert!(overlay.starts_with(&layers), "{directory}: {overlay}");
            let held = Path::new(STATE).join("below").join(index.to_string());
            assert!(!held.join("all").exists() && held.read_dir().unwrap().next().is_some(), "{directory}");
        }
        assert_eq!(cleanup().status, Some(0), "{directory}");
        place.assert_untouched(directory);
    }
}

/// H1 (e) and N1: an untrusted settings file makes the root read-only, and so chooses the overlay.
#[test]
fn h1_an_untrusted_settings_file_shows_no_directory_of_this_host() {
    if !is_private("held::h1_an_untrusted_settings_file_shows_no_directory_of_this_host") || cannot_run() {
        return;
    }
    make_secret();
    let place = Place::new(DEBIAN);
    fs::remove_file("/var/lib/machines/guest").unwrap();
    let root = Path::new("/var/lib/machines/guest");
    let libraries = guest(root);
    symlink(SECRET, root.join("evil")).unwrap();
    fs::write("/var/lib/machines/guest.nspawn", "[Files]\nReadOnly=yes\n").unwrap();
    let look =
        format!("cat {SECRET}/key; cat {SECRET}/all; ls {}/libcuda.so.1; echo ran", libraries.display());
    for directory in ["/evil", "/usr/../../../../../../../../var/lib/secret", "/usr/local/nvidia/lib64"] {
        cache(root, &[(directory, "libcuda.so.1")]);
        for (users, option) in [("no", "--private-users=no"), ("yes", "--private-users=524288:65536")] {
            for touch in [None, Some("--no-touch")] {
                let users = format!("--user-namespace={users}");
                let words: Vec<&str> = [users.as_str()].into_iter().chain(touch).collect();
                assert_eq!(prepare(&words).status, Some(0), "{directory}");
                if touch.is_some() {
                    fs::create_dir_all(Path::new(SETTINGS).parent().unwrap()).unwrap();
                    fs::copy(format!("{STATE}/settings/guest.nspawn"), SETTINGS).unwrap();
                }
                let mut nspawn = Command::new("systemd-nspawn");
                nspawn.args(["--settings=override", "-M", "guest", "-D"]).arg(root);
                nspawn.args(["--register=no", "--keep-unit", "-q", "--private-users-ownership=auto", option]);
                let output = nspawn.args(["--", "/bin/sh", "-c", &look]).output().unwrap();
                let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                let case = format!("{directory} {option} {touch:?}: {said}");
                assert!(!said.contains("HOST-") && said.contains("ran"), "{case}");
                assert!(said.contains("/libcuda.so.1") && !said.contains("libcuda.so.1'"), "{case}");
                assert!(!root.join("var/lib/secret").exists() && !root.join("usr/local").exists(), "{case}");
                assert_eq!(cleanup().status, Some(0));
                let _ = fs::remove_file(SETTINGS);
            }
        }
    }
    drop(place);
}

/// What a user of this host reads at a path.
fn read_as_user(path: &str) -> (bool, String) {
    let as_user = ["--reuid=1001", "--regid=1001", "--clear-groups", "sh", "-c"];
    let output = Command::new("setpriv").args(as_user).arg(format!("cat {path}")).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// H3: views of directories with closed parents, and nodes with the machine's numbers, are in a state.
#[test]
fn h3_a_state_is_closed_to_users_of_this_host() {
    if !is_private("held::h3_a_state_is_closed_to_users_of_this_host") {
        return;
    }
    let place = Place::new(DEBIAN);
    fs::create_dir_all("/tmp/closed/sub").unwrap();
    fs::set_permissions("/tmp/closed", fs::Permissions::from_mode(0o700)).unwrap();
    for name in ["libcuda.so.550.1", "libnvidia-ml.so.550.1", "10_nvidia.json"] {
        fs::copy(place.driver().join(name), Path::new("/tmp/closed/sub").join(name)).unwrap();
    }
    fs::write("/tmp/closed/sub/other.key", "HOST-KEY").unwrap();
    let spec = fs::read_to_string("/tmp/cdi/nvidia.json").unwrap();
    let spec = spec.replace(place.driver().to_str().unwrap(), "/tmp/closed/sub");
    fs::write("/tmp/cdi/nvidia.json", spec).unwrap();
    // As an earlier version left them.
    fs::create_dir_all(STATES).unwrap();
    fs::set_permissions(STATES, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(FAILED).unwrap();
    fs::set_permissions(FAILED, fs::Permissions::from_mode(0o755)).unwrap();

    assert_eq!(prepare(&["--read-only"]).status, Some(0));
    let mode = |path: &str| Path::new(path).metadata().unwrap().mode() & 0o777;
    assert_eq!((mode(STATES), mode(STATE)), (0o700, 0o700));
    assert!(Path::new(STATE).join("view/0/other.key").exists(), "or nothing was tried");
    let (could, key) = read_as_user(&format!("{STATE}/view/*/other.key"));
    assert!(!could && key.is_empty(), "{key}");

    // One of an earlier version that is still there is behind the same door as soon as anything is prepared.
    fs::set_permissions(STATE, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(STATES, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(read_as_user(&format!("{STATE}/view/*/other.key")).0, "it was open");
    let other = ["nspawn-cleanup", "--machine=other"];
    assert_eq!(crate::place::run(&mut crate::place::program(&other)).status, Some(0));
    assert!(!read_as_user(&format!("{STATE}/view/*/other.key")).0);

    assert_eq!(cleanup().status, Some(0));
    fs::create_dir_all(FAILED).unwrap();
    fs::remove_file("/tmp/closed/sub/libcuda.so.550.1").unwrap();
    assert_eq!(prepare(&[]).status, Some(83));
    assert_eq!(mode(FAILED), 0o700);
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

/// N5 and N6: a tree decides neither how many lines are said of it nor where they begin.
#[test]
fn n6_no_name_of_a_tree_makes_a_line_of_its_own() {
    if !is_private("held::n6_no_name_of_a_tree_makes_a_line_of_its_own") {
        return;
    }
    let mut place = Place::new(DEBIAN);
    let names: Vec<String> =
        (0..2_000).map(|number| format!("/{number}\noci-hook-inject: all is well\u{1b}[2J\r/../x")).collect();
    let libraries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "libcuda.so.1")).collect();
    cache(&place.root(), &libraries);
    place.begin_again();
    let ended = prepare(&["--read-only"]);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.split('\n').collect();
    assert!((2..=23).contains(&lines.len()), "{} lines", lines.len());
    assert!(!ended.stderr.contains(|one: char| one.is_control() && one != '\n'), "{:?}", ended.stderr);
    assert!(lines.iter().all(|line| !line.starts_with("oci-hook-inject: all is well")), "{lines:?}");
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("after the stop");
}

/// H3: a directory of states that another user owns or can write to is not used.
#[test]
fn h3_a_directory_of_states_that_others_can_change_is_refused() {
    if !is_private("held::h3_a_directory_of_states_that_others_can_change_is_refused") {
        return;
    }
    let place = Place::new(DEBIAN);
    for (path, owner, mode) in
        [("/run/gpuspec", 1001, 0o755), ("/run/gpuspec", 0, 0o777), (STATES, 1001, 0o755)]
    {
        fs::create_dir_all(STATES).unwrap();
        std::os::unix::fs::chown(path, Some(owner), None).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let ended = prepare(&[]);
        assert_eq!(ended.status, Some(85), "{path}: {ended:?}");
        assert!(ended.stderr.contains("states of machines are root's alone"), "{path}: {ended:?}");
        fs::remove_dir_all("/run/gpuspec").unwrap();
    }
    place.assert_untouched("nothing was prepared");
}
