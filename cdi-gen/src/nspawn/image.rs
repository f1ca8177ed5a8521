//! What cannot be asked for where a machine's root is a disk image: systemd-nspawn mounts that itself.

use libgpuspec::Notice;
use libgpuspec::nspawn::{LoaderKind, MachineRoot};
use oci_hook::machine::Asked;

/// The same without what has no effect on an image; the error is what cannot be done with one.
///
/// Nothing is laid over directories of an image. systemd-nspawn would take them by their paths, and the kernel would
/// follow the image's links from this host's root.
pub(crate) fn completed(
    root: Option<&MachineRoot>,
    mut asked: Asked,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Asked, &'static str> {
    if !matches!(root, Some(MachineRoot::Image(_))) {
        return Ok(asked);
    }
    match asked.devices.loader.flatten() {
        Some(LoaderKind::Cache) => {
            return Err("--loader cache: nothing is written into a disk image; leave it out");
        }
        Some(LoaderKind::Overlay) => {
            return Err("--loader overlay: no links are laid over libraries in a disk image; leave it out");
        }
        None | Some(LoaderKind::Environment | LoaderKind::Nothing) => {}
    }
    if asked.library_directory.take().is_some() {
        notices.push(Notice(
            "--library-directory: of no effect, since no links are laid over libraries in a disk image"
                .to_owned(),
        ));
    }
    Ok(asked)
}
