//! `cdi-gen nspawn check`: whether a machine will find its devices, before it is started.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};
use camino::Utf8Path;
use clap::Args;
use libgpuspec::error::chain;
use libgpuspec::nspawn::findings::{Checked, DevicePolicy, Finding, Severity, check};
use libgpuspec::nspawn::{self, Decided, Failed, Machine, MachineRoot, guest};
use libgpuspec::root::Kind;
use libgpuspec::{Notice, Root};
use oci_hook::machine::Asked;
use serde::Serialize;

use super::asked;
use super::dropin::{self, EDITED, Present};
use super::exec_start::{ExecStart, exec_start};
use super::machine::{HostTree, Name, named_by};
use super::sandbox::{confined, sandbox};
use super::{image, resolved};
use crate::output::{self, Status};
use crate::specs::absolute;

/// Says whether a machine will find its devices: C library, architecture, libraries that are missing, device policy.
///
/// Each finding names what helps. Exit status 0 if nothing keeps a device from being used, 4 if a device does not
/// resolve, 5 if something does. The last line is the verdict.
#[derive(Debug, Args)]
#[command(mut_arg("names", |argument| argument.required(false)))]
pub(crate) struct Check {
    /// The machine by its name, or its root: a directory or a disk image
    #[arg(value_name = "MACHINE|DIR|IMAGE", required_unless_present_any = ["directory", "image"])]
    target: Option<String>,
    // [default: what the machine is enabled for, flag by flag]
    #[command(flatten)]
    asked: Asked,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    host: HostTree,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: String,
    /// What comes of a start now.
    verdict: &'static str,
    findings: Vec<Finding>,
    notices: Vec<String>,
}

