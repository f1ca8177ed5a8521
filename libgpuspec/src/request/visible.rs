//! The value of a `…_VISIBLE_DEVICES` variable: which GPUs it means.

use crate::cdi::{QualifiedName, check_device};

/// Most devices that one range may mean; sixteen times the most GPUs seen in a machine.
const MAX_RANGE: u32 = 256;

/// What a variable asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// Nothing: unset, empty or `void`.
    Nothing,
    /// The driver without a GPU: `none`.
    Driver,
    /// These: names of devices, or qualified names.
    Devices(Vec<String>),
}

/// Reads a variable's value; an entry that cannot be a device's name comes back as the error.
pub fn visible(value: &str, ranges: bool) -> Result<Visible, String> {
    match value.trim() {
        "" | "void" => return Ok(Visible::Nothing),
        "none" => return Ok(Visible::Driver),
        _ => {}
    }
    let mut devices = Vec::new();
    for entry in value.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match range(entry).filter(|_| ranges) {
            Some((first, last)) if first <= last && last - first < MAX_RANGE => {
                devices.extend((first..=last).map(|index| index.to_string()));
            }
            Some(_) => return Err(entry.to_owned()),
            // Either word leaves no room for a device.
            None if matches!(entry, "none" | "void") => return Err(value.to_owned()),
            None if entry.parse::<QualifiedName>().is_ok() || check_device(entry).is_ok() => {
                devices.push(entry.to_owned());
            }
            None => return Err(entry.to_owned()),
        }
    }
    if devices.is_empty() {
        return Err(value.to_owned());
    }
    // With all, each of them would come twice; a qualified name can be of another kind.
    if devices.iter().any(|device| device == "all") {
        devices.retain(|device| device == "all" || device.contains('='));
        devices.dedup();
    }
    Ok(Visible::Devices(devices))
}

fn range(entry: &str) -> Option<(u32, u32)> {
    let (first, last) = entry.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(names: &[&str]) -> Result<Visible, String> {
        Ok(Visible::Devices(names.iter().map(|&name| name.to_owned()).collect()))
    }

    #[test]
    fn values_mean_what_the_vendors_runtimes_take_them_for() {
        for (value, expected) in [
            ("", Ok(Visible::Nothing)),
            (" ", Ok(Visible::Nothing)),
            ("void", Ok(Visible::Nothing)),
            ("none", Ok(Visible::Driver)),
            ("all", devices(&["all"])),
            ("0", devices(&["0"])),
            ("1, 0,", devices(&["1", "0"])),
            ("0,all", devices(&["all"])),
            ("all,nvidia.com/mig=0", devices(&["all", "nvidia.com/mig=0"])),
            ("all,all", devices(&["all"])),
            ("0,,1", devices(&["0", "1"])),
            ("all,none", Err("all,none".to_owned())),
            ("none,0", Err("none,0".to_owned())),
            ("0,void", Err("0,void".to_owned())),
            ("none,", Err("none,".to_owned())),
            (",", Err(",".to_owned())),
            (" , ", Err(" , ".to_owned())),
            ("NONE", devices(&["NONE"])),
            (
                "GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b,1:0",
                devices(&["GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b", "1:0"]),
            ),
            ("nvidia.com/gpu=0", devices(&["nvidia.com/gpu=0"])),
            ("0-3", devices(&["0-3"])),
            ("../0", Err("../0".to_owned())),
            ("0,a b", Err("a b".to_owned())),
            ("--privileged", Err("--privileged".to_owned())),
        ] {
            assert_eq!(visible(value, false), expected, "{value:?}");
        }
    }

    #[test]
    fn ranges_are_read_where_the_vendor_has_them() {
        for (value, expected) in [
            ("0-2,5", devices(&["0", "1", "2", "5"])),
            ("3-3", devices(&["3"])),
            ("3-2", Err("3-2".to_owned())),
            ("0-4294967295", Err("0-4294967295".to_owned())),
            ("GPU-1-2", devices(&["GPU-1-2"])),
        ] {
            assert_eq!(visible(value, true), expected, "{value:?}");
        }
    }
}
