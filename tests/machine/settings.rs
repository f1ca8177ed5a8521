//! Settings files: whose they are decides what is written where, and every byte of a user's returns.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::place::{DEBIAN, Place, cleanup, is_private, prepare, state};

const USERS: &str = "/etc/systemd/nspawn/guest.nspawn";
const GENERATED: &str = "/run/systemd/nspawn/guest.nspawn";
const TEXT: &str = "[Files]\nBind=/srv\n[Exec]\nEnvironment=A=1";

#[test]
fn a_users_file_has_a_block_while_the_machine_runs() {
    if !is_private("settings::a_users_file_has_a_block_while_the_machine_runs") {
        return;
    }
    let place = Place::new(DEBIAN);
    for path in [USERS, GENERATED] {
        fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
        fs::write(path, TEXT).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        fs::set_permissions(path, mode).unwrap();
        let before = state(Path::new(path).parent().unwrap());
        assert_eq!(prepare(&[]).status, Some(0));
        let with = fs::read_to_string(path).unwrap();
        assert!(
            with.starts_with(TEXT) && with.contains("BindReadOnly=/run/gpuspec/nspawn/guest/tree:"),
            "{with}"
        );
        assert_eq!(Path::new(path).metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(cleanup().status, Some(0));
        assert_eq!(state(Path::new(path).parent().unwrap()), before, "{path}");

        assert_eq!(prepare(&[]).status, Some(0));
        let with = fs::read_to_string(path).unwrap();
        fs::write(path, with.replace("Bind=/srv", "Bind=/home")).unwrap();
        assert_eq!(cleanup().status, Some(0));
        assert_eq!(fs::read_to_string(path).unwrap(), TEXT.replace("/srv", "/home"), "edited meanwhile");
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir("/run/systemd/nspawn").unwrap();
    place.assert_untouched("at the end");
}

#[test]
fn a_users_file_is_not_touched_where_that_is_asked_for() {
    if !is_private("settings::a_users_file_is_not_touched_where_that_is_asked_for") {
        return;
    }
    let place = Place::new(DEBIAN);
    fs::write("/tmp/elsewhere", TEXT).unwrap();
    symlink("/tmp/elsewhere", USERS).unwrap();
    let before = state(Path::new("/etc/systemd"));
    let ended = prepare(&[]);
    assert_eq!((ended.status, ended.stderr.lines().count()), (Some(85), 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("--no-touch"), "{}", ended.stderr);

    assert_eq!(prepare(&["--no-touch"]).status, Some(0));
    let own = fs::read_to_string("/run/gpuspec/nspawn/guest/settings/guest.nspawn").unwrap();
    assert!(own.starts_with(TEXT) && own.contains("tree:/run/gpuspec\n"), "{own}");
    assert!(!Path::new(GENERATED).exists());
    assert_eq!(state(Path::new("/etc/systemd")), before);
    assert_eq!(cleanup().status, Some(0));
    assert_eq!(state(Path::new("/etc/systemd")), before);
    fs::remove_file(USERS).unwrap();
    place.assert_untouched("at the end");
}

#[test]
fn an_untrusted_file_is_not_made_trusted() {
    if !is_private("settings::an_untrusted_file_is_not_made_trusted") {
        return;
    }
    let place = Place::new(DEBIAN);
    let beside = "/var/lib/machines/guest.nspawn";
    fs::write(
        beside,
        "[Exec]\nCapability=all\nPrivateUsers=no\nHostname=h\n[Files]\nBind=/etc:/mnt\nReadOnly=yes\n",
    )
    .unwrap();
    assert_eq!(prepare(&[]).status, Some(0));
    let made = fs::read_to_string(GENERATED).unwrap();
    assert!(made.contains("Hostname=h") && made.contains("ReadOnly=yes"), "{made}");
    assert!(
        !made.contains("Capability") && !made.contains("/mnt") && !made.contains("PrivateUsers"),
        "{made}"
    );
    // Its root will be read-only, and it will have a user namespace, whatever the file says of that.
    assert!(made.contains("OverlayReadOnly=") && made.contains(":idmap"), "{made}");
    assert_eq!(cleanup().status, Some(0));
    place.assert_untouched("at the end");
}
