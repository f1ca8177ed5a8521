//! A machine that runs, as systemd-machined knows it.

use anyhow::{Context, Result, bail};
use libgpuspec::Root;

use super::machine::Name;

/// A hundred times the largest seen.
const MAX: u64 = 64 << 10;

/// Its first process, and the unit whose control group it is in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) leader: i32,
    pub(crate) unit: Option<String>,
}

impl Running {
    /// The machine of this name.
    pub(crate) fn find(host: &Root, machine: &Name) -> Result<Running> {
        let path = machine.registered();
        match host.read_text(&path, MAX)? {
            Some(text) => parse(&text).with_context(|| format!("{path}")),
            None => bail!(
                "{path}: not there: {machine} does not run, or systemd-machined does not know it: --leader names its first process"
            ),
        }
    }
}

/// What machined writes: a line for each assignment, escaped or quoted where need be.
fn parse(text: &str) -> Result<Running> {
    let value = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(value.trim_matches('"').replace("\\\\", "\\"))
    };
    if value("CLASS").is_some_and(|class| class != "container") {
        bail!("a virtual machine, whose devices are its own");
    }
    let leader = value("LEADER").and_then(|number| number.parse().ok());
    let Some(leader) = leader else { bail!("names no first process") };
    Ok(Running { leader, unit: value("SCOPE").or_else(|| value("UNIT")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_as_it_is_written_down() {
        let text = "# private\nNAME=my-m\nSCOPE=machine-my\\\\x2dm.scope\nSERVICE=systemd-nspawn\nLEADER=4711\nCLASS=container\n";
        let found = parse(text).unwrap();
        assert_eq!(found, Running { leader: 4711, unit: Some("machine-my\\x2dm.scope".to_owned()) });
        let quoted = parse("SCOPE=\"machine-my\\\\x2dm.scope\"\nLEADER=2\n").unwrap();
        assert_eq!(quoted, Running { leader: 2, unit: Some("machine-my\\x2dm.scope".to_owned()) });
        assert!(parse("CLASS=vm\nLEADER=7\n").is_err() && parse("NAME=x\n").is_err());
    }
}
