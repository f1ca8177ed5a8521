//! A spec made fit for an older reader: what it cannot read is left out, and each loss told.

use super::consumer::Consumer;
use super::place::{At, DocumentPath};
use super::spec::{ContainerEdits, Device, DeviceNode, IntelRdt, Mount, Spec};
use super::version::{Version, minimum_version};

/// What a reader can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    newest: Version,
    /// `permissions: none` came between two releases of the specification.
    knows_none: bool,
    /// Whether this very version is to be declared, or just one that it can read.
    exact: bool,
}

impl From<&Consumer> for Reader {
    fn from(consumer: &Consumer) -> Self {
        // No released program has a library that knows it.
        Reader { newest: consumer.newest(), knows_none: false, exact: false }
    }
}

impl From<Version> for Reader {
    fn from(version: Version) -> Self {
        Reader { newest: version, knows_none: version >= Version::V1_1_0, exact: true }
    }
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: left out, {consequence}")]
pub struct Loss {
    /// Where it stood.
    pub path: DocumentPath,
    /// What follows from its absence.
    pub consequence: &'static str,
}

/// Something that cannot be left out, and that the reader cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: cannot be left out, {reason}")]
pub struct Indispensable {
    /// Where it stands.
    pub path: DocumentPath,
    /// Why not.
    pub reason: &'static str,
}

/// The spec as this reader can read it, and what it lost; or all that it cannot do without.
///
/// ```
/// use libgpuspec::cdi::{Consumer, Reader, downlevel, read};
///
/// let spec = read(b"cdiVersion: 0.7.0\nkind: example.com/gpu\n\
///     devices: [{name: all, containerEdits: {env: [A=B], additionalGids: [44]}}]").unwrap();
/// let podman: Consumer = "podman-4.3".parse()?;
/// let (spec, losses) = downlevel(&spec, Reader::from(&podman)).unwrap();
/// assert_eq!(spec.version, "0.3.0");
/// assert_eq!(losses[0].path.to_string(), "devices[0].containerEdits.additionalGids");
/// # Ok::<(), libgpuspec::cdi::ConsumerError>(())
/// ```
pub fn downlevel(spec: &Spec, reader: Reader) -> Result<(Spec, Vec<Loss>), Vec<Indispensable>> {
    let mut fitted = spec.clone();
    let mut fitter = Fitter { reader, losses: Vec::new(), indispensable: Vec::new() };
    fitter.spec(&mut fitted);
    let version = if reader.exact { reader.newest } else { minimum_version(&fitted) };
    fitted.version = version.to_string();
    if fitter.indispensable.is_empty() { Ok((fitted, fitter.losses)) } else { Err(fitter.indispensable) }
}

struct Fitter {
    reader: Reader,
    losses: Vec<Loss>,
    indispensable: Vec<Indispensable>,
}

impl Fitter {
    fn reads(&self, version: Version) -> bool {
        self.reader.newest >= version
    }

    fn lose(&mut self, at: &At<'_>, consequence: &'static str) {
        self.losses.push(Loss { path: at.path(), consequence });
    }

    fn refuse(&mut self, at: &At<'_>, reason: &'static str) {
        self.indispensable.push(Indispensable { path: at.path(), reason });
    }

    fn spec(&mut self, spec: &mut Spec) {
        let top = At::TOP;
        if !self.reads(Version::FLOOR) {
            self.refuse(&top.field("cdiVersion"), "every spec needs 0.3.0 at least");
        }
        let class = super::name::split_kind(&spec.kind).1;
        if class.contains('.') && !self.reads(Version::V0_6_0) {
            self.refuse(&top.field("kind"), "the reader allows no dot in a class");
        }
        if !spec.annotations.is_empty() && !self.reads(Version::V0_6_0) {
            spec.annotations.clear();
            self.lose(&top.field("annotations"), "nobody can read them");
        }
        self.edits(&mut spec.container_edits, &top.field("containerEdits"));
        let devices = top.field("devices");
        let mut index = 0;
        spec.devices.retain_mut(|device| {
            let kept = self.device(device, &devices.index(index));
            index += 1;
            kept
        });
        if spec.devices.is_empty() {
            self.refuse(&devices, "no device would be left");
        }
    }

