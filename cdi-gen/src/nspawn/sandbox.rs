//! Work on a machine's tree, done where it can reach nothing else.

use libgpuspec::Root;
use oci_hook::sandbox;

/// Does the work in a thread that is confined to the tree, and not for long.
pub(super) fn sandbox(root: Root, work: Box<dyn FnOnce(&Root) + Send>) -> Result<(), String> {
    sandbox::run(root, work).map_err(|lost| lost.to_string())
}
