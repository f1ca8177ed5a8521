//! `cdi-gen nspawn status`: which machines have devices, and whether their units still let them through.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use clap::Args;
use libgpuspec::Root;
use libgpuspec::error::chain;
use libgpuspec::nspawn::{self, Decided, Loader, Machine, Preparation, TREE, attach};
use libgpuspec::root::Kind;
use serde::Serialize;

use super::bundle;
use super::dropin::{self, EDITED, Origin, Present};
use super::exec_start::exec_start;
use super::machine::{HostTree, Name};
use super::resolved;
use super::sandbox::sandbox;
use crate::output::{self, Status};

/// Says which machines have devices, and whether what `enable` wrote still fits them.
///
/// Exit status 0 if all is well, 1 if there is no such machine, 4 if a device does not resolve, 5 if a machine wants
/// `enable` again, cannot be made ready now, or runs without its devices.
#[derive(Debug, Args)]
pub(crate) struct StatusCommand {
    /// The machine [default: every one that is enabled or has devices]
    #[arg(value_name = "MACHINE")]
    machine: Option<Name>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostTree,
}

/// How one machine stands.
#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    enabled: bool,
    /// What its drop-in was made from, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Box<Origin>>,
    /// Whether its devices are ready now, as they are from its start to its stop.
    prepared: bool,
    /// What `attach` gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    attached: Option<Vec<String>>,
    running: bool,
    /// What its unit says otherwise than when it was enabled.
    changed: bool,
    /// Devices that the specs give and the unit does not let through.
    not_let_through: Vec<String>,
    /// Why devices cannot be had.
    unresolved: Vec<String>,
    /// Why it cannot be made ready now.
    #[serde(skip_serializing_if = "Option::is_none")]
    unready: Option<String>,
    /// What it would be given if it were started now.
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<Preparation>,
    /// What was odd.
    notices: Vec<String>,
}

impl StatusCommand {
    pub(crate) fn run(&self) -> Result<Status> {
        let host = self.host.open()?;
        let machines = match &self.machine {
            Some(machine) => vec![machine.clone()],
            None => known(&host)?.into_iter().collect(),
        };
        let reports = machines.iter().map(|machine| report(&host, machine)).collect::<Result<Vec<_>>>()?;
        if let (Some(machine), [report]) = (&self.machine, &reports[..])
            && !exists(&host, machine, report)?
        {
            bail!(
                "{machine}: no such machine: it is not enabled, has no devices, does not run, and no root of it is found"
            );
        }
        if self.json {
            output::text(&(serde_json::to_string_pretty(&reports)? + "\n"))?;
        } else if reports.is_empty() {
            output::note("no machine is enabled or has devices");
        } else {
            output::text(&reports.iter().map(words).collect::<String>())?;
        }
        Ok(if reports.iter().any(|report| !report.unresolved.is_empty()) {
            Status::Invalid
        } else if reports.iter().any(is_stale) {
            Status::Stale
        } else {
            Status::Done
        })
    }
}

/// The machines whose units have a drop-in of ours, and those that have devices without.
fn known(host: &Root) -> Result<BTreeSet<Name>> {
    let mut machines = BTreeSet::new();
    for (name, kind) in host.list(nspawn::STATES.into())?.unwrap_or_default() {
        if kind == Kind::Directory && !bundle::has_name(&name) {
            // Those of runs are no machines' names.
            machines.extend(name.parse::<Name>());
        }
    }
    for (name, _) in host.list("/etc/systemd/system".into())?.unwrap_or_default() {
        let name = name.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service.d"));
        let Some(machine) = name.and_then(|name| name.parse().ok()) else { continue };
        if let Present::Ours { .. } = dropin::present(host, &machine)? {
            machines.insert(machine);
        }
    }
    Ok(machines)
}

/// Whether anything is known of a machine of this name.
fn exists(host: &Root, machine: &Name, report: &Report) -> Result<bool> {
    if report.enabled || report.prepared || report.running || report.attached.is_some() {
        return Ok(true);
    }
    let unit = exec_start(host, machine)?;
    let is_named = unit.directory.is_some() || unit.image.is_some() || !report.notices.is_empty();
    Ok(is_named || Machine::find(host, &report.machine).is_ok())
}

