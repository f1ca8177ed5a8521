//! The drop-in that makes a machine's unit prepare it: what it holds besides, and whose it is.

use anyhow::{Result, bail};
use camino::Utf8PathBuf;
use libgpuspec::Root;
use libgpuspec::nspawn::SettingsPlace;
use libgpuspec::render::nspawn::devices::{DeviceRule, assigned};
use libgpuspec::render::nspawn::dropin::{self, DropIn, OnFailure};
use libgpuspec::root::{Durability, Kind};
use oci_hook::machine::Asked;
use serde::{Deserialize, Serialize};

use super::exec_start::ExecStart;
use super::machine::Name;

/// Its name in the unit's directory.
pub(crate) const NAME: &str = "50-gpuspec.conf";
/// The largest that is read; a hundred times the largest seen.
const MAX: u64 = 256 << 10;
/// How its first line begins.
const MARK: &str = "# Made by cdi-gen nspawn enable";
/// Before what it was made from.
const ORIGIN: &str = "# asked for: ";

/// Why it cannot be told any more what it was made from.
pub(crate) const EDITED: &str = "its drop-in was edited, or made by another release";

/// What a drop-in was made from; it says so itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    #[serde(flatten)]
    pub(crate) asked: Asked,
    /// What its unit said when that was asked for.
    #[serde(default)]
    pub(crate) unit: ExecStart,
    pub(crate) hook: Utf8PathBuf,
    /// The machine does not start without its devices.
    pub(crate) required: bool,
    /// The user's settings file is not written to.
    pub(crate) no_touch: bool,
    /// The unit's directory of drop-ins was not there before.
    pub(crate) made_directory: bool,
}

/// What lies at its place.
pub(crate) enum Present {
    Nothing,
    Foreign,
    /// Ours, and what it was made from, if that can still be told.
    Ours {
        text: String,
        origin: Option<Box<Origin>>,
    },
}

/// What lies where the machine's drop-in belongs.
pub(crate) fn present(host: &Root, machine: &Name) -> Result<Present> {
    let Some(directory) = host.directory(&machine.dropins("etc"))? else { return Ok(Present::Nothing) };
    match directory.entry(NAME)?.map(|entry| entry.kind) {
        None => return Ok(Present::Nothing),
        Some(Kind::File) => {}
        Some(_) => return Ok(Present::Foreign),
    }
    let bytes = directory.read(NAME, MAX)?.unwrap_or_default();
    Ok(match String::from_utf8(bytes) {
        Ok(text) if text.starts_with(MARK) => Present::Ours { origin: origin(&text), text },
        _ => Present::Foreign,
    })
}

fn origin(text: &str) -> Option<Box<Origin>> {
    let line = text.lines().find_map(|line| line.strip_prefix(ORIGIN))?;
    serde_json::from_str(line).ok()
}

/// The text for a machine.
pub(crate) fn text(machine: &Name, origin: &Origin, rules: &[DeviceRule], edits: &str) -> Result<String> {
    let comments = [
        format!(
            "{}. Do not edit: enable again instead; `cdi-gen nspawn disable {machine}` removes it.",
            MARK.trim_start_matches("# ")
        ),
        format!("{}{}", ORIGIN.trim_start_matches("# "), serde_json::to_string(origin)?),
        format!("edits sha256: {edits}"),
    ];
    let mut arguments = origin.asked.words();
    arguments.extend(origin.no_touch.then(|| "--no-touch".to_owned()));
    Ok(dropin::text(&DropIn {
        comments: &comments,
        hook: &origin.hook,
        arguments: &arguments,
        rules,
        on_failure: if origin.required { OnFailure::Fail } else { OnFailure::Start },
        settings: if origin.no_touch { SettingsPlace::Private } else { SettingsPlace::Shared },
    })?)
}

/// The rules that a drop-in has, as `DEVICE ACCESS`.
pub(crate) fn rules_in(text: &str) -> Vec<&str> {
    text.lines().filter_map(assigned).collect()
}

/// The devices that these rules are for.
pub(crate) fn devices_in(text: &str) -> Vec<String> {
    rules_in(text)
        .iter()
        .filter_map(|rule| rule.rsplit_once(' '))
        .map(|(device, _)| device.to_owned())
        .collect()
}

/// Writes it; an error says what is missing where this is no host of systemd's.
pub(crate) fn write(host: &Root, machine: &Name, text: &str) -> Result<Utf8PathBuf> {
    let path = machine.dropins("etc");
    let directory = host.make_directory(&path)?;
    directory.replace_file(NAME, text.as_bytes(), 0o644, None, Durability::Synced)?;
    Ok(path.join(NAME))
}

/// Whether the directory of the machine's drop-ins is there; without that of all units there is no systemd.
pub(crate) fn has_directory(host: &Root, machine: &Name) -> Result<bool> {
    let path = machine.dropins("etc");
    if let Some(units) = path.parent()
        && host.directory(units)?.is_none()
    {
        bail!("{}: no such directory: systemd is not there", host.outside(units));
    }
    Ok(host.directory(&path)?.is_some())
}