    /// Whether the device stays.
    fn device(&mut self, device: &mut Device, at: &At<'_>) -> bool {
        let digit = device.name.starts_with(|first: char| first.is_ascii_digit());
        if digit && !self.reads(Version::V0_5_0) {
            self.lose(at, "no device of this name can be asked for: the reader wants a letter first");
            return false;
        }
        if !device.annotations.is_empty() && !self.reads(Version::V0_6_0) {
            device.annotations.clear();
            self.lose(&at.field("annotations"), "nobody can read them");
        }
        self.edits(&mut device.container_edits, &at.field("containerEdits"));
        if device.container_edits.is_empty() {
            self.lose(at, "no device of this name can be asked for: nothing is left of its edits");
            return false;
        }
        true
    }

    fn edits(&mut self, edits: &mut ContainerEdits, at: &At<'_>) {
        for (index, node) in edits.device_nodes.iter_mut().enumerate() {
            self.device_node(node, &at.field("deviceNodes").index(index));
        }
        for (index, mount) in edits.mounts.iter_mut().enumerate() {
            self.mount(mount, &at.field("mounts").index(index));
        }
        if !edits.net_devices.is_empty() && !self.reads(Version::V1_1_0) {
            self.refuse(&at.field("netDevices"), "the container would lack its network devices");
        }
        if !edits.additional_gids.is_empty() && !self.reads(Version::V0_7_0) {
            edits.additional_gids.clear();
            self.lose(&at.field("additionalGids"), "a container's user other than root may lack access");
        }
        if edits.intel_rdt.is_some() && !self.reads(Version::V0_7_0) {
            edits.intel_rdt = None;
            self.lose(&at.field("intelRdt"), "the container gets no class of service");
        }
        if let Some(rdt) = edits.intel_rdt.as_mut().filter(|_| !self.reads(Version::V1_1_0)) {
            self.rdt(rdt, &at.field("intelRdt"));
        }
    }

    fn rdt(&mut self, rdt: &mut IntelRdt, at: &At<'_>) {
        if rdt.schemata.take().is_some() {
            self.lose(&at.field("schemata"), "the class of service is not set up by these lines");
        }
        if std::mem::take(&mut rdt.enable_monitoring) {
            self.lose(&at.field("enableMonitoring"), "the container is not monitored");
        }
    }

    fn device_node(&mut self, node: &mut DeviceNode, at: &At<'_>) {
        if node.permissions == "none" && !self.reader.knows_none {
            self.refuse(&at.field("permissions"), "without it the container could use the device");
        }
        if node.host_path.is_empty() || self.reads(Version::V0_5_0) {
            return;
        }
        // A node of known numbers is not looked up on the host; one of its own name is found anyway.
        let complete = !node.node_type.is_empty() && (node.major != 0 || node.node_type == "p");
        if node.host_path == node.path {
            node.host_path.clear();
        } else if complete {
            node.host_path.clear();
            self.lose(
                &at.field("hostPath"),
                "a rootless engine binds the host's node of the container's name",
            );
        } else {
            self.refuse(&at.field("hostPath"), "another device of the host would be taken");
        }
    }

