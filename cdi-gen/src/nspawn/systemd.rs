//! The host's own systemd, told that units have changed.

use std::process::Command;

use anyhow::Result;
use libgpuspec::Root;

use crate::output;

/// Whether it runs from this tree (sd_booted(3)).
pub(crate) fn is_booted(host: &Root) -> Result<bool> {
    Ok(host.is_machine_root()? && host.directory("/run/systemd/system".into())?.is_some())
}

/// Whether it says that a unit has ended, or never began.
pub(crate) fn has_ended(host: &Root, unit: &str) -> Result<bool> {
    if !is_booted(host)? {
        return Ok(false);
    }
    let asked = Command::new("systemctl").args(["show", "--property=ActiveState", "--value", unit]).output();
    Ok(asked.is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"inactive" | b"failed")))
}

/// Has it read the units again where it runs from this tree; else says what to do.
pub(crate) fn reload(host: &Root) -> Result<()> {
    if !is_booted(host)? {
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
