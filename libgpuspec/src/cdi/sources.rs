//! The sources of a spec's mounts on this host: which are missing, and which another user could have chosen.

use camino::Utf8Path;

use super::spec::{ContainerEdits, Mount};
use crate::{Error, Notice, Root};

/// Why a mount cannot be made as the spec has it.
#[derive(Debug, thiserror::Error)]
pub enum SourceProblem {
    /// Nothing is there.
    #[error("{0}: not on this host")]
    Missing(String),
    /// Another user could have put it there, or it cannot be looked up.
    #[error(transparent)]
    Unusable(#[from] Error),
}

/// What is wrong with a mount's source on `host`, if anything; what is not a bind mount has none.
pub fn source_problem(mount: &Mount, host: &Root) -> Option<SourceProblem> {
    if !matches!(mount.mount_type.as_str(), "" | "bind" | "none") {
        return None;
    }
    match host.find_trusted(Utf8Path::new(&mount.host_path)) {
        Ok(Some(_)) => None,
        Ok(None) => Some(SourceProblem::Missing(mount.host_path.clone())),
        Err(error) => Some(error.into()),
    }
}

/// Takes the mounts out of the edits whose sources come and go and cannot be mounted now; a notice names each.
///
/// Any other source that is missing is an error: nothing runs without a driver's library. One that this process may not
/// look up stays, since an engine with more rights may.
pub fn drop_absent_mounts(edits: &mut ContainerEdits, host: &Root) -> Result<Vec<Notice>, SourceProblem> {
    let (mut kept, mut notices) = (Vec::new(), Vec::new());
    for mount in std::mem::take(&mut edits.mounts) {
        let comes_and_goes = mount.comes_and_goes();
        match source_problem(&mount, host) {
            Some(problem @ SourceProblem::Missing(_)) if !comes_and_goes => return Err(problem),
            Some(problem @ SourceProblem::Missing(_)) => notices.push(left_out(&problem)),
            Some(problem @ SourceProblem::Unusable(Error::Format { .. })) => notices.push(left_out(&problem)),
            Some(SourceProblem::Unusable(_)) | None => kept.push(mount),
        }
    }
    edits.mounts = kept;
    Ok(notices)
}

fn left_out(problem: &SourceProblem) -> Notice {
    Notice(format!("{problem}; mount left out"))
}
