//! Continues as a sealed copy in memory where processes of other containers could write to this program's file.
//!
//! A process that shares our pid namespace and may trace can open /proc/PID/exe and, once we are gone, write
//! to it: the hook of every later container (CVE-2019-5736). In a namespace of the container's own nobody
//! runs yet but its init, our parent: there the copy would cost a third of a start and guard nothing.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{self, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Pid, getppid};

/// The pid namespace that a machine starts with (PROC_PID_INIT_INO in the kernel's proc_ns.h).
const FIRST_NAMESPACE: &[u8] = b"pid:[4026531836]";
const OWN_FILE: &str = "/proc/self/exe";

/// Executes the copy where it is needed; comes back where it is not, or with why it cannot be had.
pub(crate) fn ensure() -> io::Result<()> {
    match is_shared_with_containers() {
        true => execute(&copy()?),
        false => Ok(()),
    }
}

fn is_shared_with_containers() -> bool {
    // No answer is taken for a yes.
    let namespace = fs::readlink("/proc/self/ns/pid", Vec::new());
    getppid() != Some(Pid::INIT) && namespace.is_ok_and(|name| name.as_bytes() != FIRST_NAMESPACE)
}

/// The copy, sealed; `None` where this process runs from it already.
fn copy() -> rustix::io::Result<Option<File>> {
    let own = fs::open(OWN_FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(None);
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux before 6.3 knows no such flag, and every such file can be executed.
    let copy = match fs::memfd_create("oci-hook", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => fs::memfd_create("oci-hook", flags)?,
        other => other?,
    };
    transfer(&own.into(), &copy)?;
    fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(Some(copy.into()))
}

/// By a buffer that stays in the processor's cache: half the time of io::copy, which asks the kernel for it.
fn transfer(from: &File, to: &impl AsFd) -> rustix::io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = rustix::io::read(from, &mut buffer)?;
        let mut rest = buffer.get(..count).filter(|read| !read.is_empty());
        if rest.is_none() {
            return Ok(());
        }
        while let Some(bytes) = rest.filter(|rest| !rest.is_empty()) {
            rest = bytes.get(rustix::io::write(to, bytes)?..);
        }
    }
}

fn execute(copy: &Option<File>) -> io::Result<()> {
    let Some(copy) = copy else { return Ok(()) };
    let mut words = std::env::args_os();
    let mut command = Command::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
    command.arg0(words.next().unwrap_or_default()).args(words).env_clear();
    Err(command.exec())
}
