//! Whether a machine will find its GPU, told before it starts: what is wrong, how bad it is, and what helps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use camino::Utf8Path;
use serde::Serialize;

use super::guest::{Guest, Libc};
use super::sources::{Object, Source, Sources};
use super::{Content, Loader, Node, NodeKind, Preparation};
use crate::ldcache::Abi;
use crate::render::nspawn::devices::by_number;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The GPU cannot be used.
    Failure,
    /// Something of it cannot be used.
    Warning,
    /// Good to know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Severity::Failure => "failure",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

/// What a machine's unit lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevicePolicy {
    /// The devices of its `DeviceAllow=` lines: paths, `/dev/char/MAJOR:MINOR`, `char-NAME`.
    pub devices: Vec<String>,
    /// The host's drivers of character devices, by major number.
    pub majors: BTreeMap<i64, String>,
}

/// All that is judged. The guest's [libraries](super::guest::libraries) are the names that its loader finds.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    /// What the machine would be given.
    pub preparation: &'a Preparation,
    /// The machine.
    pub guest: &'a Guest,
    /// What this host has.
    pub sources: &'a Sources,
    /// The libraries that the machine has of its own.
    pub libraries: &'a BTreeSet<(Abi, String)>,
    /// Its unit's policy; a machine that is not started by a unit has none.
    pub policy: Option<&'a DevicePolicy>,
}

/// The findings, the worst first; what the preparation's notices say stands there alone.
pub fn check(checked: &Checked<'_>) -> Vec<Finding> {
    let mut findings = devices(checked);
    findings.extend(c_library(checked));
    findings.extend(objects(checked));
    findings.extend(loader(checked));
    findings.sort();
    findings.dedup();
    findings
}

fn finding(severity: Severity, what: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { severity, what: what.into(), remedy: remedy.into() }
}

fn devices(checked: &Checked<'_>) -> Vec<Finding> {
    let nodes = &checked.preparation.nodes;
    if nodes.is_empty() {
        let remedy = "load the driver and make its nodes, or ask for a device that has some";
        return vec![finding(Severity::Failure, "no device node would be in the machine", remedy)];
    }
    let Some(policy) = checked.policy else { return Vec::new() };
    let closed = nodes.iter().filter(|node| !policy.covers(node));
    let told = |node: &Node| {
        let what = format!("{}: the unit's device policy does not let it through", node.source);
        finding(
            Severity::Failure,
            what,
            "`cdi-gen nspawn enable` writes the lines anew; then start the machine again",
        )
    };
    closed.map(told).collect()
}

impl DevicePolicy {
    /// Whether a line lets this node through.
    pub fn covers(&self, node: &Node) -> bool {
        let number = by_number(node.kind, node.major.into(), node.minor.into());
        let kind = node.kind.word();
        let driver = self.majors.get(&i64::from(node.major)).filter(|_| node.kind == NodeKind::Char);
        self.devices.iter().any(|device| match device.strip_prefix(&format!("{kind}-")) {
            Some(name) => driver.is_some_and(|driver| matches(name, driver)),
            None => *device == number || *device == node.source,
        })
    }
}

/// Whether a driver's name fits a pattern whose stars stand for anything (systemd knows more, and nobody writes it).
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            rest.is_empty()
                || (0..=name.len()).any(|at| name.get(at..).is_some_and(|tail| matches(rest, tail)))
        }),
    }
}

fn c_library(checked: &Checked<'_>) -> Option<Finding> {
    if !checked.sources.files.values().any(|source| matches!(source, Source::Object(_))) {
        return None;
    }
    let what = match checked.guest.libc {
        Libc::Glibc => return None,
        Libc::Unknown => {
            let what = "the machine's tree was not looked into";
            return Some(finding(Severity::Note, what, "check the directory or the mounted image"));
        }
        Libc::Musl => "the machine's C library is musl, and the driver's libraries are made for glibc",
        Libc::Absent => "the machine has no C library, and the driver's libraries are made for glibc",
    };
    Some(finding(Severity::Failure, what, "use a machine with glibc: the device nodes alone are of use here"))
}

