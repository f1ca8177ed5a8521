//! What is asked for a machine, as it was typed here: with paths that mean the same from everywhere.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::nspawn::LoaderKind;
use oci_hook::machine::{Asked, Devices, Way, ways};

use crate::specs;

/// The ways of a machine's loader that leave its tree as it is.
const HARMLESS: [Way; 4] =
    [None, Some(LoaderKind::Overlay), Some(LoaderKind::Environment), Some(LoaderKind::Nothing)];
const LOADER: &str = "How the machine's loader finds the libraries [default: overlay, where it has glibc]";

/// Devices of specs, for a machine whose tree stays as it is.
#[derive(Debug, Clone, Default, Args)]
#[command(mut_arg("loader", |argument| argument.value_parser(ways(&HARMLESS)).help(LOADER)))]
#[group(skip)]
pub(crate) struct Given {
    #[command(flatten)]
    pub(crate) devices: Devices,
}

impl Given {
    pub(crate) fn asked(&self) -> Result<Asked> {
        absolute(Asked { devices: self.devices.clone(), ..Asked::default() })
    }
}

/// The same with paths that mean the same from everywhere.
pub(crate) fn absolute(asked: Asked) -> Result<Asked> {
    let one = |path: Option<Utf8PathBuf>| path.as_deref().map(specs::absolute).transpose();
    let spec_directories = asked.devices.spec_directories.iter().map(|path| specs::absolute(path));
    let spec_directories = spec_directories.collect::<Result<_>>()?;
    Ok(Asked {
        devices: Devices { spec_directories, ..asked.devices },
        directory: one(asked.directory)?,
        image: one(asked.image)?,
        ..asked
    })
}
