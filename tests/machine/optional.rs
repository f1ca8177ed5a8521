//! What comes and goes on the host (cases D1 and H9): it is held while a machine has it, and never costs a start.

use std::fs;
use std::os::unix::fs::{FileTypeExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::place::{DEBIAN, Ended, Place, cleanup, is_private, prepare};

const SETTINGS: &str = "/run/systemd/nspawn/guest.nspawn";
const SOCKET: &str = "/run/daemon/socket";
const SHARED: &str = "/tmp/shared";
const HELD: &str = "/run/gpuspec/nspawn/guest/held";

/// Has the spec of this place ask for both, as optional mounts of its hook or as mounts of its own.
fn ask(by_hook: bool) {
    let spec = fs::read_to_string("/tmp/cdi/nvidia.json").unwrap();
    let spec = if by_hook {
        let words = format!(
            r#""create-container", "--optional-mount", "socket:{SOCKET}::{SOCKET}", "--optional-mount", "directory:{SHARED}::{SHARED}","#
        );
        spec.replace("\"create-container\",", &words)
    } else {
        let mounts =
            [SOCKET, SHARED].map(|path| format!(r#"{{"hostPath": "{path}", "containerPath": "{path}"}},"#));
        spec.replace("\"mounts\": [", &format!("\"mounts\": [{}", mounts.concat()))
    };
    fs::write("/tmp/cdi/nvidia.json", spec).unwrap();
}

fn settings() -> String {
    fs::read_to_string(SETTINGS).unwrap()
}

fn is_given(path: &str) -> bool {
    settings().contains(&format!("Bind={HELD}{path}:{path}\n"))
}

fn prepared() -> Ended {
    let ended = prepare(&[]);
    assert_eq!(ended.status, Some(0), "{}", ended.stderr);
    ended
}

#[test]
fn d1_what_is_gone_is_left_out_and_what_goes_is_held() {
    if !is_private("optional::d1_what_is_gone_is_left_out_and_what_goes_is_held") {
        return;
    }
    for by_hook in [true, false] {
        let _ = fs::remove_file("/var/lib/machines/guest");
        let place = Place::new(DEBIAN);
        ask(by_hook);
        let ended = prepared();
        // A generated spec expects them to come and go.
        assert_eq!(ended.stderr.is_empty(), by_hook, "{}", ended.stderr);
        assert!(
            by_hook || ended.stderr.contains(SOCKET) && ended.stderr.contains("not on this host"),
            "{}",
            ended.stderr
        );
        assert!(!settings().contains("daemon") && !settings().contains("shared"), "{}", settings());
        assert_eq!(cleanup().status, Some(0));

        fs::create_dir_all("/run/daemon").unwrap();
        let listener = UnixListener::bind(SOCKET).unwrap();
        fs::create_dir(SHARED).unwrap();
        assert_eq!(prepared().stderr, "");
        assert!(is_given(SOCKET) && is_given(SHARED), "{}", settings());
        drop(listener);
        fs::remove_dir_all("/run/daemon").unwrap();
        fs::remove_dir(SHARED).unwrap();
        let held = |path: &str| fs::metadata(format!("{HELD}{path}")).unwrap().file_type();
        assert!(held(SOCKET).is_socket() && held(SHARED).is_dir(), "systemd-nspawn finds them still");
        assert_eq!(cleanup().status, Some(0));
        assert!(!Path::new(HELD).exists());
        place.assert_untouched("after the stop");
    }
}

#[test]
fn h9_what_another_user_put_into_a_directory_for_all_is_left_out() {
    if !is_private("optional::h9_what_another_user_put_into_a_directory_for_all_is_left_out") {
        return;
    }
    for by_hook in [true, false] {
        let _ = fs::remove_file("/var/lib/machines/guest");
        let _place = Place::new(DEBIAN);
        ask(by_hook);
        fs::create_dir_all("/run/secret").unwrap();
        let attacks: [(fn(), &str); 3] = [
            (|| symlink("/run/secret", SHARED).unwrap(), "symbolic link in a world-writable directory"),
            (|| fs::create_dir(SHARED).unwrap(), "`shared` belongs to user 1001"),
            (|| drop(UnixListener::bind(SHARED).unwrap()), "`shared` belongs to user 1001"),
        ];
        for (attack, word) in attacks {
            attack();
            lchown(SHARED, Some(1001), None).unwrap();
            let ended = prepared();
            assert!(ended.stderr.contains(word) && ended.stderr.contains(SHARED), "{}", ended.stderr);
            assert!(!settings().contains("shared"), "{}", settings());
            assert_eq!(cleanup().status, Some(0));
            fs::remove_file(SHARED).or_else(|_| fs::remove_dir(SHARED)).unwrap();
        }
    }
}
