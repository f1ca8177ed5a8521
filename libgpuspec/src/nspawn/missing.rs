//! What a spec names and this host does not have, told with what helps.

use std::collections::BTreeSet;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};

use super::Sources;
use crate::cdi::{ContainerEdits, DeviceNode};
use crate::root::is_run_time;

/// What helps where a node is missing.
pub(super) const OF_NODES: &str =
    "load its driver's module, or make the spec anew if the device is gone (cdi-gen generate --install)";
/// What helps where a file is.
const OF_FILES: &str = "make the spec anew (cdi-gen generate --install)";

/// Paths of this host at which nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
pub struct Missing {
    /// Of files, directories and sockets.
    pub files: BTreeSet<Utf8PathBuf>,
    /// Of device nodes.
    pub nodes: BTreeSet<Utf8PathBuf>,
}

impl Missing {
    /// What is missing, and what helps, each with its paths.
    pub fn told(&self) -> Vec<(String, &'static str)> {
        let all = [(&self.files, OF_FILES), (&self.nodes, OF_NODES)];
        let some = all.into_iter().filter(|(paths, _)| !paths.is_empty());
        some.map(|(paths, remedy)| {
            let paths: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
            (format!("{}: in the spec, and not on this host", paths.join(", ")), remedy)
        })
        .collect()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told: Vec<String> =
            self.told().iter().map(|(what, remedy)| format!("{what}: {remedy}")).collect();
        formatter.write_str(&told.join("; "))
    }
}

/// An error if something is missing, but for what comes and goes with a service, and what is not trusted: both are left out.
pub fn all_there(edits: &ContainerEdits, sources: &Sources) -> Result<(), Missing> {
    let files = edits.mounts.iter().filter(|mount| !mount.comes_and_goes());
    let files = files.map(|mount| Utf8Path::new(&mount.host_path));
    let files =
        files.filter(|path| !sources.files.contains_key(*path) && !sources.distrusted.contains(*path));
    let nodes = edits.device_nodes.iter().map(DeviceNode::source);
    let nodes = nodes.filter(|path| !sources.nodes.contains_key(*path));
    let missing = Missing {
        files: files.map(Utf8Path::to_owned).collect(),
        nodes: nodes.filter(|path| !is_run_time(path)).map(Utf8Path::to_owned).collect(),
    };
    if missing == Missing::default() { Ok(()) } else { Err(missing) }
}
