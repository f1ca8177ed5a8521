//! The Container Device Interface: its documents as values, their rules, their text.

mod annotations;
mod compare;
mod consumer;
#[cfg(feature = "yaml")]
mod decode;
mod downlevel;
#[cfg(feature = "yaml")]
mod explain;
mod fill;
pub mod json;
mod name;
mod place;
mod problem;
#[cfg(feature = "yaml")]
mod read;
#[cfg(feature = "yaml")]
mod registry;
#[cfg(feature = "yaml")]
mod scalar;
mod sources;
mod spec;
#[cfg(feature = "yaml")]
mod tree;
mod validate;
mod version;
#[cfg(feature = "yaml")]
mod write;
#[cfg(feature = "yaml")]
pub mod yaml;

pub use annotations::{AnnotationError, REQUEST_PREFIX, add_request, request_key, request_value, requested};
pub use compare::{Difference, compare};
pub use consumer::{Consumer, ConsumerError, readers_since};
pub use downlevel::{Indispensable, Loss, Reader, downlevel};
#[cfg(feature = "yaml")]
pub use explain::{Closed, Explanation, HostProblem, Versions, explain, versions};
pub use fill::{NodeError, fill};
pub use name::{NameError, PartError, QualifiedName, check_device, check_vendor_or_class};
pub use place::{DocumentPath, Position, Step};
pub use problem::{HOOK_NAMES, Problem, SerializeError, Violation};
#[cfg(feature = "yaml")]
pub use read::{MAX_BYTES, read, read_any_version};
#[cfg(feature = "yaml")]
pub use registry::{
    Contested, DEFAULT_DIRECTORIES, DirectoryError, FileError, Found, Listing, Registry, SpecFile, Unresolved,
};
pub use sources::{SourceProblem, drop_absent_mounts, source_problem};
pub use spec::{ContainerEdits, Device, DeviceNode, Hook, IntelRdt, Mount, NetDevice, Spec};
pub use validate::{validate, validate_to_write};
pub use version::{UnknownVersion, Version, minimum_version};
#[cfg(feature = "yaml")]
pub use write::{Existing, WriteError, remove, spec_name, transient_spec_name, write};
