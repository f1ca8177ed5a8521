//! What a container asks for: by the caller's word always, by its own words where the caller lets it.
//!
//! `OCI config → read → Request → resolve → ContainerEdits`, which [`render::oci`](crate::render::oci) puts
//! into the config. A container's annotations and variables come from whoever made it, or its image: they
//! ask only for kinds of device that the caller has opened to them.

mod capabilities;
mod environment;
mod facts;
mod require;
#[cfg(feature = "yaml")]
mod resolve;
mod visible;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Notice;
use crate::cdi::{AnnotationError, QualifiedName, requested};
use crate::vendor::requests::VARIABLES;

pub use capabilities::{Capabilities, capabilities};
pub use facts::facts;
pub use require::{Fact, Facts, Unmet, check};
#[cfg(feature = "yaml")]
pub use resolve::{Unresolvable, resolve};
pub use visible::{Visible, visible};

/// Who may ask for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Qualified names of devices that every container gets.
    pub devices: Vec<String>,
    /// Kinds that a container's annotations may ask for.
    pub annotations: Vec<String>,
    /// Kinds that a container's variables may ask for.
    pub environment: Vec<String>,
    /// Further variables that may name devices, each with their kind; they precede the vendor's own.
    pub variables: Vec<(String, String)>,
}

/// What one container asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Qualified names of devices, each once.
    pub devices: Vec<String>,
    /// Kinds of which the driver is asked for, and no device.
    pub drivers: Vec<String>,
    /// For each kind of which not all capabilities are asked for, those that are.
    pub capabilities: BTreeMap<String, Capabilities>,
    /// Variables that set conditions on the host.
    pub conditions: Vec<(String, String)>,
}

/// Why a container's request cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// An annotation does not name devices.
    #[error("annotation {0}")]
    Annotation(#[from] AnnotationError),
    /// A variable does not name devices.
    #[error("{name}: `{entry}` is no device")]
    Devices {
        /// The variable.
        name: String,
        /// What is wrong in it.
        entry: String,
    },
    /// A variable has a word that is no capability.
    #[error(
        "{name}: `{word}` is no capability; those are all, compat32, compute, display, graphics, ngx, utility and video"
    )]
    Capability {
        /// The variable.
        name: &'static str,
        /// The word.
        word: String,
    },
    /// A variable has something else than a version.
    #[error("{name}: `{value}` is not a version")]
    Version {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A variable asks for what no container gets.
    #[error(
        "{name}={value}: asks for {what}, which this version cannot give; unset it, or have a CDI spec name the nodes"
    )]
    Unsupported {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it asks for.
        what: &'static str,
    },
}

/// Reads what a container asks for out of its config.
pub fn read(rules: &Rules, config: &Value) -> Result<(Request, Vec<Notice>), BadRequest> {
    let mut request = Request { devices: rules.devices.clone(), ..Request::default() };
    let mut notices = Vec::new();
    if !rules.annotations.is_empty() {
        for device in requested(&annotations(config))? {
            request.add(device, &rules.annotations, "an annotation", &mut notices);
        }
    }
    let environment = environment(config);
    for variables in VARIABLES {
        let is_vendors = |kind: &String| kind.split('/').next() == Some(variables.vendor);
        let kinds = rules.environment.iter().filter(|kind| is_vendors(kind)).cloned().collect();
        let named = rules.variables.iter().filter(|(_, kind)| is_vendors(kind)).cloned().collect();
        let mut reader =
            environment::Reader { variables, kinds, named, environment: &environment, notices: &mut notices };
        reader.read(&mut request)?;
    }
    let mut met = std::collections::BTreeSet::new();
    request.devices.retain(|device| met.insert(device.clone()));
    Ok((request, notices))
}

impl Request {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.drivers.is_empty()
    }

    /// Adds a device if its kind is one of those; the word of a stranger for another is not heard.
    fn add(&mut self, device: String, kinds: &[String], by: &str, notices: &mut Vec<Notice>) {
        let name: Result<QualifiedName, _> = device.parse();
        if name.is_ok_and(|name| kinds.iter().any(|kind| kind == name.kind())) {
            self.devices.push(device);
        } else {
            notices.push(Notice(format!(
                "{device}: asked for by {by}, which may ask for {} only; ignored",
                kinds.join(", ")
            )));
        }
    }
}

fn annotations(config: &Value) -> BTreeMap<String, String> {
    let all = config.get("annotations").and_then(Value::as_object);
    let texts = all.into_iter().flatten();
    texts.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The variables of the container's process; of two of one name the last counts.
fn environment(config: &Value) -> BTreeMap<&str, &str> {
    let list = config.pointer("/process/env").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|entry| entry.as_str()?.split_once('=')).collect()
}

#[cfg(test)]
mod tests;
