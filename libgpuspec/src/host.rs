//! A host as four trees: where its driver, its device nodes, its /proc and its /sys are looked for.

use camino::Utf8Path;

use crate::error::Result;
use crate::root::Root;

/// The trees that discovery reads. On an ordinary host all four are `/`; a driver that lives in a
/// container, a captured host or a test has its own.
#[derive(Debug)]
pub struct Host {
    /// `usr/…`, `etc/…`, `lib/…`, `run/…` are looked for below it.
    pub driver: Root,
    /// `dev/…` is looked for below it.
    pub dev: Root,
    /// `proc/…` is looked for below it.
    pub proc: Root,
    /// `sys/…` is looked for below it.
    pub sys: Root,
}

impl Host {
    /// The machine's own trees.
    pub fn machine() -> Result<Host> {
        Host::at(Utf8Path::new("/"))
    }

    /// A host all of whose trees lie below one directory.
    pub fn at(root: &Utf8Path) -> Result<Host> {
        Ok(Host {
            driver: Root::open(root)?,
            dev: Root::open(root)?,
            proc: Root::open(root)?,
            sys: Root::open(root)?,
        })
    }
}
