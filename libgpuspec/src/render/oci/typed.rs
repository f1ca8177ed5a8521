//! The same edits on oci-spec's types, for callers that hold a config in them.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{InjectError, inject};
use crate::Root;
use crate::cdi::ContainerEdits;

/// Does the edits to a runtime spec, as [`inject`] does them to a document.
///
/// These types drop fields they do not know when they are read: where the config comes from a file,
/// edit the document.
pub fn inject_spec(spec: &mut Spec, edits: &ContainerEdits, host: &Root) -> Result<(), InjectError> {
    let mut config = serde_json::to_value(&*spec).map_err(InjectError::Types)?;
    let needs_process = !edits.env.is_empty() || edits.additional_gids.iter().any(|&gid| gid != 0);
    if needs_process && config.get("process").is_none_or(Value::is_null) {
        // The types have no process without these two.
        if let Some(config) = config.as_object_mut() {
            config.insert("process".into(), json!({"user": {"uid": 0, "gid": 0}, "cwd": ""}));
        }
    }
    inject(&mut config, edits, host)?;
    *spec = serde_json::from_value(config).map_err(InjectError::Types)?;
    Ok(())
}
