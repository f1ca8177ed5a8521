//! The programs that read specs, and the newest version of the specification that each can.

use std::fmt;
use std::str::FromStr;

use super::version::Version;

/// From which release on a program reads which versions; a newer spec is refused as a whole.
struct Row {
    name: &'static str,
    since: [u32; 3],
    newest: Version,
}

const fn row(name: &'static str, since: [u32; 3], newest: Version) -> Row {
    Row { name, since, newest }
}

/// The libraries built into the releases, oldest first for each program.
const READERS: &[Row] = &[
    row("podman", [4, 1, 0], Version::V0_4_0),
    row("podman", [4, 3, 0], Version::V0_5_0),
    row("podman", [4, 7, 0], Version::V0_6_0),
    row("podman", [5, 1, 0], Version::V0_7_0),
    row("podman", [5, 2, 0], Version::V0_8_0),
    row("podman", [5, 5, 0], Version::V1_0_0),
    row("podman", [6, 0, 0], Version::V1_1_0),
    row("docker", [25, 0, 0], Version::V0_6_0),
    row("docker", [27, 0, 0], Version::V0_7_0),
    row("docker", [28, 0, 0], Version::V0_8_0),
    row("docker", [28, 2, 0], Version::V1_0_0),
    row("docker", [29, 2, 0], Version::V1_1_0),
    row("containerd", [1, 7, 0], Version::V0_5_0),
    row("containerd", [1, 7, 13], Version::V0_6_0),
    row("containerd", [2, 0, 0], Version::V0_8_0),
    row("containerd", [2, 1, 0], Version::V1_0_0),
    row("containerd", [2, 2, 1], Version::V1_1_0),
    row("cri-o", [1, 25, 0], Version::V0_5_0),
    row("cri-o", [1, 28, 0], Version::V0_6_0),
    row("cri-o", [1, 30, 0], Version::V0_7_0),
    row("cri-o", [1, 31, 0], Version::V0_8_0),
    row("cri-o", [1, 33, 0], Version::V1_0_0),
    row("cri-o", [1, 35, 0], Version::V1_1_0),
    row("buildah", [1, 36, 0], Version::V0_7_0),
    row("buildah", [1, 37, 0], Version::V0_8_0),
    row("buildah", [1, 40, 0], Version::V1_0_0),
    row("buildah", [1, 44, 0], Version::V1_1_0),
];

/// A release of a program that reads specs, as `podman-4.9` or `containerd-1.7.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    text: String,
    newest: Version,
}

