//! Specs and edits as texts of other programs' formats; renderers decide nothing.

#[cfg(feature = "yaml")]
pub mod spec;
