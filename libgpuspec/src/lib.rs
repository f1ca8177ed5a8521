//! GPU drivers in containers: what is there, what a container needs of it, and how it gets it.
//!
//! ```text
//! process 1: a host                                              process 2: once a container
//!  Root ─probe─▶ Inventory ─plan─▶ cdi::Spec ─render─▶ a spec file
//!         facts on disk    policy::Policy     │                    state ─▶ Root ─apply─▶ links, loader cache
//!                                             ▼
//!                          engines read it, and run the hook it names
//! ```
//!
//! Nothing flows back: `plan` looks at no file, `render` decides nothing, `apply` discovers nothing.
//! What is true everywhere:
//!
//! 1. All reads and writes of a host's or container's tree go through [`Root`]: paths inside it stay
//!    inside it, nothing but a regular file is opened to be read, a file is replaced whole or not at all.
//! 2. Nothing that was found is executed or loaded; ELF files, /proc and /sys are read.
//! 3. [`plan`](plan::plan) and [`render`] are functions of their arguments: same input, same bytes.
//! 4. A path in an [`Inventory`](inventory::Inventory) is inside its root; `plan` alone puts the root before it.
//! 5. What could not be gone on from is an [`Error`]; what was odd, and gone on from, is a [`Notice`].
//! 6. Every number read from a file is bounded before it allocates or loops.
//!
//! The modules in the order in which they make sense:
//!
//! | module | knows |
//! |---|---|
//! | [`root`] | one file tree, and no way out of it |
//! | [`host`] | the four trees of a host |
//! | [`elf`], [`ldcache`] | two file formats |
//! | [`vendor`] | every string that names a vendor |
//! | [`inventory`], [`probe`] | what is there, and how it is found |
//! | [`policy`], [`plan`](mod@plan) | what is asked for, and what follows |
//! | [`cdi`] | the specification: documents, rules, directories of specs |
//! | [`request`] | what a container asks for, and who lets it |
//! | [`render`] | other programs' formats |
//! | [`apply`] | what is done in a container's root |
//! | [`nspawn`] | what a systemd-nspawn machine is given, and how it finds it |
//!
//! ```no_run
//! use libgpuspec::host::Host;
//! use libgpuspec::policy::{Depth, Gpus, HostTools, Policy, Search};
//! use libgpuspec::vendor::nvidia::NVIDIA;
//!
//! let search = Search {
//!     library_directories: Vec::new(),
//!     driver_version: None,
//!     depth: Depth::Fast,
//!     gpus: Gpus::Required,
//! };
//! let mut notices = Vec::new();
//! let inventory = libgpuspec::probe::probe(&Host::machine()?, &NVIDIA, &search, &mut notices)?;
//! let policy = Policy {
//!     driver_root: "/".into(),
//!     dev_root: "/".into(),
//!     hook: "/usr/libexec/libgpuspec/oci-hook".into(),
//!     host_tools: HostTools::Skip,
//! };
//! let spec = libgpuspec::plan::plan(&NVIDIA, &inventory, &policy);
//! # Ok::<(), libgpuspec::Error>(())
//! ```

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod root;

pub mod elf;
pub mod host;
pub mod ldcache;

pub mod inventory;
pub mod policy;
pub mod probe;
pub mod vendor;

pub mod apply;
pub mod cdi;
pub mod nspawn;
pub mod plan;
pub mod render;
pub mod request;

pub mod error;
pub mod line;
pub mod notice;

pub use error::{Error, Result};
pub use notice::Notice;
pub use root::Root;
