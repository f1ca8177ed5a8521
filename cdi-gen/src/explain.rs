//! `cdi-gen explain`: why a device can be had or not.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::cdi::{Explanation, Versions, explain};
use libgpuspec::{Root, line};

use crate::output::{self, Status, one_line};
use crate::specs::SpecDirs;

/// Says where a device comes from, what stands in its way, and which programs can read its spec.
///
/// Exit status 0 if it can be had, 4 if it does not resolve, 5 if it does and its spec does not fit
/// this host (any more).
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    specs: SpecDirs,
    /// The directory below which the spec's host paths are looked for: for a spec that will be used
    /// elsewhere; one made by `generate --root` names its paths as they are on this machine
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: Utf8PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    /// A qualified name, as vendor.com/class=device
    #[arg(value_name = "DEVICE")]
    device: String,
}

impl Explain {
    pub(crate) fn run(&self) -> Result<Status> {
        let (registry, host) = (self.specs.registry()?, Root::open(&self.root)?);
        let explanation = explain(&registry, &Root::open("/".into())?, &host, &self.device);
        let text =
            if self.json { serde_json::to_string_pretty(&explanation)? + "\n" } else { words(&explanation)? };
        output::text(&text)?;
        Ok(match (&explanation.unresolved, explanation.host.is_empty()) {
            (Some(_), _) => Status::Invalid,
            (None, false) => Status::Stale,
            (None, true) => Status::Done,
        })
    }
}

fn words(explanation: &Explanation) -> Result<String> {
    let mut text = String::new();
    match (&explanation.file, &explanation.unresolved) {
        (Some(file), _) => writeln!(text, "{}\n  given by {}", explanation.device, one_line(file.as_str()))?,
        (None, Some(reason)) => writeln!(text, "{}", one_line(reason))?,
        (None, None) => {}
    }
    for file in &explanation.shadowed {
        writeln!(text, "  shadows the definition in {}", one_line(file.as_str()))?;
    }
    if let Some(versions) = &explanation.version {
        reading(&mut text, versions)?;
    }
    for closed in &explanation.closed {
        writeln!(
            text,
            "  closed to users other than root: {} has mode {:04o}",
            one_line(closed.path.as_str()),
            closed.mode
        )?;
    }
    let (host, more) = line::first(&explanation.host, output::MAX_NOTICES);
    for problem in host {
        writeln!(text, "  on this host: {}: {}", problem.place, one_line(&problem.problem))?;
    }
    if more > 0 {
        writeln!(text, "  on this host: {more} more problems")?;
    }
    if explanation.file.is_some() && explanation.host.is_empty() {
        writeln!(text, "  all that it names is on this host")?;
    }
    let (bad, more) = line::first(&explanation.bad, output::MAX_NOTICES);
    for (path, reason) in bad {
        writeln!(text, "  not readable, and so without devices: {}", one_line(&format!("{path}: {reason}")))?;
    }
    if more > 0 {
        writeln!(text, "  not readable, and so without devices: {more} more")?;
    }
    Ok(text)
}

fn reading(text: &mut String, versions: &Versions) -> Result<()> {
    let readers: Vec<String> =
        versions.read_since.iter().map(|(program, release)| format!("{program} {release}")).collect();
    writeln!(text, "  declares version {}: readable from {} on", versions.declared, readers.join(", "))?;
    if versions.declared.trim_start_matches('v') != versions.needed {
        writeln!(
            text,
            "  needs version {} only: cdi-gen convert makes it fit older programs",
            versions.needed
        )?;
    }
    for (field, (count, version)) in demands(versions) {
        let places = if count == 1 { String::new() } else { format!(" (in {count} places)") };
        writeln!(text, "    {field}{places} needs {version}")?;
    }
    Ok(())
}

/// What demands which version, one line a field: a spec has the same one in every device.
fn demands(versions: &Versions) -> BTreeMap<String, (usize, String)> {
    let mut demands = BTreeMap::new();
    for (place, version) in &versions.because {
        let place = place.to_string();
        let field = place.rsplit('.').next().unwrap_or(&place).to_owned();
        demands.entry(field).or_insert_with(|| (0, version.to_string())).0 += 1;
    }
    demands
}
