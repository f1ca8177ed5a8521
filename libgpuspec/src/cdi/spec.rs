//! A CDI spec as a value: every field of CDI 0.1.0 to 1.1.0, in the specification's order.

use std::collections::BTreeMap;

use camino::Utf8Path;
use serde::Serialize;

use crate::root::is_run_time;

fn is_false(value: &bool) -> bool {
    !value
}

/// One spec file: the devices of one kind, and what a container needs of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the specification the document is written to.
    #[serde(rename = "cdiVersion")]
    pub version: String,
    /// `vendor/class`.
    pub kind: String,
    /// Free text for people and programs; demands 0.6.0 when not empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// At least one.
    pub devices: Vec<Device>,
    /// Applied once if any device of the file is requested.
    #[serde(skip_serializing_if = "ContainerEdits::is_empty")]
    pub container_edits: ContainerEdits,
}

/// One device that can be asked for by `kind=name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Unique within the file.
    pub name: String,
    /// Free text for people and programs; demands 0.6.0 when not empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Not empty.
    pub container_edits: ContainerEdits,
}

/// What is done to a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerEdits {
    /// `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes to make.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices to move; CDI 1.1.0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// Programs the runtime runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// File systems to mount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Resource Director Technology; CDI 0.7.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Groups the container's process joins; CDI 0.7.0.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

impl ContainerEdits {
    /// Whether nothing would be done: only empty lists and no RDT.
    pub fn is_empty(&self) -> bool {
        self == &ContainerEdits::default()
    }

    /// Adds what `other` does after what this does: lists follow each other, the last RDT counts.
    pub fn append(&mut self, other: &ContainerEdits) {
        self.env.extend_from_slice(&other.env);
        self.device_nodes.extend_from_slice(&other.device_nodes);
        self.net_devices.extend_from_slice(&other.net_devices);
        self.hooks.extend_from_slice(&other.hooks);
        self.mounts.extend_from_slice(&other.mounts);
        if other.intel_rdt.is_some() {
            self.intel_rdt.clone_from(&other.intel_rdt);
        }
        self.additional_gids.extend_from_slice(&other.additional_gids);
    }
}

/// A device node in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceNode {
    /// In the container.
    pub path: String,
    /// On the host; empty means `path`. Demands 0.5.0 when not empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host_path: String,
    /// `b`, `c`, `u`, `p`, or empty: taken from the host.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub node_type: String,
    /// Major number; 0 is not set.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: i64,
    /// Minor number, counted only where the major number is set.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: i64,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Cgroup permissions: a mix of `r`, `w`, `m`, or `none`; empty means `rwm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub permissions: String,
    /// Owner in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group in the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

impl DeviceNode {
    /// Where it is on the host.
    pub fn source(&self) -> &Utf8Path {
        Utf8Path::new(if self.host_path.is_empty() { &self.path } else { &self.host_path })
    }
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A mount in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// mount(8) options; one of `bind`, `rbind` must be there for runtimes to bind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// File system type; demands 0.4.0 when not empty.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub mount_type: String,
}

impl Mount {
    /// Whether the source may come and go with a service: it lies in a run-time directory such as /run, and is not
    /// mounted read-only, as a driver container's libraries below /run are.
    pub fn comes_and_goes(&self) -> bool {
        is_run_time(Utf8Path::new(&self.host_path)) && !self.options.iter().any(|option| option == "ro")
    }
}

/// A program the runtime runs at one point of a container's life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The point: prestart, createRuntime, createContainer, startContainer, poststart, poststop.
    pub hook_name: String,
    /// The program, absolute.
    pub path: String,
    /// Its arguments, the first being its own name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment; an empty one lets some runtimes pass the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which the runtime kills it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// A network device moved into the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetDevice {
    /// Its name on the host.
    pub host_interface_name: String,
    /// Its name in the container.
    pub name: String,
}

/// Intel Resource Director Technology.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID", skip_serializing_if = "String::is_empty")]
    pub clos_id: String,
    /// L3 cache schema.
    #[serde(rename = "l3CacheSchema", skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    /// Memory bandwidth schema.
    #[serde(rename = "memBwSchema", skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Whole schemata lines; CDI 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemata: Option<Vec<String>>,
    /// A monitoring group of its own; CDI 1.1.0.
    #[serde(skip_serializing_if = "is_false")]
    pub enable_monitoring: bool,
}
