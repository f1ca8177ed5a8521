//! What is asked for, looked up: the specs' edits, what their hooks mean, and what the machine's unit must let through.

use anyhow::{Result, anyhow};
use camino::Utf8Path;
use libgpuspec::cdi::{ContainerEdits, DeviceNode, Registry, fill};
use libgpuspec::render::nspawn::devices::{DeviceRule, device_allow, majors};
use libgpuspec::{Notice, Root};

use super::asked::Asked;
use crate::output;

/// The largest /proc/devices that is read; a hundred times the largest seen.
const MAX_DEVICES: u64 = 256 << 10;

/// What the asked for comes to.
pub(crate) struct Meant {
    pub(crate) edits: ContainerEdits,
}

/// The edits, or why there are none.
pub(crate) fn find(asked: &Asked) -> Result<std::result::Result<Meant, Vec<String>>> {
    let registry = Registry::unwatched(Root::open("/".into())?, &asked.spec_directories);
    let edits = match registry.resolve(&asked.devices) {
        Ok(edits) => edits,
        Err(reasons) => return Ok(Err(reasons.iter().map(ToString::to_string).collect())),
    };
    let unknown = edits.hooks.iter().filter(|hook| oci_hook::meaning(hook).is_none());
    let names = unknown.map(|hook| Utf8Path::new(&hook.path).file_name().unwrap_or(&hook.path).to_owned());
    let refused: Vec<String> =
        names.filter(|name| !asked.allowed_hooks.contains(name)).map(|name| refusal(&name)).collect();
    Ok(if refused.is_empty() { Ok(Meant { edits }) } else { Err(refused) })
}

fn refusal(hook: &str) -> String {
    format!(
        "the spec runs `{hook}`, whose meaning is not known here; with --allow-hook {hook} the machine starts without what it does"
    )
}

impl Meant {
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

/// Tells why devices cannot be had.
pub(crate) fn refuse(reasons: &[String]) -> output::Status {
    reasons.iter().for_each(|reason| output::note(&output::one_line(reason)));
    output::Status::Invalid
}
