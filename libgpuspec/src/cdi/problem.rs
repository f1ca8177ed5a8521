//! What can be wrong with a spec document, each sort as a value, in words for a newcomer.

use std::fmt;

use super::annotations::AnnotationError;
use super::name::PartError;
use super::place::{At, DocumentPath, Position};
use super::version::{UnknownVersion, Version};

/// One thing wrong with a spec, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Violation {
    /// Where inside the document.
    pub path: DocumentPath,
    /// Where in the text, if it came from one.
    pub position: Option<Position>,
    /// What is wrong.
    #[source]
    pub problem: Problem,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(formatter, "{position}: ")?;
        }
        if !self.path.0.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        write!(formatter, "{}", self.problem)
    }
}

/// Most mistakes listed of one document: a person reads no more, and the list is compared with itself.
pub(crate) const MAX_VIOLATIONS: usize = 100;

/// Mistakes in the order in which they are found, at most [`MAX_VIOLATIONS`] and a last one that says so.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    /// Adds a mistake; its path is made only where it is listed.
    pub(crate) fn note(&mut self, at: &At<'_>, position: Option<Position>, problem: Problem) {
        match self.0.len() {
            ..MAX_VIOLATIONS => self.0.push(Violation { path: at.path(), position, problem }),
            MAX_VIOLATIONS => {
                let path = DocumentPath::default();
                self.0.push(Violation { path, position: None, problem: Problem::TooMany(MAX_VIOLATIONS) });
            }
            _ => {}
        }
    }

    /// Whether there are more than are listed.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() > MAX_VIOLATIONS
    }

    /// The list.
    pub(crate) fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is neither YAML nor JSON.
    #[error("not readable as YAML: {0}")]
    Syntax(String),
    /// The text holds nothing but space and comments.
    #[error("no spec in it: the document is empty")]
    NoSpec,
    /// The document is beyond what any honest spec needs.
    #[error("more than {limit} {what}, which no spec needs")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
    /// The document has more mistakes than are listed.
    #[error("more than {0} mistakes; the others are not listed")]
    TooMany(usize),
    /// No such field is known at this place.
    #[error("unknown field {name:?}{hint}")]
    UnknownField {
        /// Its name, as written.
        name: String,
        /// What it might have meant, or where it went; may be empty.
        hint: String,
    },
    /// The same key stands twice in one mapping.
    #[error("the key {0:?} stands here twice")]
    DuplicateKey(String),
    /// A value is of another type than its field.
    #[error("{found} where {expected} is wanted")]
    Type {
        /// What the field holds.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A list entry is null: most readers crash on it.
    #[error("a null list entry; remove it, many readers crash on one")]
    NullEntry,
    /// The version is unknown.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// The content needs a later version than the document declares.
    #[error("needs version {needed} at least, but the spec declares {declared}")]
    VersionTooLow {
        /// What the spec says.
        declared: Version,
        /// What this place demands.
        needed: Version,
    },
    /// The kind is not `vendor/class`.
    #[error("the kind {0:?} is not of the form vendor/class")]
    Kind(String),
    /// The vendor in the kind is not a name.
    #[error("the vendor {0:?} {1}")]
    Vendor(String, PartError),
    /// The class in the kind is not a name.
    #[error("the class {0:?} {1}")]
    Class(String, PartError),
    /// The device's name is not one.
    #[error("the device name {0:?} {1}")]
    DeviceName(String, PartError),
    /// One letter is a valid vendor or class, and crashes most readers.
    #[error("{0:?} has one letter, which most readers crash on; use a longer one")]
    OneLetter(String),
    /// Two devices of the file have one name.
    #[error("a device named {0:?} stands in this file already")]
    DuplicateDevice(String),
    /// The file defines no device.
    #[error("no devices; a spec has at least one")]
    NoDevices,
    /// A device does nothing.
    #[error("no edits; a device has at least one")]
    NoEdits,
    /// A field that must be there is missing or empty.
    #[error("is missing or empty")]
    Missing,
    /// An environment entry has no name.
    #[error("{0:?} is not of the form NAME=VALUE")]
    Env(String),
    /// A device node's type is none.
    #[error("{0:?} is no type of device node; b, c, u or p is")]
    NodeType(String),
    /// Cgroup permissions are none.
    #[error("{0:?} are no permissions; a mix of r, w and m is, or none")]
    Permissions(String),
    /// No such hook exists.
    #[error("{0:?} is no hook; {names} are", names = HOOK_NAMES.join(", "))]
    HookName(String),
    /// A class of service is not a directory's name.
    #[error("{0:?} cannot name a class of service")]
    ClosId(String),
    /// Two network devices of one set of edits have one name.
    #[error("{0:?} is named twice")]
    DuplicateNetDevice(String),
    /// Annotations break the rules of Kubernetes.
    #[error("{0}")]
    Annotations(Box<AnnotationError>),
}

/// The hooks of the OCI runtime specification.
pub const HOOK_NAMES: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A spec could not be written as text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("writing the spec as text: {0}")]
pub struct SerializeError(pub String);
