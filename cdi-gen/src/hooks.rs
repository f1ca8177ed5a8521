//! `cdi-gen hooks`: the entry of hooks.d by which an engine runs oci-hook-inject for its containers.
//!
//! The entry is root's, and says who may ask for what; see oci-hooks(5) for its format.

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand, ValueEnum};
use libgpuspec::Root;
use libgpuspec::root::Durability;
use oci_hook::entry::Entry;
use serde_json::{Value, json};

use crate::hook;
use crate::output::{self, Status};
use crate::specs::absolute;

const PROGRAM: &str = "oci-hook-inject";
/// One name in all directories: an entry in /etc hides one of the same name in /usr/share.
const NAME: &str = "gpuspec.json";
/// The largest entry that is read; a hundred times the largest seen.
const MAX_ENTRY: u64 = 64 << 10;
/// Seconds the hook may take; it needs a hundredth of one.
const TIMEOUT: u64 = 10;

/// Writes, removes and shows the entry of hooks.d that gives containers GPUs without CDI of their engine's.
#[derive(Debug, Subcommand)]
pub(crate) enum Hooks {
    /// Writes the entry, in place of an earlier one of ours
    Install(Install),
    /// Removes the entry, if it is ours
    Remove(Place),
    /// Prints the entry that is installed
    Show(Place),
}

/// Which engine, and where its entries lie.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The engine that shall run the hook
    #[arg(long, value_enum, default_value_t = Engine::Podman)]
    engine: Engine,
    /// The directory of entries [default: the one that the engine reads unless told otherwise]
    #[arg(long, value_name = "DIR")]
    hooks_dir: Option<Utf8PathBuf>,
}

/// Engines that read hooks.d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// Stage precreate: the config is edited before the runtime sees it
    Podman,
    /// Stage createRuntime: the container is fitted out once it is created
    CriO,
}

impl Engine {
    /// The engine's stage, and the hook's verb for it.
    fn stage(self) -> (&'static str, &'static str) {
        match self {
            Engine::Podman => ("precreate", "precreate"),
            // It takes an entry of a stage that it does not know, such as precreate, for a broken one.
            Engine::CriO => ("createRuntime", "create-runtime"),
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Engine::Podman => "/etc/containers/oci/hooks.d",
            Engine::CriO => "/usr/share/containers/oci/hooks.d",
        }
    }
}

/// What the entry says.
#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    entry: Entry,
    /// The absolute path of oci-hook-inject that the entry names
    #[arg(long, value_name = "FILE")]
    hook_path: Option<Utf8PathBuf>,
}

impl Hooks {
    pub(crate) fn run(self) -> Result<Status> {
        match self {
            Hooks::Install(install) => install.run(),
            Hooks::Remove(place) => place.remove(),
            Hooks::Show(place) => place.show(),
        }
    }
}

/// What lies at the entry's place.
enum Present {
    Nothing,
    Ours(String),
    Foreign,
}

impl Place {
    fn directory(&self) -> Result<Utf8PathBuf> {
        absolute(self.hooks_dir.as_deref().unwrap_or(Utf8Path::new(self.engine.directory())))
    }

    fn present(&self, machine: &Root) -> Result<Present> {
        let path = self.directory()?.join(NAME);
        // A link that leads nowhere is something too, and not ours.
        let Some(entry) = machine.entry(&path)? else { return Ok(Present::Nothing) };
        if entry.kind != libgpuspec::root::Kind::File {
            return Ok(Present::Foreign);
        }
        let Some(bytes) = machine.read(&path, MAX_ENTRY)? else { return Ok(Present::Nothing) };
        match String::from_utf8(bytes) {
            Ok(text) if is_ours(&text) => Ok(Present::Ours(text)),
            _ => Ok(Present::Foreign),
        }
    }

    fn remove(&self) -> Result<Status> {
        let machine = Root::open("/".into())?;
        let (directory, path) = (self.directory()?, self.directory()?.join(NAME));
        match self.present(&machine)? {
            Present::Nothing => output::note(&format!("{path}: not there")),
            Present::Foreign => return Ok(foreign(&path)),
            Present::Ours(_) => {
                let Some(opened) = machine.directory(&directory)? else {
                    bail!("{directory}: no such directory")
                };
                opened.remove(NAME)?;
                output::note(&format!("removed {path}"));
            }
        }
        Ok(Status::Done)
    }

    fn show(&self) -> Result<Status> {
        let path = self.directory()?.join(NAME);
        match self.present(&Root::open("/".into())?)? {
            Present::Ours(text) => output::text(&text),
            Present::Foreign => Ok(foreign(&path)),
            Present::Nothing => {
                Ok(output::conflict(&format!("{path}: not there; `cdi-gen hooks install` writes it")))
            }
        }
    }
}

fn foreign(path: &Utf8Path) -> Status {
    output::conflict(&format!("{path}: not written by `cdi-gen hooks install`, and so left alone"))
}

/// Whether this program wrote an entry: it runs our hook by its own name.
fn is_ours(text: &str) -> bool {
    let entry: Option<Value> = serde_json::from_str(text).ok();
    entry.is_some_and(|entry| entry.pointer("/hook/args/0").and_then(Value::as_str) == Some(PROGRAM))
}

impl Install {
    fn run(&self) -> Result<Status> {
        let entry = &self.entry;
        let lists = [&entry.devices, &entry.annotations, &entry.environment];
        if lists.iter().all(|list| list.is_empty()) && entry.variables.is_empty() {
            return Ok(output::usage(
                "nothing is allowed: add --device, --allow-annotations, --allow-environment or --environment-variable",
            ));
        }
        if entry.device_cgroup && self.place.engine == Engine::Podman {
            bail!("--device-cgroup: the config that podman's hook edits has the runtime do that");
        }
        let machine = Root::open("/".into())?;
        let directory = self.place.directory()?;
        if let Present::Foreign = self.place.present(&machine)? {
            return Ok(foreign(&directory.join(NAME)));
        }
        let text = self.text()?;
        let opened = machine.make_directory(&directory)?;
        opened.replace_file(NAME, text.as_bytes(), 0o644, None, Durability::Synced)?;
        output::note(&format!("wrote {}", directory.join(NAME)));
        self.warn();
        Ok(Status::Done)
    }

    /// Says what an image may do by this entry: engines merge an image's annotations and variables with the user's.
    fn warn(&self) {
        let (entry, path) = (&self.entry, NAME);
        for (flag, what, is_given) in [
            ("--allow-annotations", "annotations", !entry.annotations.is_empty()),
            ("--allow-environment", "variables", !entry.environment.is_empty()),
            ("--environment-variable", "variables", !entry.variables.is_empty()),
        ] {
            if is_given {
                output::warning(&format!(
                    "{path}: {flag}: images can set {what} too, so every image that is run can request these devices"
                ));
            }
        }
    }

    fn text(&self) -> Result<String> {
        let (stage, verb) = self.place.engine.stage();
        let path = hook::path(self.hook_path.as_deref(), PROGRAM)?;
        let directories = self.entry.spec_directories.iter().map(|path| absolute(path));
        let entry = Entry { spec_directories: directories.collect::<Result<_>>()?, ..self.entry.clone() };
        let args = [vec![PROGRAM.to_owned(), verb.to_owned()], entry.words()].concat();
        let hook = json!({"path": path, "args": args, "env": ["LC_ALL=C"], "timeout": TIMEOUT});
        let entry = json!({"version": "1.0.0", "hook": hook, "when": {"always": true}, "stages": [stage]});
        Ok(serde_json::to_string_pretty(&entry)? + "\n")
    }
}
