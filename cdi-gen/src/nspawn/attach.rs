//! `cdi-gen nspawn attach`: a machine that runs has the devices, without a restart.

use anyhow::Result;
use clap::Args;
use libgpuspec::nspawn::attach::{self, Attached, Attachment, Leader};
use libgpuspec::nspawn::{Loader, Preparation};
use libgpuspec::{Notice, Root};

use super::asked::Given;
use super::dropin::{self, Present};
use super::machine::Name;
use super::machined::Running;
use super::unit::Unit;
use super::{errand, resolved};
use crate::output::{self, Status};

/// Gives a machine that runs devices, without a restart.
///
/// They are there until `detach`, or until the machine stops; nothing of its own files is changed. What libraries
/// it finds it finds by a read-only layer over its directory of libraries: while the devices are attached, nothing can
/// be installed there. Exit status 4 if a device does not resolve, or other devices are attached already.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The machine
    #[arg(value_name = "MACHINE")]
    machine: Name,
    #[command(flatten)]
    given: Given,
    /// The machine's first process, where systemd-machined does not know the machine; nobody is told then to let
    /// the devices through
    #[arg(long, value_name = "PID")]
    leader: Option<i32>,
}

impl Attach {
    pub(crate) fn run(&self) -> Result<Status> {
        let (host, machine) = (Root::open("/".into())?, &self.machine);
        let asked = self.given.asked()?;
        let resolved = match resolved::find(&host, &asked)? {
            Ok(resolved) => resolved,
            Err(reasons) => return Ok(resolved::refuse(&reasons)),
        };
        let running = match self.leader {
            Some(leader) => Running { leader, unit: None },
            None => Running::find(&host, machine)?,
        };
        let leader = Leader::open(running.leader)?;
        if running.unit.is_none() {
            output::warning(
                "no unit is told to let the devices through: where a device cgroup keeps the machine from them, opening one answers EPERM",
            );
        }
        let (rules, told) = resolved.rules(&host)?;
        output::notices(&told);
        let grant = || {
            let unit = running.unit.as_deref().map(|name| Unit { host: &host, machine, name });
            unit.map(|unit| unit.grant(&rules)).transpose()
        };
        let name = machine.to_string();
        let order = resolved.order(&asked, &name);
        let wanted = Attachment { order: &order, leader: &leader, devices: &self.given.devices.names };
        let mut notices: Vec<Notice> = Vec::new();
        let attached = attach::attach(
            &host,
            &wanted,
            &grant,
            &|grant, gate| Unit { host: &host, machine, name: &grant.unit }.keep(grant, gate),
            errand::messenger,
            &mut notices,
        );
        output::notices(&notices);
        match attached? {
            Attached::Now(preparation) => self.tell(&preparation),
            Attached::Before(devices) if same(&devices, &self.given.devices.names) => {
                output::note(&format!("{machine} has them already"));
            }
            Attached::Before(devices) => {
                return Ok(output::conflict(&format!(
                    "{machine} has {} attached: `cdi-gen nspawn detach {machine}` first",
                    devices.join(", ")
                )));
            }
            Attached::Prepared => return self.prepared(&host),
        }
        Ok(Status::Done)
    }

    fn tell(&self, preparation: &Preparation) {
        let machine = &self.machine;
        output::note(&format!(
            "attached {}: until `cdi-gen nspawn detach {machine}`, or the machine stops",
            self.given.devices.names.join(", ")
        ));
        if let Loader::Overlay(farms) = &preparation.loader {
            let directories: Vec<&str> = farms.iter().map(|farm| farm.directory.as_str()).collect();
            output::note(&format!("read-only in {machine} until then: {}", directories.join(", ")));
        }
        if !preparation.environment.is_empty() {
            output::note(
                "what runs already takes no variables: /run/gpuspec/environment in the machine has those of the devices, for EnvironmentFile= or a shell",
            );
        }
    }

    /// It has got devices with its start.
    fn prepared(&self, host: &Root) -> Result<Status> {
        let machine = &self.machine;
        if let Present::Ours { origin: Some(origin), .. } = dropin::present(host, machine)?
            && same(&origin.asked.devices.names, &self.given.devices.names)
        {
            output::note(&format!("{machine} is enabled for them, and has had them since its start"));
            return Ok(Status::Done);
        }
        Ok(output::conflict(&format!(
            "{machine} was given devices with its start, and keeps them until it stops: `cdi-gen nspawn enable {machine}` and a restart change them"
        )))
    }
}

fn same(one: &[String], other: &[String]) -> bool {
    one.iter().all(|device| other.contains(device)) && other.iter().all(|device| one.contains(device))
}
