//! GPU drivers in containers: what is there, what a container needs of it, and how it gets it.

pub mod cdi;
pub mod error;
pub mod ldcache;
pub mod notice;
pub mod root;

pub use error::{Error, Result};
pub use notice::Notice;
pub use root::Root;
