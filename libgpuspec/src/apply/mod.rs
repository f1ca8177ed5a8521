//! What is done in a container's tree before it starts: links, the loader's cache, its configuration.
//!
//! state → [`container`] → [`Root`] → [`apply`]. Nothing is discovered here, all is asked for by a
//! [`Request`]. No single step is worth a container that does not start: what cannot be done is a
//! [`Notice`](crate::Notice), and a second run over the same tree changes nothing.

pub mod container;
mod cuda;
mod ldcache;
mod ldconf;
mod loader;
mod mode;
mod musl;
mod only;
mod optional;
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
use crate::root::Directory;

pub use cuda::{CudaCompat, DIRECTORY as CUDA_COMPAT_DIRECTORY};
pub(crate) use ldcache::{PATH as LOADER_CACHE, entries as cache_entries};
pub(crate) use ldconf::{
    CONF as LOADER_CONF, LIST_DIRECTORY, including, list_path, list_text, unlisted, without_include,
};
pub use optional::OptionalMount;
pub(crate) use optional::RESTRICTIONS as OPTIONAL_RESTRICTIONS;
pub(crate) use params::{PATH as PARAMS, hidden as device_files_hidden};
pub use request::{BadRequest, DeviceFiles, Libraries, Link, Profile, Request, directory};
pub(crate) use scan::{is_library, libraries_of};
pub use step::{Step, Undone, UnknownStep};

pub(crate) const ETC: &str = "/etc";
const DEV: &str = "/dev";

/// Does what is asked for in the container's tree; what could not be done comes back in words.
///
/// The mounts come first: whoever calls this may give up his rights between the two halves.
pub fn apply(root: &Root, request: &Request) -> Vec<Undone> {
    let mut undone = mount(root, request);
    undone.extend(edit(root, request));
    undone
}

/// The steps that mount, and what is to be known of the tree's mounts for the others.
pub fn mount(root: &Root, request: &Request) -> Vec<Undone> {
    if !(request.device_links.is_empty() && request.modes.is_empty()) {
        // Where it cannot be known, the step that needs it reports why.
        let _ = root.directory(DEV.into()).and_then(|dev| dev.map(|dev| root.is_own_dev(&dev)).transpose());
    }
    let mut undone = Step::OptionalMounts.undone(optional::mount(root, &request.optional_mounts));
    if request.device_files == DeviceFiles::Hide {
        undone.extend(Step::DeviceFiles.undone(params::hide(root).err()));
    }
    undone
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
/// What a user has mounted there, a directory of the host perhaps, is not ours to write to: nor is
/// what lies below it, so that is asked before anything is made.
pub(crate) fn own_directory(root: &Root, path: &str) -> Result<Directory> {
    let path = Utf8Path::new(path);
    if let Some(there) = nearest(root, path)? {
        own(root, path, there)?;
    }
    own(root, path, root.make_directory(path)?)
}

/// The deepest directory of a path that is there.
fn nearest(root: &Root, path: &Utf8Path) -> Result<Option<Directory>> {
    path.ancestors().find_map(|ancestor| root.directory(ancestor).transpose()).transpose()
}

/// Whether what is missing at a path would be made in the tree itself or on its own /dev, not on a user's mount.
pub fn is_own_place(root: &Root, path: &Utf8Path) -> Result<bool> {
    match path.parent().map(|parent| nearest(root, parent)).transpose()?.flatten() {
        Some(directory) => is_own(root, &directory),
        None => Ok(false),
    }
}

/// Whether a directory is the tree's own, or on a /dev that the runtime made; a user's volume is left alone.
fn is_own(root: &Root, directory: &Directory) -> Result<bool> {
    if root.is_own_mount(directory)? {
        return Ok(true);
    }
    let Some(dev) = root.directory(DEV.into())? else { return Ok(false) };
    Ok(dev.is_same_mount(directory)? && root.is_own_dev(&dev)?)
}

fn own(root: &Root, path: &Utf8Path, directory: Directory) -> Result<Directory> {
    if root.is_own_mount(&directory)? {
        return Ok(directory);
    }
    Err(Error::Container(format!("{path}: another mount than the container's root; left alone")))
}

/// The bytes of a regular file of the tree itself, if it is there.
///
/// An image can have a link there, or a volume, that leads to what only the hook may read: what is
/// read here is written back, for all to read.
pub(crate) fn own_file(root: &Root, path: &Utf8Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let Some(directory) = root.directory(parent)? else { return Ok(None) };
    own(root, parent, directory)?.read(name, limit)
}

/// The same as text, bytes that are no UTF-8 replaced.
fn own_text(root: &Root, path: &Utf8Path, limit: u64) -> Result<Option<String>> {
    Ok(own_file(root, path, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts a file in place of another, with its mode, owner and extended attributes; a first one is root's, readable by
/// all.
fn replace(directory: &Directory, name: &str, bytes: &[u8]) -> Result<()> {
    directory.renew_file(name, bytes)
}
