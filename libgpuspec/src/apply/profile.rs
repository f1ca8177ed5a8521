//! The application profile that keeps the driver's EGL from listing GPUs that the container has no node of.
//!
//! The driver's README, appendix "Application Profiles": files of /etc/nvidia/nvidia-application-profiles-rc.d
//! are read in order of their names, and EGLVisibleDGPUDevices is a mask of device minors.

use camino::Utf8Path;

use super::{own_directory, own_file, replace};
use crate::Root;
use crate::error::Result;
use crate::root::Kind;

const DEVICES: &str = "/dev";
const DIRECTORY: &str = "/etc/nvidia/nvidia-application-profiles-rc.d";
/// The name that others use too, so that one container never has two.
const NAME: &str = "10-container.conf";
const MAX_PROFILE: u64 = 64 << 10;

/// Writes the profile for the GPUs whose nodes are in the container; without any there is none.
pub(super) fn write(root: &Root) -> Result<()> {
    let mask = minors(root)?;
    if mask == 0 {
        return Ok(());
    }
    let text = format!(
        r#"{{"profiles":[{{"name":"_container_","settings":["EGLVisibleDGPUDevices",{mask}]}}],"rules":[{{"pattern":[],"profile":"_container_"}}]}}
"#
    );
    let directory = own_directory(root, DIRECTORY)?;
    let old = own_file(root, &Utf8Path::new(DIRECTORY).join(NAME), MAX_PROFILE)?;
    match old {
        Some(old) if old == text.as_bytes() => Ok(()),
        _ => replace(&directory, NAME, text.as_bytes()),
    }
}

/// A bit for each minor of the nodes /dev/nvidiaN.
fn minors(root: &Root) -> Result<u64> {
    let mut mask = 0;
    for (name, kind) in root.list(DEVICES.into())?.unwrap_or_default() {
        let number = name.strip_prefix("nvidia").unwrap_or_default();
        if kind != Kind::CharDevice || number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit())
        {
            continue;
        }
        let entry = root.entry(&Utf8Path::new(DEVICES).join(name))?;
        mask |= entry.and_then(|entry| 1_u64.checked_shl(entry.minor)).unwrap_or(0);
    }
    Ok(mask)
}
