//! `cdi-gen diff`: what is different between two specs in meaning.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::cdi::{self, Difference};
use serde_json::Value;

use crate::output::{self, Status, one_line};
use crate::specs;

/// Says what is different between two specs in meaning, one line a difference.
///
/// Format, comments and the order of entries that have none do not count.
/// Exit status 0 if there is no difference, 5 if there is one, 4 if a spec is not valid.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// A spec file; - is standard input
    #[arg(value_name = "A")]
    before: Utf8PathBuf,
    /// Another
    #[arg(value_name = "B")]
    after: Utf8PathBuf,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(crate) fn run(&self) -> Result<Status> {
        let before = specs::valid(&self.before, cdi::read)?;
        let after = specs::valid(&self.after, cdi::read)?;
        let (Some(before), Some(after)) = (before, after) else { return Ok(Status::Invalid) };
        let found = cdi::compare(&before, &after);
        let text = if self.json {
            serde_json::to_string_pretty(&found)? + "\n"
        } else {
            found.iter().map(|one| one_line(&line(one)) + "\n").collect()
        };
        output::text(&text)?;
        Ok(if found.is_empty() { Status::Done } else { Status::Stale })
    }
}

fn line(difference: &Difference) -> String {
    let Difference { path, before, after } = difference;
    match (before, after) {
        (Some(before), Some(after)) => format!("~ {path}: {} -> {}", shown(before), shown(after)),
        (Some(before), None) => format!("- {path}: {}", shown(before)),
        (None, Some(after)) => format!("+ {path}: {}", shown(after)),
        (None, None) => String::new(),
    }
}

fn shown(value: &Value) -> String {
    value.to_string()
}
