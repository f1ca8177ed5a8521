//! GPU drivers in containers: what is there, what a container needs of it, and how it gets it.

pub mod apply;
pub mod cdi;
pub mod elf;
pub mod error;
pub mod host;
pub mod inventory;
pub mod ldcache;
pub mod notice;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod render;
pub mod root;
pub mod vendor;

pub use error::{Error, Result};
pub use notice::Notice;
pub use root::Root;
