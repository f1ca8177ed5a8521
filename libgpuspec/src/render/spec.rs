//! A generated spec as the text of a spec file.

use crate::cdi::{self, Spec};
use crate::inventory::Inventory;

/// The format of a spec file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With a comment at the head that says what made it, and of what.
    Yaml,
    /// JSON, which has no comments.
    Json,
}

/// The whole file: the same spec and inventory give the same bytes.
pub fn text(spec: &Spec, inventory: &Inventory, format: Format) -> Result<String, cdi::SerializeError> {
    match format {
        Format::Yaml => Ok(header(inventory)? + &cdi::yaml::to_string(spec)?),
        Format::Json => cdi::json::to_string(spec),
    }
}

/// How a file's first line says that this program made it.
pub const MARK: &str = "# Made by cdi-gen";

fn header(inventory: &Inventory) -> Result<String, cdi::SerializeError> {
    let fingerprint = inventory.fingerprint().map_err(|error| cdi::SerializeError(error.to_string()))?;
    Ok(format!(
        "{MARK} {} for the {} driver {}. Do not edit: make it anew instead.\n# inventory sha256: {fingerprint}\n",
        env!("CARGO_PKG_VERSION"),
        inventory.vendor,
        inventory.driver_version
    ))
}
