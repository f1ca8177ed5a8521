//! A spec as YAML text; the only place that knows the YAML crate.

use super::problem::SerializeError;
use super::spec::Spec;

/// The document, in the specification's field order, with a line feed at its end.
///
/// Every string reads back the same under YAML 1.1 and 1.2: `on`, `010` and `0.5.0` come out quoted.
///
/// ```
/// use libgpuspec::cdi::{Spec, yaml};
///
/// let spec = Spec { version: "0.5.0".to_owned(), kind: "example.com/gpu".to_owned(), ..Spec::default() };
/// assert_eq!(yaml::to_string(&spec)?, "cdiVersion: \"0.5.0\"\nkind: example.com/gpu\ndevices: []\n");
/// # Ok::<(), libgpuspec::cdi::SerializeError>(())
/// ```
pub fn to_string(spec: &Spec) -> Result<String, SerializeError> {
    // Block scalars would change a string that ends in blank lines for some readers.
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    serde_yaml::to_string_with_options(spec, options).map_err(|error| SerializeError(error.to_string()))
}

#[cfg(test)]
mod tests;
