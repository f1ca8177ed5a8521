//! One hook at a time for one tree: of two that read and replace its loader cache at once, one would lose its entries.
//!
//! The lock is a file on this machine's side, which root alone can open. In the tree anybody could hold it. Where
//! it cannot be made, by an ordinary user's hook for example, or is not free in time, the work is done without.

#![forbid(unsafe_code)]

use std::time::Duration;

use camino::Utf8Path;
use libgpuspec::root::{Directory, Lock};
use libgpuspec::{Result, Root};

const RUN: &str = "/run";
const PLACE: &str = "gpuspec/trees";
/// A hook holds it for a thousandth.
const LIMIT: Duration = Duration::from_secs(2);

/// Where the locks of this machine are.
#[derive(Debug)]
pub struct Locks(Option<Directory>);

/// The lock of one tree; its file goes with it.
#[derive(Debug)]
pub struct TreeLock {
    directory: Directory,
    name: String,
    _lock: Lock,
}

impl Locks {
    /// Opens their directory, in this machine's mount namespace.
    pub fn open() -> Locks {
        Locks(open().ok())
    }

    /// Waits for the tree's, if there is one to be had.
    pub fn take(self, root: &Root) -> Option<TreeLock> {
        let directory = self.0?;
        let (device, inode) = root.target(Utf8Path::new("/")).ok()??.identity;
        let name = format!("{device:x}-{inode:x}");
        let lock = directory.lock_file_within(&name, LIMIT).ok()??;
        Some(TreeLock { directory, name, _lock: lock })
    }
}

fn open() -> Result<Directory> {
    let directory = Root::open(RUN.into())?.make_directory(PLACE.into())?;
    directory.set_mode(0o700)?;
    Ok(directory)
}

impl Drop for TreeLock {
    fn drop(&mut self) {
        // Who waits for it sees that it is gone, and makes another.
        let _ = self.directory.remove(&self.name);
    }
}
