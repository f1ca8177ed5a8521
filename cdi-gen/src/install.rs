//! A generated spec's place in a spec directory, beside the specs of others.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::Root;
use libgpuspec::cdi::{self, Spec};
use libgpuspec::render::spec::Format;
use libgpuspec::root::{Directory, Durability};

use crate::output::{self, Status};

/// Specs here win over those of the same name in /etc/cdi.
const DYNAMIC: &str = "/var/run/cdi";

/// The largest spec that is read; a hundred times the largest seen.
const MAX_SPEC: u64 = 4 << 20;

/// What becomes of another file that has the same devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// It stays, and nothing is written.
    Keep,
    /// It is set aside, under a name that no engine reads.
    Replace,
}

/// Writes the spec into the directory, under the name the specification gives it.
///
/// Two files of one directory that have the same device make engines drop it from both, so another
/// such file is a conflict, unless an earlier run of this program made it.
pub(crate) fn install(
    directory: &Utf8Path,
    spec: &Spec,
    text: &str,
    format: Format,
    placement: Placement,
) -> Result<Status> {
    let directory = Utf8PathBuf::try_from(std::path::absolute(directory)?)?;
    let machine = Root::open(Utf8Path::new("/"))?;
    let name = file_name(spec, format);
    let others = same_devices(&machine, &directory, spec)?;
    if let (Placement::Keep, Some(other)) = (placement, others.iter().find(|other| !other.ours)) {
        return Ok(output::conflict(&format!(
            "{} has the same devices ({}), and with two such files engines drop them all; nothing was written: \
             remove it, or take its place by --replace (it is kept as {}.replaced)",
            directory.join(&other.name),
            other.devices.join(", "),
            other.name
        )));
    }
    for other in same_devices(&machine, Utf8Path::new(DYNAMIC), spec)? {
        let path = Utf8Path::new(DYNAMIC).join(other.name);
        output::warning(&format!(
            "{path} has the same devices and wins over {directory}: {}",
            other.devices.join(", ")
        ));
    }
    let opened = machine.make_directory(&directory)?;
    opened.replace_file(&name, text.as_bytes(), 0o644, None, Durability::Synced)?;
    for other in others.iter().filter(|other| other.name != name) {
        set_aside(&opened, other)?;
    }
    output::note(&format!("wrote {}", directory.join(name)));
    Ok(Status::Done)
}

/// `vendor-class` with the format's extension (CDI SPEC.md, "CDI JSON Specification").
fn file_name(spec: &Spec, format: Format) -> String {
    let extension = match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    };
    format!("{}.{extension}", spec.kind.replace('/', "-"))
}

fn set_aside(directory: &Directory, other: &Other) -> Result<()> {
    if other.ours {
        return Ok(directory.remove(&other.name)?);
    }
    output::note(&format!("kept {} as {}.replaced", other.name, other.name));
    Ok(directory.rename(&other.name, &format!("{}.replaced", other.name))?)
}

/// Another file that has some of the same devices.
struct Other {
    name: String,
    devices: Vec<String>,
    ours: bool,
}

fn same_devices(machine: &Root, directory: &Utf8Path, spec: &Spec) -> Result<Vec<Other>> {
    let mut others = Vec::new();
    for (name, _) in machine.list(directory)?.unwrap_or_default() {
        if !matches!(Utf8Path::new(&name).extension(), Some("yaml" | "json")) {
            continue;
        }
        let path = directory.join(&name);
        let other = match read(machine, &path) {
            Ok(other) => other,
            Err(error) => {
                output::warning(&format!("{error:#}"));
                continue;
            }
        };
        let devices = common(spec, &other);
        if !devices.is_empty() {
            others.push(Other { name, devices, ours: is_ours(&other) });
        }
    }
    Ok(others)
}

fn read(machine: &Root, path: &Utf8Path) -> Result<Spec> {
    let bytes = machine.read(path, MAX_SPEC)?.unwrap_or_default();
    cdi::read(&bytes).or_else(|violations| {
        let first = violations.first().map(ToString::to_string).unwrap_or_default();
        bail!("{path}: not a valid spec, so its devices are not known: {first}")
    })
}

fn common(one: &Spec, other: &Spec) -> Vec<String> {
    if one.kind != other.kind {
        return Vec::new();
    }
    let names: BTreeSet<&str> = one.devices.iter().map(|device| device.name.as_str()).collect();
    let same = other.devices.iter().filter(|device| names.contains(device.name.as_str()));
    same.map(|device| format!("{}={}", other.kind, device.name)).collect()
}

/// Whether this program made a spec: only its own hook has this name and verb.
fn is_ours(spec: &Spec) -> bool {
    let hooks = &spec.container_edits.hooks;
    hooks.iter().any(|hook| matches!(hook.args.as_slice(), [name, verb, ..] if name == "oci-hook" && verb == "create-container"))
}
