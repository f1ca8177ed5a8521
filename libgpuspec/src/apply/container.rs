//! Where the container's tree lies: the runtime's state, and the bundle's config.json where it says nothing.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::Root;
use crate::error::{Error, Result, chain};

/// Most bytes of a state that are read (runtimes write some hundred).
pub const MAX_STATE: u64 = 64 << 10;
/// Largest config.json read; the largest seen has 0.2 MiB.
const MAX_CONFIG: u64 = 8 << 20;

/// What a runtime tells its hooks on standard input, as far as it is asked here (OCI runtime-spec, State).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct State {
    /// The bundle's directory, absolute.
    pub bundle: Utf8PathBuf,
    /// crun's addition: the root's path as config.json has it.
    pub root: Option<Utf8PathBuf>,
}

/// The two fields of config.json that are read; all others are skipped unparsed.
#[derive(Debug, Deserialize)]
struct Config {
    root: ConfigRoot,
}

#[derive(Debug, Deserialize)]
struct ConfigRoot {
    path: Utf8PathBuf,
}

impl State {
    /// Reads a state; one whose bundle is no absolute path is unusable.
    pub fn parse(bytes: &[u8]) -> Result<State> {
        if bytes.len() as u64 > MAX_STATE {
            return Err(Error::Container(format!("its state has more than {MAX_STATE} bytes")));
        }
        let state: State = serde_json::from_slice(bytes)
            .map_err(|error| Error::Container(format!("its state is unusable: {error}")))?;
        if !state.bundle.as_str().starts_with('/') {
            return Err(Error::Container(format!(
                "its state names the bundle `{}`: not absolute",
                state.bundle
            )));
        }
        Ok(state)
    }

    /// The path of the container's tree on this machine.
    pub fn root(&self) -> Result<Utf8PathBuf> {
        match &self.root {
            Some(root) if !root.as_str().is_empty() => Ok(self.bundle.join(root)),
            _ => Ok(self.bundle.join(configured_root(&self.bundle)?)),
        }
    }
}

fn configured_root(bundle: &Utf8Path) -> Result<Utf8PathBuf> {
    let name = Utf8Path::new("config.json");
    let bytes = Root::open(bundle)?.read(name, MAX_CONFIG)?;
    let bytes = bytes.ok_or_else(|| Error::Container(format!("no {name} in its bundle {bundle}")))?;
    let unusable = |reason: String| Error::Format { path: bundle.join(name), reason };
    let config: Config = serde_json::from_slice(&bytes).map_err(|error| unusable(chain(&error)))?;
    match config.root.path.as_str() {
        "" => Err(unusable("its root.path is empty".to_owned())),
        _ => Ok(config.root.path),
    }
}

/// Opens the container's tree; the machine's own root directory is never one.
pub fn open(path: &Utf8Path) -> Result<Root> {
    let root = Root::open(path)?;
    match root.is_machine_root()? {
        false => Ok(root),
        true => Err(Error::Container(format!("its root {path} is this machine's own"))),
    }
}
