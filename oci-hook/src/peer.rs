//! The verbs of nvidia-cdi-hook, so that a link of that name to this program serves specs made for it.

#![forbid(unsafe_code)]

use std::ffi::OsString;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};
use libgpuspec::apply::{
    BadRequest, CUDA_COMPAT_DIRECTORY, CudaCompat, DeviceFiles, Link, Profile, Request, directory,
};

use crate::cli::{self, Command, Job};

/// All that are known here.
pub(crate) const VERBS: [&str; 7] = [
    "create-symlinks",
    "update-ldcache",
    "enable-cuda-compat",
    "disable-device-node-modification",
    "update-application-profile",
    "chmod",
    "noop",
];

/// Edits a container as specs made for nvidia-cdi-hook ask for.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Accepted: what is said is always the same
    #[arg(short, long, global = true, hide = true)]
    debug: bool,
    /// Likewise
    #[arg(short, long, global = true, hide = true)]
    quiet: bool,
    #[command(subcommand)]
    hook: Hook,
}

/// Reads a command line with one of the verbs.
pub(crate) fn parse(words: Vec<OsString>) -> Result<Command, clap::Error> {
    Ok(Cli::try_parse_from(words)?.hook.command())
}

/// One verb a container edit, each with the flags it has there.
#[derive(Debug, Subcommand)]
enum Hook {
    /// Makes symbolic links
    CreateSymlinks {
        /// Make the symbolic link PATH (absolute in the container) with the text TARGET
        #[arg(long = "link", value_name = "TARGET::PATH")]
        links: Vec<Link>,
        #[command(flatten)]
        state: State,
    },
    /// Lets the loader find the libraries of directories
    UpdateLdcache {
        /// A directory of the container
        #[arg(long, value_name = "DIR", value_parser = directory)]
        folder: Vec<Utf8PathBuf>,
        /// Accepted and not used: no ldconfig is run
        #[arg(long, value_name = "PATH")]
        ldconfig_path: Option<String>,
        #[command(flatten)]
        state: State,
    },
    /// Lets the loader find the image's CUDA compatibility libraries where the host's driver is older
    EnableCudaCompat {
        /// The driver of the host
        #[arg(long, value_name = "VERSION", default_value = "")]
        host_driver_version: String,
        /// The CUDA version that it supports
        #[arg(long, value_name = "VERSION", default_value = "")]
        host_cuda_version: String,
        /// Where the image has its libraries
        #[arg(long, value_name = "DIR", default_value = CUDA_COMPAT_DIRECTORY, value_parser = directory)]
        cuda_compat_container_root: Utf8PathBuf,
        #[command(flatten)]
        state: State,
    },
    /// Hides from programs that the driver lets them make nodes of other GPUs
    DisableDeviceNodeModification {
        #[command(flatten)]
        state: State,
    },
    /// Lets EGL list those GPUs only whose nodes are there
    UpdateApplicationProfile {
        #[command(flatten)]
        state: State,
    },
    /// Gives directories a mode
    Chmod {
        /// A directory of the container
        #[arg(long, value_name = "DIR", value_parser = directory)]
        path: Vec<Utf8PathBuf>,
        /// The mode, octal
        #[arg(long, default_value = "755", value_parser = octal)]
        mode: u32,
        #[command(flatten)]
        state: State,
    },
    /// Does nothing
    Noop {
        #[command(flatten)]
        state: State,
    },
}

#[derive(Debug, Args)]
struct State {
    /// A file with the container's state, absolute; `-` and none are standard input
    #[arg(long, value_name = "FILE", default_value = "")]
    container_spec: String,
    #[command(flatten)]
    root: cli::RootFlag,
}

impl Hook {
    /// What the verb means.
    fn command(self) -> Command {
        let (request, state) = match self {
            Hook::CreateSymlinks { links, state } => (links_request(links), state),
            Hook::UpdateLdcache { folder, ldconfig_path: _, state } => {
                (Request { folders: folder, ..Request::default() }, state)
            }
            Hook::EnableCudaCompat {
                host_driver_version,
                host_cuda_version,
                cuda_compat_container_root,
                state,
            } => {
                let given = |version: String| Some(version).filter(|version| !version.is_empty());
                let compat = CudaCompat {
                    host_driver: given(host_driver_version),
                    host_cuda: given(host_cuda_version),
                    directory: cuda_compat_container_root,
                };
                (Request { cuda_compat: Some(compat), ..Request::default() }, state)
            }
            Hook::DisableDeviceNodeModification { state } => {
                (Request { device_files: DeviceFiles::Hide, ..Request::default() }, state)
            }
            Hook::UpdateApplicationProfile { state } => {
                (Request { profile: Profile::Write, ..Request::default() }, state)
            }
            Hook::Chmod { path, mode, state } => {
                let modes = path.into_iter().map(|path| (path, mode)).collect();
                (Request { modes, ..Request::default() }, state)
            }
            Hook::Noop { state: _ } => return Command::Nothing,
        };
        let (file, plain) = (state.container_spec, state.root.plain());
        let state = (!matches!(file.as_str(), "" | "-")).then_some(file);
        Command::Apply(Box::new(Job { request, required: Vec::new(), state, plain }))
    }
}

/// Links below /dev lead to device nodes, and there lies the runtime's own file system.
fn links_request(links: Vec<Link>) -> Request {
    let (device_links, links) = links.into_iter().partition(|link| link.directory.starts_with("/dev/"));
    Request { links, device_links, ..Request::default() }
}

fn octal(text: &str) -> Result<u32, BadRequest> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or(BadRequest::Mode)
}
