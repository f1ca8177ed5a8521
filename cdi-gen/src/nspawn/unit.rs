//! What a machine's unit lets through while it runs: told to the host's systemd, and taken back to what it was.
//!
//! A rule written into the unit's files does not reach a control group that is there already, and one written
//! into the group is lost with systemd's next reload: `systemctl set-property` does both.

use std::process::Command;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::Root;
use libgpuspec::nspawn::attach::{Alive, Gate, Grant};
use libgpuspec::render::nspawn::devices::{DeviceRule, assigned, assignment};
use libgpuspec::render::nspawn::dropin;
use libgpuspec::root::Attributes;

use super::machine::Name;
use crate::trusted;

/// Larger than any file of properties.
const MAX: u64 = 256 << 10;
/// What has the stop of a service take back what is left; before the clean-up of a machine that is enabled.
const AT_STOP: &str = "40-gpuspec-attached.conf";

/// A machine's unit.
pub(crate) struct Unit<'a> {
    pub(crate) host: &'a Root,
    pub(crate) machine: &'a Name,
    pub(crate) name: &'a str,
}

impl Unit<'_> {
    /// What it must be told so that these rules hold.
    pub(crate) fn grant(&self, rules: &[DeviceRule]) -> std::result::Result<Grant, String> {
        self.missing(rules).map_err(|error| format!("{}: {error:#}", self.name))
    }

    fn missing(&self, rules: &[DeviceRule]) -> Result<Grant> {
        if self.is_service() {
            at_stop_program(self.host, &Utf8PathBuf::try_from(std::env::current_exe()?)?)?;
        }
        let (policy, has) = self.rules()?;
        // Such a policy lets everything through; with a rule it would no longer.
        let rules = if policy == "auto" && has.is_empty() { &[] } else { rules };
        // A copy of a node is made outside of it, and so nothing in it needs to make one.
        let wanted = rules.iter().map(|rule| format!("{} {}", rule.device, rule.access.replace('m', "")));
        let wanted = wanted.filter(|rule| !has.contains(rule)).collect();
        let kept_in = self.kept_in();
        let before = self.host.read_text(&kept_in, MAX)?;
        Ok(Grant { unit: self.name.to_owned(), rules: wanted, rules_before: has, kept_in, before })
    }

    /// Has it do so; a text says what could not be done.
    pub(crate) fn keep(&self, grant: &Grant, gate: Gate) -> std::result::Result<(), String> {
        let kept = match gate {
            Gate::Open => self.open(grant),
            Gate::Close(alive) => self.close(grant, alive),
        };
        kept.map_err(|error| format!("{}: {error:#}", self.name))
    }

    fn open(&self, grant: &Grant) -> Result<()> {
        if self.is_service() {
            let own = Utf8PathBuf::try_from(std::env::current_exe()?)?;
            let machine = self.machine.to_string();
            let arguments = ["nspawn", "detach", &machine];
            let text = dropin::at_stop(
                "Made by cdi-gen nspawn attach, until it is detached or stops.",
                &own,
                &arguments,
            )?;
            self.write(&self.dropins().join(AT_STOP), &text)?;
            systemctl(&["daemon-reload"])?;
        }
        match grant.rules.is_empty() {
            true => Ok(()),
            false => self.set(&grant.rules),
        }
    }

    fn close(&self, grant: &Grant, alive: Alive) -> Result<()> {
        if alive == Alive::Yes && !grant.rules.is_empty() {
            let (_, now) = self.rules()?;
            let mut rules = vec![String::new()];
            rules.extend(rest(&now, grant));
            self.set(&rules)?;
        }
        if let Some(text) = self.host.read_text(&grant.kept_in, MAX)? {
            let now = text.lines().filter_map(assigned);
            let now: Vec<String> = now.filter(|rule| !rule.is_empty()).map(str::to_owned).collect();
            let rest = rest(&now, grant);
            // Whatever others have told it since is theirs.
            let is_before = same(&rest, &grant.rules_before);
            match (&grant.before, is_before) {
                (None, true) => self.remove(&grant.kept_in)?,
                (Some(before), true) => self.write(&grant.kept_in, before)?,
                (_, false) => {
                    let ours = |line: &&str| {
                        let rule = assigned(line).unwrap_or_default();
                        rule.is_empty() || rest.iter().any(|kept| kept == rule)
                    };
                    let text: String = text.lines().filter(ours).map(|line| format!("{line}\n")).collect();
                    self.write(&grant.kept_in, &text)?;
                }
            }
        }
        let forget = || match self.is_service() {
            true => self.remove(&self.dropins().join(AT_STOP)),
            false => Ok(()),
        };
        match alive {
            Alive::Yes => forget().and_then(|()| systemctl(&["daemon-reload"])),
            // This may be that drop-in's own command: were it gone when systemd reads the unit anew, the commands of the
            // stop that come after it would not run.
            Alive::No => systemctl(&["daemon-reload"]).and_then(|()| forget()),
        }
    }

    /// Its policy, and its rules as `DEVICE ACCESS`.
    fn rules(&self) -> Result<(String, Vec<String>)> {
        let arguments = ["show", "--property=LoadState,DevicePolicy,DeviceAllow", "--", self.name];
        let output = Command::new("systemctl").args(arguments).output().context("running systemctl")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let of = |key: &'static str| {
            text.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
        };
        if !output.status.success() || of("LoadState").next() != Some("loaded") {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("systemd does not know it: {}", said.trim());
        }
        let policy = of("DevicePolicy").next().unwrap_or("auto").to_owned();
        Ok((
            policy,
            text.lines().filter_map(assigned).filter(|rule| !rule.is_empty()).map(str::to_owned).collect(),
        ))
    }

    fn set(&self, rules: &[String]) -> Result<()> {
        let assignments: Vec<String> = rules.iter().map(|rule| assignment(rule)).collect();
        let mut arguments = vec!["set-property", "--runtime", "--", self.name];
        arguments.extend(assignments.iter().map(String::as_str));
        systemctl(&arguments)
    }

    fn is_service(&self) -> bool {
        self.name.ends_with(".service")
    }

    fn dropins(&self) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("/run/systemd/system/{}.d", self.name))
    }

    /// Where its systemd keeps such rules: with the rest of a unit that has no files, else beside them.
    fn kept_in(&self) -> Utf8PathBuf {
        let place = if self.is_service() { "system.control" } else { "transient" };
        Utf8PathBuf::from(format!("/run/systemd/{place}/{}.d/50-DeviceAllow.conf", self.name))
    }

    fn write(&self, path: &Utf8Path, text: &str) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, times: None };
        let directory = self.host.make_directory(parent)?;
        Ok(directory.put(name, &temporary(name), text.as_bytes(), &attributes)?)
    }

    /// Removes a file with what a killed writer of it has left, and its directory where it was the last.
    fn remove(&self, path: &Utf8Path) -> Result<()> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let Some(directory) = self.host.directory(parent)? else { return Ok(()) };
        directory.remove(&temporary(name))?;
        directory.remove(name)?;
        if let (Some(above), Some(name)) = (parent.parent(), parent.file_name())
            && let Some(above) = self.host.directory(above)?
        {
            above.remove_empty(name)?;
        }
        Ok(())
    }
}

