//! `cdi-gen minversion`: the smallest version of the specification that a spec's content needs.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::cdi;

use crate::output::{self, Status};
use crate::specs;

/// Prints the smallest version that a spec could declare; stderr says what needs more than 0.3.0.
///
/// What the spec itself declares does not matter. Exit status 4 if it is not valid otherwise.
#[derive(Debug, Args)]
pub(crate) struct MinVersion {
    /// The spec file; - is standard input
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
    /// Print JSON for programs: the version, what needs it, and who reads it
    #[arg(long)]
    json: bool,
}

impl MinVersion {
    pub(crate) fn run(&self) -> Result<Status> {
        let Some(spec) = specs::valid(&self.file, cdi::read_any_version)? else { return Ok(Status::Invalid) };
        let versions = cdi::versions(&spec);
        if self.json {
            return output::text(&(serde_json::to_string_pretty(&versions)? + "\n"));
        }
        for (place, version) in &versions.because {
            output::note(&format!("{place} needs {version}"));
        }
        output::text(&format!("{}\n", versions.needed))
    }
}
