//! Work on a machine's tree, done where it can reach nothing else.

use libgpuspec::Root;
use oci_hook::sandbox::{self, Lost};

use crate::output;

/// Does the work in a thread that is confined to the tree, and not for long.
pub(super) fn sandbox(root: Root, work: Box<dyn FnOnce(&Root) + Send>) -> Result<(), String> {
    confined(root, work)
}

/// The result of such work, or why it was not begun. Without an end in time the program ends: nothing is done beside a
/// thread that may still be at work, and what it did is for the next start, stop or run to take back.
pub(super) fn confined<T: Send + 'static>(
    root: Root,
    work: impl FnOnce(&Root) -> T + Send + 'static,
) -> Result<T, String> {
    let path = root.path().to_owned();
    sandbox::run(root, work).map_err(|lost| match lost {
        Lost::Sandbox(reason) => reason,
        Lost::Deadline => output::end(&format!("{path}: the work on the machine's tree: {}", Lost::Deadline)),
    })
}
