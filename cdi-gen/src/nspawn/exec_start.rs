//! How a machine's unit starts systemd-nspawn, by the unit's files: what that says of the machine's root and users.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::Root;
use libgpuspec::nspawn::settings_file::{Assignment, assignments, is_no, words};
use libgpuspec::nspawn::{Machine, MachineRoot};
use libgpuspec::root::Kind;
use oci_hook::machine::Asked;
use serde::{Deserialize, Serialize};

use super::machine::Name;
use super::nspawn_options::Command;
use super::settings_file;

const PROGRAM: &str = "systemd-nspawn";
const TEMPLATE: &str = "systemd-nspawn@.service";
/// Where units are: the first file of a name counts (systemd.unit(5)).
const PLACES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// The largest unit that is read; a hundred times the largest seen.
const MAX: u64 = 1 << 20;

/// What the command line of a machine's unit says otherwise than its settings, or systemd's own unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecStart {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<Utf8PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Utf8PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_namespace: Option<bool>,
    /// Its root is read-only, or what is written to it is gone with the machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    /// Why it would not see what is made ready for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hidden: Option<Hidden>,
}

/// Why a machine would see nothing of its devices, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hidden {
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl fmt::Display for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.what, self.remedy)
    }
}

impl ExecStart {
    /// What is asked for with what the machine's unit says, where nothing else is asked for.
    pub(crate) fn complete(&self, asked: Asked) -> Asked {
        let said = Asked {
            directory: self.directory.clone(),
            image: self.image.clone(),
            user_namespace: self.user_namespace,
            read_only: self.read_only,
            ..Asked::default()
        };
        asked.over(said)
    }
}

/// What the machine's unit says.
pub(crate) fn exec_start(host: &Root, machine: &Name) -> Result<ExecStart> {
    let Some(words) = command_line(host, machine)? else { return Ok(ExecStart::default()) };
    let command = Command::new(&words);
    let path = |path: &Option<String>| path.as_deref().map(|path| Utf8Path::new("/").join(path));
    // Of files that are trusted, which alone count here, none lies beside the root.
    let root = MachineRoot::Directory(Utf8PathBuf::from(format!("/var/lib/machines/{machine}")));
    let known = Machine::with_root(host, &machine.to_string(), root)?;
    let has = settings_file::user_namespace(&command, known.settings.as_ref());
    Ok(ExecStart {
        directory: path(&command.directory),
        image: path(&command.image),
        user_namespace: Some(has).filter(|has| *has != known.has_user_namespace()),
        read_only: command.is_passing,
        hidden: hidden(&command),
    })
}

fn hidden(command: &Command) -> Option<Hidden> {
    let what = match command.settings.as_deref() {
        Some("override") => return None,
        Some(word) if is_no(word) => {
            "--settings=no in its unit: systemd-nspawn reads nothing of what is made ready"
        }
        _ if command.has_mounts || !command.variables.is_empty() => {
            "its unit mounts or sets variables by options, which hide what is made ready"
        }
        _ => return None,
    };
    let remedy = "write --settings=override there, or these options into its settings file";
    Some(Hidden { what: what.to_owned(), remedy: remedy.to_owned() })
}

/// The words behind the program's name, if it is systemd-nspawn's.
fn command_line(host: &Root, machine: &Name) -> Result<Option<Vec<String>>> {
    let mut lines: Vec<String> = Vec::new();
    for path in files(host, &[machine.unit(), TEMPLATE.to_owned()])? {
        let text = host.read(&path, MAX)?.unwrap_or_default();
        let is_it = |one: &Assignment| one.section == "Service" && one.key == "ExecStart";
        for Assignment { value, .. } in assignments(&text).into_iter().filter(is_it) {
            match value.is_empty() {
                true => lines.clear(),
                false => lines.push(value),
            }
        }
    }
    let name = machine.to_string();
    let words = lines.iter().map(|line| {
        let line = line.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        words(line).iter().map(|word| word.replace("%i", &name).replace("%%", "%")).collect::<Vec<_>>()
    });
    let behind = |words: Vec<String>| {
        let (program, rest) = words.split_first()?;
        (Utf8Path::new(program).file_name() == Some(PROGRAM)).then(|| rest.to_vec())
    };
    Ok(words.rev().find_map(behind))
}

/// The unit's file and its drop-ins, in the order in which they count.
fn files(host: &Root, names: &[String]) -> Result<Vec<Utf8PathBuf>> {
    let is_file = |path: &Utf8PathBuf| -> Result<bool> {
        Ok(host.target(path)?.is_some_and(|entry| entry.kind == Kind::File))
    };
    let mut files = Vec::new();
    let mut dropins: BTreeMap<String, Utf8PathBuf> = BTreeMap::new();
    for name in names {
        for place in PLACES.map(Utf8Path::new) {
            let path = place.join(name);
            if files.is_empty() && is_file(&path)? {
                files.push(path);
            }
            let directory = place.join(format!("{name}.d"));
            for (file, _) in host.list(&directory)?.unwrap_or_default() {
                if file.ends_with(".conf") {
                    dropins.entry(file.clone()).or_insert_with(|| directory.join(file));
                }
            }
        }
    }
    for path in dropins.into_values() {
        // One that is masked, by a link to /dev/null, says nothing.
        if is_file(&path)? {
            files.push(path);
        }
    }
    Ok(files)
}
