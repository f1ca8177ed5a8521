//! The specification's rules over a spec: everything that breaks one, with its path.

use std::collections::{BTreeMap, BTreeSet};

use super::annotations;
use super::name::{check_device, check_vendor_or_class, split_kind};
use super::place::{At, DocumentPath};
use super::problem::{HOOK_NAMES, Problem, Violation, Violations};
use super::spec::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, NetDevice, Spec};
use super::version::{Version, demands};

/// Everything in the spec that breaks a rule, in document order of the checks; empty means valid.
///
/// After 100 mistakes the last entry says that there are more.
///
/// Annotations have rules too, which no reader applies when it loads a file; nor does this.
///
/// ```
/// use libgpuspec::cdi::{Device, Spec, validate};
///
/// let device = Device { name: "all".to_owned(), ..Device::default() };
/// let spec = Spec { version: "0.5.0".to_owned(), kind: "example.com/gpu".to_owned(),
///     devices: vec![device], ..Spec::default() };
/// let violations = validate(&spec);
/// assert_eq!(violations[0].path.to_string(), "devices[0].containerEdits");
/// ```
pub fn validate(spec: &Spec) -> Vec<Violation> {
    rules(spec, &[]).into_vec()
}

/// What breaks a rule, but for what follows from these mistakes: a value that could not even be read breaks other
/// rules for no reason of its own.
#[cfg(feature = "yaml")]
pub(crate) fn validate_beyond(spec: &Spec, mistakes: &[Violation]) -> Vec<Violation> {
    rules(spec, mistakes).into_vec()
}

fn rules<'m>(spec: &Spec, mistakes: &'m [Violation]) -> Found<'m> {
    let mut found = Found { mistakes, list: Violations::default() };
    version(spec, &mut found);
    kind(&spec.kind, &mut found);
    edits(&spec.container_edits, &At::TOP.field("containerEdits"), &mut found);
    devices(&spec.devices, &At::TOP.field("devices"), &mut found);
    found
}

/// What keeps a spec from being written: all that [`validate`] finds, one-letter names, and bad
/// annotations.
///
/// The names are valid by the rules, and crash every reader up to version 1.1.0 of the Go library;
/// the annotations are not, and no reader says so.
pub fn validate_to_write(spec: &Spec) -> Vec<Violation> {
    let mut found = rules(spec, &[]);
    let (vendor, class) = split_kind(&spec.kind);
    for part in [vendor, class] {
        if part.chars().count() == 1 {
            found.note(&At::TOP.field("kind"), Problem::OneLetter(part.to_owned()));
        }
    }
    found.annotations(&spec.annotations, &At::TOP);
    for (index, device) in spec.devices.iter().enumerate() {
        found.annotations(&device.annotations, &At::TOP.field("devices").index(index));
    }
    found.into_vec()
}

struct Found<'m> {
    /// Known before, at most as many as are listed.
    mistakes: &'m [Violation],
    list: Violations,
}

impl Found<'_> {
    fn note(&mut self, at: &At<'_>, problem: Problem) {
        if !self.list.is_full() && !self.is_explained(at, &problem) {
            self.list.note(at, None, problem);
        }
    }

    fn is_explained(&self, at: &At<'_>, problem: &Problem) -> bool {
        !self.mistakes.is_empty() && {
            let path = at.path();
            self.mistakes.iter().any(|mistake| explains(mistake, &path, problem))
        }
    }

    fn into_vec(self) -> Vec<Violation> {
        self.list.into_vec()
    }

    fn wanted(&mut self, text: &str, at: &At<'_>, field: &str) {
        if text.is_empty() {
            self.note(&at.field(field), Problem::Missing);
        }
    }

    fn annotations(&mut self, annotations: &BTreeMap<String, String>, at: &At<'_>) {
        if let Err(error) = annotations::check(annotations) {
            self.note(&at.field("annotations"), Problem::Annotations(Box::new(error)));
        }
    }

    fn env(&mut self, entries: &[String], at: &At<'_>) {
        for (index, entry) in entries.iter().enumerate() {
            if entry.find('=').is_none_or(|equals| equals == 0) {
                self.note(&at.field("env").index(index), Problem::Env(entry.clone()));
            }
        }
    }
}

/// Whether the problem would not be there but for the mistake: it is at or below it, or finds nothing where the
/// mistake could not be read.
fn explains(mistake: &Violation, path: &DocumentPath, problem: &Problem) -> bool {
    let (above, below) = (&mistake.path.0, &path.0);
    let empty = matches!(problem, Problem::NoEdits | Problem::NoDevices);
    (!above.is_empty() && below.starts_with(above)) || (empty && above.starts_with(below))
}