impl Check {
    pub(crate) fn run(&self) -> Result<Status> {
        let host = self.host.open()?;
        let typed = asked::absolute(self.asked.clone())?;
        let named = typed.directory.as_ref().or(typed.image.as_ref());
        let machine = self.target.clone().or(named.map(ToString::to_string)).unwrap_or_default();
        let Target { name, asked, dropin, unit, at_worst } = target(&host, &machine, typed)?;
        if asked.devices.names.is_empty() && dropin.is_some() {
            output::note(&format!(
                "{machine}: {EDITED}: enable again, or name what to check for by --device"
            ));
            return Ok(Status::Stale);
        }
        if asked.devices.names.is_empty() {
            return Ok(output::usage(&format!(
                "{machine}: not enabled, so name what to check for by --device"
            )));
        }
        let mut notices = Vec::new();
        // That there is none is told by what comes of it.
        let root = asked.root().or_else(|| Some(Machine::find(&host, &name).ok()?.root));
        let asked = match image::completed(root.as_ref(), asked, &mut notices) {
            Ok(asked) => asked,
            Err(reason) => return Ok(output::usage(reason)),
        };
        let resolved = match resolved::find(&host, &asked)? {
            Ok(resolved) => resolved,
            Err(reasons) => return Ok(resolved::refuse(&reasons)),
        };
        let (mut findings, is_ready) = match nspawn::preview(&host, &resolved.order(&asked, &name), sandbox) {
            Ok(decided) => (judge(&host, &decided, dropin.as_deref(), &mut notices)?, true),
            // What is missing is a finding; that nothing can be looked at is an error.
            Err(Failed::Missing(missing)) => (missing.told().into_iter().map(failure).collect(), false),
            Err(Failed::Step(error)) => (vec![failure((chain(&error), UNCHANGEABLE))], false),
            Err(error) => return Err(error.into()),
        };
        findings.extend(unit);
        findings.sort();
        let fails = findings.iter().any(|finding| finding.severity == Severity::Failure);
        let verdict = match (is_ready, fails) {
            (false, _) => at_worst,
            (true, true) => "will not find all of its devices",
            (true, false) => "will find its devices",
        };
        let notices = notices.into_iter().map(|notice| notice.0);
        let notices = notices.filter(|notice| !is_found(notice, &findings)).collect();
        let report = Report { machine, verdict, findings, notices };
        if self.json {
            output::text(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            output::text(&words(&report))?;
        }
        Ok(if fails { Status::Stale } else { Status::Done })
    }
}

/// The machine that is meant by its name, or by where its root is.
fn target(host: &Root, named: &str, typed: Asked) -> Result<Target> {
    let target = |name, asked| Target {
        name,
        asked,
        dropin: None,
        unit: Vec::new(),
        at_worst: "cannot be given its devices now",
    };
    if named.contains('/') {
        let path = absolute(Utf8Path::new(named))?;
        let name = named_by(&path);
        return Ok(match host.target(&path)?.map(|entry| entry.kind) {
            None => bail!("{path}: no such directory or image"),
            Some(Kind::Directory) => target(name, Asked { directory: Some(path), ..typed }),
            Some(_) => target(name, Asked { image: Some(path), ..typed }),
        });
    }
    let machine: Name = named.parse()?;
    let exec_start = exec_start(host, &machine)?;
    let mut unit = told(&exec_start);
    let Present::Ours { text, origin } = dropin::present(host, &machine)? else {
        return Ok(Target { unit, ..target(machine.to_string(), exec_start.complete(typed)) });
    };
    let at_worst = match origin.as_ref().is_some_and(|origin| origin.required) {
        true => "will not start",
        false => "will start without its devices",
    };
    let mut wants_enable = |what: &str| {
        unit.push(Finding {
            severity: Severity::Warning,
            what: what.to_owned(),
            remedy: "`cdi-gen nspawn enable` again".to_owned(),
        });
    };
    let asked = match origin {
        Some(origin) => {
            if origin.unit != exec_start {
                wants_enable("its unit starts it otherwise than when it was enabled");
            }
            typed.over(origin.asked)
        }
        None => {
            wants_enable(EDITED);
            exec_start.complete(typed)
        }
    };
    Ok(Target { name: machine.to_string(), asked, dropin: Some(text), unit, at_worst })
}

/// What is to be judged.
struct Target {
    name: String,
    asked: Asked,
    /// Its drop-in's text.
    dropin: Option<String>,
    /// What is wrong with its unit.
    unit: Vec<Finding>,
    /// What comes of a start for which it cannot be made ready.
    at_worst: &'static str,
}

/// What helps where a file of the machine's cannot be changed.
const UNCHANGEABLE: &str =
    "run ldconfig in the machine if it is its cache, else take away what is there; or --loader overlay";

fn failure((what, remedy): (String, &str)) -> Finding {
    Finding { severity: Severity::Failure, what, remedy: remedy.to_owned() }
}

fn told(exec_start: &ExecStart) -> Vec<Finding> {
    let hidden = exec_start.hidden.iter();
    hidden
        .map(|hidden| Finding {
            severity: Severity::Failure,
            what: hidden.what.clone(),
            remedy: hidden.remedy.clone(),
        })
        .collect()
}

fn judge(
    host: &Root,
    decided: &Decided,
    dropin: Option<&str>,
    notices: &mut Vec<Notice>,
) -> Result<Vec<Finding>> {
    notices.extend(decided.notices.iter().chain(&decided.preparation.usual).cloned());
    let policy = match dropin {
        None => None,
        Some(text) => {
            Some(DevicePolicy { devices: dropin::devices_in(text), majors: resolved::majors_of(host)? })
        }
    };
    let libraries = match &decided.machine.root {
        MachineRoot::Image(_) => BTreeSet::new(),
        MachineRoot::Directory(path) => {
            let (root, known) = (Root::open(&host.outside(path))?, decided.guest.clone());
            let looked = confined(root, move |root| guest::libraries(root, &known));
            let (libraries, told) =
                looked.map_err(|reason| anyhow!("{path}: looking for its libraries: {reason}"))?;
            notices.extend(told);
            libraries
        }
    };
    Ok(check(&Checked {
        preparation: &decided.preparation,
        guest: &decided.guest,
        sources: &decided.sources,
        libraries: &libraries,
        policy: policy.as_ref(),
    }))
}

/// Whether a finding says of a library what a notice does of all that are left out for it.
fn is_found(notice: &str, findings: &[Finding]) -> bool {
    let reason =
        |text: &str| text.split_once(": ").map(|(_, why)| why.trim_end_matches("; left out").to_owned());
    let why = reason(notice);
    why.is_some() && findings.iter().any(|finding| reason(&finding.what) == why)
}

fn words(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    for Finding { severity, what, remedy } in &report.findings {
        lines.push(output::one_line(&format!("{severity}: {what}; {remedy}")));
    }
    lines.extend(report.notices.iter().map(|notice| output::one_line(&format!("note: {notice}"))));
    lines.push(output::one_line(&format!("{}: {}", report.machine, report.verdict)));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
