//! The stage before the container exists: its config is read, edited and written, and the runtime does the rest.

#![forbid(unsafe_code)]

use std::io::Write;

use libgpuspec::Root;
use libgpuspec::cdi::{ContainerEdits, Registry, drop_absent_mounts};
use libgpuspec::host::Host;
use libgpuspec::render::oci;
use libgpuspec::request::{self, Request};
use libgpuspec::vendor::nvidia::NVIDIA;
use oci_hook::report::Report;
use oci_hook::{contract, stdin};
use rustix::thread::CapabilitySet;
use serde_json::Value;

use crate::entry::Entry;
use crate::{Class, Failure};

/// Most bytes of a config that are read; the largest seen has 0.2 MiB.
pub(crate) const MAX_CONFIG: u64 = 16 << 20;

/// Reads the config, and writes it with what the container may have; one that asks for nothing as it was.
pub(crate) fn run(entry: &Entry, report: &Report) -> Result<(), Failure> {
    // Specs, /proc and /sys are read as their owner or as anybody, and nothing is written but standard output.
    contract::keep(CapabilitySet::empty()).map_err(|error| Failure::new(Class::Machine, &error))?;
    let bytes = stdin::read(MAX_CONFIG).map_err(|error| Failure::new(Class::Input, &error))?;
    let unusable = |reason: String| Failure {
        class: Class::Input,
        reason: format!("the config on standard input: {reason}"),
    };
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(unusable(format!("more than {MAX_CONFIG} bytes")));
    }
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
    let (request, notices) =
        request::read(&entry.said.rules(), &config).map_err(|error| Failure::new(Class::Request, &error))?;
    report.tell(&notices);
    if request.is_empty() {
        return write(&bytes);
    }
    let edits = edits(entry, &request, report)?;
    let dev = Root::open(&entry.dev_root).map_err(|error| Failure::new(Class::Machine, &error))?;
    oci::inject(&mut config, &edits, &dev).map_err(|error| Failure::new(Class::Edit, &error))?;
    let text = serde_json::to_vec(&config).map_err(|error| Failure::new(Class::Machine, &error))?;
    write(&text)
}

/// What the request comes to on this host.
pub(crate) fn edits(entry: &Entry, request: &Request, report: &Report) -> Result<ContainerEdits, Failure> {
    let machine = |error: libgpuspec::Error| Failure::new(Class::Machine, &error);
    if !request.conditions.is_empty() {
        check(request, &host(entry).map_err(machine)?)?;
    }
    let root = Root::open("/".into()).map_err(machine)?;
    let host = Root::open("/".into()).map_err(machine)?;
    let registry = Registry::unwatched(root, &entry.said.spec_directories);
    let (mut edits, notices) = request::resolve(&registry, request, &[&NVIDIA])
        .map_err(|error| Failure::new(Class::Unresolved, &error))?;
    report.tell(&notices);
    let absent = drop_absent_mounts(&mut edits, &host);
    report.tell(&absent.map_err(|error| Failure::new(Class::Machine, &error))?);
    Ok(edits)
}

fn host(entry: &Entry) -> libgpuspec::Result<Host> {
    let (driver, dev) = (Root::open("/".into())?, Root::open(&entry.dev_root)?);
    Ok(Host { driver, dev, proc: Root::open(&entry.proc_root)?, sys: Root::open(&entry.sys_root)? })
}

fn check(request: &Request, host: &Host) -> Result<(), Failure> {
    let facts = request::facts(&NVIDIA, host);
    for (name, value) in &request.conditions {
        request::check(name, value, &facts).map_err(|error| Failure::new(Class::Condition, &error))?;
    }
    Ok(())
}

fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| Failure {
        class: Class::Machine,
        reason: format!("writing to standard output: {error}"),
    })
}
