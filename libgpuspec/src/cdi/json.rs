//! A spec as JSON text.

use super::problem::SerializeError;
use super::spec::Spec;

/// The document, indented, with a line feed at its end.
pub fn to_string(spec: &Spec) -> Result<String, SerializeError> {
    let text = serde_json::to_string_pretty(spec).map_err(|error| SerializeError(error.to_string()))?;
    Ok(text + "\n")
}
