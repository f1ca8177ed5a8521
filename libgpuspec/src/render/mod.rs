//! Specs and edits as texts of other programs' formats; renderers decide nothing.

pub mod nspawn;
pub mod oci;
#[cfg(feature = "yaml")]
pub mod spec;
