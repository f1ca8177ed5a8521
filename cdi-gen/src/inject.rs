//! `cdi-gen inject`: what devices need, done to an OCI config.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::cdi::{REQUEST_PREFIX, Registry, drop_absent_mounts, requested};
use libgpuspec::render::oci::{self, InjectError};
use libgpuspec::root::Durability;
use libgpuspec::{Error, Root};
use serde_json::{Value, json};

use crate::output::{self, Status};
use crate::specs::{SpecDirs, absolute};

/// Most bytes of a config; a hundred times the largest seen.
const MAX_CONFIG: u64 = 16 << 20;

/// Does to an OCI config (a bundle's config.json) what devices need, and prints it.
///
/// All that the devices do not ask for stays as it is, fields unknown to this program too.
/// Exit status 4 if a device does not resolve or has no node on this host; then nothing is written.
#[derive(Debug, Args)]
pub(crate) struct Inject {
    #[command(flatten)]
    specs: SpecDirs,
    /// The config
    #[arg(long, value_name = "FILE")]
    config: Utf8PathBuf,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE", conflicts_with = "in_place")]
    output: Option<Utf8PathBuf>,
    /// Write to the config itself, which keeps its mode and owner
    #[arg(long)]
    in_place: bool,
    /// The directory below which dev/… is looked for
    #[arg(long, value_name = "DIR", default_value = "/")]
    dev_root: Utf8PathBuf,
    /// Also inject what the config's own cdi.k8s.io/… annotations ask for; whoever made the
    /// container could write those
    #[arg(long)]
    from_annotations: bool,
    /// Print JSON for programs: what was injected (with --output or --in-place), or why nothing was
    #[arg(long)]
    json: bool,
    /// Qualified names, as vendor.com/class=device
    #[arg(value_name = "DEVICE", required_unless_present = "from_annotations")]
    devices: Vec<String>,
}

impl Inject {
    pub(crate) fn run(&self) -> Result<Status> {
        let machine = Root::open("/".into())?;
        let path = absolute(&self.config)?;
        let Some(bytes) = machine.read(&path, MAX_CONFIG)? else { bail!("{}: no such file", self.config) };
        let mut config: Value = serde_json::from_slice(&bytes).with_context(|| self.config.to_string())?;
        let devices = match self.devices(&config) {
            Ok(devices) => devices,
            Err(reason) => return self.refuse(&[format!("{}: annotations: {reason}", self.config)]),
        };
        let registry = self.specs.registry()?;
        let mut edits = match registry.resolve(&devices) {
            Ok(edits) => edits,
            Err(reasons) => return self.refuse(&reasons.iter().map(ToString::to_string).collect::<Vec<_>>()),
        };
        output::notices(&drop_absent_mounts(&mut edits, &machine)?);
        match oci::inject(&mut config, &edits, &Root::open(&self.dev_root)?) {
            Ok(()) => {}
            Err(InjectError::Node(error)) => return self.refuse(&[libgpuspec::error::chain(&error)]),
            Err(error) => return Err(error).with_context(|| self.config.to_string()),
        }
        let text = serde_json::to_string_pretty(&config)? + "\n";
        match &self.output {
            None if self.in_place => replace(&machine, &path, &text)?,
            None => return output::text(&text),
            Some(file) => drop(output::file(file, &text)?),
        }
        if self.json { output::text(&report(&registry, &devices)?) } else { Ok(Status::Done) }
    }

    /// What is asked for: on the command line first, then by annotations in the order of their keys;
    /// or why nobody can tell what these ask for.
    fn devices(&self, config: &Value) -> std::result::Result<Vec<String>, String> {
        let mut devices = self.devices.clone();
        if self.from_annotations {
            let annotations = requests(config.get("annotations"))?;
            devices.extend(requested(&annotations).map_err(|error| error.to_string())?);
        }
        Ok(devices)
    }

    fn refuse(&self, reasons: &[String]) -> Result<Status> {
        if self.json {
            output::text(&(serde_json::to_string_pretty(&json!({ "unresolved": reasons }))? + "\n"))?;
        } else {
            reasons.iter().for_each(|reason| output::note(reason));
        }
        Ok(Status::Invalid)
    }
}

/// The annotations that ask for devices.
fn requests(annotations: Option<&Value>) -> std::result::Result<BTreeMap<String, String>, String> {
    let annotations = match annotations {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(annotations) => annotations.as_object().ok_or("not an object")?,
    };
    let requests = annotations.iter().filter(|(key, _)| key.starts_with(REQUEST_PREFIX));
    let text = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => Ok((key.clone(), text.to_owned())),
        None => Err(format!("{key} is not a string")),
    };
    requests.map(text).collect()
}

fn report(registry: &Registry, devices: &[String]) -> Result<String> {
    let mut injected = Vec::new();
    for device in devices {
        let file = registry.find(device)?.file.path.clone();
        injected.push(json!({"device": device, "file": file}));
    }
    Ok(serde_json::to_string_pretty(&json!({ "injected": injected }))? + "\n")
}

/// The file anew, with the mode and owner that it had.
fn replace(machine: &Root, path: &Utf8Path, text: &str) -> Result<()> {
    // A link stays one: what it leads to is replaced.
    let Some(path) = machine.resolve(path)? else { bail!("{path}: no such file") };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{path}: not a file's name")
    };
    let Some(directory) = machine.directory(parent)? else { bail!("{parent}: no such directory") };
    let Some(entry) = directory.entry(name)? else { bail!("{path}: no such file") };
    let owner = Some((entry.uid, entry.gid));
    let replaced: Result<(), Error> =
        directory.replace_file(name, text.as_bytes(), entry.mode, owner, Durability::Synced);
    Ok(replaced?)
}
