//! `cdi-gen nspawn enable`: from its next start on, a machine has the devices.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::Root;
use libgpuspec::cdi::ContainerEdits;
use libgpuspec::nspawn::{self, Machine, MachineRoot, Order, Sources};
use libgpuspec::render::nspawn::lines;
use oci_hook::machine::Asked;
use sha2::{Digest, Sha256};

use super::asked::absolute;
use super::dropin::{self, Origin, Present};
use super::exec_start::exec_start;
use super::machine::{HostTree, Name};
use super::sandbox::sandbox;
use super::{image, resolved, systemd};
use crate::hook;
use crate::output::{self, Status};

const PROGRAM: &str = "oci-hook-inject";

/// Gives a machine devices from its next start on.
///
/// Writes one file, /etc/systemd/system/systemd-nspawn@MACHINE.service.d/50-gpuspec.conf: what the machine may
/// open, and what makes the devices ready at each start and takes all back at each stop. Exit status 4 if a device
/// does not resolve, or a file of that name is not ours; then nothing is written.
#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// The machine
    #[arg(value_name = "MACHINE")]
    machine: Name,
    #[command(flatten)]
    asked: Asked,
    /// Do not let the machine start without its devices; else it does, and its journal says why
    #[arg(long)]
    required: bool,
    /// Do not write to a settings file of the user, not even while the machine runs: only its unit sees the additions
    #[arg(long)]
    no_touch: bool,
    /// Print what would be written
    #[arg(long)]
    dry_run: bool,
    /// The oci-hook-inject that the unit runs; by default the installed one, else the one beside this program
    #[arg(long, value_name = "FILE")]
    hook_path: Option<Utf8PathBuf>,
    #[command(flatten)]
    host: HostTree,
}

impl Enable {
    pub(crate) fn run(&self) -> Result<Status> {
        let (host, machine) = (self.host.open()?, &self.machine);
        let made_directory = match dropin::present(&host, machine)? {
            Present::Foreign => return Ok(foreign(&host, machine)),
            Present::Nothing => !dropin::has_directory(&host, machine)?,
            Present::Ours { origin, .. } => origin.is_some_and(|origin| origin.made_directory),
        };
        let unit = exec_start(&host, machine)?;
        unit.hidden.iter().for_each(|hidden| output::warning(&hidden.to_string()));
        let asked = unit.complete(absolute(self.asked.clone())?);
        let mut notices = Vec::new();
        let asked = match image::completed(self.root(&host, &asked)?.as_ref(), asked, &mut notices) {
            Ok(asked) => asked,
            Err(reason) => return Ok(output::usage(reason)),
        };
        output::notices(&notices);
        let resolved = match resolved::find(&host, &asked)? {
            Ok(resolved) => resolved,
            Err(reasons) => return Ok(resolved::refuse(&reasons)),
        };
        let (rules, notices) = resolved.rules(&host)?;
        output::notices(&notices);
        let (sources, _) = Sources::read(&host, &resolved.edits, &[]);
        if let Err(missing) = nspawn::all_there(&resolved.edits, &sources) {
            output::warning(&missing.to_string());
        }
        let hook = hook::path_on(&host, self.hook_path.as_deref(), PROGRAM)?;
        let (required, no_touch) = (self.required, self.no_touch);
        let origin = Origin { asked, unit, hook, required, no_touch, made_directory };
        let text = dropin::text(machine, &origin, &rules, &fingerprint(&resolved.edits)?)?;
        if self.dry_run {
            let path = machine.dropins("etc").join(dropin::NAME);
            let name = machine.to_string();
            let order = resolved.order(&origin.asked, &name);
            return output::text(&format!("# {path}\n{text}{}", at_start(&host, &order, no_touch)));
        }
        let path = dropin::write(&host, machine, &text)?;
        output::note(&format!("wrote {}", host.outside(&path)));
        systemd::reload(&host)?;
        if systemd::is_booted(&host)? {
            self.tell_next(&host)?;
        }
        Ok(Status::Done)
    }

    /// The machine's root, if it is here.
    fn root(&self, host: &Root, asked: &Asked) -> Result<Option<MachineRoot>> {
        if let Some(root) = asked.root() {
            return Ok(Some(root));
        }
        match Machine::find(host, &self.machine.to_string()) {
            Ok(machine) => Ok(Some(machine.root)),
            Err(libgpuspec::Error::Machine(_)) => {
                let machine = &self.machine;
                output::warning(&format!(
                    "no machine {machine} is here yet; a root that is elsewhere is named by --directory or --image"
                ));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn tell_next(&self, host: &Root) -> Result<()> {
        let machine = &self.machine;
        output::note(&match host.entry(&machine.registered())?.is_some() {
            true => format!(
                "{machine} runs: it has the devices once it was stopped and started, `systemctl restart {}`",
                machine.unit()
            ),
            false => format!("next: machinectl start {machine}"),
        });
        Ok(())
    }
}

/// What a start now would add to the machine's settings, as comments where that cannot be told.
fn at_start(host: &Root, order: &Order<'_>, no_touch: bool) -> String {
    let state = nspawn::state_directory(order.machine);
    let decided = nspawn::preview(host, order, sandbox).map_err(|error| libgpuspec::error::chain(&error));
    let told = decided.and_then(|decided| {
        let own = decided.machine.settings.filter(|file| file.trusted);
        let path = own
            .map_or(format!("/run/systemd/nspawn/{}.nspawn", order.machine), |file| file.path.into_string());
        let whose = if no_touch { ", for its unit alone" } else { "" };
        let lines = lines::lines(&decided.preparation, &state, b"").map_err(|error| error.to_string())?;
        Ok(format!("\n# {path}, while it runs{whose}\n{lines}"))
    });
    told.unwrap_or_else(|reason| {
        format!("\n# It could not be made ready now: {}\n", output::one_line(&reason))
    })
}

pub(super) fn foreign(host: &Root, machine: &Name) -> Status {
    let path = host.outside(&machine.dropins("etc").join(dropin::NAME));
    output::conflict(&format!("{path}: not written by `cdi-gen nspawn enable`, and so left alone"))
}

/// A hash by which two states of specs can be told apart.
fn fingerprint(edits: &ContainerEdits) -> Result<String> {
    let hash = Sha256::digest(serde_json::to_vec(edits)?);
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}
