//! `cdi-gen nspawn attach` and `detach` where there is nothing to be done; what they do, booted machines tell.

use std::process::Command;

use crate::Host;

fn nspawn(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cdi-gen"));
    let output = command.arg("nspawn").args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_cannot_be_attached_is_told_with_its_remedy() {
    let host = Host::new();
    let specs = format!("--spec-dir={}", host.path("cdi").display());
    let own = std::process::id().to_string();
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--device=v.com/c=none"], 4, "v.com/c=none"),
        (&["--device=v.com/c=foreign"], 4, "--allow-hook v-hook"),
        (&["--device=v.com/c=all"], 1, "does not run, or systemd-machined does not know it: --leader names"),
        (&["--device=v.com/c=all", "--leader", &own], 1, "has this process's own mounts"),
        (&["--device=v.com/c=all", "--leader", "1"], 1, "the process 1 is no machine's"),
        (&["--device=v.com/c=all", "--loader", "cache"], 2, "overlay, environment, none"),
    ];
    for (arguments, status, text) in cases {
        let arguments = [&["attach", "no-such-machine", &specs], arguments].concat();
        let (code, said) = nspawn(&arguments);
        assert!(code == Some(status) && said.contains(text), "{arguments:?}: {code:?} {said}");
        assert!(!said.contains("EPERM"), "{arguments:?}: of what is no machine: {said}");
    }
    for name in ["../x", "a b", "-"] {
        assert_eq!(nspawn(&["detach", "--", name]).0, Some(2), "{name}");
    }
}
