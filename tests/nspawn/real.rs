//! `cdi-gen nspawn run` with the real systemd-nspawn: machines whose trees mean harm, and machines with odd paths.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::real::{cache, cannot_run, guest};
use crate::tree::Tree;

const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "all", "containerEdits": {
  "deviceNodes": [{"path": "/dev/null"}],
  "mounts": [{"hostPath": "HERE/driver/libx.so.1.2", "containerPath": "/usr/lib/libx.so.1.2", "options": ["ro", "bind"]}]}}]}"#;

/// /srv/secret is this host's; the machine `m` has /srv and nothing in it.
const ENTERED: &str = r#"
mount -n -t tmpfs -o mode=0755 run /run; mkdir /run/systemd
mount -n -t tmpfs -o mode=0755 srv /srv; mkdir /srv/secret
cp -a "$HERE/m$LIBRARIES/." /srv/secret
echo HOST-KEY >/srv/secret/key; chmod 600 /srv/secret/key; echo HOST-LIST >/srv/secret/all
run() { "$CDI_GEN" nspawn run --spec-dir "$HERE/cdi" --device v.com/c=all --register=no --keep-unit -q "$@" </dev/null; }
eval "$SCRIPT""#;

/// What a machine runs that looks for what it may not have, and for what it is given.
const LOOK: &str = "cat /srv/secret/key; cat /srv/secret/all; ls LIBRARIES/libx.so.1; echo ran";

struct Place {
    tree: Tree,
    libraries: PathBuf,
}

impl Place {
    fn new() -> Option<Place> {
        if cannot_run() {
            return None;
        }
        let tree = Tree::build("driver/libx.so.1.2 elf64 soname=libx.so.1 needs=libc.so.6");
        fs::create_dir(tree.path().join("cdi")).unwrap();
        fs::write(tree.path().join("cdi/v.json"), SPEC.replace("HERE", tree.path().as_str())).unwrap();
        let libraries = guest(tree.path().join("m").as_std_path());
        Some(Place { tree, libraries })
    }

    fn machine(&self, name: &str) -> PathBuf {
        self.tree.path().join("m").join(name).into()
    }

    /// What is said on both outputs by a script of the host.
    fn says(&self, script: &str) -> String {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-uc", ENTERED]);
        command.env("SCRIPT", script.replace("LIBRARIES", self.libraries.to_str().unwrap()));
        command.env("HERE", self.tree.path()).env("LIBRARIES", &self.libraries);
        command.env("MACHINE", self.machine("").canonicalize().unwrap());
        let output = command.env("CDI_GEN", env!("CARGO_BIN_EXE_cdi-gen")).output().unwrap();
        // As a terminal has it.
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\r', "")
    }

    fn assert_kept_in(&self, name: &str, options: &str) {
        let said = self.says(&format!("run -D \"$HERE/m\" {options} -- /bin/sh -c '{LOOK}'"));
        let library = self.libraries.join("libx.so.1");
        assert!(!said.contains("HOST-"), "{name}: {said}");
        assert!(said.contains("\nran") && said.contains(library.to_str().unwrap()), "{name}: {said}");
        assert!(fs::read_dir(self.machine("srv")).unwrap().next().is_none(), "{name}: made in its tree");
        assert!(!self.machine("usr/local").exists(), "{name}: made in its tree");
    }
}

/// H1 and N1: whatever a machine's cache names, nothing of this host is seen and nothing is made in the tree.
#[test]
fn h1_no_cache_shows_a_machine_this_hosts_directories() {
    let Some(place) = Place::new() else { return };
    symlink("/srv/secret", place.machine("evil")).unwrap();
    symlink("../../../../../../../../srv/secret", place.machine("up")).unwrap();
    symlink("/proc/1/root/srv/secret", place.machine("magic")).unwrap();
    fs::write(place.machine("file"), "").unwrap();
    for directory in [
        "/evil",
        "/up",
        "/magic",
        "/file",
        "/evil/../secret",
        "/srv/secret",
        "/usr/../../../../../../../../srv/secret",
        "/usr/local/nvidia/lib64",
        "/new\nline",
        "/a:b,c\\",
    ] {
        cache(&place.machine(""), &[(directory, "libx.so.1")]);
        for options in ["", "-U", "--read-only", "--volatile=yes"] {
            place.assert_kept_in(&format!("{directory:?} {options}"), options);
        }
    }
    let others: Vec<String> = (0..64).map(|number| format!("/d{number}")).collect();
    let mut libraries: Vec<(&str, &str)> =
        others.iter().map(|directory| (directory.as_str(), "a.so")).collect();
    libraries.push(("/evil", "libx.so.1"));
    cache(&place.machine(""), &libraries);
    place.assert_kept_in("the 65th", "");
}

/// H1 (f): the directory of libraries is exchanged for a link to this host's while the machine starts.
#[test]
fn h1_no_exchange_shows_a_machine_this_hosts_directories() {
    let Some(place) = Place::new() else { return };
    let own = place.machine(place.libraries.to_str().unwrap().trim_start_matches('/'));
    let decoy = place.machine("decoy");
    symlink("/srv/secret", &decoy).unwrap();
    let stop = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| exchange_until(&own, &decoy, &stop));
        let look = "for at in LIBRARIES /srv/secret; do read key <$at/key && echo $key; done; echo ran";
        let said =
            place.says(&format!("for i in $(seq 60); do run -D \"$HERE/m\" -- /bin/sh -c '{look}'; done"));
        stop.store(true, Ordering::Relaxed);
        said
    });
    assert!(!said.contains("HOST-"), "{said}");
    assert!(said.contains("ran"), "no machine ever ran: {said}");
}

fn exchange_until(one: &Path, other: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
        // About as long as systemd-nspawn takes from one look at the tree to the next.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// N1 and N2 of what was found at run time: what stands in a machine's path is none of an overlay's options.
#[test]
fn runtime_n1_a_machine_with_an_odd_path_has_its_devices() {
    let Some(place) = Place::new() else { return };
    for name in
        ["a:b", "c,d", "e\\f", "g h", "i%j", "k\"l", "m\nn", "-o", "p=q", "r;s", "t$u", "v'w", "\u{1b}x"]
    {
        for options in ["", "-U", "--read-only"] {
            let machine = place.tree.path().join(name);
            fs::rename(place.machine(""), &machine).unwrap();
            symlink(&machine, place.tree.path().join("m")).unwrap();
            let look = "ls LIBRARIES/libx.so.1; echo ran";
            let said =
                place.says(&format!("run --directory=\"$MACHINE\" -M odd {options} -- /bin/sh -c '{look}'"));
            fs::remove_file(place.tree.path().join("m")).unwrap();
            fs::rename(&machine, place.tree.path().join("m")).unwrap();
            let library = format!("{}\nran\n", place.libraries.join("libx.so.1").display());
            assert!(said.contains(&library) && !said.contains("cannot access"), "{name:?} {options}: {said}");
        }
    }
}
