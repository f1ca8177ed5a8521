//! `cdi-gen validate`: whether spec files are valid, and why not.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::root::Owners;
use libgpuspec::{Root, cdi};
use serde::Serialize;

use crate::output::{self, Status};
use crate::specs::{Problem, absolute, read};

/// Says whether spec files are valid: one line a problem, and exit status 4 if there is any.
///
/// A valid file gives no output. A file that cannot be read gives exit status 1.
#[derive(Debug, Args)]
pub(crate) struct Validate {
    /// The spec files, YAML or JSON; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<Utf8PathBuf>,
    /// Print JSON for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Verdict {
    file: Utf8PathBuf,
    valid: bool,
    problems: Vec<Problem>,
}

impl Validate {
    pub(crate) fn run(&self) -> Result<Status> {
        let (mut verdicts, mut status) = (Vec::new(), Status::Done);
        for file in &self.files {
            match read(file) {
                Ok(bytes) => {
                    warn_of_others(file)?;
                    verdicts.push(judge(file, &bytes));
                }
                Err(error) => {
                    output::error(&error);
                    status = Status::Failed;
                }
            }
        }
        if status == Status::Done && verdicts.iter().any(|verdict| !verdict.valid) {
            status = Status::Invalid;
        }
        let text = if self.json { serde_json::to_string_pretty(&verdicts)? + "\n" } else { lines(&verdicts) };
        output::text(&text)?;
        Ok(status)
    }
}

/// Readers skip a spec that others can write, however valid its text is.
fn warn_of_others(file: &Utf8Path) -> Result<()> {
    if file == "-" {
        return Ok(());
    }
    let exposed = Root::open("/".into())?.exposed(&absolute(file)?, &Owners::caller())?;
    if let Some((part, exposure)) = exposed {
        output::warning(&format!("{file}: {part} {exposure}; in a spec directory the file is not read"));
    }
    Ok(())
}

fn judge(file: &Utf8PathBuf, bytes: &[u8]) -> Verdict {
    let violations = cdi::read(bytes).err().unwrap_or_default();
    let problems: Vec<Problem> = violations.iter().map(Problem::from).collect();
    Verdict { file: file.clone(), valid: problems.is_empty(), problems }
}

fn lines(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts {
        for problem in &verdict.problems {
            text.push_str(&output::one_line(&problem.line(verdict.file.as_str())));
            text.push('\n');
        }
    }
    text
}
