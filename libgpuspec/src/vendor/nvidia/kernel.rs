//! What NVIDIA's kernel module says in /proc and /sys: its version, its GPUs, their nodes.
//!
//! The formats of `/proc/driver/nvidia` are those of the module's own source (nv-procfs.c).

use camino::{Utf8Path, Utf8PathBuf};

use super::NVIDIA;
use crate::Notice;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::inventory::{Gpu, Node, NodeLink};
use crate::root::Root;
use crate::vendor::{Odd, node};

/// The largest file of /proc or /sys that is read here; the largest seen has 3 KiB.
const MAX_TEXT: u64 = 1 << 16;

/// Most GPUs of a host; the largest seen has 16.
const MAX_GPUS: usize = 256;
/// Most nodes of one GPU in its directory of sysfs; two are the rule.
const MAX_NODES: usize = 64;

/// One directory a GPU, by PCI address.
pub(super) const GPUS: &str = "/proc/driver/nvidia/gpus";

pub(super) fn module_version(host: &Host) -> Result<Option<String>> {
    for (root, path) in
        [(&host.proc, "/proc/driver/nvidia/version"), (&host.sys, "/sys/module/nvidia/version")]
    {
        let Some(text) = root.read_text(Utf8Path::new(path), MAX_TEXT)? else { continue };
        let unknown = || Error::Format {
            path: root.outside(Utf8Path::new(path)),
            reason: "no driver version that is known here; is this NVIDIA's kernel module?".to_owned(),
        };
        return parse_version(&text).ok_or_else(unknown).map(Some);
    }
    Ok(None)
}

/// The first word that is a version: the closed and the open module write different sentences.
fn parse_version(text: &str) -> Option<String> {
    text.split_whitespace().find(|word| is_version(word)).map(str::to_owned)
}

/// Whether a text is a driver version: `550.163.01`, `340.108`, `540.4.0`.
pub(super) fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let [major, minor, ..] = parts.as_slice() else { return false };
    parts.len() <= 3 && parts.iter().all(digits) && major.len() >= 3 && !minor.is_empty()
}

pub(super) fn gpus(host: &Host) -> Result<Odd<Vec<Gpu>>> {
    let mut notices = Vec::new();
    let mut addresses: Vec<String> =
        host.proc.list(Utf8Path::new(GPUS))?.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    addresses.retain(|address| is_pci_address(address));
    if addresses.len() > MAX_GPUS {
        let reason = format!("more than {MAX_GPUS} GPUs, which no host has");
        return Err(Error::Format { path: host.proc.outside(Utf8Path::new(GPUS)), reason });
    }
    addresses.sort_by_cached_key(|address| pci_key(address));
    let mut gpus = Vec::new();
    for (index, address) in addresses.into_iter().enumerate() {
        let path = Utf8PathBuf::from(format!("{GPUS}/{address}/information"));
        match host.proc.read_text(&path, MAX_TEXT) {
            Ok(Some(text)) => gpus.push(gpu(host, index, address, &text, &mut notices)),
            Ok(None) => {
                notices.push(Notice(format!("{}: missing; the GPU is left out", host.proc.outside(&path))))
            }
            Err(error) => notices.push(error.into()),
        }
    }
    forget_shared_uuids(&mut gpus, &mut notices);
    Ok((gpus, notices))
}

/// A UUID that several GPUs have names none of them.
fn forget_shared_uuids(gpus: &mut [Gpu], notices: &mut Vec<Notice>) {
    let all: Vec<Option<String>> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    for gpu in gpus {
        if gpu.uuid.is_some() && all.iter().filter(|uuid| **uuid == gpu.uuid).count() > 1 {
            notices.push(Notice(format!(
                "GPU {} at {}: its UUID is another's too; not used",
                gpu.index, gpu.pci_address
            )));
            gpu.uuid = None;
        }
    }
}

fn is_pci_address(name: &str) -> bool {
    name.split([':', '.']).count() == 4
        && name.chars().all(|character| character.is_ascii_hexdigit() || ":.".contains(character))
}

/// Ordered as the bus is: by the numbers, not by the text, since a domain may have more digits.
fn pci_key(address: &str) -> Vec<u64> {
    address.split([':', '.']).map(|part| u64::from_str_radix(part, 16).unwrap_or(u64::MAX)).collect()
}

