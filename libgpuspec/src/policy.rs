//! What was asked for: the questions to the probe and the wishes to the plan, already understood.

use camino::Utf8PathBuf;

/// How the driver's files are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Directories inside the driver root that are searched for libraries before all others.
    pub library_directories: Vec<Utf8PathBuf>,
    /// The driver version to take, whatever the kernel module's is.
    pub driver_version: Option<String>,
    /// How libraries that nothing names are found.
    pub depth: Depth,
    /// What becomes of a host without a GPU.
    pub gpus: Gpus,
}

/// How libraries that no table and no other library's dynamic section names are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// By version, by directory, by what the known ones need.
    Fast,
    /// Also by the names that stand as text in the libraries' read-only data; reads them whole.
    Deep,
}

/// What becomes of a host without a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpus {
    /// It is an error.
    Required,
    /// A spec with the one device `all` and what nodes there are: image builds, templates.
    Optional,
}

/// What a spec shall hold, and where its parts lie on the machine that uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The driver root as the container engine's host sees it; put before every host path of a file.
    pub driver_root: Utf8PathBuf,
    /// The dev root as the container engine's host sees it; put before every host path of a node.
    pub dev_root: Utf8PathBuf,
    /// The hook's path on that host.
    pub hook: Utf8PathBuf,
    /// Whether parts that only programs of the host use are mounted too.
    pub host_tools: HostTools,
}

/// Whether parts that only programs of the host use are mounted too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostTools {
    /// They are left out.
    Skip,
    /// X server modules, the settings program, nvidia-modprobe … are mounted.
    Mount,
}
