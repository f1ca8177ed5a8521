//! Modes of directories that a runtime makes for device nodes, /dev/dri among them.

use camino::Utf8PathBuf;

use crate::error::{Error, Result};
use crate::{Notice, Root};

/// Gives directories of the container these modes; what is no directory of its own is left alone.
pub(super) fn set(root: &Root, modes: &[(Utf8PathBuf, u32)]) -> Vec<Notice> {
    let changed = modes.iter().map(|(path, mode)| set_one(root, path, *mode));
    changed.filter_map(|result| result.err().map(Notice::from)).collect()
}

fn set_one(root: &Root, path: &Utf8PathBuf, mode: u32) -> Result<()> {
    let Some(directory) = root.directory(path)? else { return Ok(()) };
    // A runtime's /dev is a mount, but one of the container's; any other mount is somebody's volume.
    let is_own = root.is_own_mount(&directory)? || is_on_dev(root, &directory)?;
    if !is_own {
        return Err(Error::Container(format!("{path}: on a volume; its mode is left alone")));
    }
    directory.set_mode(mode)
}

fn is_on_dev(root: &Root, directory: &crate::root::Directory) -> Result<bool> {
    let Some(dev) = root.directory("/dev".into())? else { return Ok(false) };
    Ok(dev.is_same_mount(directory)? && !dev.is_machine_dev()?)
}
