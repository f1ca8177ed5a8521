//! Where programs in a disk image look for libraries: found while the host's own systemd-dissect has it mounted.
//!
//! A start does not look into images; this is done once, when somebody waits. The mount is in a mount namespace of one
//! thread, where nobody else can reach it, and which is gone with this process however that ends.

use std::process::Command;
use std::thread;

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::nspawn::{LoaderKind, MachineRoot, guest};
use libgpuspec::{Notice, Root};
use oci_hook::machine::Asked;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::sandbox::confined;

const PROGRAM: &str = "systemd-dissect";
/// Where images are mounted meanwhile, each in a directory of the process that looks.
const PLACES: &str = "/run/gpuspec/image";

/// The same with the directory where the loader looks, where the machine's root is an image and that matters; or why it
/// cannot be done so.
pub(crate) fn completed(
    host: &Root,
    root: Option<&MachineRoot>,
    mut asked: Asked,
    notices: &mut Vec<Notice>,
) -> Result<std::result::Result<Asked, &'static str>> {
    let Some(MachineRoot::Image(path)) = root else { return Ok(Ok(asked)) };
    match asked.devices.loader.flatten() {
        Some(LoaderKind::Cache) => {
            return Ok(Err("--loader cache: nothing is written into a disk image; leave it out"));
        }
        None | Some(LoaderKind::Overlay) if asked.library_directory.is_none() => {
            asked.library_directory = library_directory(&host.outside(path), notices)?;
        }
        None | Some(LoaderKind::Overlay | LoaderKind::Environment | LoaderKind::Nothing) => {}
    }
    Ok(Ok(asked))
}

/// The directory, or a notice that says why it is not known and what helps.
fn library_directory(image: &Utf8Path, notices: &mut Vec<Notice>) -> Result<Option<Utf8PathBuf>> {
    let reason = match looked(image)? {
        Ok(Some(directory)) => return Ok(Some(directory)),
        Ok(None) => "no C library was found in it".to_owned(),
        Err(reason) => reason,
    };
    notices.push(Notice(format!(
        "{image}: {reason}; name the directory where its loader looks by --library-directory"
    )));
    Ok(None)
}

type Looked = std::result::Result<Option<Utf8PathBuf>, String>;

fn looked(image: &Utf8Path) -> Result<Looked> {
    let machine = Root::open("/".into())?;
    let place = Utf8Path::new(PLACES).join(std::process::id().to_string());
    machine.make_directory(&place)?;
    let (image, at) = (image.to_owned(), place);
    let looking = thread::Builder::new().spawn(move || {
        part().map_err(|errno| format!("mounts of its own: {errno}"))?;
        mount(&image, &at)?;
        inspect(&at)
    })?;
    let found = looking.join().unwrap_or_else(|_| Err("looking into it failed".to_owned()));
    sweep(&machine)?;
    Ok(found)
}

/// From here on what this thread mounts, and programs that it runs, is for them alone.
fn part() -> rustix::io::Result<()> {
    // What makes the call unsafe is to part from other threads' files, which is not asked for.
    #[allow(deprecated)]
    rustix::thread::unshare(UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
}

/// Removes the directories of this process, and of others that were killed.
fn sweep(machine: &Root) -> Result<()> {
    let (Some(places), Some(above)) =
        (machine.directory(PLACES.into())?, machine.directory("/run/gpuspec".into())?)
    else {
        return Ok(());
    };
    for (name, _) in machine.list(PLACES.into())?.unwrap_or_default() {
        let process = Utf8Path::new("/proc").join(&name);
        if name == std::process::id().to_string() || machine.entry(&process)?.is_none() {
            places.remove_empty(&name)?;
        }
    }
    above.remove_empty("image")?;
    Ok(())
}

fn mount(image: &Utf8Path, place: &Utf8Path) -> std::result::Result<(), String> {
    let arguments = ["--mount", "--read-only", image.as_str(), place.as_str()];
    let ended =
        Command::new(PROGRAM).args(arguments).output().map_err(|error| format!("{PROGRAM}: {error}"))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(format!("{PROGRAM}: {}", said.lines().last().unwrap_or("no word of why it failed")))
}

fn inspect(place: &Utf8Path) -> Looked {
    let root = Root::open(place).map_err(|error| libgpuspec::error::chain(&error))?;
    let (guest, _) = confined(root, guest::inspect).map_err(|reason| format!("looking into it: {reason}"))?;
    Ok(guest.programs.first().map(|programs| programs.directory.clone()))
}
