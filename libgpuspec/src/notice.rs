//! Something odd that was seen on the way and did not stop the work.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One odd thing, in words for a person: it names the file and, where there is one, the remedy.
///
/// What could *not* be gone on with is an [`Error`](crate::Error) instead; there is no third way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Notice(pub String);

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<String> for Notice {
    fn from(text: String) -> Self {
        Notice(text)
    }
}

/// An error that was gone on from becomes a notice with its whole chain of causes.
impl From<crate::Error> for Notice {
    fn from(error: crate::Error) -> Self {
        Notice(crate::error::chain(&error))
    }
}

/// The first `most` notices, and one that says how many more there are.
pub(crate) fn shortened(mut notices: Vec<Notice>, most: usize) -> Vec<Notice> {
    let more = notices.len().saturating_sub(most);
    notices.truncate(most);
    notices.extend((more > 0).then(|| Notice(format!("{more} more of this kind"))));
    notices
}
