//! `cdi-gen nspawn bundle`: an OCI bundle that systemd-nspawn takes, with devices.

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::Root;
use libgpuspec::nspawn::{self, MachineRoot, Order, RootKind};
use libgpuspec::render::nspawn::bundle;
use libgpuspec::root::{Durability, Kind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::asked::Given;
use super::resolved;
use super::sandbox::sandbox;
use crate::output::{self, Status};
use crate::specs::absolute;

/// Most bytes of a config; a hundred times the largest seen.
const MAX_CONFIG: u64 = 16 << 20;
const CONFIG: &str = "config.json";
/// The names of states: this, and so many digits of a hash.
const PREFIX: &str = "bundle-";
const DIGITS: usize = 16;
/// Annotations of a config that was made here: where what it names is, and whether its directory was made too.
const STATE: &str = "gpuspec.state";
const MADE_DIRECTORY: &str = "gpuspec.made-directory";

/// Makes a bundle for systemd-nspawn --oci-bundle= out of another, with devices; the other stays as it is.
///
/// The new one has a config.json alone, for the other's root. It holds until the machine's next boot, or until
/// --remove: what it names lies below /run/gpuspec/nspawn/bundle-…. systemd-nspawn reads little of such configs: what is
/// lost is told. Exit status 4 if a device does not resolve, or what is at OUT
/// was not made so: that is left alone.
#[derive(Debug, Args)]
#[command(mut_arg("names", |argument| argument.required(false).required_unless_present("remove")))]
pub(crate) struct Bundle {
    /// The bundle that there is; with --remove the one that was made
    #[arg(value_name = "IN")]
    bundle: Utf8PathBuf,
    /// The directory to be made, or to be written to
    #[arg(value_name = "OUT", required_unless_present = "remove", conflicts_with = "remove")]
    made: Option<Utf8PathBuf>,
    #[command(flatten)]
    given: Given,
    /// Take a bundle back that was made so
    #[arg(long)]
    remove: bool,
}

impl Bundle {
    pub(crate) fn run(&self) -> Result<Status> {
        let host = Root::open("/".into())?;
        match &self.made {
            Some(made) => self.make(&host, &absolute(made)?),
            None => remove(&host, &absolute(&self.bundle)?),
        }
    }

    fn make(&self, host: &Root, made: &Utf8Path) -> Result<Status> {
        let from = absolute(&self.bundle)?;
        let path = from.join(CONFIG);
        let Some(bytes) = host.read(&path, MAX_CONFIG)? else { bail!("{path}: no such file") };
        if host.resolve(&from)? == host.resolve(made)? {
            bail!("{made}: both the bundle that there is and the one to be made");
        }
        let made_directory = match present(host, made)? {
            Present::Nothing => true,
            Present::Empty => false,
            Present::Ours { made_directory } => made_directory,
            Present::Foreign => return Ok(foreign(made)),
        };
        let asked = self.given.asked()?;
        let resolved = match resolved::find(host, &asked)? {
            Ok(resolved) => resolved,
            Err(reasons) => return Ok(resolved::refuse(&reasons)),
        };
        let mut config: Value = serde_json::from_slice(&bytes).with_context(|| path.to_string())?;
        let root = root(host, &from, &mut config)?;
        let notices = bundle::fit(&mut config).with_context(|| path.to_string())?;
        let name = name(made);
        let order = Order {
            root: Some(MachineRoot::Directory(root.clone())),
            root_kind: Some(RootKind::ReadOnly),
            user_namespace: Some(has_user_namespace(&config)),
            ..resolved.order(&asked, &name)
        };
        let preparation = super::prepared(host, &order)?;
        let state = nspawn::state_directory(&name);
        let written = bundle::give(&mut config, &preparation, &state)
            .map_err(anyhow::Error::from)
            .and_then(|()| mark(&mut config, &state, made_directory).with_context(|| path.to_string()))
            .and_then(|()| {
                let text = serde_json::to_string_pretty(&config)? + "\n";
                let directory = host.make_directory(made)?;
                Ok(directory.replace_file(CONFIG, text.as_bytes(), 0o644, None, Durability::Synced)?)
            });
        if let Err(error) = written {
            output::notices(&nspawn::cleanup(host, &name, sandbox)?);
            return Err(error);
        }
        output::notices(&notices);
        output::note(&format!("wrote {made}/{CONFIG}; next: systemd-nspawn --oci-bundle={made}"));
        Ok(Status::Done)
    }
}

/// The root's absolute path, which it gets in the config too: that lies elsewhere from now on.
fn root(host: &Root, bundle: &Utf8Path, config: &mut Value) -> Result<Utf8PathBuf> {
    let Some(path) = config.pointer("/root/path").and_then(Value::as_str) else {
        bail!("{bundle}/{CONFIG}: no root.path in it")
    };
    let path = bundle.join(path);
    let Some(path) = host.resolve(&path)? else { bail!("{path}: no such directory") };
    if let Some(place) = config.pointer_mut("/root/path") {
        *place = json!(path);
    }
    Ok(path)
}

/// Whether a state of this name is a bundle's, and no machine's.
pub(super) fn has_name(state: &str) -> bool {
    let digits = state.strip_prefix(PREFIX);
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn has_user_namespace(config: &Value) -> bool {
    let namespaces = config.pointer("/linux/namespaces").and_then(Value::as_array);
    namespaces
        .is_some_and(|all| all.iter().any(|one| one.get("type").and_then(Value::as_str) == Some("user")))
}

/// The name of a bundle's preparation, by where it is.
fn name(bundle: &Utf8Path) -> String {
    let hash = Sha256::digest(bundle.as_str());
    let digits: String = hash.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{digits}")
}

/// What is where a bundle is to be made.
enum Present {
    Nothing,
    /// A directory with nothing in it.
    Empty,
    Foreign,
    /// Ours, and whether its directory is too.
    Ours {
        made_directory: bool,
    },
}

fn present(host: &Root, made: &Utf8Path) -> Result<Present> {
    let Some(directory) = host.directory(made)? else { return Ok(Present::Nothing) };
    if host.list(made)?.is_some_and(|names| names.is_empty()) {
        return Ok(Present::Empty);
    }
    let is_file = directory.entry(CONFIG)?.is_some_and(|entry| entry.kind == Kind::File);
    let bytes = if is_file { directory.read(CONFIG, MAX_CONFIG)? } else { None };
    let config: Value = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
    let said = |key: &str| config.get("annotations")?.get(key)?.as_str();
    Ok(match said(STATE) == Some(nspawn::state_directory(&name(made)).as_str()) {
        true => Present::Ours { made_directory: said(MADE_DIRECTORY) == Some("yes") },
        false => Present::Foreign,
    })
}

/// The config says whose it is, which systemd-nspawn passes over.
fn mark(config: &mut Value, state: &Utf8Path, made_directory: bool) -> Result<()> {
    let Value::Object(fields) = config else { bail!("no object") };
    let annotations = fields.entry("annotations").or_insert(json!({}));
    let Value::Object(annotations) = annotations else { bail!("annotations: no object") };
    annotations.insert(STATE.to_owned(), json!(state));
    annotations.insert(MADE_DIRECTORY.to_owned(), json!(if made_directory { "yes" } else { "no" }));
    Ok(())
}

fn foreign(made: &Utf8Path) -> Status {
    output::conflict(&format!("{made}: not made by `cdi-gen nspawn bundle`, and so left alone"))
}

fn remove(host: &Root, made: &Utf8Path) -> Result<Status> {
    output::notices(&nspawn::cleanup(host, &name(made), sandbox)?);
    let made_directory = match present(host, made)? {
        Present::Nothing => {
            output::note(&format!("{made}: not there"));
            return Ok(Status::Done);
        }
        Present::Empty | Present::Foreign => return Ok(foreign(made)),
        Present::Ours { made_directory } => made_directory,
    };
    if let Some(directory) = host.directory(made)? {
        directory.remove(CONFIG)?;
    }
    output::note(&format!("removed {made}/{CONFIG}"));
    if made_directory
        && let (Some(above), Some(name)) = (made.parent(), made.file_name())
        && let Some(above) = host.directory(above)?
        && !above.remove_empty(name)?
    {
        output::note(&format!("kept {made}: others have files in it"));
    }
    Ok(Status::Done)
}