    fn mount(&mut self, mount: &mut Mount, at: &At<'_>) {
        if mount.mount_type.is_empty() || self.reads(Version::V0_4_0) {
            return;
        }
        let binds = mount.options.iter().any(|option| option == "bind" || option == "rbind");
        if binds {
            // The kernel does not look at the type of a bind mount.
            mount.mount_type.clear();
        } else {
            self.refuse(&at.field("type"), "without it nothing is mounted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdi::read;

    fn spec(kind: &str, devices: &str) -> Spec {
        let text = format!("cdiVersion: 1.1.0\nkind: {kind}\nannotations: {{a: b}}\ndevices: [{devices}]\n");
        read(text.as_bytes()).unwrap_or_else(|found| panic!("{found:?}"))
    }

    /// The version, the devices' names and the losses' paths; or the paths of what cannot go.
    fn fitted(edits: &str, version: Version) -> Result<(String, Vec<String>), Vec<String>> {
        let spec = spec("v.com/cc", &format!("{{name: d, containerEdits: {{{edits}}}}}"));
        match downlevel(&spec, Reader { newest: version, knows_none: false, exact: false }) {
            Ok((spec, losses)) => {
                assert_eq!(crate::cdi::validate(&spec), vec![], "what comes out is valid");
                let inside = |loss: &Loss| loss.path.to_string().replace("devices[0].containerEdits.", "");
                let losses = losses.iter().map(inside).filter(|path| path != "annotations").collect();
                Ok((spec.version, losses))
            }
            Err(all) => Err(all
                .iter()
                .map(|it| it.path.to_string().replace("devices[0].containerEdits.", ""))
                .collect()),
        }
    }

    fn lost(version: &str, paths: &[&str]) -> Result<(String, Vec<String>), Vec<String>> {
        Ok((version.to_owned(), paths.iter().map(|path| (*path).to_owned()).collect()))
    }

    #[test]
    fn what_the_reader_can_read_stays_and_the_version_is_the_smallest() {
        assert_eq!(fitted("env: [A=B]", Version::V0_5_0), lost("0.3.0", &[]));
        assert_eq!(fitted("additionalGids: [1]", Version::V0_8_0), lost("0.7.0", &[]));
        assert_eq!(
            fitted("netDevices: [{hostInterfaceName: a, name: b}]", Version::V1_1_0),
            lost("1.1.0", &[])
        );
    }

    #[test]
    fn what_can_be_left_out_is_and_told() {
        assert_eq!(
            fitted("env: [A=B], additionalGids: [1]", Version::V0_6_0),
            lost("0.6.0", &["additionalGids"])
        );
        assert_eq!(fitted("env: [A=B], intelRdt: {}", Version::V0_5_0), lost("0.3.0", &["intelRdt"]));
        let rdt = "intelRdt: {schemata: [a], enableMonitoring: true}";
        assert_eq!(
            fitted(rdt, Version::V1_0_0),
            lost("0.7.0", &["intelRdt.schemata", "intelRdt.enableMonitoring"])
        );
    }

    #[test]
    fn what_cannot_be_left_out_is_an_error() {
        let net = "netDevices: [{hostInterfaceName: a, name: b}]";
        assert_eq!(fitted(net, Version::V1_0_0), Err(vec!["netDevices".into()]));
        let none = "deviceNodes: [{path: /a, permissions: none}]";
        assert_eq!(fitted(none, Version::V1_1_0), Err(vec!["deviceNodes[0].permissions".into()]));
        assert_eq!(
            fitted("additionalGids: [1]", Version::V0_6_0),
            Err(vec!["devices".into()]),
            "nothing is left"
        );
        assert_eq!(fitted("env: [A=B]", Version::V0_2_0), Err(vec!["cdiVersion".into()]));
        let dotted = spec("v.com/c.c", "{name: d, containerEdits: {env: [A=B]}}");
        assert!(downlevel(&dotted, Reader::from(Version::V0_5_0)).is_err());
        assert!(downlevel(&dotted, Reader::from(Version::V0_6_0)).is_ok());
    }

    #[test]
    fn host_paths_of_nodes_go_where_nothing_is_lost_by_it() {
        let node = |node: &str| fitted(&format!("deviceNodes: [{{path: /a, {node}}}]"), Version::V0_4_0);
        assert_eq!(node("hostPath: /a"), lost("0.3.0", &[]));
        assert_eq!(node("hostPath: /b, type: c, major: 1"), lost("0.3.0", &["deviceNodes[0].hostPath"]));
        assert_eq!(node("hostPath: /b"), Err(vec!["deviceNodes[0].hostPath".into()]));
    }

    #[test]
    fn types_of_mounts_go_where_the_options_bind() {
        let mount = |mount: &str| {
            fitted(&format!("mounts: [{{hostPath: /a, containerPath: /b, {mount}}}]"), Version::V0_3_0)
        };
        assert_eq!(mount("type: bind, options: [rbind]"), lost("0.3.0", &[]));
        assert_eq!(mount("type: tmpfs"), Err(vec!["mounts[0].type".into()]));
    }

    #[test]
    fn devices_whose_name_starts_with_a_digit_go_for_the_oldest_readers() {
        let spec = spec(
            "v.com/cc",
            "{name: '0', containerEdits: {env: [A=B]}}, {name: d, containerEdits: {env: [A=B]}}",
        );
        let podman: Consumer = "podman-4.1".parse().unwrap();
        let (fitted, losses) = downlevel(&spec, Reader::from(&podman)).unwrap();
        assert_eq!((fitted.devices.len(), fitted.devices[0].name.as_str()), (1, "d"));
        assert_eq!(
            losses.iter().map(|loss| loss.path.to_string()).collect::<Vec<_>>(),
            ["annotations", "devices[0]"]
        );
    }

    #[test]
    fn a_version_that_is_asked_for_is_declared() {
        let spec = spec("v.com/cc", "{name: d, containerEdits: {env: [A=B]}}");
        let (fitted, _) = downlevel(&spec, Reader::from(Version::V0_5_0)).unwrap();
        assert_eq!(fitted.version, "0.5.0");
    }
}