fn report(host: &Root, machine: &Name) -> Result<Report> {
    let attached = attach::attached(host, &machine.to_string());
    // Its record is for root alone to read.
    let hidden = attached.as_ref().err().map(|error| chain(error));
    let attached = attached.unwrap_or_default();
    let mut report = Report {
        machine: machine.to_string(),
        enabled: false,
        asked: None,
        prepared: attached.is_none() && host.directory(&machine.state())?.is_some(),
        attached,
        running: host.entry(&machine.registered())?.is_some(),
        changed: false,
        not_let_through: Vec::new(),
        unresolved: Vec::new(),
        unready: None,
        given: None,
        notices: hidden.into_iter().collect(),
    };
    let (text, origin) = match dropin::present(host, machine)? {
        Present::Nothing => return Ok(report),
        Present::Foreign => {
            let path = host.outside(&machine.dropins("etc").join(dropin::NAME));
            report.notices.push(format!("{path}: not written by `cdi-gen nspawn enable`"));
            return Ok(report);
        }
        Present::Ours { text, origin } => (text, origin),
    };
    report.enabled = true;
    let Some(origin) = origin else {
        report.notices.push(format!("{EDITED}: enable again"));
        return Ok(report);
    };
    let unit = exec_start(host, machine)?;
    report.notices.extend(unit.hidden.as_ref().map(ToString::to_string));
    report.changed = unit != origin.unit;
    match resolved::find(host, &origin.asked)? {
        Err(reasons) => report.unresolved = reasons,
        Ok(resolved) => {
            let (rules, notices) = resolved.rules(host)?;
            let present = dropin::rules_in(&text);
            let missing = rules.iter().filter(|rule| !present.contains(&rule.to_string().as_str()));
            report.not_let_through = missing.flat_map(|rule| rule.names.clone()).collect();
            report.notices.extend(notices.into_iter().map(|notice| notice.0));
            match nspawn::preview(host, &resolved.order(&origin.asked, &report.machine), sandbox) {
                Ok(Decided { preparation, notices, .. }) => {
                    report.notices.extend(notices.into_iter().map(|notice| notice.0));
                    report.given = Some(preparation);
                }
                Err(error) => report.unready = Some(chain(&error)),
            }
        }
    }
    report.asked = Some(origin);
    Ok(report)
}

fn is_stale(report: &Report) -> bool {
    report.changed
        || !report.not_let_through.is_empty()
        || report.unready.is_some()
        || report.enabled && report.asked.is_none()
        || is_without(report)
}

/// Whether it runs without devices that it is enabled for.
fn is_without(report: &Report) -> bool {
    report.enabled && report.running && !report.prepared && report.attached.is_none()
}

fn words(report: &Report) -> String {
    // A start would come to nothing before that is mended.
    let can_start = report.unready.is_none() && report.unresolved.is_empty();
    let state = match (report.enabled, report.prepared, report.running) {
        (true, true, true) => "enabled, runs with its devices",
        (true, true, false) => "enabled, prepared",
        (true, false, true) if report.attached.is_some() => "enabled from its next start on",
        (true, false, true) if can_start => "enabled, runs without its devices: restart it",
        (true, false, true) => "enabled, runs without its devices",
        (true, false, false) => "enabled, not running",
        (false, true, _) => "not enabled any more, keeps its devices until it stops",
        (false, false, _) => "not enabled",
    };
    let attached = report.attached.iter().map(|devices| devices.join(", "));
    let attached = attached.map(|devices| format!("attached, until `detach` or its stop: {devices}"));
    let states = Some(state.to_owned()).filter(|_| report.enabled || report.attached.is_none());
    let states: Vec<String> = states.into_iter().chain(attached).collect();
    let mut lines = vec![format!("{}: {}", report.machine, states.join("; "))];
    if let Some(origin) = &report.asked {
        lines.push(format!("  devices: {}", origin.asked.devices.names.join(", ")));
        lines.push(format!(
            "  if they cannot be had, it {}",
            if origin.required { "does not start" } else { "starts without them" }
        ));
    }
    lines.extend(report.given.iter().flat_map(sight));
    if report.changed {
        lines.push("  its unit starts it otherwise than when it was enabled; enable again".to_owned());
    }
    if !report.not_let_through.is_empty() {
        let names = report.not_let_through.join(", ");
        lines.push(format!("  not let through by its unit: {names}; enable again"));
    }
    lines.extend(
        report.unready.iter().map(|why| format!("  cannot be made ready: {}", output::one_line(why))),
    );
    lines.extend(
        report.unresolved.iter().chain(&report.notices).map(|line| format!("  {}", output::one_line(line))),
    );
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What the machine will see.
fn sight(given: &Preparation) -> Vec<String> {
    let nodes: Vec<&str> = given.nodes.iter().map(|node| node.path.as_str()).collect();
    let libraries = given.tree.iter().filter(|entry| entry.at.starts_with("lib")).count();
    let loader = match &given.loader {
        Loader::Cache(_) => "its loader's cache lists them while it runs".to_owned(),
        Loader::Overlay(farms) => {
            let directories: Vec<&str> = farms.iter().map(|farm| farm.directory.as_str()).collect();
            format!("links to them are laid over {}", directories.join(", "))
        }
        Loader::Environment => "LD_LIBRARY_PATH names them".to_owned(),
        Loader::Nothing => "its loader is told nothing".to_owned(),
    };
    let mut lines = vec![
        format!("  nodes: {}", if nodes.is_empty() { "none".to_owned() } else { nodes.join(", ") }),
        format!("  libraries: {libraries} names in {TREE}/lib; {loader}"),
    ];
    let variables: Vec<String> =
        given.environment.iter().map(|(name, value)| output::one_line(&format!("{name}={value}"))).collect();
    lines.extend((!variables.is_empty()).then(|| format!("  variables: {}", variables.join(" "))));
    lines
}
