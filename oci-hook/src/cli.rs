//! The command line: what was typed, and what it means.

#![forbid(unsafe_code)]

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};
use libgpuspec::apply::container::PlainRoot;
use libgpuspec::apply::{CudaCompat, DeviceFiles, Libraries, Link, OptionalMount, Profile, Request, Step};

use crate::peer;

const EXIT_STATUS: &str = "Also the verbs of nvidia-cdi-hook: create-symlinks, update-ldcache, enable-cuda-compat, \
    disable-device-node-modification, update-application-profile, chmod, noop.\n\n\
    Exit status: 0 done, with a warning on standard error for what an odd image did not allow; \
    2 usage; 65 the state, 66 the bundle's config.json, 67 the container's root cannot be used; \
    68 a step of --require was not done; 69 no end in time; 70 no sandbox on a kernel that has one";

/// Makes a GPU driver usable inside a container; runtimes run it as a CDI spec tells them.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    hook: Hook,
}

#[derive(Debug, Subcommand)]
enum Hook {
    /// All that a container needs; the OCI state is read from standard input
    CreateContainer(CreateContainer),
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

#[derive(Debug, Args)]
struct CreateContainer {
    /// Mount the socket or directory HOST of the host at CONTAINER, if it is there
    #[arg(long = "optional-mount", value_name = "TYPE:HOST::CONTAINER")]
    optional_mounts: Vec<OptionalMount>,
    /// Make the symbolic link PATH (absolute in the container) with the text TARGET
    #[arg(long = "link", value_name = "TARGET::PATH")]
    links: Vec<Link>,
    /// The same, where what TARGET leads to is there
    #[arg(long = "device-link", value_name = "TARGET::PATH")]
    device_links: Vec<Link>,
    /// Let the loader find these libraries of the container's directory DIR
    #[arg(long, value_name = "ABI:DIR:NAME[:NAME...]")]
    libraries: Vec<Libraries>,
    /// Let the loader find the image's own CUDA compatibility libraries where they are for a driver
    /// older than they are, and newer than VERSION, the host's
    #[arg(long, value_name = "VERSION")]
    cuda_compat: Option<String>,
    /// Hide from programs that the driver lets them make nodes of other GPUs
    #[arg(long)]
    hide_device_files: bool,
    /// Let EGL list those GPUs only whose nodes are there
    #[arg(long)]
    application_profile: bool,
    /// Fail where this step was not done: optional-mounts, links, device-links, loader, cuda-compat, device-files, profile,
    /// modes
    #[arg(long, value_name = "STEP")]
    require: Vec<Step>,
    #[command(flatten)]
    root: RootFlag,
}

/// What is said of the container's root.
#[derive(Debug, Args)]
pub(crate) struct RootFlag {
    /// Accept a root that is not a mount point, or that other users can replace; for trees that no runtime has prepared
    #[arg(long)]
    allow_plain_root: bool,
}

impl RootFlag {
    /// Whether it may be a plain directory.
    pub(crate) fn plain(&self) -> PlainRoot {
        if self.allow_plain_root { PlainRoot::Allowed } else { PlainRoot::Refused }
    }
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Work in a container.
    Apply(Box<Job>),
    /// Nothing.
    Nothing,
    /// Nothing: a hook by a name not known here.
    Unknown(String),
}

/// Work in a container, and where it is told which.
#[derive(Debug)]
pub struct Job {
    /// What to do.
    pub request: Request,
    /// What must not be left undone.
    pub required: Vec<Step>,
    /// A file with the state, absolute; standard input where there is none.
    pub state: Option<String>,
    /// Whether the container's root may be a plain directory.
    pub plain: PlainRoot,
}

/// Reads the command line; a usage error ends the process with status 2.
pub fn parse() -> Command {
    parse_words(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// The same of words that stand elsewhere.
pub(crate) fn parse_words(arguments: impl Iterator<Item = OsString>) -> Result<Command, clap::Error> {
    let words = words(arguments);
    // The peer's parser is built only where it is needed: it costs a quarter of all that create-container does.
    let verb = words.get(1).and_then(|word| word.to_str()).unwrap_or_default();
    if peer::VERBS.contains(&verb) {
        return peer::parse(words);
    }
    Ok(match Cli::try_parse_from(words)?.hook {
        Hook::CreateContainer(typed) => {
            let (required, plain) = (typed.require.clone(), typed.root.plain());
            Command::Apply(Box::new(Job { request: typed.request(), required, state: None, plain }))
        }
        Hook::Unknown(words) => {
            let name = words.first().map(|name| name.to_string_lossy().into_owned());
            Command::Unknown(name.unwrap_or_default())
        }
    })
}

/// The command line without what may stand before the verb: the first word of `nvidia-ctk hook VERB`,
/// and the peer's flags on how much is said.
fn words(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = arguments.collect();
    let before =
        |word: &OsString| ["hook", "--debug", "-d", "--quiet", "-q"].iter().any(|known| word == known);
    let count = words.iter().skip(1).take_while(|word| before(word)).count();
    words.drain(1.min(words.len())..(1 + count).min(words.len()));
    words
}

impl CreateContainer {
    fn request(self) -> Request {
        let cuda_compat = self.cuda_compat.map(|version| CudaCompat {
            host_driver: Some(version),
            host_cuda: None,
            directory: libgpuspec::apply::CUDA_COMPAT_DIRECTORY.into(),
        });
        Request {
            optional_mounts: self.optional_mounts,
            links: self.links,
            device_links: self.device_links,
            libraries: self.libraries,
            cuda_compat,
            device_files: if self.hide_device_files { DeviceFiles::Hide } else { DeviceFiles::Keep },
            profile: if self.application_profile { Profile::Write } else { Profile::Keep },
            ..Request::default()
        }
    }
}
