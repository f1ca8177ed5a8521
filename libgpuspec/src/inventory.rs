//! What is there: the driver's files, the GPUs and their nodes, as facts without decisions.
//!
//! Probing makes an [`Inventory`], planning reads it. Every path is absolute *inside* the root it
//! was found in (libraries and files: the driver root; nodes: the dev root). Lists are ordered, so
//! the same host gives the same inventory and the same [fingerprint](Inventory::fingerprint).

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::elf::Version;
use crate::ldcache::Abi;

/// What a part of a driver is for; the words of `NVIDIA_DRIVER_CAPABILITIES`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// CUDA, OpenCL.
    Compute,
    /// Management: nvidia-smi, NVML.
    Utility,
    /// Encoding, decoding, optical flow.
    Video,
    /// OpenGL, Vulkan, EGL, ray tracing.
    Graphics,
    /// X server and outputs.
    Display,
    /// DLSS and its kin.
    Ngx,
}

impl Capability {
    /// All of them.
    pub const ALL: [Capability; 6] = [
        Capability::Compute,
        Capability::Utility,
        Capability::Video,
        Capability::Graphics,
        Capability::Display,
        Capability::Ngx,
    ];

    /// The word that `NVIDIA_DRIVER_CAPABILITIES` has for it.
    pub fn word(self) -> &'static str {
        match self {
            Capability::Compute => "compute",
            Capability::Utility => "utility",
            Capability::Video => "video",
            Capability::Graphics => "graphics",
            Capability::Display => "display",
            Capability::Ngx => "ngx",
        }
    }
}

/// A host's driver and GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// The vendor's name.
    pub vendor: String,
    /// The version of the driver's files.
    pub driver_version: String,
    /// The version of the loaded kernel module, where one is loaded.
    pub module_version: Option<String>,
    /// Shared objects, by soname.
    pub libraries: Vec<Library>,
    /// Everything else of the driver's, by destination.
    pub files: Vec<DriverFile>,
    /// Nodes that every user of the driver opens.
    pub nodes: Vec<Node>,
    /// GPUs, by PCI address.
    pub gpus: Vec<Gpu>,
}

/// Why a file counts as the driver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The vendor's table names it.
    Known,
    /// Its file name carries the driver's version.
    Version,
    /// It lies in a directory that holds only the driver's libraries.
    Directory,
    /// A library of the driver needs it (DT_NEEDED).
    Needed,
    /// A manifest of the driver names it (`library_path`).
    Manifest,
    /// A library of the driver mentions its name as text, and so may dlopen it.
    Mentioned,
}

/// A shared object of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Library {
    /// The real file, all links followed.
    pub path: Utf8PathBuf,
    /// DT_SONAME, or the file's name where it has none.
    pub soname: String,
    /// Its other names in the directories of libraries.
    pub names: BTreeSet<String>,
    /// Which programs can load it.
    pub abi: Abi,
    /// Where a loader of this machine looks by default, in the driver root's own layout.
    pub directory: Utf8PathBuf,
    /// In bytes.
    pub size: u64,
    /// The GNU build-id, in hexadecimal.
    pub build_id: Option<String>,
    /// The newest glibc version it asks for, e.g. `2.34`.
    pub glibc_floor: Option<Version>,
    /// DT_NEEDED.
    pub needed: Vec<String>,
    /// DT_RUNPATH, for readers: nothing is looked for there.
    pub runpath: Vec<String>,
    /// What it serves.
    pub capabilities: BTreeSet<Capability>,
    /// Whether only programs of the host itself have a use for it (X server modules …).
    pub host_tool: bool,
    /// Why it counts as the driver's.
    pub reason: Reason,
}

/// What sort of file it is, which decides how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A program.
    Program,
    /// Firmware that the driver loads onto the GPU.
    Firmware,
    /// Anything a library opens to read.
    Data,
}

/// A file of the driver that is no library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriverFile {
    /// The real file, all links followed.
    pub path: Utf8PathBuf,
    /// Where its consumer opens it.
    pub destination: Utf8PathBuf,
    /// What sort of file it is.
    pub kind: FileKind,
    /// In bytes.
    pub size: u64,
    /// The GNU build-id, in hexadecimal, of a program.
    pub build_id: Option<String>,
    /// What it serves.
    pub capabilities: BTreeSet<Capability>,
    /// Whether only programs of the host itself have a use for it.
    pub host_tool: bool,
    /// The library that a manifest names by an absolute path.
    pub names: Option<NamedLibrary>,
}

/// A library that a manifest names by an absolute path, which must lead to it in a container too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedLibrary {
    /// The path in the manifest.
    pub path: Utf8PathBuf,
    /// The [path](Library::path) of the library that it leads to.
    pub library: Utf8PathBuf,
}

/// A character device node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Node {
    /// Where it is, e.g. `/dev/nvidia0`.
    pub path: Utf8PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A symbolic link among device nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeLink {
    /// The link, e.g. `/dev/dri/by-path/pci-0000:01:00.0-card`.
    pub path: Utf8PathBuf,
    /// Its text, e.g. `../card0`.
    pub target: Utf8PathBuf,
}

/// One GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// Rank by PCI address among all GPUs of the vendor, excluded ones too.
    pub index: usize,
    /// `dddd:bb:ss.f`.
    pub pci_address: String,
    /// As the driver tells it, once the GPU has been initialised.
    pub uuid: Option<String>,
    /// The product's name.
    pub model: Option<String>,
    /// The N of `/dev/nvidiaN`.
    pub device_minor: Option<u32>,
    /// Whether the driver was told to leave it alone.
    pub excluded: bool,
    /// Its own nodes.
    pub nodes: Vec<Node>,
    /// Links to its nodes.
    pub links: Vec<NodeLink>,
}

/// What the fingerprint is taken of: what a container can notice, and no word about how it was found.
#[derive(Serialize)]
struct Fingerprint<'a> {
    driver_version: &'a str,
    /// Path, size, build-id, soname.
    libraries: Vec<(&'a Utf8PathBuf, u64, &'a Option<String>, &'a str)>,
    /// Path, size, build-id.
    files: Vec<(&'a Utf8PathBuf, u64, &'a Option<String>)>,
    nodes: Vec<&'a Node>,
}

impl Inventory {
    /// SHA-256, in hexadecimal, of what a container can notice of the host, as JSON without white space:
    /// path, size, build-id and soname of each file, node numbers, the driver version; no time, no inode.
    ///
    /// # Errors
    ///
    /// None in practice: the fields all have a place in JSON.
    pub fn fingerprint(&self) -> serde_json::Result<String> {
        let of_gpus = self.gpus.iter().flat_map(|gpu| &gpu.nodes);
        let noticed = Fingerprint {
            driver_version: &self.driver_version,
            libraries: self
                .libraries
                .iter()
                .map(|one| (&one.path, one.size, &one.build_id, one.soname.as_str()))
                .collect(),
            files: self.files.iter().map(|one| (&one.path, one.size, &one.build_id)).collect(),
            nodes: self.nodes.iter().chain(of_gpus).collect(),
        };
        let digest = Sha256::digest(serde_json::to_vec(&noticed)?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
