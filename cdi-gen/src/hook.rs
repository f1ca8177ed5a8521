//! Which hook binary a spec or a unit names.

use anyhow::{Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use libgpuspec::{Root, elf};

use crate::trusted::writable_by_others;
use crate::{output, specs};

/// Where packages put the hooks.
const INSTALLED: &str = "/usr/libexec/libgpuspec";

/// The path of the hook `program` that a spec or an entry of hooks.d shall name.
///
/// A hook that the caller names is only warned about; one that was found must be a static binary that
/// nobody but root can replace, since container engines run it as root.
pub(crate) fn path(named: Option<&Utf8Path>, program: &str) -> Result<Utf8PathBuf> {
    path_on(&Root::open(Utf8Path::new("/"))?, named, program)
}

/// The same for a host whose tree this is: a path as that host's own programs name it.
pub(crate) fn path_on(machine: &Root, named: Option<&Utf8Path>, program: &str) -> Result<Utf8PathBuf> {
    if let Some(named) = named {
        let path = specs::absolute(named)?;
        if let Some(fault) = fault(machine, &path)? {
            output::warning(&format!("--hook-path {fault}"));
        }
        return Ok(path);
    }
    let installed = Utf8Path::new(INSTALLED).join(program);
    let path = match machine.target(&installed)? {
        Some(_) => installed.clone(),
        // The program that runs here is on another host.
        None if !machine.is_machine_root()? => installed.clone(),
        None => Utf8PathBuf::try_from(std::env::current_exe()?)?.with_file_name(program),
    };
    match fault(machine, &path)? {
        None => Ok(machine.resolve(&path)?.unwrap_or(path)),
        Some(fault) => bail!(
            "{fault}; engines run the hook as root: install it as {installed}, or name one by --hook-path"
        ),
    }
}

/// What is wrong with a hook at this path, in words.
fn fault(machine: &Root, path: &Utf8Path) -> Result<Option<String>> {
    let Some(real) = machine.resolve(path)? else { return Ok(Some(format!("{path}: no such file"))) };
    let Some(found) = machine.find(&real)? else { return Ok(Some(format!("{path}: no such file"))) };
    let opened = match found.open() {
        Ok(opened) => opened,
        Err(error) => return Ok(Some(error.to_string())),
    };
    match elf::inspect(&opened) {
        Ok(object) if object.interpreted || !object.needed.is_empty() => {
            return Ok(Some(format!("{path}: not a static binary")));
        }
        Ok(_) => {}
        Err(error) => return Ok(Some(format!("{path}: {error}"))),
    }
    if found.entry.mode & 0o111 == 0 {
        return Ok(Some(format!("{path}: not executable")));
    }
    writable_by_others(machine, path)
}
