//! `cdi-gen nspawn detach`: what `attach` gave a machine is taken back.

use anyhow::Result;
use clap::Args;
use libgpuspec::Root;
use libgpuspec::nspawn::attach::{self, Alive, Detached};

use super::errand;
use super::machine::Name;
use super::unit::Unit;
use crate::output::{self, Status};

/// Takes back what `attach` gave a machine, whether it runs still or has stopped.
///
/// What uses the devices already keeps them until it ends.
#[derive(Debug, Args)]
pub(crate) struct Detach {
    /// The machine
    #[arg(value_name = "MACHINE")]
    machine: Name,
}

impl Detach {
    pub(crate) fn run(&self) -> Result<Status> {
        let (host, machine) = (Root::open("/".into())?, &self.machine);
        let mut notices = Vec::new();
        let detached = attach::detach(
            &host,
            &machine.to_string(),
            &|grant, gate| Unit { host: &host, machine, name: &grant.unit }.keep(grant, gate),
            errand::messenger,
            &mut notices,
        );
        output::notices(&notices);
        match detached? {
            Detached::Now(Alive::Yes) => {
                output::note("detached; what uses the devices already keeps them until it ends");
            }
            Detached::Now(Alive::No) => {
                output::note(&format!("{machine} has ended; what it had left here is gone"));
            }
            Detached::Nothing => output::note(&format!("{machine}: nothing is attached to it")),
            Detached::Prepared => {
                return Ok(output::conflict(&format!(
                    "{machine} was given devices with its start: `cdi-gen nspawn disable {machine}`, and it is without them from its next start on"
                )));
            }
        }
        Ok(Status::Done)
    }
}
