//! The host's own systemd, told that units have changed.

use std::process::Command;

use anyhow::Result;
use libgpuspec::Root;

use crate::output;

/// Has it read the units again where it runs from this tree; else says what to do.
pub(crate) fn reload(host: &Root) -> Result<()> {
    // sd_booted(3)
    let booted = host.is_machine_root()? && host.directory("/run/systemd/system".into())?.is_some();
    if !booted {
        output::note(
            "systemd does not run here: it reads the change when it starts, or at `systemctl daemon-reload`",
        );
        return Ok(());
    }
    match Command::new("systemctl").arg("daemon-reload").status() {
        Ok(status) if status.success() => output::note("ran systemctl daemon-reload"),
        Ok(status) => output::warning(&format!("systemctl daemon-reload: {status}; run it again")),
        Err(error) => output::warning(&format!("systemctl daemon-reload: {error}; run it yourself")),
    }
    Ok(())
}
