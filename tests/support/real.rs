//! A machine's tree of this host's own programs, for the real systemd-nspawn.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use camino::Utf8Path;
use libgpuspec::ldcache::{self, Abi, Library};

/// Copies a shell, two programs, and what they need, each to the path that it has here.
const COPY: &str = r#"
cd "$1"; mkdir -p usr/bin usr/lib usr/lib64 etc run srv proc sys dev tmp var root
for name in bin lib lib64; do ln -s "usr/$name" "$name"; done
for program in sh cat ls; do
  program=$(command -v "$program"); cp -L "$program" usr/bin/
  for path in $(ldd "$program" | grep -o '/[^ ]*'); do mkdir -p ".${path%/*}"; cp -L "$path" ".$path"; done
done
echo ID=debian >etc/os-release
echo root:x:0:0::/root:/bin/sh >etc/passwd; echo root:x:0: >etc/group
ldd usr/bin/sh | grep -o '/[^ ]*/libc.so.6'"#;

/// Says why machines cannot be run here, if they cannot.
pub(crate) fn cannot_run() -> bool {
    const TRY: &str = "command -v systemd-nspawn ldd; mount -n -t tmpfs t /srv";
    let enter = ["--mount", "--propagation", "private", "sh", "-euc", TRY];
    let can = Command::new("unshare").args(enter).output().is_ok_and(|output| output.status.success());
    if !can {
        std::io::stderr().write_all(b"skipped: needs systemd-nspawn, ldd and CAP_SYS_ADMIN\n").unwrap();
    }
    !can
}

/// Makes the tree; the result is the directory of its C library, no link on the way to it.
pub(crate) fn guest(at: &Path) -> PathBuf {
    fs::create_dir_all(at).unwrap();
    let output = Command::new("sh").args(["-euc", COPY, "sh"]).arg(at).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let libc = String::from_utf8(output.stdout).unwrap();
    let libc = at.join(libc.lines().last().unwrap().trim_start_matches('/')).canonicalize().unwrap();
    Path::new("/").join(libc.parent().unwrap().strip_prefix(at.canonicalize().unwrap()).unwrap())
}

/// Writes a loader cache that has these libraries, as `(directory, name)`.
pub(crate) fn cache(guest: &Path, libraries: &[(&str, &str)]) {
    let libraries: Vec<Library<'_>> = libraries
        .iter()
        .map(|&(directory, name)| Library { abi: Abi::OWN, directory: Utf8Path::new(directory), name })
        .collect();
    let bytes = ldcache::insert(None, &libraries).unwrap().unwrap();
    fs::write(guest.join("etc/ld.so.cache"), bytes).unwrap();
}
