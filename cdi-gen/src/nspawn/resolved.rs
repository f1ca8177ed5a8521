//! What is asked for, looked up: the specs' edits, what their hooks mean, and what the machine's unit must let through.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use libgpuspec::apply::Request;
use libgpuspec::cdi::{ContainerEdits, DeviceNode, Registry, Unresolved, fill};
use libgpuspec::nspawn::{Order, Refused};
use libgpuspec::render::nspawn::devices::{DeviceRule, device_allow, majors};
use libgpuspec::{Notice, Root};
use oci_hook::machine::Asked;

use crate::discovery::VENDOR;
use crate::output;

/// The largest /proc/devices that is read; a hundred times the largest seen.
const MAX_DEVICES: u64 = 256 << 10;

/// What the asked for comes to.
pub(crate) struct Resolved {
    pub(crate) edits: ContainerEdits,
    requests: Vec<Request>,
    unknown_hooks: Vec<String>,
}

/// The edits by the specs of this host, or why there are none.
pub(crate) fn find(host: &Root, asked: &Asked) -> Result<std::result::Result<Resolved, Vec<String>>> {
    let asked = &asked.devices;
    let registry = Registry::unwatched(Root::open(host.path())?, &asked.spec_directories);
    let edits = match registry.resolve(&asked.names) {
        Ok(edits) => edits,
        Err(reasons) => return Ok(Err(reasons.iter().map(told).collect())),
    };
    let (requests, unknown_hooks) = oci_hook::meanings(&edits.hooks);
    let unknown_hooks: Vec<String> = unknown_hooks.into_iter().map(oci_hook::name).collect();
    let refused = unknown_hooks.iter().filter(|name| !asked.allowed_hooks.contains(name));
    let refused: Vec<String> = refused.map(|name| Refused::Hook(name.clone()).to_string()).collect();
    Ok(if refused.is_empty() { Ok(Resolved { edits, requests, unknown_hooks }) } else { Err(refused) })
}

/// Why a device does not resolve, and what helps where a spec of ours is not there.
fn told(reason: &Unresolved) -> String {
    let ours = |device: &str| device.strip_prefix(VENDOR.kind).is_some_and(|name| name.starts_with('='));
    match reason {
        Unresolved::Unknown { device, hint } if ours(device) && !hint.contains(" has ") => {
            format!("{reason}; cdi-gen generate --install makes one")
        }
        Unresolved::Unknown { .. } | Unresolved::Name(_) | Unresolved::Conflict(_) => reason.to_string(),
    }
}

impl Resolved {
    /// What is to be prepared for a machine of this name, by its settings but for what is asked for.
    pub(crate) fn order<'a>(&'a self, asked: &'a Asked, name: &'a str) -> Order<'a> {
        asked.order(name, &self.edits, &self.requests, &self.unknown_hooks)
    }

    /// The rules of the machine's unit; what cannot be told yet is.
    pub(crate) fn rules(&self, host: &Root) -> Result<(Vec<DeviceRule>, Vec<Notice>)> {
        let (mut nodes, mut notices) = (Vec::new(), Vec::new());
        for node in &self.edits.device_nodes {
            // The numbers of this boot count, and the mode of the very node: a spec's may be of another day.
            let open =
                DeviceNode { node_type: String::new(), major: 0, minor: 0, file_mode: None, ..node.clone() };
            match fill(std::slice::from_ref(&open), host) {
                Ok(filled) => nodes.extend(filled),
                Err(error) => {
                    notices.push(Notice(format!(
                        "{}; what its unit lets through is told by its path",
                        libgpuspec::error::chain(&error)
                    )));
                    nodes.push(node.clone());
                }
            }
        }
        let devices = host.read_text("/proc/devices".into(), MAX_DEVICES)?.unwrap_or_default();
        let rules =
            device_allow(&nodes, &majors(&devices)).map_err(|error| anyhow!("device node {error}"))?;
        Ok((rules, notices))
    }
}

/// The host's drivers of character devices, by their numbers.
pub(crate) fn majors_of(host: &Root) -> Result<BTreeMap<i64, String>> {
    Ok(majors(&host.read_text("/proc/devices".into(), MAX_DEVICES)?.unwrap_or_default()))
}

/// Tells why devices cannot be had.
pub(crate) fn refuse(reasons: &[String]) -> output::Status {
    reasons.iter().for_each(|reason| output::note(reason));
    output::Status::Invalid
}
