//! oci-hook, run on containers made for it: beside each lies a tree that it must never touch.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "hook/attacks.rs"]
mod attacks;
#[path = "hook/caches.rs"]
mod caches;
#[path = "support/container.rs"]
mod container;
#[path = "support/elf.rs"]
mod elf;
#[path = "hook/exchanged.rs"]
mod exchanged;
#[path = "hook/images.rs"]
mod images;
#[path = "hook/limits.rs"]
mod limits;
#[path = "hook/loader.rs"]
mod loader;
#[path = "hook/mounts.rs"]
mod mounts;
#[path = "support/note.rs"]
mod note;
#[path = "hook/order.rs"]
mod order;
#[path = "hook/peer.rs"]
mod peer;
#[path = "hook/refusals.rs"]
mod refusals;
#[path = "support/rootfs.rs"]
mod rootfs;
#[path = "hook/sealed.rs"]
mod sealed;
#[path = "hook/steps.rs"]
mod steps;
#[path = "hook/syscalls.rs"]
mod syscalls;
#[path = "support/trace.rs"]
mod trace;
