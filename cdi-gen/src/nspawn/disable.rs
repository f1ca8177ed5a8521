//! `cdi-gen nspawn disable`: the machine's unit and settings as they were before `enable`.

use anyhow::Result;
use camino::Utf8Path;
use clap::Args;
use libgpuspec::Root;
use libgpuspec::nspawn;
use libgpuspec::render::nspawn::devices::assigned;
use libgpuspec::root::Durability;

use super::dropin::{self, Present};
use super::enable::foreign;
use super::machine::{HostTree, Name};
use super::sandbox::sandbox;
use super::systemd;
use crate::output::{self, Status};

/// Takes a machine's devices away again, from its next start on.
///
/// Removes what `enable` wrote. A machine that is prepared keeps its devices until it stops, and what was
/// prepared is taken back then.
#[derive(Debug, Args)]
pub(crate) struct Disable {
    /// The machine
    #[arg(value_name = "MACHINE")]
    machine: Name,
    #[command(flatten)]
    host: HostTree,
}

impl Disable {
    pub(crate) fn run(&self) -> Result<Status> {
        let (host, machine) = (self.host.open()?, &self.machine);
        let path = machine.dropins("etc").join(dropin::NAME);
        let (text, made_directory) = match dropin::present(&host, machine)? {
            Present::Foreign => return Ok(foreign(&host, machine)),
            Present::Nothing => (None, false),
            Present::Ours { text, origin } => {
                (Some(text), origin.is_some_and(|origin| origin.made_directory))
            }
        };
        if systemd::has_ended(&host, &machine.unit())? {
            // A stop that was cut short has left it.
            output::notices(&nspawn::cleanup(&host, &machine.to_string(), sandbox)?);
        }
        let prepared = host.directory(&machine.state())?.is_some();
        match &text {
            None => output::note(&format!("{}: not there", host.outside(&path))),
            Some(text) => {
                if prepared {
                    keep_until_stop(&host, machine, text)?;
                }
                remove(&host, &path, made_directory)?;
                output::note(&format!("removed {}", host.outside(&path)));
            }
        }
        if prepared {
            output::note(&format!(
                "{machine} is prepared: it keeps its devices until it stops, and what was made ready for it goes then"
            ));
        } else {
            // A stop takes them back; one that was cut short did not.
            for path in nspawn::remove_block(&host, &machine.to_string())? {
                output::note(&format!("removed a block left in {}", host.outside(&path)));
            }
        }
        if text.is_some() {
            systemd::reload(&host)?;
        }
        Ok(Status::Done)
    }
}

/// What the running machine's unit still needs: its rules, which a reload of systemd would else take away, and
/// the clean-up at its stop.
fn keep_until_stop(host: &Root, machine: &Name, text: &str) -> Result<()> {
    let directory = machine.dropins("run");
    let is_needed = |line: &&str| line.starts_with("ExecStopPost=") || assigned(line).is_some();
    let needed: String = text.lines().filter(is_needed).map(|line| format!("{line}\n")).collect();
    let own = directory.join(dropin::NAME);
    let text = format!(
        "# Left by cdi-gen nspawn disable until {machine} stops.\n[Service]\n{needed}ExecStopPost=-+/bin/rm -f {own}\n"
    );
    let opened = host.make_directory(&directory)?;
    Ok(opened.replace_file(dropin::NAME, text.as_bytes(), 0o644, None, Durability::Lazy)?)
}

fn remove(host: &Root, path: &Utf8Path, made_directory: bool) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let Some(directory) = host.directory(parent)? else { return Ok(()) };
    directory.remove(name)?;
    let (true, Some(above), Some(name)) = (made_directory, parent.parent(), parent.file_name()) else {
        return Ok(());
    };
    if let Some(above) = host.directory(above)?
        && !above.remove_empty(name)?
    {
        output::note(&format!("kept {}: others have files in it", host.outside(parent)));
    }
    Ok(())
}