/// Each library and program of the spec against the guest's processor, its glibc, and the libraries it has.
fn objects(checked: &Checked<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut strangers: BTreeSet<Abi> = BTreeSet::new();
    // Which of a vendor's libraries a program wants is not known here; without any of them none has what it wants.
    let fits = has_libraries(checked.preparation);
    for (path, source) in &checked.sources.files {
        let Source::Object(object) = source else { continue };
        // Firmware has the same format, for the GPU's own processor.
        let Some(abi) = object.abi.filter(|_| object.program || object.soname.is_some()) else { continue };
        let Some(programs) = checked.guest.programs(abi) else {
            strangers.extend((!checked.guest.programs.is_empty()).then_some(abi));
            continue;
        };
        match (&object.glibc_floor, &programs.glibc) {
            (Some(floor), Some(version)) if floor > version => {
                let what = format!("{path}: needs glibc {floor}, and the machine has {version}");
                let remedy = "a newer release in the machine, or do without what needs this one";
                let severity = if fits || object.program { Severity::Warning } else { Severity::Failure };
                findings.push(finding(severity, what, remedy));
            }
            _ => findings.extend(missing(checked, path, abi, object)),
        }
    }
    let own: Vec<String> = checked.guest.programs.iter().map(|programs| programs.abi.to_string()).collect();
    for abi in strangers {
        let severity = if fits { Severity::Note } else { Severity::Failure };
        let what = format!("libraries for {abi} programs, and the machine has {} only", own.join(", "));
        findings.push(finding(severity, what, "a machine or a spec of the other architecture"));
    }
    findings
}

/// Whether the machine gets a library. Modules, which lie deeper, are of no use without.
fn has_libraries(preparation: &Preparation) -> bool {
    let is_place = |at: &Utf8Path| at.parent().is_some_and(|parent| parent == "lib" || parent == "lib32");
    let is_file = |content: &Content| matches!(content, Content::File(_));
    preparation.tree.iter().any(|entry| is_file(&entry.content) && is_place(&entry.at))
}

/// What an object that the machine gets needs and nobody has.
fn missing(checked: &Checked<'_>, path: &Utf8Path, abi: Abi, object: &Object) -> Option<Finding> {
    let content = Content::File(path.to_owned());
    if !checked.preparation.tree.iter().any(|entry| entry.content == content)
        || checked.guest.libc != Libc::Glibc
    {
        return None;
    }
    let ours = |name: &str| {
        let directory = Utf8Path::new(super::plan::library_directory(abi));
        checked.preparation.tree.iter().any(|entry| entry.at == directory.join(name))
    };
    // The loader itself is where the program says.
    let loader =
        |name: &str| name.starts_with("ld-linux") || name.starts_with("ld64.so") || name.starts_with("ld.so");
    let absent =
        |name: &&String| !loader(name) && !ours(name) && !checked.libraries.contains(&(abi, (*name).clone()));
    let names: Vec<&str> = object.needed.iter().filter(absent).map(String::as_str).collect();
    let name = object.soname.as_deref().or(path.file_name()).unwrap_or_default();
    (!names.is_empty()).then(|| {
        let what = format!("{name}: needs {}, which the machine does not have", names.join(", "));
        finding(
            Severity::Warning,
            what,
            "install in the machine the packages that have it, if what needs it is used",
        )
    })
}

fn loader(checked: &Checked<'_>) -> Option<Finding> {
    match &checked.preparation.loader {
        Loader::Environment => Some(finding(
            Severity::Warning,
            "the libraries are found by LD_LIBRARY_PATH alone, which neither set-user-ID programs nor logins heed",
            match checked.guest.libc {
                Libc::Unknown => "give the machine a directory as its root, where others are to find them",
                Libc::Glibc | Libc::Musl | Libc::Absent => "--loader overlay",
            },
        )),
        Loader::Overlay(farms) => {
            let directories: Vec<&str> = farms.iter().map(|farm| farm.directory.as_str()).collect();
            let what = format!("{}: read-only in the machine while it runs", directories.join(", "));
            let remedy = match checked.guest.libc {
                Libc::Unknown => "install packages in it while it is without the devices",
                Libc::Glibc | Libc::Musl | Libc::Absent => {
                    "--loader cache for a machine in which packages are to be installed"
                }
            };
            Some(finding(Severity::Note, what, remedy))
        }
        Loader::Cache(_) | Loader::Nothing => None,
    }
}
