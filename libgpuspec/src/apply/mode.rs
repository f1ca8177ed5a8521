//! Modes of directories that a runtime makes for device nodes, /dev/dri among them.

use camino::Utf8PathBuf;

use super::is_own;
use crate::error::{Error, Result};
use crate::{Notice, Root};

/// Gives directories of the container these modes; what is no directory of its own is left alone.
pub(super) fn set(root: &Root, modes: &[(Utf8PathBuf, u32)]) -> Vec<Notice> {
    let changed = modes.iter().map(|(path, mode)| set_one(root, path, *mode));
    changed.filter_map(|result| result.err().map(Notice::from)).collect()
}

fn set_one(root: &Root, path: &Utf8PathBuf, mode: u32) -> Result<()> {
    let Some(directory) = root.directory(path)? else { return Ok(()) };
    // Any other mount is somebody's volume.
    if !is_own(root, &directory)? {
        return Err(Error::Container(format!("{path}: on a volume; its mode is left alone")));
    }
    directory.set_mode(mode)
}
