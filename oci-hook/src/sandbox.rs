//! The work on what the image wrote, in a thread that can reach nothing but the container's tree.
//!
//! Landlock and capabilities are a thread's own, so the rest of the process keeps what it needs to report
//! how it went. They guard against a mistake of ours on a path, not against foreign code in this process:
//! memory is shared, and that it stays ours is Rust's to see to.

#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError,
};
use libgpuspec::Root;
use rustix::thread::CapabilitySet;

use crate::{contract, kernel};

/// Well below the ten seconds that specs of cdi-gen give the hook; it needs a thousandth.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Stated, since the environment would be asked otherwise (RUST_MIN_STACK).
const STACK: usize = 1 << 20;

/// Why the work has no result.
#[derive(Debug)]
pub enum Lost {
    /// It did not end in time.
    Deadline,
    /// The thread could not be confined.
    Sandbox(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::Deadline => write!(formatter, "not done after {DEADLINE:?}"),
            Lost::Sandbox(reason) => formatter.write_str(reason),
        }
    }
}

/// Does the work on a root in a confined thread.
pub fn run<T: Send + 'static>(root: Root, work: impl FnOnce(&Root) -> T + Send + 'static) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::channel();
    let work = move || sender.send(confine(&root).map(|()| work(&root)));
    let started = thread::Builder::new().stack_size(STACK).spawn(work);
    started.map_err(|error| Lost::Sandbox(format!("starting a thread: {error}")))?;
    receiver.recv_timeout(DEADLINE).map_err(|_| Lost::Deadline)?.map_err(Lost::Sandbox)
}

/// Does the work on a root in this thread, which is confined from then on.
pub fn here<T>(root: &Root, work: impl FnOnce(&Root) -> T) -> Result<T, Lost> {
    confine(root).map_err(Lost::Sandbox)?;
    Ok(work(root))
}

/// The result of work in a thread of its own; without one in time the caller must end the process.
///
/// Where no thread can be had, which a limit on processes can forbid, this thread does the work. Then the kernel
/// ends the process at the deadline, by SIGALRM and without a word.
pub fn timed<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::channel();
    // A thread that cannot be started drops what it was given.
    let (give, take) = mpsc::sync_channel(1);
    let worker = move || take.recv().map(|work: Box<dyn FnOnce() -> T + Send>| drop(sender.send(work())));
    match thread::Builder::new().stack_size(STACK).spawn(worker) {
        Ok(_) => {
            drop(give.send(Box::new(work)));
            receiver.recv_timeout(limit).map_err(|_| Lost::Deadline)
        }
        Err(_) => {
            kernel::end_after(limit);
            Ok(work())
        }
    }
}

fn confine(root: &Root) -> Result<(), String> {
    contract::keep(KEPT).map_err(|error| format!("dropping capabilities: {error}"))?;
    restrict(root.descriptor()).map_err(|error| format!("landlock: {error}"))
}

/// Files of the image belong to any user, and keep their owner.
const KEPT: CapabilitySet =
    CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER);

/// What is done to files below the root, and nothing else: no program is run, no device made.
fn rights() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// On a kernel without Landlock, or with less of it, this does what that kernel can.
fn restrict(root: BorrowedFd<'_>) -> Result<(), RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?;
    ruleset.add_rule(PathBeneath::new(root, rights()))?.restrict_self()?;
    Ok(())
}

#[cfg(test)]
// What the rules forbid is tried as a mistake of ours would: past the root.
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn work_without_end_is_given_up() {
        let (keep, wait) = mpsc::channel::<()>();
        let lost = timed(Duration::from_millis(20), move || wait.recv());
        assert!(matches!(lost, Err(Lost::Deadline)), "{lost:?}");
        drop(keep);
        assert_eq!(timed(DEADLINE, || 7).unwrap(), 7);
    }

    #[test]
    fn a_confined_thread_reads_and_writes_below_the_root_alone() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for directory in [&inside, &outside] {
            std::fs::write(directory.path().join("file"), "text").unwrap();
        }
        let root = Root::open(inside.path().to_str().unwrap().into()).unwrap();
        let (inside, outside) = (inside.path().to_owned(), outside.path().to_owned());
        let seen = run(root, move |_| {
            let own = rustix::thread::capabilities(None).unwrap();
            let answers = [
                std::fs::read(inside.join("file")).is_ok(),
                std::fs::write(inside.join("new"), "x").is_ok(),
                std::os::unix::fs::symlink("x", inside.join("link")).is_ok(),
                std::fs::read(outside.join("file")).is_ok(),
                std::fs::write(outside.join("file"), "x").is_ok(),
                std::os::unix::fs::symlink("x", outside.join("link")).is_ok(),
                std::os::unix::net::UnixListener::bind(inside.join("socket")).is_ok(),
                std::process::Command::new("/bin/true").status().is_ok(),
                (own.permitted | own.effective | own.inheritable).difference(KEPT).is_empty(),
                rustix::thread::no_new_privs().unwrap(),
            ];
            std::fs::remove_file(inside.join("new")).unwrap();
            answers
        });
        if !landlock_is_here() {
            eprintln!("skipped: a kernel without Landlock");
            return;
        }
        assert_eq!(seen.unwrap(), [true, true, true, false, false, false, false, false, true, true]);
    }

    fn landlock_is_here() -> bool {
        use landlock::{CompatLevel, Compatible};
        let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        strict.handle_access(AccessFs::from_all(ABI::V3)).is_ok()
    }
}
