//! `cdi-gen nspawn bundle`: what is made out of another bundle, and what of other people's stays.

use std::fs;

use crate::run::{NOTHING_LEFT, Place};
use crate::tree::Tree;

#[test]
fn a_bundles_machine_is_shown_no_directory_of_the_hosts() {
    let Some(place) = Place::new() else { return };
    // Its cache names a directory that is a link out of it, for whoever follows it from outside.
    let cache = Tree::build("cache cache x86-64:/x:libx.so.1 x86-64:/lib/x86_64-linux-gnu:libc.so.6");
    fs::copy(cache.path().join("cache"), place.path("m/etc/ld.so.cache")).unwrap();
    fs::create_dir(place.path("hosts")).unwrap();
    fs::write(place.path("hosts/secret"), "").unwrap();
    std::os::unix::fs::symlink(place.path("hosts"), place.path("m/x")).unwrap();
    fs::create_dir(place.path("b")).unwrap();
    fs::write(place.path("b/config.json"), r#"{"ociVersion": "1.0.0", "root": {"path": "../m"}}"#).unwrap();
    let (status, stdout, stderr) = place.cdi_gen("bundle", "HERE/b HERE/out --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("/below/0/libc.so.6\n") && !stdout.contains("/below/1\n"), "{stdout}");
    assert!(!stdout.contains("secret"), "{stdout}");
    let config = place.text("out/config.json");
    for layers in config.split("lowerdir=").skip(1) {
        let mut layers = layers.split('"').next().unwrap().split(':');
        assert!(layers.all(|layer| layer.starts_with("/run/gpuspec/nspawn/bundle-")), "{config}");
    }
}

#[test]
fn a_bundle_is_made_out_of_another_and_taken_back() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("in")).unwrap();
    let config = r#"{"ociVersion": "1.1.0", "process": {"args": ["sh"], "env": ["A=0"]}, "root": {"path": "../m"},
        "hooks": {"poststop": [{"path": "/x"}]}, "future": 1}"#;
    fs::write(place.path("in/config.json"), config).unwrap();
    let before = place.machine();
    let (status, stdout, stderr) = place.cdi_gen("bundle", "HERE/in HERE/out --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("hooks.poststop: left out") && stderr.contains("future: left out"), "{stderr}");
    let made: serde_json::Value = serde_json::from_str(&place.text("out/config.json")).unwrap();
    let state = stdout.lines().find_map(|line| line.strip_suffix("/manifest.json")).unwrap();
    assert!(state.starts_with("/run/gpuspec/nspawn/bundle-"), "{stdout}");
    let (root, libraries) = (format!("{}/m", place.here()), "/lib/x86_64-linux-gnu");
    let expected = serde_json::json!({
        "ociVersion": "1.0.0",
        "process": {"args": ["sh"], "env": ["A=B"]},
        "root": {"path": root},
        "annotations": {"gpuspec.state": state, "gpuspec.made-directory": "yes"},
        "mounts": [
            {"destination": "/run/gpuspec", "source": format!("{state}/tree"), "options": ["rbind"]},
            {"destination": "/dev/null", "source": "/dev/null", "options": ["rbind"]},
            {"destination": libraries, "type": "overlay", "source": "overlay",
             "options": [format!("lowerdir={state}/farm/0:{state}/below/0")]},
        ],
    });
    assert_eq!(made, expected);
    assert_eq!(place.machine(), before);
    assert_eq!(place.text("in/config.json"), config);

    let (status, stdout, stderr) = place.cdi_gen("bundle", "--remove HERE/out", "");
    assert_eq!((status, stdout.as_str()), (Some(0), NOTHING_LEFT), "{stderr}");
    assert!(!place.path("out").exists());
    assert_eq!(place.cdi_gen("bundle", "--remove HERE/in", "").0, Some(4), "another's");
    assert_eq!(place.text("in/config.json"), config);
    for (words, expected) in [
        ("HERE/in HERE/in --device v.com/c=all", 1),
        ("HERE/in HERE/out", 2),
        ("HERE/in --device v.com/c=all", 2),
        ("HERE/m HERE/out --device v.com/c=all", 1),
        ("HERE/none HERE/out --device v.com/c=all", 1),
        ("HERE/in HERE/out --device v.com/c=all --loader cache", 2),
        ("HERE/in HERE/out --device v.com/c=all --directory HERE/m", 2),
        ("HERE/in HERE/out --device v.com/c=none", 4),
    ] {
        let (status, stdout, stderr) = place.cdi_gen("bundle", words, "");
        assert_eq!((status, stdout.as_str()), (Some(expected), NOTHING_LEFT), "{words}: {stderr}");
        assert!(!place.path("out").exists(), "{words}");
    }
}

