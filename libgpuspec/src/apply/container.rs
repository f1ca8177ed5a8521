//! Where the container's tree lies: the runtime's state, and the bundle's config.json where it says nothing.

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;

use crate::Root;
use crate::error::{Error, Result, chain};
use crate::root::Walk;

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

    /// Where the container's tree is on this machine.
    pub fn place(&self) -> Result<Place> {
        let root = match &self.root {
            Some(root) if !root.as_str().is_empty() => root.clone(),
            _ => configured_root(&self.bundle)?,
        };
        // What the runtime itself reports does not depend on who can rename the bundle.
        let bundle = (self.root.is_none() || root.is_relative()).then(|| self.bundle.clone());
        let path = self.bundle.join(&root);
        Ok(Place { bundle, root, path })
    }
}

/// Opens the bundle, as safely as its root is opened.
pub fn bundle(path: &Utf8Path) -> Result<Root> {
    let mut walk = Walk::start()?;
    walk.go(path)?;
    Ok(walk.into_root(path.to_owned()))
}

/// Where a container's tree is, in words; [`Place::open`] makes sure of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    bundle: Option<Utf8PathBuf>,
    root: Utf8PathBuf,
    path: Utf8PathBuf,
}

/// Whether a container's root may be a directory that no runtime has mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlainRoot {
    /// No: all runtimes mount it.
    #[default]
    Refused,
    /// Yes: the caller vouches for the path.
    Allowed,
}

impl Place {
    /// The path on this machine.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Opens the container's tree in the mount namespace of this thread.
    ///
    /// # Errors
    ///
    /// The path leads to this machine's own root, to a directory that is not a mount point, or by a way on which
    /// others than root could have exchanged it for another.
    pub fn open(&self, plain: PlainRoot) -> Result<Root> {
        if plain == PlainRoot::Allowed {
            return open(&self.path);
        }
        let mut walk = Walk::start()?;
        for path in self.bundle.iter().chain([&self.root]) {
            walk.go(path)?;
        }
        let is_mount_point = walk.is_mount_point()?;
        let is_certain = is_mount_point && walk.is_certain()?;
        let root = not_the_machines(walk.into_root(self.path.clone()))?;
        let path = &self.path;
        match (is_mount_point, is_certain) {
            (false, _) => Err(Error::Container(format!("its root {path} is not a mount point"))),
            (true, false) => Err(Error::Container(format!(
                "users other than root can replace its root {path}, and no runtime mounted it on itself"
            ))),
            (true, true) => Ok(root),
        }
    }
}

fn configured_root(path: &Utf8Path) -> Result<Utf8PathBuf> {
    let name = Utf8Path::new("config.json");
    let bytes = bundle(path)?.read(name, MAX_CONFIG)?;
    let bytes = bytes.ok_or_else(|| Error::Container(format!("no {name} in its bundle {path}")))?;
    let unusable = |reason: String| Error::Format { path: path.join(name), reason };
    let config: Config = serde_json::from_slice(&bytes).map_err(|error| unusable(chain(&error)))?;
    match config.root.path.as_str() {
        "" => Err(unusable("its root.path is empty".to_owned())),
        _ => Ok(config.root.path),
    }
}

/// Opens a tree by a path that its caller vouches for; the machine's own root directory is never one.
pub fn open(path: &Utf8Path) -> Result<Root> {
    not_the_machines(Root::open(path)?)
}

fn not_the_machines(root: Root) -> Result<Root> {
    match root.is_machine_root()? {
        false => Ok(root),
        true => Err(Error::Container(format!("its root {} is this machine's own", root.path()))),
    }
}
