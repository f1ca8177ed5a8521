//! What the process gives up before it reads a byte: leave to be looked into, and resources without bound.

#![forbid(unsafe_code)]

use rustix::fs::Mode;
use rustix::process::{self, DumpableBehavior, Resource, Rlimit};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// Larger than any loader cache that is written (libgpuspec's own limit is 4 MiB).
const MAX_FILE: u64 = 32 << 20;

const LIMITS: [(Resource, u64); 4] =
    [(Resource::Core, 0), (Resource::Cpu, 10), (Resource::As, 2 << 30), (Resource::Fsize, MAX_FILE)];

/// Sets limits, of `files` open ones among them, forbids others to trace this process, and leaves the directory
/// that it was started in.
///
/// Nothing of it is worth a container that does not start: each is one more obstacle, not the wall.
pub fn enter(files: u64) {
    // Directories and files get the modes we give them, whatever the runtime's caller had.
    process::umask(Mode::empty());
    let _ = process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    for (resource, most) in LIMITS.into_iter().chain([(Resource::Nofile, files)]) {
        let old = process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Some(most.min(old));
        let _ = process::setrlimit(resource, Rlimit { current: limit, maximum: limit });
    }
    // runc starts hooks in the image's root directory.
    let _ = process::chdir("/");
}

/// Gives up all of this thread's capabilities but these, for good.
pub fn keep(kept: CapabilitySet) -> std::io::Result<()> {
    thread::set_no_new_privs(true)?;
    let kept = thread::capabilities(None)?.permitted & kept;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(thread::set_capabilities(None, sets)?)
}
