//! How a machine shall be given a driver: what its user chose, and what is known of how it will be started.

use std::str::FromStr;

use crate::apply::Request;
use crate::cdi::ContainerEdits;

use super::Sources;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What the specs of the devices say; nodes that are not [filled in](crate::cdi::fill) are looked up in the sources.
    pub edits: &'a ContainerEdits,
    /// What the specs' hooks mean.
    pub requests: &'a [Request],
    /// The names of those hooks whose meaning is not known.
    pub unknown_hooks: &'a [String],
    /// What this machine has of it.
    pub sources: &'a Sources,
}

/// How the machine will be started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// How its loader shall find the libraries; by the root and the C library where nothing is said.
    pub loader: Option<LoaderKind>,
    /// What becomes of its root.
    pub root: RootKind,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// Whether it runs already.
    pub runs: bool,
    /// Names of hooks that may be left out.
    pub allowed_hooks: Vec<String>,
}

/// The ways to make a machine's loader find libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoaderKind {
    /// Its own cache is extended, and restored.
    Cache,
    /// Links are laid over the directories where it looks.
    Overlay,
    /// LD_LIBRARY_PATH.
    Environment,
    /// None.
    Nothing,
}

const WORDS: [(LoaderKind, &str); 4] = [
    (LoaderKind::Cache, "cache"),
    (LoaderKind::Overlay, "overlay"),
    (LoaderKind::Environment, "environment"),
    (LoaderKind::Nothing, "none"),
];

impl LoaderKind {
    /// Its word on command lines.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(kind, _)| *kind == self).map(|(_, word)| *word).unwrap_or_default()
    }
}

/// No way has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no way of this name; known are {}", WORDS.map(|(_, word)| word).join(", "))]
pub struct UnknownLoader;

impl FromStr for LoaderKind {
    type Err = UnknownLoader;

    fn from_str(text: &str) -> Result<LoaderKind, UnknownLoader> {
        WORDS.iter().find(|(_, word)| *word == text).map(|(kind, _)| *kind).ok_or(UnknownLoader)
    }
}

/// What a machine's root is, and what becomes of what is written to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RootKind {
    /// A directory of this machine, writable.
    #[default]
    Directory,
    /// Read-only.
    ReadOnly,
    /// Wholly or partly in memory (`--volatile=`).
    Volatile,
    /// A copy that is thrown away.
    Ephemeral,
    /// A disk image, into which nobody looks before the start.
    Image,
    /// Whatever it is, nothing can be written to it, nor laid over it.
    OutOfReach,
}

/// Why nothing is planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A spec has a hook that cannot be done by its meaning.
    #[error(
        "the spec runs `{0}`, whose meaning is not known here; with --allow-hook {0} the machine starts without what it does"
    )]
    Hook(String),
}
