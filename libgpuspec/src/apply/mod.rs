//! What is done in a container's tree before it starts: links, the loader's cache, its configuration.
//!
//! state → [`container`] → [`Root`] → [`apply`]. Nothing is discovered here, all is asked for by a
//! [`Request`]. No single step is worth a container that does not start: what cannot be done is a
//! [`Notice`], and a second run over the same tree changes nothing.

pub mod container;
mod cuda;
mod ldcache;
mod ldconf;
mod loader;
mod mode;
mod musl;
mod params;
mod profile;
mod request;
mod scan;
mod step;
mod symlinks;
mod version;

use camino::Utf8Path;

use crate::Root;
use crate::error::{Error, Result};
use crate::root::{Directory, Durability, Kind};

pub use cuda::{CudaCompat, DIRECTORY as CUDA_COMPAT_DIRECTORY};
pub use request::{BadRequest, DeviceFiles, Libraries, Link, Profile, Request, directory};
pub use step::{Step, Undone, UnknownStep};

const ETC: &str = "/etc";

/// Does what is asked for in the container's tree; what could not be done comes back in words.
///
/// The mounts come first: whoever calls this may give up his rights between the two halves.
pub fn apply(root: &Root, request: &Request) -> Vec<Undone> {
    let mut undone = mount(root, request);
    undone.extend(edit(root, request));
    undone
}

/// The steps that mount.
pub fn mount(root: &Root, request: &Request) -> Vec<Undone> {
    match request.device_files {
        DeviceFiles::Keep => Vec::new(),
        DeviceFiles::Hide => Step::DeviceFiles.undone(params::hide(root).err()),
    }
}

/// The steps that read and write files of the tree.
pub fn edit(root: &Root, request: &Request) -> Vec<Undone> {
    let mut undone = Step::Links.undone(symlinks::make(root, &request.links));
    undone.extend(Step::DeviceLinks.undone(symlinks::make_for_devices(root, &request.device_links)));
    undone.extend(Step::Modes.undone(mode::set(root, &request.modes)));
    if let Some(compat) = &request.cuda_compat {
        undone.extend(match cuda::choose(root, compat) {
            Ok(notices) => Step::CudaCompat.undone(notices),
            Err(error) => Step::CudaCompat.undone([error]),
        });
    }
    undone.extend(loader::extend(root, request));
    if request.profile == Profile::Write {
        undone.extend(Step::Profile.undone(profile::write(root).err()));
    }
    undone
}

/// The directory at `path` of the tree itself, made where it is missing.
///
/// What a user has mounted there, a directory of the host perhaps, is not ours to write to.
fn own_directory(root: &Root, path: &str) -> Result<Directory> {
    let directory = root.make_directory(Utf8Path::new(path))?;
    match root.is_own_mount(&directory)? {
        true => Ok(directory),
        false => {
            Err(Error::Container(format!("{path}: another mount than the container's root; left alone")))
        }
    }
}

/// Puts a file in place of another, with its mode and owner; a first one is root's, readable by all.
fn replace(directory: &Directory, name: &str, bytes: &[u8]) -> Result<()> {
    let old = directory.entry(name)?.filter(|entry| entry.kind == Kind::File);
    let (mode, owner) = old.map_or((0o644, None), |old| (old.mode & 0o777, Some((old.uid, old.gid))));
    directory.replace_file(name, bytes, mode, owner, Durability::Lazy)
}
