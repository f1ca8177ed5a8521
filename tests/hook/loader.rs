//! The dynamic loader as judge: glibc of this machine, in a tree of its own, after the hook has been there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::container::{Container, is_root, skipped};

/// The loader of this machine and its libc, as `ldd` names them for a program that every machine has.
pub(crate) fn loader_and_libc() -> Option<(PathBuf, PathBuf)> {
    let listed = Command::new("ldd").arg("/bin/true").env("LC_ALL", "C").output().ok()?;
    let text = String::from_utf8(listed.stdout).ok()?;
    let word = |marker: &str| text.lines().find(|line| line.contains(marker)).map(str::trim);
    let libc = word("libc.so.6 =>")?.split_whitespace().nth(2)?;
    let loader = word("/ld-linux")?.split_whitespace().next()?;
    Some((loader.into(), libc.into()))
}

pub(crate) fn copy(from: &Path, container: &Container, to: &str) {
    let target = container.rootfs().join(to.trim_start_matches('/'));
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(from, target).unwrap();
}

/// Which file the loader in the container takes for a library that a program asks for by name.
pub(crate) fn found(container: &Container, loader: &Path, library: &str) -> String {
    let listed = Command::new("chroot")
        .arg(container.rootfs())
        .arg(loader)
        .args(["--preload", library, "--list", "/bin/true"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
    let line = text.lines().find(|line| line.contains(library)).unwrap_or(&text).trim();
    line.split(" (0x").next().unwrap().to_owned()
}

/// The driver lies where only the cache can lead: no directory of the loader's own, no LD_LIBRARY_PATH.
#[test]
fn the_loader_finds_the_driver_first_and_the_image_still() {
    if !is_root() {
        return;
    }
    let Some((loader, libc)) = loader_and_libc() else { return skipped("no glibc on this machine") };
    let container = Container::new("");
    copy(&loader, &container, loader.to_str().unwrap());
    copy(&libc, &container, libc.to_str().unwrap());
    copy(Path::new("/bin/true"), &container, "/bin/true");
    for library in ["opt/driver/libcuda.so.1", "opt/image/libcuda.so.1", "opt/image/libimage.so.2"] {
        copy(&libc.with_file_name("libm.so.6"), &container, library);
    }
    assert!(!found(&container, &loader, "libcuda.so.1").contains("=>"), "without a cache nothing is found");

    let image = "x86-64:/opt/image:libcuda.so.1:libimage.so.2";
    assert_eq!(container.hook(&["--libraries", image]).status, Some(0));
    assert_eq!(found(&container, &loader, "libcuda.so.1"), "libcuda.so.1 => /opt/image/libcuda.so.1");
    let driver = "x86-64:/opt/driver:libcuda.so.1";
    assert_eq!(container.hook(&["--libraries", driver]).status, Some(0));
    assert_eq!(found(&container, &loader, "libcuda.so.1"), "libcuda.so.1 => /opt/driver/libcuda.so.1");
    assert_eq!(found(&container, &loader, "libimage.so.2"), "libimage.so.2 => /opt/image/libimage.so.2");
}

/// A package that is installed in the container runs the image's own ldconfig.
#[test]
fn a_later_ldconfig_keeps_the_driver_first() {
    let Some(ldconfig) =
        ["/sbin/ldconfig", "/usr/sbin/ldconfig"].iter().map(Path::new).find(|path| path.is_file())
    else {
        return skipped("no ldconfig on this machine");
    };
    let Some((_, libc)) = loader_and_libc() else { return skipped("no glibc on this machine") };
    let container = Container::new("etc/ld.so.conf = /opt/image\\n");
    for library in ["opt/driver/libm.so.6", "opt/image/libm.so.6"] {
        copy(&libc.with_file_name("libm.so.6"), &container, library);
    }
    assert_eq!(container.hook(&["--libraries", "x86-64:/opt/driver:libm.so.6"]).status, Some(0));
    let ran = Command::new(ldconfig).args(["-X", "-r"]).arg(container.rootfs()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(
        container.cache(),
        ["libm.so.6 /etc/gpuspec/lib/x86-64/libm.so.6", "libm.so.6 /opt/image/libm.so.6"]
    );
}
