//! From a request to what is done to the container: specs looked up, filtered by capabilities, merged.

use super::Request;
use crate::Notice;
use crate::cdi::{ContainerEdits, Registry, Spec, Unresolved};
use crate::plan::is_ours;
use crate::vendor::Vendor;

/// Why a request cannot be fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolvable {
    /// Devices do not resolve.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Devices(Vec<Unresolved>),
    /// The driver is asked for, and there is no spec that could tell what it is.
    #[error("{0}: no spec defines devices of this kind")]
    Driver(String),
}

/// All that the request's devices need, of our own specs only the capabilities asked for.
///
/// Nobody can tell what a foreign spec's files are for: it is applied whole, which is told.
pub fn resolve(
    registry: &Registry,
    request: &Request,
    vendors: &[&'static Vendor],
) -> Result<(ContainerEdits, Vec<Notice>), Unresolvable> {
    let mut notices = Vec::new();
    let mut change = |spec: &Spec, edits: &ContainerEdits| {
        let Some(capabilities) = request.capabilities.get(&spec.kind) else { return edits.clone() };
        match vendors.iter().find(|vendor| vendor.kind == spec.kind).filter(|_| is_ours(spec)) {
            Some(vendor) => capabilities.filter(vendor, edits),
            None => {
                let text = format!(
                    "{}: a spec of another maker, applied whole whatever capabilities are asked for",
                    spec.kind
                );
                if !notices.contains(&Notice(text.clone())) {
                    notices.push(Notice(text));
                }
                edits.clone()
            }
        }
    };
    let mut edits = ContainerEdits::default();
    for kind in &request.drivers {
        let spec = registry.of_kind(kind).ok_or_else(|| Unresolvable::Driver(kind.clone()))?;
        if let Some(spec) = spec.spec() {
            edits.append(&change(spec, &spec.container_edits));
        }
    }
    let devices = registry.resolve_with(&request.devices, change).map_err(Unresolvable::Devices)?;
    edits.append(&devices);
    Ok((edits, notices))
}
