//! What is asked for a machine: typed once, kept in the drop-in, and read from there again.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use libgpuspec::nspawn::MachineRoot;
use oci_hook::entry::{device, machine_directory};
use serde::{Deserialize, Serialize};

use super::started::Started;
use crate::specs::absolute;

/// The ways in which a machine's loader finds libraries.
const WAYS: [(&str, &str); 5] = [
    ("auto", "The default"),
    ("cache", "Its /etc/ld.so.cache is extended while it runs"),
    ("overlay", "Links are laid over its directory of libraries, which is read-only meanwhile"),
    ("environment", "LD_LIBRARY_PATH, which neither set-user-ID programs nor logins heed"),
    ("none", "Not at all: the libraries are in /run/gpuspec/lib"),
];

/// Takes one of these ways.
pub(crate) fn ways(names: &[&str]) -> PossibleValuesParser {
    let known = WAYS.iter().filter(|(name, _)| names.contains(name));
    known.map(|(name, help)| PossibleValue::new(*name).help(*help)).collect::<Vec<_>>().into()
}

/// Devices of specs, for a machine whose tree stays as it is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Devices {
    /// A device of a CDI spec; may be given several times
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME", value_parser = device, required = true)]
    pub(crate) devices: Vec<String>,
    /// A spec directory, lowest precedence first; may be given several times
    /// [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "spec-dir", value_name = "DIR")]
    pub(crate) spec_directories: Vec<Utf8PathBuf>,
    /// How the machine's loader finds the libraries [default: overlay, where it has glibc]
    #[arg(long, value_parser = ways(&["auto", "overlay", "environment", "none"]))]
    pub(crate) loader: Option<String>,
    /// Go on without what a spec's hook of this name does, where its meaning is not known here
    #[arg(long = "allow-hook", value_name = "NAME")]
    pub(crate) allowed_hooks: Vec<String>,
}

impl Devices {
    /// The same as of a machine, paths made to mean the same from everywhere.
    pub(crate) fn asked(&self) -> Result<Asked> {
        let Devices { devices, spec_directories, loader, allowed_hooks } = self.clone();
        Asked { devices, spec_directories, loader, allowed_hooks, ..Asked::default() }.absolute()
    }
}

/// Devices, and how a machine shall be given them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// A device of a CDI spec; may be given several times
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME", value_parser = device, required = true)]
    pub(crate) devices: Vec<String>,
    /// A spec directory, lowest precedence first; may be given several times
    /// [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "spec-dir", value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) spec_directories: Vec<Utf8PathBuf>,
    /// How the machine's loader finds the libraries [default: by what its root is]
    #[arg(long, value_parser = ways(&["auto", "cache", "overlay", "environment", "none"]))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loader: Option<String>,
    /// Go on without what a spec's hook of this name does, where its meaning is not known here
    #[arg(long = "allow-hook", value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) allowed_hooks: Vec<String>,
    /// The machine's root directory, where it is not that of its name
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<Utf8PathBuf>,
    /// The machine's disk image, where it is not that of its name
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Utf8PathBuf>,
    /// In a disk image, the directory where its loader looks for libraries, as /usr/lib64
    #[arg(long, value_name = "DIR", value_parser = machine_directory)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) library_directory: Option<Utf8PathBuf>,
    /// Write nothing to the machine's tree, not even while it runs [default: if its root is read-only or volatile]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    /// Whether the machine has a user namespace [default: what its unit and settings say]
    #[arg(long, value_name = "YES|NO", value_parser = ["yes", "no"])]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_namespace: Option<String>,
}

impl Asked {
    /// The same with paths that mean the same from everywhere.
    pub(crate) fn absolute(&self) -> Result<Asked> {
        let one = |path: &Option<Utf8PathBuf>| path.as_deref().map(absolute).transpose();
        Ok(Asked {
            spec_directories: self
                .spec_directories
                .iter()
                .map(|path| absolute(path))
                .collect::<Result<_>>()?,
            directory: one(&self.directory)?,
            image: one(&self.image)?,
            ..self.clone()
        })
    }

    /// The machine's root, if that is said.
    pub(crate) fn root(&self) -> Option<MachineRoot> {
        let directory = self.directory.clone().map(MachineRoot::Directory);
        directory.or_else(|| self.image.clone().map(MachineRoot::Image))
    }

    /// The same with what was asked for before, where nothing else is.
    pub(crate) fn over(self, before: Asked) -> Asked {
        fn or<T>(list: Vec<T>, other: Vec<T>) -> Vec<T> {
            if list.is_empty() { other } else { list }
        }
        let before = match self.root() {
            Some(_) => Asked { directory: None, image: None, library_directory: None, ..before },
            None => before,
        };
        Asked {
            devices: or(self.devices, before.devices),
            spec_directories: or(self.spec_directories, before.spec_directories),
            loader: self.loader.or(before.loader),
            allowed_hooks: or(self.allowed_hooks, before.allowed_hooks),
            directory: self.directory.or(before.directory),
            image: self.image.or(before.image),
            library_directory: self.library_directory.or(before.library_directory),
            read_only: self.read_only || before.read_only,
            user_namespace: self.user_namespace.or(before.user_namespace),
        }
    }

    /// The same with what the machine's unit says, where nothing else is asked for.
    pub(crate) fn with(self, started: &Started) -> Asked {
        let is_named = self.directory.is_some() || self.image.is_some();
        let or = |path: Option<Utf8PathBuf>, other: &Option<Utf8PathBuf>| {
            path.or_else(|| other.clone().filter(|_| !is_named))
        };
        let word = |yes| if yes { "yes" } else { "no" }.to_owned();
        Asked {
            directory: or(self.directory, &started.directory),
            image: or(self.image, &started.image),
            user_namespace: self.user_namespace.or(started.user_namespace.map(word)),
            read_only: self.read_only || started.read_only,
            ..self
        }
    }

    /// As arguments of `nspawn-prepare`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let path = |path: &Option<Utf8PathBuf>| path.iter().map(ToString::to_string).collect::<Vec<_>>();
        let flags = [
            ("device", self.devices.clone()),
            ("spec-dir", self.spec_directories.iter().map(ToString::to_string).collect()),
            ("loader", self.loader.iter().cloned().collect()),
            ("allow-hook", self.allowed_hooks.clone()),
            ("directory", path(&self.directory)),
            ("image", path(&self.image)),
            ("library-directory", path(&self.library_directory)),
            ("user-namespace", self.user_namespace.iter().cloned().collect()),
        ];
        let mut arguments: Vec<String> = flags
            .iter()
            .flat_map(|(flag, values)| values.iter().map(move |value| format!("--{flag}={value}")))
            .collect();
        arguments.extend(self.read_only.then(|| "--read-only".to_owned()));
        arguments
    }
}
