//! The steps of the work in a container, and what could not be done of one.

use std::str::FromStr;

use crate::Notice;

/// One thing that a [`Request`](super::Request) can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Mounts of sockets and directories of the host.
    OptionalMounts,
    /// Symbolic links.
    Links,
    /// Symbolic links to devices.
    DeviceLinks,
    /// The loader's cache and configuration.
    Loader,
    /// The choice of CUDA's compatibility libraries.
    CudaCompat,
    /// Hiding the driver's leave to make device nodes.
    DeviceFiles,
    /// The application profile.
    Profile,
    /// Modes of directories.
    Modes,
}

const WORDS: [(Step, &str); 8] = [
    (Step::OptionalMounts, "optional-mounts"),
    (Step::Links, "links"),
    (Step::DeviceLinks, "device-links"),
    (Step::Loader, "loader"),
    (Step::CudaCompat, "cuda-compat"),
    (Step::DeviceFiles, "device-files"),
    (Step::Profile, "profile"),
    (Step::Modes, "modes"),
];

/// What could not be done of a step, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The step it belongs to.
    pub step: Step,
    /// What, and why.
    pub notice: Notice,
}

impl Step {
    /// These as things of this step.
    pub(super) fn undone(self, whats: impl IntoIterator<Item = impl Into<Notice>>) -> Vec<Undone> {
        whats.into_iter().map(|what| Undone { step: self, notice: what.into() }).collect()
    }
}

/// No step has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no step of this name; known are optional-mounts, links, device-links, loader, cuda-compat, device-files, profile, modes"
)]
pub struct UnknownStep;

impl FromStr for Step {
    type Err = UnknownStep;

    fn from_str(text: &str) -> Result<Step, UnknownStep> {
        WORDS.iter().find(|(_, word)| *word == text).map(|(step, _)| *step).ok_or(UnknownStep)
    }
}
