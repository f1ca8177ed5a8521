//! Which spec directories are meant, and problems of specs as lines and as JSON.

use std::io::Read;

use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::Root;
use libgpuspec::cdi::{self, FileError, Registry, Spec, Violation};
use libgpuspec::error::chain;
use serde::Serialize;

use crate::output;

/// The spec directories, as typed.
#[derive(Debug, Args)]
pub(crate) struct SpecDirs {
    /// A spec directory, lowest precedence first; may be given several times
    /// [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "spec-dir", value_name = "DIR")]
    directories: Vec<Utf8PathBuf>,
}

impl SpecDirs {
    /// The registry of these directories on this machine.
    pub(crate) fn registry(&self) -> Result<Registry> {
        let directories = self.directories.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
        Ok(Registry::unwatched(Root::open(Utf8Path::new("/"))?, &directories))
    }
}

/// The valid spec in a file; none if it is not, which is told.
pub(crate) fn valid(
    file: &Utf8Path,
    judge: fn(&[u8]) -> std::result::Result<Spec, Vec<Violation>>,
) -> Result<Option<Spec>> {
    match judge(&read(file)?) {
        Ok(spec) => Ok(Some(spec)),
        Err(violations) => {
            for violation in &violations {
                output::note(&Problem::from(violation).line(file.as_str()));
            }
            Ok(None)
        }
    }
}

/// The bytes of a spec file, `-` being standard input; at most one more than a spec may have, so that
/// the judge can say so.
pub(crate) fn read(file: &Utf8Path) -> Result<Vec<u8>> {
    if file == "-" {
        let mut bytes = Vec::new();
        let mut limited = std::io::stdin().lock().take(cdi::MAX_BYTES as u64 + 1);
        limited.read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(bytes);
    }
    let machine = Root::open("/".into())?;
    match machine.open_file(&absolute(file)?)? {
        Some(opened) => opened.read_at(0, cdi::MAX_BYTES + 1).with_context(|| format!("{file}: reading it")),
        None => bail!("{file}: no such file"),
    }
}

/// A path as it is from the root of this machine.
pub(crate) fn absolute(path: &Utf8Path) -> Result<Utf8PathBuf> {
    let absolute = std::path::absolute(path).with_context(|| format!("{path}"))?;
    Ok(Utf8PathBuf::try_from(absolute)?)
}

/// One thing that is wrong with a file, for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    /// Inside the document; empty for the whole of it.
    path: String,
    line: Option<usize>,
    column: Option<usize>,
    message: String,
}

impl From<&Violation> for Problem {
    fn from(violation: &Violation) -> Self {
        Problem {
            path: violation.path.to_string(),
            line: violation.position.map(|position| position.line),
            column: violation.position.map(|position| position.column),
            message: violation.problem.to_string(),
        }
    }
}

impl Problem {
    /// `FILE:LINE:COLUMN: PATH: MESSAGE`, as compilers and editors have it.
    pub(crate) fn line(&self, file: &str) -> String {
        let mut text = file.to_owned();
        if let (Some(line), Some(column)) = (self.line, self.column) {
            text.push_str(&format!(":{line}:{column}"));
        }
        if !self.path.is_empty() {
            text.push_str(&format!(": {}", self.path));
        }
        format!("{text}: {}", self.message)
    }
}

/// Why a file of a spec directory is bad.
pub(crate) fn problems(error: &FileError) -> Vec<Problem> {
    match error {
        FileError::Invalid(violations) => violations.iter().map(Problem::from).collect(),
        FileError::Dangling | FileError::Exposed(..) | FileError::Unreadable(_) => {
            vec![Problem { path: String::new(), line: None, column: None, message: chain(error) }]
        }
    }
}