#[test]
fn what_others_have_where_a_bundle_would_be_stays() {
    let Some(place) = Place::new() else { return };
    let give = |to: &str| place.cdi_gen("bundle", &format!("HERE/in HERE/{to} --device v.com/c=all"), "");
    let remove = |from: &str| place.cdi_gen("bundle", &format!("--remove HERE/{from}"), "");
    let config = r#"{"ociVersion": "1.0.0", "root": {"path": "../m"}, "annotations": {"a": "b"}}"#;
    for (name, text) in
        [("in/config.json", config), ("theirs/config.json", config), ("other/x", ""), ("empty/x", "")]
    {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        fs::write(place.path(name), text).unwrap();
    }
    fs::remove_file(place.path("empty/x")).unwrap();
    for name in ["theirs", "other"] {
        let before = crate::rootfs::manifest(&place.path(name));
        for (status, stdout, stderr) in [give(name), remove(name)] {
            assert_eq!((status, stdout.as_str()), (Some(4), NOTHING_LEFT), "{name}: {stderr}");
            assert!(stderr.contains("not made by `cdi-gen nspawn bundle`, and so left alone"), "{stderr}");
        }
        assert_eq!(crate::rootfs::manifest(&place.path(name)), before);
    }

    let (status, _, stderr) = give("empty");
    assert_eq!(status, Some(0), "{stderr}");
    assert_eq!(give("empty").0, Some(0), "again");
    let made = place.text("empty/config.json");
    assert!(made.contains(r#""a": "b""#), "{made}");
    assert_eq!(remove("empty").0, Some(0));
    assert_eq!(crate::rootfs::listing(&place.path("empty")), [""; 0], "the directory was there before");

    assert_eq!(give("made").0, Some(0));
    fs::write(place.path("made/x"), "").unwrap();
    let (status, _, stderr) = remove("made");
    assert!(status == Some(0) && stderr.contains("others have files in it"), "{stderr}");
    assert_eq!(crate::rootfs::listing(&place.path("made")).len(), 1);

    let (_, _, stderr) = place.cdi_gen("bundle", "HERE/none HERE/gone --device v.com/c=all", "");
    assert!(stderr.contains("none/config.json: no such file"), "{stderr}");
}

#[test]
fn a_node_of_a_group_is_a_user_namespaces_too() {
    let Some(place) = Place::new() else { return };
    fs::create_dir(place.path("in")).unwrap();
    let config =
        r#"{"ociVersion": "1.0.0", "root": {"path": "../m"}, "linux": {"namespaces": [{"type": "user"}]}}"#;
    fs::write(place.path("in/config.json"), config).unwrap();
    let spec = place
        .text("cdi/v.json")
        .replace(r#"{"path": "/dev/null"}"#, r#"{"path": "/dev/null", "fileMode": 432}"#);
    fs::write(place.path("cdi/v.json"), spec).unwrap();
    let (status, _, stderr) = place.cdi_gen("bundle", "HERE/in HERE/out --device v.com/c=all", "");
    assert_eq!(status, Some(0), "{stderr}");
    let made: serde_json::Value = serde_json::from_str(&place.text("out/config.json")).unwrap();
    assert_eq!(made["mounts"][1]["options"], serde_json::json!(["rbind", "idmap"]));
    let rule = serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"});
    assert_eq!(made["linux"]["resources"]["devices"], serde_json::json!([rule]));
}
