//! `cdi-gen list`: which devices the spec directories give, and what stands in the way of others.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::cdi::{Contested, Listing};
use libgpuspec::error::chain;
use serde::Serialize;

use crate::output::{self, Status};
use crate::specs::{Problem, SpecDirs, problems};

/// Prints the names of all devices that can be asked for, one a line.
///
/// Conflicts, shadowed devices, bad files and unreadable directories are told on stderr;
/// if there is any of these, the exit status is 4.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    specs: SpecDirs,
    /// Print JSON for programs: devices and whatever is amiss
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    devices: &'a [String],
    conflicts: Vec<Contest<'a>>,
    shadowed: Vec<Contest<'a>>,
    bad_files: Vec<BadFile<'a>>,
    bad_directories: Vec<BadDirectory>,
}

/// A device and the files that define it, lowest precedence first.
#[derive(Debug, Serialize)]
struct Contest<'a> {
    device: &'a str,
    files: &'a [Utf8PathBuf],
}

#[derive(Debug, Serialize)]
struct BadFile<'a> {
    file: &'a Utf8PathBuf,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct BadDirectory {
    directory: Utf8PathBuf,
    message: String,
}

impl List {
    pub(crate) fn run(&self) -> Result<Status> {
        let listing = self.specs.registry()?.listing();
        let report = report(&listing);
        let amiss = amiss(&report);
        if self.json {
            output::text(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            output::text(&report.devices.iter().map(|name| format!("{name}\n")).collect::<String>())?;
            output::warnings(&amiss);
            if report.devices.is_empty() {
                output::note(
                    "no device: no spec directory has a usable spec; cdi-gen generate --install makes one",
                );
            }
        }
        Ok(if amiss.is_empty() { Status::Done } else { Status::Invalid })
    }
}

fn report(listing: &Listing) -> Report<'_> {
    let bad = listing.files.iter().filter_map(|file| file.spec.as_ref().err().map(|error| (file, error)));
    let directories = listing.directory_errors.iter();
    Report {
        devices: &listing.devices,
        conflicts: listing.conflicts.iter().map(contest).collect(),
        shadowed: listing.shadowed.iter().map(contest).collect(),
        bad_files: bad.map(|(file, error)| BadFile { file: &file.path, problems: problems(error) }).collect(),
        bad_directories: directories
            .map(|it| BadDirectory { directory: it.path.clone(), message: chain(&*it.error) })
            .collect(),
    }
}

fn contest(contested: &Contested) -> Contest<'_> {
    Contest { device: &contested.device, files: &contested.files }
}

/// Everything that is amiss, one line each.
fn amiss(report: &Report<'_>) -> Vec<String> {
    let mut lines: Vec<String> = report.bad_directories.iter().map(|it| it.message.clone()).collect();
    for bad in &report.bad_files {
        lines.extend(bad.problems.iter().map(|problem| problem.line(bad.file.as_str())));
    }
    for Contest { device, files } in &report.conflicts {
        lines.push(format!("{device}: conflicting definitions in {}; remove all but one", joined(files)));
    }
    for Contest { device, files } in &report.shadowed {
        if let Some((last, hidden)) = files.split_last() {
            lines.push(format!("{device}: taken from {last}, which shadows {}", joined(hidden)));
        }
    }
    lines
}

fn joined(files: &[Utf8PathBuf]) -> String {
    files.iter().map(|file| file.as_str()).collect::<Vec<_>>().join(" and ")
}
