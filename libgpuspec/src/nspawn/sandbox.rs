//! Work on a guest's tree, where the caller confines it: a library takes nobody's rights away.

use std::sync::mpsc;

use crate::Root;
use crate::error::{Error, Result};

/// Does the work on the root, and may take rights and time from it; the error is why it was not done.
pub type Sandbox = fn(Root, Box<dyn FnOnce(&Root) + Send>) -> std::result::Result<(), String>;

/// The result of work in the sandbox.
pub(super) fn confined<T: Send + 'static>(
    sandbox: Sandbox,
    root: Root,
    work: impl FnOnce(&Root) -> T + Send + 'static,
) -> Result<T> {
    let path = root.path().to_owned();
    let failed = |reason: String| Error::Machine(format!("{path}: the work on the machine's tree: {reason}"));
    let (sender, receiver) = mpsc::channel();
    // Whoever waited too long for the result is gone.
    let work = Box::new(move |root: &Root| drop(sender.send(work(root))));
    sandbox(root, work).map_err(failed)?;
    receiver.try_recv().map_err(|_| failed("no result".to_owned()))
}
