//! What systemd-nspawn and its units read: lines of settings files, arguments, drop-ins.
//!
//! A [`Preparation`](crate::nspawn::Preparation) becomes [lines] of a block in a settings file
//! ([`settings_file`](crate::nspawn::settings_file)), or arguments of a command line. The machine's unit gets a
//! [drop-in](dropin) that says what it may open ([devices]) and who makes the machine ready.

pub mod bundle;
pub mod devices;
pub mod dropin;
pub mod flat;
pub mod lines;
mod quote;

pub use quote::Unwritable;
pub(crate) use quote::{mount_path, settings_word};