/// The name under which a file is written; systemd takes it for none of its own.
fn temporary(name: &str) -> String {
    format!(".{name}.gpuspec")
}

/// The rules without those of the grant, and with what the unit had for the same devices.
fn rest(now: &[String], grant: &Grant) -> Vec<String> {
    let device = |rule: &String| rule.split(' ').next().unwrap_or_default().to_owned();
    let ours: Vec<String> = grant.rules.iter().map(device).collect();
    let had = grant.rules_before.iter().filter(|rule| ours.contains(&device(rule)));
    now.iter().filter(|rule| !ours.contains(&device(rule))).chain(had).cloned().collect()
}

fn same(one: &[String], other: &[String]) -> bool {
    let sorted = |rules: &[String]| {
        let mut rules = rules.to_vec();
        rules.sort();
        rules
    };
    sorted(one) == sorted(other)
}

/// Has the host's own systemd do something.
fn systemctl(arguments: &[&str]) -> Result<()> {
    let command = || format!("systemctl {}", arguments.join(" "));
    let output = Command::new("systemctl").args(arguments).output().with_context(command)?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{}: {}", command(), String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// An error if root's unit must not run this program at its stop.
fn at_stop_program(host: &Root, program: &Utf8Path) -> Result<()> {
    match trusted::writable_by_others(host, program)? {
        None => Ok(()),
        Some(fault) => {
            bail!("{fault}; its stop runs the program as root: install it where root alone can write")
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn n3_a_program_that_others_can_change_is_not_left_for_the_stop() {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        let mode = |name: &str, mode| {
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap()
        };
        for name in ["roots", "others", "open", "sticky"] {
            std::fs::create_dir(at(name)).unwrap();
            mode(name, 0o755);
            std::fs::write(at(name).join("cdi-gen"), "").unwrap();
            mode(&format!("{name}/cdi-gen"), 0o755);
        }
        mode("", 0o755);
        mode("open", 0o775);
        mode("sticky", 0o1777);
        if chown(at("others"), Some(1001), None).is_err() {
            eprintln!("skipped: needs CAP_CHOWN");
            return;
        }
        let host = Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
        for (name, is_fit) in [("roots", true), ("sticky", true), ("others", false), ("open", false)] {
            let path = format!("/{name}/cdi-gen");
            let checked = at_stop_program(&host, path.as_str().into());
            assert_eq!(checked.is_ok(), is_fit, "{name}: {checked:?}");
            assert!(is_fit || checked.unwrap_err().to_string().contains(&path), "{name}");
        }
        chown(at("roots/cdi-gen"), Some(1001), None).unwrap();
        assert!(at_stop_program(&host, "/roots/cdi-gen".into()).is_err());
    }

    fn grant(rules: &[&str], before: &[&str]) -> Grant {
        let owned = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
        let (rules, rules_before) = (owned(rules), owned(before));
        Grant { unit: "x.service".into(), rules, rules_before, kept_in: "/run/x".into(), before: None }
    }

    #[test]
    fn what_others_have_told_a_unit_since_stays() {
        let grant =
            grant(&["/dev/char/195:0 rw", "/dev/char/195:1 rw"], &["/dev/net/tun rwm", "/dev/char/195:1 r"]);
        let now = ["/dev/char/195:0 rw", "/dev/kvm rw", "/dev/net/tun rwm", "/dev/char/195:1 rw"];
        let now: Vec<String> = now.iter().map(|rule| (*rule).to_owned()).collect();
        let kept = rest(&now, &grant);
        assert_eq!(kept, ["/dev/kvm rw", "/dev/net/tun rwm", "/dev/char/195:1 r"]);
        assert!(
            !same(&kept, &grant.rules_before)
                && same(&rest(&[], &grant)[..], &["/dev/char/195:1 r".to_owned()])
        );
    }
}