fn version(spec: &Spec, found: &mut Found<'_>) {
    let at = At::TOP.field("cdiVersion");
    if spec.version.is_empty() {
        return found.note(&at, Problem::Missing);
    }
    let declared: Version = match spec.version.parse() {
        Ok(version) => version,
        Err(unknown) => return found.note(&at, unknown.into()),
    };
    if declared < Version::FLOOR {
        found.note(&at, Problem::VersionTooLow { declared, needed: Version::FLOOR });
    }
    demands(spec, &mut |place, needed| {
        if needed > declared {
            found.note(place, Problem::VersionTooLow { declared, needed });
        }
    });
}

fn kind(kind: &str, found: &mut Found<'_>) {
    let at = At::TOP.field("kind");
    let (vendor, class) = split_kind(kind);
    if kind.is_empty() {
        return found.note(&at, Problem::Missing);
    }
    if vendor.is_empty() || class.is_empty() {
        return found.note(&at, Problem::Kind(kind.to_owned()));
    }
    if let Err(error) = check_vendor_or_class(vendor) {
        found.note(&at, Problem::Vendor(vendor.to_owned(), error));
    }
    if let Err(error) = check_vendor_or_class(class) {
        found.note(&at, Problem::Class(class.to_owned(), error));
    }
}

fn devices(devices: &[Device], at: &At<'_>, found: &mut Found<'_>) {
    let mut names = BTreeSet::new();
    for (index, device) in devices.iter().enumerate() {
        let at = at.index(index);
        if let Err(error) = check_device(&device.name) {
            found.note(&at.field("name"), Problem::DeviceName(device.name.clone(), error));
        } else if !names.insert(device.name.as_str()) {
            found.note(&at.field("name"), Problem::DuplicateDevice(device.name.clone()));
        }
        if device.container_edits.is_empty() {
            found.note(&at.field("containerEdits"), Problem::NoEdits);
        }
        edits(&device.container_edits, &at.field("containerEdits"), found);
    }
    if devices.is_empty() {
        found.note(at, Problem::NoDevices);
    }
}

fn edits(edits: &ContainerEdits, at: &At<'_>, found: &mut Found<'_>) {
    found.env(&edits.env, at);
    each(&edits.device_nodes, &at.field("deviceNodes"), found, device_node);
    each(&edits.hooks, &at.field("hooks"), found, hook);
    each(&edits.mounts, &at.field("mounts"), found, mount);
    if let Some(rdt) = &edits.intel_rdt {
        clos_id(rdt, &at.field("intelRdt"), found);
    }
    net_devices(&edits.net_devices, &at.field("netDevices"), found);
}

fn each<T>(items: &[T], at: &At<'_>, found: &mut Found, check: fn(&T, &At<'_>, &mut Found<'_>)) {
    for (index, item) in items.iter().enumerate() {
        check(item, &at.index(index), found);
    }
}

fn device_node(node: &DeviceNode, at: &At<'_>, found: &mut Found<'_>) {
    found.wanted(&node.path, at, "path");
    if !matches!(node.node_type.as_str(), "" | "b" | "c" | "u" | "p") {
        found.note(&at.field("type"), Problem::NodeType(node.node_type.clone()));
    }
    let is_mix = node.permissions.chars().all(|letter| "rwm".contains(letter));
    if !is_mix && node.permissions != "none" {
        found.note(&at.field("permissions"), Problem::Permissions(node.permissions.clone()));
    }
}

fn hook(hook: &Hook, at: &At<'_>, found: &mut Found<'_>) {
    if !HOOK_NAMES.contains(&hook.hook_name.as_str()) {
        found.note(&at.field("hookName"), Problem::HookName(hook.hook_name.clone()));
    }
    found.wanted(&hook.path, at, "path");
    found.env(&hook.env, at);
}

fn mount(mount: &Mount, at: &At<'_>, found: &mut Found<'_>) {
    found.wanted(&mount.host_path, at, "hostPath");
    found.wanted(&mount.container_path, at, "containerPath");
}

/// The class becomes a directory below /sys/fs/resctrl; `/` alone is that directory itself.
fn clos_id(rdt: &IntelRdt, at: &At<'_>, found: &mut Found<'_>) {
    let id = rdt.clos_id.as_str();
    if matches!(id, "" | "/") {
        return;
    }
    if id.len() >= 4096 || matches!(id, "." | "..") || id.contains(['/', '\n']) {
        found.note(&at.field("closID"), Problem::ClosId(id.to_owned()));
    }
}

fn net_devices(devices: &[NetDevice], at: &At<'_>, found: &mut Found<'_>) {
    let (mut hosts, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in devices.iter().enumerate() {
        let at = at.index(index);
        for (text, field, seen) in [
            (&device.host_interface_name, "hostInterfaceName", &mut hosts),
            (&device.name, "name", &mut names),
        ] {
            found.wanted(text, &at, field);
            if !text.is_empty() && !seen.insert(text.as_str()) {
                found.note(&at.field(field), Problem::DuplicateNetDevice(text.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