fn gpu(host: &Host, index: usize, address: String, information: &str, notices: &mut Vec<Notice>) -> Gpu {
    let field = |name: &str| {
        let line =
            information.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let mut gpu = Gpu {
        index,
        // Before the GPU is first initialised its UUID is question marks, or the line is missing.
        uuid: field("GPU UUID")
            .filter(|uuid| uuid.starts_with("GPU-") && is_name(uuid) && !uuid.ends_with('-')),
        model: field("Model"),
        device_minor: field("Device Minor").and_then(|minor| minor.parse().ok()),
        excluded: field("GPU Excluded").as_deref() == Some("Yes"),
        nodes: Vec::new(),
        links: Vec::new(),
        pci_address: address,
    };
    if !gpu.excluded
        && let Err(error) = add_nodes(host, &mut gpu, notices)
    {
        notices.push(error.into());
    }
    gpu
}

fn is_name(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_alphanumeric() || character == '-')
}

fn add_nodes(host: &Host, gpu: &mut Gpu, notices: &mut Vec<Notice>) -> Result<()> {
    let Some(minor) = gpu.device_minor else {
        let place = host.proc.outside(Utf8Path::new(GPUS)).join(&gpu.pci_address);
        notices.push(Notice(format!("{place}/information: no Device Minor; the GPU has no node")));
        return Ok(());
    };
    let path = Utf8PathBuf::from(format!("/dev/nvidia{minor}"));
    match node(host, &path)? {
        Some(node) => gpu.nodes.push(node),
        None => {
            notices.push(Notice(format!(
                "{}: no such device node, though the kernel knows GPU {} at {}; {}",
                host.dev.outside(&path),
                gpu.index,
                gpu.pci_address,
                NVIDIA.missing_gpu_remedy
            )));
            return Ok(());
        }
    }
    let directory = Utf8PathBuf::from(format!("/sys/bus/pci/devices/{}/drm", gpu.pci_address));
    let listed = host.sys.list(&directory)?.unwrap_or_default();
    if listed.len() > MAX_NODES {
        let reason = format!("more than {MAX_NODES} entries, which no GPU has");
        return Err(Error::Format { path: host.sys.outside(&directory), reason });
    }
    for (name, _) in listed {
        gpu.nodes.extend(drm_node(host, &directory.join(name))?);
    }
    for part in ["card", "render"] {
        let path = Utf8PathBuf::from(format!("/dev/dri/by-path/pci-{}-{part}", gpu.pci_address));
        // A link of udev's leads to a node two directories up; another's text could end the hook's argument.
        let target = host.dev.read_link(&path)?.filter(|target| !target.as_str().contains("::"));
        gpu.links.extend(target.map(|target| NodeLink { path, target }));
    }
    Ok(())
}

/// The node of a DRM device: its name from `uevent`, its number from `dev`, and it must be there.
fn drm_node(host: &Host, directory: &Utf8Path) -> Result<Option<Node>> {
    let (Some(uevent), Some(number)) =
        (text(&host.sys, directory, "uevent")?, text(&host.sys, directory, "dev")?)
    else {
        return Ok(None);
    };
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    let Some(name) = name.filter(|name| name.split('/').all(|part| part != "..")) else { return Ok(None) };
    let node = node(host, &Utf8Path::new("/dev").join(name.trim_start_matches('/')))?;
    Ok(node.filter(|node| format!("{}:{}", node.major, node.minor) == number.trim()))
}

fn text(sys: &Root, directory: &Utf8Path, name: &str) -> Result<Option<String>> {
    sys.read_text(&directory.join(name), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_both_modules_sentences() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  Release Build  (user@host)\n";
        for (text, expected) in [
            (closed, Some("550.163.01")),
            (open, Some("595.45.04")),
            ("340.108\n", Some("340.108")),
            ("gcc version 12.2.0\n", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn pci_addresses_are_ordered_as_numbers() {
        let mut addresses = ["10000:01:00.0", "0000:41:00.0", "0001:00:00.0", "0000:05:00.0"];
        addresses.sort_by_cached_key(|address| pci_key(address));
        assert_eq!(addresses, ["0000:05:00.0", "0000:41:00.0", "0001:00:00.0", "10000:01:00.0"]);
    }
}
