//! Where programs in a disk image look for libraries: found while the host's own systemd-dissect has it mounted.
//!
//! A start does not look into images; this is done once, when somebody waits.

use std::process::Command;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::nspawn::guest;
use libgpuspec::{Notice, Root};
use oci_hook::sandbox;

const PROGRAM: &str = "systemd-dissect";
/// Where images are mounted meanwhile, each in a directory of the process that looks.
const PLACES: &str = "/run/gpuspec/image";

/// The directory, or a notice that says why it is not known and what helps.
pub(crate) fn library_directory(image: &Utf8Path, notices: &mut Vec<Notice>) -> Result<Option<Utf8PathBuf>> {
    match looked(image)? {
        Ok(Some(directory)) => Ok(Some(directory)),
        Ok(None) => {
            notices.push(Notice(format!(
                "{image}: no C library was found in it; name the directory where its loader looks by --library-directory"
            )));
            Ok(None)
        }
        Err(reason) => {
            notices.push(Notice(format!(
                "{image}: {reason}; name the directory where its loader looks by --library-directory"
            )));
            Ok(None)
        }
    }
}

fn looked(image: &Utf8Path) -> Result<std::result::Result<Option<Utf8PathBuf>, String>> {
    let machine = Root::open("/".into())?;
    let name = std::process::id().to_string();
    let places = machine.make_directory(PLACES.into())?;
    // An image can have programs that run as root whoever starts them.
    places.set_mode(0o700)?;
    let place = Utf8Path::new(PLACES).join(&name);
    machine.make_directory(&place)?;
    let found = mount(image, &place).map(|()| {
        let found = inspect(&place);
        let unmounted = dissect(&["--umount", place.as_str()]);
        found.and_then(|found| unmounted.map(|()| found))
    });
    places.remove_empty(&name)?;
    if let Some(above) = machine.directory("/run/gpuspec".into())? {
        above.remove_empty("image")?;
    }
    Ok(found.and_then(|found| found))
}

fn mount(image: &Utf8Path, place: &Utf8Path) -> std::result::Result<(), String> {
    dissect(&["--mount", "--read-only", image.as_str(), place.as_str()])
}

fn dissect(arguments: &[&str]) -> std::result::Result<(), String> {
    let ended =
        Command::new(PROGRAM).args(arguments).output().map_err(|error| format!("{PROGRAM}: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!("{PROGRAM}: {}", said.lines().last().unwrap_or("no word of why it failed")))
}

fn inspect(place: &Utf8Path) -> std::result::Result<Option<Utf8PathBuf>, String> {
    let root = Root::open(place).map_err(|error| libgpuspec::error::chain(&error))?;
    let looked = sandbox::run(root, guest::inspect);
    let (guest, _) = looked.map_err(|lost| format!("looking into it: {lost}"))?;
    Ok(guest.programs.first().map(|programs| programs.directory.clone()))
}
