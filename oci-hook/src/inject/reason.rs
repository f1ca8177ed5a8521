//! Why a machine has no devices, kept in /run from its start to its stop: said again once it runs.
//!
//! systemd-machined knows a machine from then on only, and shows what its unit has said since.

#![forbid(unsafe_code)]

use camino::Utf8Path;
use libgpuspec::{Result, Root};

/// A file for each machine, by its name.
const PLACE: &str = "/run/gpuspec/failed";
/// Longer than any reason.
const MAX: u64 = 64 << 10;

/// Keeps it. Where it cannot be kept it has been said, which is what counts.
pub(crate) fn keep(host: &Root, machine: &str, reason: &str) {
    let kept = host.make_directory(PLACE.into()).and_then(|place| {
        // Names of machines, and paths in them, are for this host's root.
        place.set_mode(0o700)?;
        // The file is overwritten each time. It has no other name meanwhile that a killed process would leave.
        place.append(machine, reason.as_bytes(), 0)
    });
    drop(kept);
}

/// What is kept.
pub(crate) fn read(host: &Root, machine: &str) -> Result<Option<String>> {
    host.read_text(&Utf8Path::new(PLACE).join(machine), MAX)
}

/// Removes what is kept.
pub(crate) fn forget(host: &Root, machine: &str) -> Result<()> {
    let place = Utf8Path::new(PLACE);
    let above = place.parent().map(|above| host.directory(above)).transpose()?.flatten();
    if let (Some(above), Some(directory), Some(name)) = (above, host.directory(place)?, place.file_name()) {
        directory.remove(machine)?;
        above.remove_empty(name)?;
    }
    Ok(())
}
