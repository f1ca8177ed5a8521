//! Hides from a container's programs that the driver lets them make and change device nodes.
//!
//! The driver's user-space libraries read /proc/driver/nvidia/params, and where `ModifyDeviceFiles` is 1
//! they make nodes of GPUs that a container was not given. The container gets a copy that says 0.

use camino::Utf8Path;

use crate::Root;
use crate::error::{Error, Result};

const PARENT: &str = "/proc/driver/nvidia";
pub(crate) const PATH: &str = "/proc/driver/nvidia/params";
const FIELD: &str = "ModifyDeviceFiles";
const MAX_PARAMS: u64 = 64 << 10;

/// Puts the copy over the container's own; where the host's driver does not allow it, nothing is done.
pub(super) fn hide(root: &Root) -> Result<()> {
    let Some(copy) = hidden(&Root::open("/".into())?)? else { return Ok(()) };
    let path = Utf8Path::new(PATH);
    // gVisor and containers without a procfs have no such file, and need none.
    let Some(found) = root.find(path)? else { return Ok(()) };
    if !found.is_on_proc()? {
        // An earlier run's copy, or something else that nothing must be mounted over.
        return match root.read_text(path, MAX_PARAMS)? {
            Some(text) if text == copy => Ok(()),
            _ => Err(Error::Container(format!("{PATH}: not on a procfs; left alone"))),
        };
    }
    let Some(parent) = root.directory(PARENT.into())? else { return Ok(()) };
    found.cover(&parent, copy.as_bytes())
}

/// The text of the copy; `None` where this host's driver gives no leave.
pub(crate) fn hidden(host: &Root) -> Result<Option<String>> {
    Ok(host.read_text(PATH.into(), MAX_PARAMS)?.and_then(|text| forbidding(&text)))
}

/// The text with a 0; `None` where the driver says 0, or nothing. Every other value counts as a 1.
fn forbidding(params: &str) -> Option<String> {
    let allows = |line: &str| {
        let is_zero = |value: &str| value.trim().parse() == Ok(0_u32);
        line.split_once(':').is_some_and(|(name, value)| name.trim() == FIELD && !is_zero(value))
    };
    params.lines().any(allows).then(|| {
        let lines = params
            .lines()
            .map(|line| if allows(line) { format!("{FIELD}: 0\n") } else { format!("{line}\n") });
        lines.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_1_is_hidden() {
        for line in [
            "ModifyDeviceFiles: 1",
            "ModifyDeviceFiles:1",
            "ModifyDeviceFiles : 1",
            "ModifyDeviceFiles:\t1",
            "\tModifyDeviceFiles\t:\t1\t",
            "  ModifyDeviceFiles:   1   ",
            "ModifyDeviceFiles: 1\r",
            "ModifyDeviceFiles: 01",
            "ModifyDeviceFiles: 11",
            "ModifyDeviceFiles: 1 x",
            "ModifyDeviceFiles:",
        ] {
            for (before, after) in [("", ""), ("", "\n"), ("A: 1\r\n", "\r\nB: 1"), ("\n\n", "\n\n")] {
                let copy = forbidding(&format!("{before}{line}{after}")).unwrap();
                let value = copy.lines().find_map(|line| line.strip_prefix("ModifyDeviceFiles: "));
                assert_eq!(value, Some("0"), "{line:?}");
                assert!(copy.ends_with('\n') && !copy.contains('\r'), "{copy:?}");
            }
        }
        let twice = "ModifyDeviceFiles: 0\nModifyDeviceFiles: 1\n";
        assert_eq!(forbidding(twice).as_deref(), Some("ModifyDeviceFiles: 0\nModifyDeviceFiles: 0\n"));
    }

    #[test]
    fn the_leave_is_taken_back_where_it_was_given() {
        let cases = [
            ("ModifyDeviceFiles: 1\nDeviceFileUID: 0\n", Some("ModifyDeviceFiles: 0\nDeviceFileUID: 0\n")),
            ("A: 1\nModifyDeviceFiles: 1", Some("A: 1\nModifyDeviceFiles: 0\n")),
            ("ModifyDeviceFiles: 0\n", None),
            ("XModifyDeviceFiles: 1\n", None),
            ("ModifyDeviceFiles: 00\n", None),
            ("ModifyDeviceFiles:0", None),
            (" ModifyDeviceFiles :\t0 \r\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(forbidding(text).as_deref(), expected, "{text}");
        }
    }
}
