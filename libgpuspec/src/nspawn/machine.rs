//! A machine by its name: where its root is, which settings file speaks for it, and how it will be started.
//!
//! Machines are looked up where systemd-nspawn@.service does, settings files in nspawn's order: /etc, /run, beside
//! the root. The first is the only one, and the last of the three is not trusted (systemd.nspawn(5)).

use camino::{Utf8Path, Utf8PathBuf};

use super::RootKind;
use super::settings_file::{Assignment, assignments, is_no};
use crate::Root;
use crate::error::{Error, Result};
use crate::root::Kind;

/// Where images of machines are (systemd, image_search_path of discover-image.c).
const MACHINES: [&str; 6] = [
    "/etc/machines",
    "/run/machines",
    "/var/lib/machines",
    "/var/lib/container",
    "/usr/local/lib/machines",
    "/usr/lib/machines",
];
/// The directories of settings files that are trusted, in their order.
pub(super) const SETTINGS: [&str; 2] = ["/etc/systemd/nspawn", "/run/systemd/nspawn"];
/// Larger than any settings file.
pub(super) const MAX_SETTINGS: u64 = 1 << 20;

/// A machine's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineRoot {
    /// A directory of this host.
    Directory(Utf8PathBuf),
    /// A disk image, or a block device.
    Image(Utf8PathBuf),
}

impl MachineRoot {
    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        match self {
            MachineRoot::Directory(path) | MachineRoot::Image(path) => path,
        }
    }
}

/// The settings file that speaks for a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// Its bytes.
    pub text: Vec<u8>,
    /// Whether nspawn follows all that it says.
    pub trusted: bool,
}

/// What is known of a machine without looking into its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its root.
    pub root: MachineRoot,
    /// Its settings.
    pub settings: Option<SettingsFile>,
}

impl Machine {
    /// The machine `name` of this host.
    pub fn find(host: &Root, name: &str) -> Result<Machine> {
        for directory in MACHINES {
            let directory = Utf8Path::new(directory);
            let candidates = [directory.join(name), directory.join(format!("{name}.raw"))];
            for path in candidates {
                if let Some(root) = root(host, &path)? {
                    return Machine::with_root(host, name, root);
                }
            }
        }
        let places = MACHINES.join(", ");
        Err(Error::Machine(format!(
            "no machine {name} in {places}; if its root is elsewhere, name that directory or image"
        )))
    }

    /// The machine `name`, whose root is said to be this.
    pub fn with_root(host: &Root, name: &str, root: MachineRoot) -> Result<Machine> {
        let settings = settings(host, name, root.path())?;
        Ok(Machine { name: name.to_owned(), root, settings })
    }

    /// What becomes of its root by its settings.
    pub fn root_kind(&self) -> RootKind {
        let set = |section: &str, key: &str, is_on: fn(&str) -> bool| {
            self.setting(section, key).is_some_and(|value| is_on(&value))
        };
        match self.root {
            MachineRoot::Image(_) => RootKind::Image,
            MachineRoot::Directory(_) if set("Exec", "Ephemeral", is_yes) => RootKind::Ephemeral,
            MachineRoot::Directory(_) if set("Files", "Volatile", |value| !is_no(value)) => {
                RootKind::Volatile
            }
            MachineRoot::Directory(_) if set("Files", "ReadOnly", is_yes) => RootKind::ReadOnly,
            MachineRoot::Directory(_) => RootKind::Directory,
        }
    }

    /// Whether it has a user namespace of its own: systemd-nspawn@.service gives it one, its settings may not.
    pub fn has_user_namespace(&self) -> bool {
        self.setting("Exec", "PrivateUsers").is_none_or(|value| !is_no(&value))
    }

    /// What a key is set to last, if nspawn follows it there.
    fn setting(&self, section: &str, key: &str) -> Option<String> {
        let file = self.settings.as_ref()?;
        // Of these, what an untrusted file says of them is all that nspawn follows.
        if !file.trusted && section != "Files" {
            return None;
        }
        let is_it = |one: &Assignment| one.section == section && one.key == key;
        assignments(&file.text)
            .into_iter()
            .rfind(is_it)
            .map(|one| one.value)
            .filter(|value| !value.is_empty())
    }
}

fn root(host: &Root, path: &Utf8Path) -> Result<Option<MachineRoot>> {
    Ok(match host.target(path)?.map(|entry| entry.kind) {
        Some(Kind::Directory) => Some(MachineRoot::Directory(path.to_owned())),
        Some(Kind::File) if path.as_str().ends_with(".raw") => Some(MachineRoot::Image(path.to_owned())),
        Some(Kind::BlockDevice) => Some(MachineRoot::Image(path.to_owned())),
        _ => None,
    })
}

fn settings(host: &Root, name: &str, root: &Utf8Path) -> Result<Option<SettingsFile>> {
    let beside = root.parent().map(|parent| (parent, false));
    let places = SETTINGS.map(|place| (Utf8Path::new(place), true)).into_iter().chain(beside);
    for (directory, trusted) in places {
        let path = directory.join(settings_name(name));
        if let Some(text) = host.read(&path, MAX_SETTINGS)? {
            return Ok(Some(SettingsFile { path, text, trusted }));
        }
    }
    Ok(None)
}

/// The name of a machine's settings files.
pub(super) fn settings_name(name: &str) -> String {
    format!("{name}.nspawn")
}

fn is_yes(value: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
