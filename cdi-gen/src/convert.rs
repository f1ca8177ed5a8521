//! `cdi-gen convert`: a spec made fit for an older reader, or another format.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::cdi::{self, Consumer, Reader, Spec, Version};

use crate::output::{self, Status};
use crate::specs;

/// Which reader a spec has to suit, as typed.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Target {
    /// Leave out what this release cannot read, as podman-4.9, docker-27, containerd-1.7.0,
    /// cri-o-1.29, buildah-1.37; each loss is told on stderr
    #[arg(long, value_name = "PROGRAM-RELEASE")]
    target: Option<Consumer>,
    /// Likewise for readers of this version of the specification, which the spec will declare
    #[arg(long, value_name = "VERSION")]
    cdi_version: Option<Version>,
}

impl Target {
    /// The spec as the reader can read it, losses told; none if there is something it must have.
    pub(crate) fn fit(&self, spec: Spec) -> Option<Spec> {
        let reader = match (&self.target, self.cdi_version) {
            (Some(consumer), _) => Reader::from(consumer),
            (None, Some(version)) => Reader::from(version),
            (None, None) => return Some(spec),
        };
        fit(&spec, reader)
    }

    /// Whether neither a program nor a version is named.
    pub(crate) fn is_open(&self) -> bool {
        self.target.is_none() && self.cdi_version.is_none()
    }
}

/// The spec as this reader can read it, losses reported; none if there is something it must have.
pub(crate) fn fit(spec: &Spec, reader: Reader) -> Option<Spec> {
    match cdi::downlevel(spec, reader) {
        Ok((fitted, losses)) => {
            losses.iter().for_each(|loss| output::warning(&loss.to_string()));
            Some(fitted)
        }
        Err(all) => {
            all.iter().for_each(|one| output::note(&one.to_string()));
            None
        }
    }
}

/// Prints a spec anew: for an older reader, or in another format.
///
/// Exit status 4 if it is not valid, or the reader cannot do without something it cannot read.
#[derive(Debug, Args)]
pub(crate) struct Convert {
    /// The spec file; - is standard input
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
    #[command(flatten)]
    target: Target,
    /// Write to this file instead of stdout, atomically
    #[arg(long, value_name = "FILE")]
    output: Option<Utf8PathBuf>,
    /// Print JSON instead of YAML
    #[arg(long)]
    json: bool,
}

impl Convert {
    pub(crate) fn run(self) -> Result<Status> {
        let Some(spec) = specs::valid(&self.file, cdi::read)? else { return Ok(Status::Invalid) };
        let Some(spec) = self.target.fit(spec) else { return Ok(Status::Invalid) };
        let text = if self.json { cdi::json::to_string(&spec)? } else { cdi::yaml::to_string(&spec)? };
        match &self.output {
            Some(file) => output::file(file, &text),
            None => output::text(&text),
        }
    }
}
