//! From a host's files to an [`Inventory`]: discovery by what files say, nothing executed or loaded.
//!
//! `Root → probe → Inventory`. The version comes first, since it decides which of several drivers
//! on disk is meant; then the libraries that carry it, what those need, the files that go with them,
//! and the GPUs. What is odd is a [`Notice`]; what would make a container's driver incomplete is an
//! error that names the file.

mod closure;
mod directories;
mod engines;
mod files;
mod libraries;
mod version;

use crate::Notice;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::inventory::{Inventory, Node};
use crate::policy::{Gpus, Search};
use crate::vendor::{self, Vendor};

use libraries::Libraries;

pub use engines::engines;

/// Everything of one vendor that is on a host; what was odd on the way is told also where it ends in an error.
///
/// # Errors
///
/// No driver, no GPU (unless [`Gpus::Optional`]), a driver of another version than the loaded
/// module's, or a damaged file of the driver.
pub fn probe(host: &Host, vendor: &Vendor, search: &Search, notices: &mut Vec<Notice>) -> Result<Inventory> {
    let module_version = (vendor.module_version)(host)?;
    let directories = directories::find(&host.driver, vendor, &search.library_directories, notices)?;
    let driver_version =
        version::choose(host, vendor, &directories, module_version.as_deref(), search, notices)?;

    let mut libraries = Libraries::recognised(&host.driver, vendor, &directories, &driver_version);
    // Manifests may lead to further libraries, so the libraries are complete only after them.
    let files = files::find(host, vendor, &driver_version, &mut libraries, notices)?;
    let libraries = closure::close(libraries, search.depth, notices)?;
    let nodes = control_nodes(host, vendor, notices)?;
    let (gpus, odd) = (vendor.gpus)(host)?;
    notices.extend(odd);

    let vendor_name = vendor.name.to_owned();
    let inventory =
        Inventory { vendor: vendor_name, driver_version, module_version, libraries, files, nodes, gpus };
    if inventory.gpus.iter().all(|gpu| gpu.nodes.is_empty()) {
        let error = no_gpu(host, vendor, &inventory);
        match search.gpus {
            Gpus::Required => return Err(error),
            Gpus::Optional => notices.push(error.into()),
        }
    }
    Ok(inventory)
}

fn no_gpu(host: &Host, vendor: &Vendor, inventory: &Inventory) -> Error {
    let list = host.proc.outside(vendor.gpu_directory.into());
    let dev = host.dev.outside("/dev".into());
    let reason = match inventory.gpus.len() {
        0 => format!("{list} lists none"),
        count if inventory.gpus.iter().all(|gpu| gpu.excluded) => {
            format!("{list} lists {count}, all excluded")
        }
        count => format!("{list} lists {count}, but {dev} has no node of any"),
    };
    let remedy = vendor.missing_gpu_remedy;
    Error::NoGpu {
        vendor: vendor.name,
        reason: format!("{reason}; {remedy}, or use --allow-no-gpu for a template"),
    }
}

fn control_nodes(host: &Host, vendor: &Vendor, notices: &mut Vec<Notice>) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for name in vendor.control_nodes {
        let path = camino::Utf8Path::new("/dev").join(name);
        match vendor::node(host, &path)? {
            Some(node) => nodes.push(node),
            None => {
                notices.push(Notice(format!("{}: no such device node; left out", host.dev.outside(&path))))
            }
        }
    }
    Ok(nodes)
}
