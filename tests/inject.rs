//! oci-hook-inject, given configs of containers and specs made for them.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "inject/precreate.rs"]
mod precreate;
