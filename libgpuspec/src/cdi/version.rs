//! The versions of the specification, and the smallest one that a spec's content needs.

use std::fmt;
use std::str::FromStr;

use super::place::At;
use super::spec::{ContainerEdits, DeviceNode, IntelRdt, Mount, Spec};

/// A released version of the specification; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the names say it
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_4_0,
    V0_5_0,
    V0_6_0,
    V0_7_0,
    V0_8_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 10] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_4_0,
        Version::V0_5_0,
        Version::V0_6_0,
        Version::V0_7_0,
        Version::V0_8_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// What every spec needs at least: readers refuse older ones.
    pub const FLOOR: Version = Version::V0_3_0;

    /// The version as a spec writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_4_0 => "0.4.0",
            Version::V0_5_0 => "0.5.0",
            Version::V0_6_0 => "0.6.0",
            Version::V0_7_0 => "0.7.0",
            Version::V0_8_0 => "0.8.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The text is no version of the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no released version of the specification (0.3.0 to 1.1.0)")]
pub struct UnknownVersion(pub String);

impl FromStr for Version {
    type Err = UnknownVersion;

    /// The exact text, with one optional leading `v`.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let known = Version::ALL.into_iter().find(|version| version.as_str() == bare);
        known.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

/// The smallest version whose readers understand all that this spec says.
///
/// ```
/// use libgpuspec::cdi::{Device, Spec, Version, minimum_version};
///
/// let device = Device { name: "0".to_owned(), ..Device::default() };
/// let spec = Spec { kind: "example.com/gpu".to_owned(), devices: vec![device], ..Spec::default() };
/// assert_eq!(minimum_version(&spec), Version::V0_5_0); // a name that starts with a digit
/// ```
pub fn minimum_version(spec: &Spec) -> Version {
    let mut minimum = Version::FLOOR;
    demands(spec, &mut |_, version| minimum = minimum.max(version));
    minimum
}

/// Tells `visit` of each place in the spec that demands more than the floor, and how much.
pub(crate) fn demands(spec: &Spec, visit: &mut dyn FnMut(&At<'_>, Version)) {
    let top = At::TOP;
    let class = spec.kind.split_once('/').map_or("", |(_, class)| class);
    if class.contains('.') {
        visit(&top.field("kind"), Version::V0_6_0);
    }
    if !spec.annotations.is_empty() {
        visit(&top.field("annotations"), Version::V0_6_0);
    }
    edits_demand(&spec.container_edits, &top.field("containerEdits"), visit);
    let devices = top.field("devices");
    for (index, device) in spec.devices.iter().enumerate() {
        let at = devices.index(index);
        if device.name.starts_with(|first: char| first.is_ascii_digit()) {
            visit(&at.field("name"), Version::V0_5_0);
        }
        if !device.annotations.is_empty() {
            visit(&at.field("annotations"), Version::V0_6_0);
        }
        edits_demand(&device.container_edits, &at.field("containerEdits"), visit);
    }
}

fn edits_demand(edits: &ContainerEdits, at: &At<'_>, visit: &mut dyn FnMut(&At<'_>, Version)) {
    for (index, node) in edits.device_nodes.iter().enumerate() {
        let DeviceNode { host_path, .. } = node;
        if !host_path.is_empty() {
            visit(&at.field("deviceNodes").index(index).field("hostPath"), Version::V0_5_0);
        }
    }
    for (index, mount) in edits.mounts.iter().enumerate() {
        let Mount { mount_type, .. } = mount;
        if !mount_type.is_empty() {
            visit(&at.field("mounts").index(index).field("type"), Version::V0_4_0);
        }
    }
    if let Some(rdt) = &edits.intel_rdt {
        rdt_demands(rdt, &at.field("intelRdt"), visit);
    }
    if !edits.additional_gids.is_empty() {
        visit(&at.field("additionalGids"), Version::V0_7_0);
    }
    if !edits.net_devices.is_empty() {
        visit(&at.field("netDevices"), Version::V1_1_0);
    }
}

fn rdt_demands(rdt: &IntelRdt, at: &At<'_>, visit: &mut dyn FnMut(&At<'_>, Version)) {
    // Its mere presence counts, `intelRdt: {}` too.
    visit(at, Version::V0_7_0);
    if rdt.schemata.is_some() {
        visit(&at.field("schemata"), Version::V1_1_0);
    }
    if rdt.enable_monitoring {
        visit(&at.field("enableMonitoring"), Version::V1_1_0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::spec::{Device, NetDevice};

    #[test]
    fn versions_are_exact_texts_with_one_optional_v() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
            assert_eq!(format!("v{version}").parse(), Ok(version));
        }
        for text in
            ["0.6", "0.6.1", "1.0.1", "V0.6.0", " 0.6.0", "0.6.0 ", "vv0.6.0", "", "v", "1.2.0", "00.6.0"]
        {
            assert_eq!(text.parse::<Version>(), Err(UnknownVersion(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn later_versions_are_greater() {
        assert!(Version::ALL.is_sorted_by(|one, next| one < next));
    }

    /// One row of the model's table: what a change to an empty spec or its edits demands.
    fn demanded(change: impl Fn(&mut Spec)) -> Version {
        let mut spec = Spec { kind: "example.com/gpu".to_owned(), ..Spec::default() };
        spec.devices.push(Device { name: "a".to_owned(), ..Device::default() });
        change(&mut spec);
        minimum_version(&spec)
    }

    fn demanded_by_edits(change: impl Fn(&mut ContainerEdits)) -> Version {
        let top = demanded(|spec| change(&mut spec.container_edits));
        let device = demanded(|spec| spec.devices.iter_mut().for_each(|it| change(&mut it.container_edits)));
        assert_eq!(top, device, "spec-level and device edits demand the same");
        top
    }

    #[test]
    fn minimum_version_of_spec_and_device_fields() {
        let note = || std::collections::BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(demanded(|_| {}), Version::V0_3_0);
        assert_eq!(demanded(|spec| spec.kind = "v.com/g.pu".to_owned()), Version::V0_6_0);
        assert_eq!(demanded(|spec| spec.kind = "v.com/gpu".to_owned()), Version::V0_3_0);
        assert_eq!(demanded(|spec| spec.annotations = note()), Version::V0_6_0);
        assert_eq!(demanded(|spec| spec.devices[0].annotations = note()), Version::V0_6_0);
        assert_eq!(demanded(|spec| spec.devices[0].name = "0".to_owned()), Version::V0_5_0);
        assert_eq!(demanded(|spec| spec.devices[0].name = "a0".to_owned()), Version::V0_3_0);
    }

    #[test]
    fn minimum_version_of_edits() {
        let node =
            |host: &str| DeviceNode { path: "/dev/a".into(), host_path: host.into(), ..Default::default() };
        let mount = |kind: &str| Mount { mount_type: kind.into(), ..Default::default() };
        assert_eq!(demanded_by_edits(|edits| edits.env.push("A=B".into())), Version::V0_3_0);
        assert_eq!(demanded_by_edits(|edits| edits.device_nodes.push(node(""))), Version::V0_3_0);
        assert_eq!(demanded_by_edits(|edits| edits.device_nodes.push(node("/dev/a"))), Version::V0_5_0);
        assert_eq!(demanded_by_edits(|edits| edits.mounts.push(mount(""))), Version::V0_3_0);
        assert_eq!(demanded_by_edits(|edits| edits.mounts.push(mount("bind"))), Version::V0_4_0);
        assert_eq!(demanded_by_edits(|edits| edits.additional_gids = vec![0]), Version::V0_7_0);
        assert_eq!(demanded_by_edits(|edits| edits.net_devices.push(NetDevice::default())), Version::V1_1_0);
    }

    #[test]
    fn permissions_none_is_not_gated() {
        let node = DeviceNode { path: "/dev/a".into(), permissions: "none".into(), ..Default::default() };
        assert_eq!(demanded_by_edits(|edits| edits.device_nodes.push(node.clone())), Version::V0_3_0);
    }

    #[test]
    fn minimum_version_of_intel_rdt() {
        let rdt = |change: fn(&mut IntelRdt)| {
            demanded_by_edits(|edits| {
                let mut rdt = IntelRdt::default();
                change(&mut rdt);
                edits.intel_rdt = Some(rdt);
            })
        };
        assert_eq!(rdt(|_| {}), Version::V0_7_0);
        assert_eq!(rdt(|rdt| rdt.clos_id = "a".into()), Version::V0_7_0);
        assert_eq!(rdt(|rdt| rdt.schemata = Some(vec![])), Version::V1_1_0);
        assert_eq!(rdt(|rdt| rdt.enable_monitoring = true), Version::V1_1_0);
    }
}
