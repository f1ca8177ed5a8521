//! oci-hook-inject, given configs of containers and specs made for them, and containers that are created.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/container.rs"]
#[allow(dead_code)]
mod container;
#[path = "inject/created.rs"]
mod created;
#[path = "inject/hangs.rs"]
mod hangs;
#[path = "inject/precreate.rs"]
mod precreate;
#[path = "inject/report.rs"]
mod report;
#[path = "support/rootfs.rs"]
#[allow(dead_code)]
mod rootfs;
#[path = "inject/syscalls.rs"]
mod syscalls;
#[path = "inject/targets.rs"]
mod targets;
#[path = "support/trace.rs"]
mod trace;
