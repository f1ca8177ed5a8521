//! Continues from a copy that cannot be written to, where processes of other containers could write to this program's file.
//!
//! A process that shares our pid namespace and may trace can open /proc/PID/exe and, once we are gone, write
//! to it: the hook of every later container (CVE-2019-5736). In a namespace of the container's own nobody
//! runs yet but its init, our parent: there it would guard nothing.
//!
//! The cheap copy is the same file seen through an overlay without an upper layer, which the kernel never lets
//! become writable, mounted nowhere: a tenth of a millisecond. Where there can be none (user namespaces) it is a
//! sealed file in memory, which costs a whole one.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libgpuspec::root::view as view_of;
use rustix::fs::{self, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Pid, getppid};

/// The pid namespace that a machine starts with (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const FIRST_NAMESPACE: &[u8] = b"pid:[4026531836]";
const OWN_FILE: &str = "/proc/self/exe";
/// OVERLAYFS_SUPER_MAGIC of linux/magic.h.
const OVERLAY: i128 = 0x794c_7630;
/// Two layers there must be; this one is on a file system of its own, so neither lies in the other.
const OTHER_LAYER: &[u8] = b"/sys";

/// Executes the copy where it is needed; comes back where it is not, or with why it cannot be had.
pub(crate) fn ensure() -> io::Result<()> {
    if !is_shared_with_containers() {
        return Ok(());
    }
    let own = fs::open(OWN_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if is_sealed(&own) {
        return Ok(());
    }
    if let Ok(view) = view() {
        // Where its execution is forbidden the other copy's may not be.
        let _ = execute(&view);
    }
    Err(execute(&copy(own)?))
}

fn is_shared_with_containers() -> bool {
    // No answer is taken for a yes.
    let namespace = fs::readlink("/proc/self/ns/pid", Vec::new());
    getppid() != Some(Pid::INIT) && namespace.is_ok_and(|name| name.as_bytes() != FIRST_NAMESPACE)
}

/// Whether this process runs from a copy already: by what nobody can pretend of another file.
fn is_sealed(own: &OwnedFd) -> bool {
    if fs::fcntl_get_seals(own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return true;
    }
    let is_overlay = fs::fstatfs(own).is_ok_and(|status| i128::from(status.f_type) == OVERLAY);
    // A file system that is writable says ETXTBSY of a program that runs.
    let opened = fs::open(OWN_FILE, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    is_overlay && opened.is_err_and(|errno| errno == Errno::ROFS)
}

/// This program's file in an overlay that nothing but this descriptor leads to.
fn view() -> io::Result<OwnedFd> {
    let own = fs::readlink(OWN_FILE, Vec::new())?.into_bytes();
    let slash = own.iter().rposition(|byte| *byte == b'/').ok_or(Errno::INVAL)?;
    let (directory, name) = own.split_at_checked(slash).ok_or(Errno::INVAL)?;
    let layer =
        |path: &[u8]| fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mount = view_of(layer(directory)?.as_fd(), layer(OTHER_LAYER)?.as_fd())?;
    let name = name.strip_prefix(b"/").ok_or(Errno::INVAL)?;
    Ok(fs::openat(&mount, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// A copy in memory, sealed.
fn copy(own: OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux before 6.3 knows no such flag, and every such file can be executed.
    let copy = match fs::memfd_create("oci-hook", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => fs::memfd_create("oci-hook", flags)?,
        other => other?,
    };
    transfer(&own.into(), &copy)?;
    fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(copy)
}

/// Within the kernel, in one call: it has no buffer to fill and empty.
fn transfer(from: &File, to: &impl AsFd) -> rustix::io::Result<()> {
    const MOST: usize = 1 << 30;
    while fs::sendfile(to, from, None, MOST)? > 0 {}
    Ok(())
}

/// Comes back only with why it could not be executed.
fn execute(copy: &OwnedFd) -> io::Error {
    let mut words = std::env::args_os();
    let mut command = Command::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    command.arg0(words.next().unwrap_or_default()).args(words).env_clear();
    command.exec()
}
