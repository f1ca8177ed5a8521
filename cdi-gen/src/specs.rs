//! Which spec directories are meant, and problems of specs as lines and as JSON.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::Root;
use libgpuspec::cdi::{FileError, Registry, Violation};
use libgpuspec::error::chain;
use serde::Serialize;

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
        Ok(Registry::new(Root::open(Utf8Path::new("/"))?, &directories))
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
        FileError::Dangling | FileError::Unreadable(_) => {
            vec![Problem { path: String::new(), line: None, column: None, message: chain(error) }]
        }
    }
}
