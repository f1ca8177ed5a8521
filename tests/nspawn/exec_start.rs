//! A machine whose unit starts systemd-nspawn otherwise than systemd's own does.

use std::fs;

use crate::{ALL, Host, UNIT};

const TEMPLATE: &str = "[Service]\nExecStart=systemd-nspawn --quiet --keep-unit --boot --link-journal=try-guest \
                        --network-veth -U --settings=override --machine=%i\n";

fn host() -> Host {
    let host = Host::new();
    fs::create_dir_all(host.path("usr/lib/systemd/system")).unwrap();
    fs::write(host.path("usr/lib/systemd/system/systemd-nspawn@.service"), TEMPLATE).unwrap();
    host
}

/// A drop-in by which the unit's command has these options.
fn override_with(host: &Host, options: &str) {
    fs::create_dir_all(host.path(UNIT)).unwrap();
    let text = format!("[Service]\nExecStart=\nExecStart=-/usr/bin/systemd-nspawn {options}\n");
    fs::write(host.path(UNIT).join("override.conf"), text).unwrap();
}

/// The words of `nspawn-prepare` behind those of the devices.
fn prepared_with(host: &Host) -> String {
    let (status, _, stderr) = host.enable(&ALL);
    assert_eq!(status, Some(0), "{stderr}");
    let text = host.dropin();
    let line = text.lines().find(|line| line.starts_with("ExecStartPre=")).unwrap();
    let words = line.split(' ').skip(4).filter(|word| !word.starts_with("--spec-dir="));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_units_command_line_says_is_asked_for() {
    let cases = [
        ("--keep-unit -b -U --settings=override --machine=%i", ""),
        ("--keep-unit -b --settings=override", "--user-namespace=no"),
        ("--boot --private-users=no --settings=override", "--user-namespace=no"),
        ("--boot -U --settings=override --directory=/srv/%i", "--directory=/srv/m"),
        ("--boot -U --settings=override -i /srv/%i.raw", "--image=/srv/m.raw"),
        ("--boot -U --settings=override -x", "--read-only"),
        ("--boot -U --settings=override --volatile", "--read-only"),
        ("--boot -U --settings=override --volatile=no", ""),
    ];
    for (options, expected) in cases {
        let host = host();
        override_with(&host, options);
        assert_eq!(prepared_with(&host), expected, "{options}");
    }
    assert_eq!(prepared_with(&host()), "", "systemd's own");
    let host = host();
    override_with(&host, "--boot --settings=override --directory=/srv/x");
    let typed = ["--user-namespace", "yes", "--image", "/typed.raw"];
    assert_eq!(host.enable(&[&ALL[..], &typed].concat()).0, Some(0));
    assert!(host.dropin().contains(" --image=/typed.raw --user-namespace=yes\n"), "{}", host.dropin());
}

#[test]
fn a_settings_file_says_more_than_the_unit_where_it_overrides() {
    let host = host();
    fs::write(host.path("etc/systemd/nspawn/m.nspawn"), "[Exec]\nPrivateUsers=yes\n").unwrap();
    override_with(&host, "--boot --private-users=no --settings=override");
    assert_eq!(prepared_with(&host), "");
    override_with(&host, "--boot --private-users=no --settings=yes");
    assert_eq!(prepared_with(&host), "--user-namespace=no");
    override_with(&host, "--boot --settings=yes");
    assert_eq!(prepared_with(&host), "");
}

#[test]
fn a_unit_that_changes_wants_to_be_enabled_again() {
    let host = host();
    let is_otherwise = || {
        let (status, stdout, _) = host.nspawn("status", &["m"]);
        status == Some(5) && stdout.contains("starts it otherwise")
    };
    assert_eq!(host.enable(&ALL).0, Some(0));
    assert!(!is_otherwise());
    override_with(&host, "--boot --settings=override");
    assert!(is_otherwise());
    assert_eq!(host.enable(&ALL).0, Some(0));
    assert!(!is_otherwise());
    // Of files of one name that in /etc counts; one that is masked says nothing.
    let other = "run/systemd/system/systemd-nspawn@.service.d";
    fs::create_dir_all(host.path(other)).unwrap();
    fs::write(host.path(other).join("override.conf"), "[Service]\nExecStart=\n").unwrap();
    assert!(!is_otherwise());
    fs::remove_file(host.path(UNIT).join("override.conf")).unwrap();
    std::os::unix::fs::symlink("/dev/null", host.path(UNIT).join("override.conf")).unwrap();
    assert!(is_otherwise());
}

#[test]
fn a_unit_that_would_not_show_what_is_made_ready_is_told() {
    for (options, said) in
        [("--settings=no", "reads nothing"), ("--boot --bind=/srv", "which hide"), ("-E A=b", "which hide")]
    {
        let host = host();
        override_with(&host, options);
        let (status, _, stderr) = host.enable(&ALL);
        assert!(status == Some(0) && stderr.contains(said), "{options}: {stderr}");
        let (_, stdout, _) = host.nspawn("status", &["m"]);
        assert!(stdout.contains(said), "{options}: {stdout}");
    }
}
