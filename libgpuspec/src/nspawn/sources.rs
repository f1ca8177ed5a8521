//! What this machine has of what a spec names: each file's kind and needs, each node's mode and group.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use serde_json::Value;

use super::groups;
use crate::apply::{Libraries, OptionalMount, Request};
use crate::cdi::{ContainerEdits, Mount};
use crate::elf::{self, Version};
use crate::ldcache::Abi;
use crate::root::{Entry, Kind};
use crate::{Error, Notice, Root, apply};

/// Larger than any such manifest; the largest seen has 700 bytes.
const MAX_MANIFEST: u64 = 64 << 10;

/// What was found, by path on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// What mounts name.
    pub files: BTreeMap<Utf8PathBuf, Source>,
    /// What optional mounts name and is there.
    pub optional: BTreeSet<OptionalMount>,
    /// What mounts name and another user could have chosen: it is left out.
    pub distrusted: BTreeSet<Utf8PathBuf>,
    /// The libraries of the folders that hooks name in mounted directories, by the folders' paths in a container.
    pub libraries: Vec<Libraries>,
    /// The newest glibc version that each library in a mounted directory needs, by its path in a container.
    pub glibc_floors: BTreeMap<Utf8PathBuf, Version>,
    /// The device nodes.
    pub nodes: BTreeMap<Utf8PathBuf, HostNode>,
    /// The driver's parameters with the leave to make nodes taken back, where it gives one.
    pub params: Option<String>,
}

/// What a mount would show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An object that a loader loads: a library, a plugin, a program.
    Object(Object),
    /// A text that names libraries by absolute paths.
    Manifest {
        /// All of it.
        text: String,
        /// The paths.
        libraries: Vec<Utf8PathBuf>,
    },
    /// Any other regular file.
    File,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
}

/// What an ELF file asks of the machine it is loaded in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Which programs can load it, or what sort of program it is.
    pub abi: Option<Abi>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// Whether it is a program.
    pub program: bool,
    /// The newest glibc version it needs.
    pub glibc_floor: Option<Version>,
    /// DT_NEEDED.
    pub needed: Vec<String>,
}

/// A device node of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNode {
    /// What it is.
    pub entry: Entry,
    /// The name of its group, by this machine's /etc/group.
    pub group: Option<String>,
}

impl Sources {
    /// Looks at what the edits and the meaning of their hooks name on `host`; what is missing there is missing here, what cannot be read is told.
    pub fn read(host: &Root, edits: &ContainerEdits, requests: &[Request]) -> (Sources, Vec<Notice>) {
        let mut notices = Vec::new();
        let mut sources = Sources::default();
        for mount in &edits.mounts {
            match source(host, Utf8Path::new(&mount.host_path)) {
                Ok(found) => {
                    sources.files.extend(found.map(|source| (mount.host_path.as_str().into(), source)));
                }
                Err(error) => {
                    if matches!(error, Error::Format { .. }) {
                        sources.distrusted.insert(mount.host_path.as_str().into());
                    }
                    notices.push(error.into());
                }
            }
        }
        for mount in requests.iter().flat_map(|request| &request.optional_mounts) {
            match mount.find(host) {
                Ok(found) => sources.optional.extend(found.map(|_| mount.clone())),
                Err(error) => notices.push(error.into()),
            }
        }
        for folder in requests.iter().flat_map(|request| &request.folders) {
            match libraries(host, edits, folder) {
                Ok(found) => sources.libraries.extend(found),
                Err(error) => notices.push(error.into()),
            }
        }
        let named = requests.iter().flat_map(|request| &request.libraries);
        sources.glibc_floors =
            named.chain(&sources.libraries).flat_map(|one| glibc_floors(host, edits, one)).collect();
        let groups = groups::read(host).unwrap_or_else(|error| {
            notices.push(error.into());
            BTreeMap::new()
        });
        for node in &edits.device_nodes {
            let path = node.source();
            match host.entry(path) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    let group = groups.iter().find(|(_, number)| **number == entry.gid);
                    let group = group.map(|(name, _)| name.clone());
                    sources.nodes.insert(path.to_owned(), HostNode { entry, group });
                }
                Err(error) => notices.push(error.into()),
            }
        }
        match apply::device_files_hidden(host) {
            Ok(params) => sources.params = params,
            Err(error) => notices.push(error.into()),
        }
        (sources, notices)
    }
}

