//! oci-hook-inject, preparing machines of systemd-nspawn and taking that back, where nothing of this machine can be changed.
//!
//! Each test runs in mounts of its own, in which all but a few directories in memory is read-only.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "machine/attached.rs"]
mod attached;
#[path = "support/elf.rs"]
mod elf;
#[path = "machine/faults.rs"]
mod faults;
#[path = "machine/held.rs"]
mod held;
#[path = "machine/hostile.rs"]
mod hostile;
#[path = "machine/kept.rs"]
mod kept;
#[path = "machine/optional.rs"]
mod optional;
#[path = "machine/place.rs"]
mod place;
#[path = "support/real.rs"]
mod real;
#[path = "machine/settings.rs"]
mod settings;
#[path = "machine/start.rs"]
mod start;
#[path = "machine/trace.rs"]
mod trace;
#[path = "support/tree.rs"]
mod tree;
#[path = "machine/view.rs"]
mod view;
