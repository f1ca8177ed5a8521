//! Whether root may run a program from where it lies: one rule for hooks, units and drop-ins.

use anyhow::Result;
use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::root::Owners;

/// Why users other than root can replace the program at this absolute path, in words, if they can.
///
/// The path is walked as it is written and through every link, for the kernel does so too each time
/// that the program runs: each directory, each link and the file itself must be root's alone to write.
pub(crate) fn writable_by_others(machine: &Root, path: &Utf8Path) -> Result<Option<String>> {
    let exposed = machine.exposed(path, &Owners::root())?;
    Ok(exposed.map(|(part, exposure)| format!("{path}: other users can replace it: {part} {exposure}")))
}