fn source(host: &Root, path: &Utf8Path) -> crate::Result<Option<Source>> {
    let Some(found) = host.find_trusted(path)? else { return Ok(None) };
    Ok(match found.entry.kind {
        Kind::Directory => Some(Source::Directory),
        Kind::Socket => Some(Source::Socket),
        Kind::File => Some(match manifest(host, path, &found.entry)? {
            Some(manifest) => manifest,
            None => elf::inspect(&found.open()?).map_or(Source::File, |object| Source::Object(object.into())),
        }),
        Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Unknown => None,
    })
}

/// Where a folder of the container is on this machine, if it lies in a mounted directory.
fn mounted(edits: &ContainerEdits, folder: &Utf8Path) -> Option<Utf8PathBuf> {
    let inside = |mount: &&Mount| folder.starts_with(&mount.container_path);
    let mount = edits.mounts.iter().rev().find(inside)?;
    let below = folder.strip_prefix(&mount.container_path).ok()?;
    Some(Utf8Path::new(&mount.host_path).join(below))
}

/// What the libraries of such a folder need; of one that cannot be read, as of one that is none, nothing is known.
fn glibc_floors(host: &Root, edits: &ContainerEdits, libraries: &Libraries) -> Vec<(Utf8PathBuf, Version)> {
    let Some(folder) = mounted(edits, &libraries.directory) else { return Vec::new() };
    let floor = |name: &String| {
        let file = host.find(&folder.join(name)).ok()??.open().ok()?;
        Some((libraries.directory.join(name), elf::inspect(&file).ok()?.glibc_floor()?))
    };
    libraries.names.iter().filter_map(floor).collect()
}

/// The libraries of a folder of the container that lies in a mounted directory.
fn libraries(host: &Root, edits: &ContainerEdits, folder: &Utf8Path) -> crate::Result<Vec<Libraries>> {
    let Some(place) = mounted(edits, folder) else { return Ok(Vec::new()) };
    let mut found = apply::libraries_of(host, &place)?;
    found.iter_mut().for_each(|one| one.directory = folder.to_owned());
    Ok(found)
}

impl From<elf::Object> for Object {
    fn from(object: elf::Object) -> Object {
        Object {
            abi: Abi::from_elf(object.class.ident(), object.machine),
            program: object.interpreted && object.soname.is_none(),
            glibc_floor: object.glibc_floor(),
            soname: object.soname,
            needed: object.needed,
        }
    }
}

/// The manifests of Vulkan, EGL (JSON) and OpenCL (one line) that name libraries by absolute paths.
fn manifest(host: &Root, path: &Utf8Path, entry: &Entry) -> crate::Result<Option<Source>> {
    if !matches!(path.extension(), Some("json" | "icd")) || entry.size > MAX_MANIFEST {
        return Ok(None);
    }
    let Some(text) = host.read_text(path, MAX_MANIFEST)? else { return Ok(None) };
    let mut libraries = Vec::new();
    match serde_json::from_str::<Value>(&text) {
        Ok(mut manifest) => library_paths(&mut manifest, &mut |path| libraries.push(path.clone())),
        Err(_) => libraries.push(text.trim().to_owned()),
    }
    let mut libraries: Vec<Utf8PathBuf> = libraries
        .into_iter()
        .filter(|name| name.starts_with('/') && !name.contains('\n'))
        .map(Into::into)
        .collect();
    libraries.sort();
    libraries.dedup();
    Ok((!libraries.is_empty()).then_some(Source::Manifest { text, libraries }))
}

/// Looks at each path of a library in a manifest, or changes it.
pub(super) fn library_paths(manifest: &mut Value, look: &mut dyn FnMut(&mut String)) {
    match manifest {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                if let (Value::String(path), "library_path") = (&mut *value, name.as_str()) {
                    look(path);
                }
                library_paths(value, look);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| library_paths(value, look)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