impl Consumer {
    /// The newest version of the specification it reads.
    pub fn newest(&self) -> Version {
        self.newest
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Why a text names no consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerError {
    /// It has not the form.
    #[error("{0:?} is not a program and its release, as podman-4.9")]
    Form(String),
    /// The program is unknown.
    #[error("{0:?} is not known to read specs; {known} are", known = names().join(", "))]
    Unknown(String),
    /// The release is older than the first that reads specs.
    #[error("{0} reads no specs of any released version; {1} is the first that does")]
    TooOld(String, String),
}

impl FromStr for Consumer {
    type Err = ConsumerError;

    fn from_str(text: &str) -> Result<Self, ConsumerError> {
        let form = || ConsumerError::Form(text.to_owned());
        let (name, release) = text.rsplit_once('-').ok_or_else(form)?;
        let release = parse_release(release).ok_or_else(form)?;
        let mut rows = READERS.iter().filter(|row| row.name == name).peekable();
        let Some(first) = rows.peek() else { return Err(ConsumerError::Unknown(name.to_owned())) };
        let too_old = ConsumerError::TooOld(text.to_owned(), format!("{name}-{}", spelt(first.since)));
        let row = rows.rfind(|row| row.since <= release).ok_or(too_old)?;
        Ok(Consumer { text: text.to_owned(), newest: row.newest })
    }
}

/// One to three numbers with dots between, a leading `v` allowed.
fn parse_release(text: &str) -> Option<[u32; 3]> {
    let mut release = [0; 3];
    let mut places = release.iter_mut();
    for number in text.strip_prefix('v').unwrap_or(text).split('.') {
        *places.next()? = number.parse().ok()?;
    }
    Some(release)
}

fn spelt([major, minor, patch]: [u32; 3]) -> String {
    if patch == 0 { format!("{major}.{minor}") } else { format!("{major}.{minor}.{patch}") }
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = READERS.iter().map(|row| row.name).collect();
    names.dedup();
    names
}

/// For every known program, the first release that reads specs of this version.
///
/// ```
/// use libgpuspec::cdi::{Version, readers_since};
///
/// let podman = readers_since(Version::V0_6_0).next();
/// assert_eq!(podman, Some(("podman", "4.7".to_owned())));
/// ```
pub fn readers_since(version: Version) -> impl Iterator<Item = (&'static str, String)> {
    names().into_iter().filter_map(move |name| {
        let row = READERS.iter().find(|row| row.name == name && row.newest >= version)?;
        Some((name, spelt(row.since)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_reads_what_its_library_does() {
        for (text, newest) in [
            ("podman-4.1", Version::V0_4_0),
            ("podman-4.2.1", Version::V0_4_0),
            ("podman-4.3", Version::V0_5_0),
            ("podman-4.3.1", Version::V0_5_0),
            ("podman-4.6", Version::V0_5_0),
            ("podman-4.9", Version::V0_6_0),
            ("podman-5.0", Version::V0_6_0),
            ("podman-5.1", Version::V0_7_0),
            ("podman-5.4", Version::V0_8_0),
            ("podman-5", Version::V0_6_0),
            ("podman-5.8", Version::V1_0_0),
            ("podman-6.0", Version::V1_1_0),
            ("podman-99", Version::V1_1_0),
            ("docker-25", Version::V0_6_0),
            ("docker-26.1", Version::V0_6_0),
            ("docker-27", Version::V0_7_0),
            ("docker-28.1", Version::V0_8_0),
            ("docker-28.2", Version::V1_0_0),
            ("docker-29.1", Version::V1_0_0),
            ("docker-29.2", Version::V1_1_0),
            ("containerd-1.7.0", Version::V0_5_0),
            ("containerd-1.7.12", Version::V0_5_0),
            ("containerd-1.7.13", Version::V0_6_0),
            ("containerd-v2.0", Version::V0_8_0),
            ("containerd-2.2.0", Version::V1_0_0),
            ("containerd-2.2.1", Version::V1_1_0),
            ("cri-o-1.25", Version::V0_5_0),
            ("cri-o-1.29", Version::V0_6_0),
            ("cri-o-1.36", Version::V1_1_0),
            ("buildah-1.36", Version::V0_7_0),
            ("buildah-1.43", Version::V1_0_0),
        ] {
            assert_eq!(text.parse().map(|consumer: Consumer| consumer.newest()), Ok(newest), "{text}");
        }
    }

    #[test]
    fn unknown_and_old_ones_are_refused() {
        let parse = |text: &str| text.parse::<Consumer>().unwrap_err();
        for text in ["podman", "podman-", "podman-x", "podman-4.x", "podman-1.2.3.4", "", "-4"] {
            assert!(!matches!(parse(text), ConsumerError::TooOld(..)), "{text}");
        }
        assert_eq!(parse("rkt-1.0"), ConsumerError::Unknown("rkt".into()));
        assert_eq!(parse("podman-4.0"), ConsumerError::TooOld("podman-4.0".into(), "podman-4.1".into()));
        assert_eq!(parse("docker-24"), ConsumerError::TooOld("docker-24".into(), "docker-25.0".into()));
    }

    #[test]
    fn the_table_is_in_order() {
        for pair in READERS.windows(2) {
            let [one, next] = pair else { continue };
            assert!(one.name != next.name || (one.since < next.since && one.newest < next.newest));
        }
        let since: Vec<_> = readers_since(Version::V0_5_0).collect();
        assert_eq!(
            since,
            [
                ("podman", "4.3".to_owned()),
                ("docker", "25.0".to_owned()),
                ("containerd", "1.7".to_owned()),
                ("cri-o", "1.25".to_owned()),
                ("buildah", "1.36".to_owned()),
            ]
        );
    }
}
