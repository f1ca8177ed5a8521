//! A generated spec's place in a spec directory, beside the specs of others.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::cdi::{self, Spec};
use libgpuspec::plan::is_ours;
use libgpuspec::render::spec::Format;
use libgpuspec::root::{Directory, Durability, Owners};

use crate::output::{self, Status};
use crate::specs;

/// Specs here win over those of the same name in /etc/cdi.
const DYNAMIC: &str = "/var/run/cdi";

/// The file that a run locks while it works in a spec directory; no engine reads a file of this extension.
///
/// It lies in the directory, so that it can be made wherever the spec can, by an ordinary user too. Its mode is 0600:
/// flock(2) needs no right to write, and a lock on the directory itself is anybody's who can open it.
const LOCK: &str = ".gpuspec.lock";

/// What becomes of another file that is in the way.
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
/// such file is in the way, and so is a file of this name that an earlier run did not write.
pub(crate) fn install(
    directory: &Utf8Path,
    spec: &Spec,
    text: &str,
    format: Format,
    placement: Placement,
) -> Result<Status> {
    let directory = specs::absolute(directory)?;
    let machine = Root::open(Utf8Path::new("/"))?;
    let opened = machine.make_directory(&directory)?;
    if let Some((part, exposure)) = machine.exposed(&directory, &Owners::caller())? {
        bail!("{directory}: {part} {exposure}; a spec directory must be writable by its owner alone");
    }
    // Two runs at once would each keep its own format's file, and engines would drop the devices of both.
    let Some(_lock) = opened.lock_file(LOCK)? else { bail!("{directory}: removed in the meantime") };
    let placed = place(&machine, &directory, &opened, spec, text, format, placement);
    opened.remove(LOCK)?;
    placed
}

fn place(
    machine: &Root,
    directory: &Utf8Path,
    opened: &Directory,
    spec: &Spec,
    text: &str,
    format: Format,
    placement: Placement,
) -> Result<Status> {
    let name = file_name(spec, format);
    let others = others(machine, directory, spec)?;
    let in_the_way: Vec<&Other> = others.iter().filter(|other| !other.ours).collect();
    if let (Placement::Keep, Some(other)) = (placement, in_the_way.first()) {
        let path = directory.join(&other.name);
        return Ok(output::conflict(&format!(
            "{path} {}; nothing was written: remove it, or have it set aside by --replace",
            other.why
        )));
    }
    warn_of_shadows(machine, directory, spec)?;
    let mut aside = Vec::new();
    for other in in_the_way {
        aside.push((&other.name, set_aside(opened, &other.name)?));
    }
    if let Err(error) = opened.replace_file(&name, text.as_bytes(), 0o644, None, Durability::Synced) {
        for (old, kept) in aside {
            opened.rename_new(&kept, old)?;
        }
        return Err(error.into());
    }
    for other in others.iter().filter(|other| other.ours && other.name != name) {
        opened.remove(&other.name)?;
    }
    output::note(&format!("wrote {}", directory.join(name)));
    Ok(Status::Done)
}

/// `vendor-class` with the format's extension.
fn file_name(spec: &Spec, format: Format) -> String {
    let extension = match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    };
    format!("{}.{extension}", cdi::spec_name(spec))
}

/// Gives a file a name that no engine reads and that no other file has.
fn set_aside(directory: &Directory, name: &str) -> Result<String> {
    for count in 0..100 {
        let kept = if count == 0 { format!("{name}.replaced") } else { format!("{name}.replaced{count}") };
        if directory.rename_new(name, &kept)? {
            output::note(&format!("kept {name} as {kept}"));
            return Ok(kept);
        }
    }
    bail!("{}/{name}.replaced: it and 99 more like it are there already; remove some", directory.path())
}

/// A spec directory that engines prefer hides the new file's devices.
fn warn_of_shadows(machine: &Root, directory: &Utf8Path, spec: &Spec) -> Result<()> {
    let dynamic = Utf8Path::new(DYNAMIC);
    if machine.resolve(dynamic)? == machine.resolve(directory)? {
        return Ok(());
    }
    for other in others(machine, dynamic, spec)?.iter().filter(|other| other.shares_devices) {
        output::warning(&format!("{} {} and wins over {directory}", dynamic.join(&other.name), other.why));
    }
    Ok(())
}

/// A file of a spec directory that a new spec must reckon with.
struct Other {
    name: String,
    /// What it has to do with the new spec, as the end of a sentence about it.
    why: String,
    shares_devices: bool,
    /// Whether an earlier run wrote it, under a name of its own choice.
    ours: bool,
}

fn others(machine: &Root, directory: &Utf8Path, spec: &Spec) -> Result<Vec<Other>> {
    let own = [Format::Yaml, Format::Json].map(|format| file_name(spec, format));
    let (mut others, mut unreadable) = (Vec::new(), Vec::new());
    for (name, _) in machine.list(directory)?.unwrap_or_default() {
        if !matches!(Utf8Path::new(&name).extension(), Some("yaml" | "json")) {
            continue;
        }
        let own_name = own.contains(&name);
        match read(machine, &directory.join(&name)) {
            Ok(other) => {
                let devices = common(spec, &other);
                let ours = own_name && is_ours(&other);
                let why = match devices.is_empty() {
                    true => "was written by somebody else".to_owned(),
                    false => format!("has the same devices ({})", devices.join(", ")),
                };
                if own_name || !devices.is_empty() {
                    others.push(Other { name, why, shares_devices: !devices.is_empty(), ours });
                }
            }
            Err(error) if own_name => {
                others.push(Other {
                    name,
                    why: format!("is not ours: {error:#}"),
                    shares_devices: false,
                    ours: false,
                });
            }
            Err(error) => unreadable.push(format!("{error:#}")),
        }
    }
    output::warnings(&unreadable);
    Ok(others)
}

fn read(machine: &Root, path: &Utf8Path) -> Result<Spec> {
    let bytes = machine.read(path, cdi::MAX_BYTES as u64)?.unwrap_or_default();
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
