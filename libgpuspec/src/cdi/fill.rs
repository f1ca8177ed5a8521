//! Device nodes as a container gets them: what the spec leaves open comes from the host's own nodes.

use camino::{Utf8Path, Utf8PathBuf};

use super::spec::DeviceNode;
use crate::root::{Entry, Kind};
use crate::{Error, Root};

/// Why a device node cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// It is not there, and the spec does not give its numbers.
    #[error("{0}: no such device on this host; is its driver loaded, or the spec out of date?")]
    Missing(Utf8PathBuf),
    /// Something else is there.
    #[error("{path}: a {kind}, not a device node")]
    NotANode {
        /// The path on the host.
        path: Utf8PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The spec's type is not the host's.
    #[error("{path}: of type {host} on this host, and {spec} by the spec; it is out of date")]
    Type {
        /// The path on the host.
        path: Utf8PathBuf,
        /// The type on the host.
        host: &'static str,
        /// The type in the spec.
        spec: String,
    },
    /// It cannot be looked at.
    #[error("looking at a device node")]
    Unreadable(#[source] Error),
}

/// The nodes with type, numbers and mode filled in from `host`; the given ones stay as they are.
///
/// A node that gives its type and numbers need not be there. Links are not followed: a spec has to
/// name the node itself.
pub fn fill(nodes: &[DeviceNode], host: &Root) -> Result<Vec<DeviceNode>, NodeError> {
    nodes.iter().map(|node| filled(node, host)).collect()
}

fn filled(node: &DeviceNode, host: &Root) -> Result<DeviceNode, NodeError> {
    let mut filled = node.clone();
    let path = node.source();
    let complete = match node.node_type.as_str() {
        "" => false,
        "p" => true,
        _ => node.major != 0,
    };
    let (kind, entry) = match look(host, path) {
        Ok(found) => found,
        Err(_) if complete => return Ok(filled),
        Err(error) => return Err(error),
    };
    filled.file_mode = node.file_mode.or(Some(entry.mode & 0o777));
    if complete {
        return Ok(filled);
    }
    if node.node_type.is_empty() {
        kind.clone_into(&mut filled.node_type);
    } else if node.node_type != kind {
        let spec = node.node_type.clone();
        return Err(NodeError::Type { path: path.into(), host: kind, spec });
    }
    // A minor number without a major one is not one.
    if kind != "p" && node.major == 0 {
        (filled.major, filled.minor) = (entry.major.into(), entry.minor.into());
    }
    Ok(filled)
}

/// The node itself, and its type in a spec's letters.
fn look(host: &Root, path: &Utf8Path) -> Result<(&'static str, Entry), NodeError> {
    let entry = host.entry(path).map_err(NodeError::Unreadable)?;
    let Some(entry) = entry else { return Err(NodeError::Missing(path.into())) };
    let kind = match entry.kind {
        Kind::BlockDevice => "b",
        Kind::CharDevice => "c",
        Kind::Fifo => "p",
        Kind::File | Kind::Directory | Kind::Symlink | Kind::Socket | Kind::Unknown => {
            return Err(NodeError::NotANode { path: path.into(), kind: entry.kind.word() });
        }
    };
    Ok((kind, entry))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A host with /dev/null (c 1:3, mode 0666), /dev/sda (b 8:0) and /dev/fifo; /dev/link leads to null.
    fn host() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("dev")).unwrap();
        std::fs::File::create(directory.path().join("dev/file")).unwrap();
        std::os::unix::fs::symlink("null", directory.path().join("dev/link")).unwrap();
        let entry = |kind, mode, major, minor| Entry {
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            major,
            minor,
            identity: (0, 0),
        };
        let nodes = BTreeMap::from([
            ("/dev/null".into(), entry(Kind::CharDevice, 0o666, 1, 3)),
            ("/dev/sda".into(), entry(Kind::BlockDevice, 0o4660, 8, 0)),
            ("/dev/fifo".into(), entry(Kind::Fifo, 0o600, 0, 0)),
        ]);
        let root = Root::open(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        (directory, root.with_recorded_nodes(nodes))
    }

    /// Type, major, minor and mode of a node of this path after filling in, or the error's first words.
    fn filled(
        path: &str,
        change: impl Fn(&mut DeviceNode),
    ) -> Result<(String, i64, i64, Option<u32>), String> {
        let (_directory, host) = host();
        let mut node = DeviceNode { path: path.into(), ..Default::default() };
        change(&mut node);
        match fill(std::slice::from_ref(&node), &host) {
            Ok(nodes) => {
                let node = nodes.into_iter().next().unwrap();
                Ok((node.node_type, node.major, node.minor, node.file_mode))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn typed(kind: &'static str, major: i64, minor: i64) -> impl Fn(&mut DeviceNode) {
        move |node| {
            (node.node_type, node.major, node.minor) = (kind.into(), major, minor);
        }
    }

    #[test]
    fn all_is_filled_in_from_the_hosts_node() {
        assert_eq!(filled("/dev/null", |_| {}), Ok(("c".into(), 1, 3, Some(0o666))));
        assert_eq!(filled("/dev/sda", |_| {}), Ok(("b".into(), 8, 0, Some(0o660))));
        assert_eq!(filled("/dev/fifo", |_| {}), Ok(("p".into(), 0, 0, Some(0o600))));
        assert_eq!(
            filled("/x", |node| node.host_path = "/dev/null".into()),
            Ok(("c".into(), 1, 3, Some(0o666)))
        );
    }

    #[test]
    fn what_is_given_stays() {
        assert_eq!(filled("/dev/null", |node| node.file_mode = Some(0)), Ok(("c".into(), 1, 3, Some(0))));
        assert_eq!(filled("/dev/null", typed("", 5, 0)), Ok(("c".into(), 5, 0, Some(0o666))));
        assert_eq!(filled("/dev/null", typed("", 0, 77)), Ok(("c".into(), 1, 3, Some(0o666))), "minor alone");
        assert_eq!(filled("/dev/null", typed("c", 0, 77)), Ok(("c".into(), 1, 3, Some(0o666))));
    }

    #[test]
    fn a_complete_node_need_not_be_there() {
        assert_eq!(filled("/dev/none", typed("c", 5, 6)), Ok(("c".into(), 5, 6, None)));
        assert_eq!(filled("/dev/none", typed("p", 0, 0)), Ok(("p".into(), 0, 0, None)));
        assert_eq!(filled("/dev/file", typed("u", 5, 6)), Ok(("u".into(), 5, 6, None)));
        assert_eq!(
            filled("/dev/null", typed("b", 5, 6)),
            Ok(("b".into(), 5, 6, Some(0o666))),
            "mode is filled in"
        );
    }

    #[test]
    fn what_is_no_node_or_of_another_type_is_an_error() {
        assert!(filled("/dev/none", |_| {}).unwrap_err().starts_with("/dev/none: no such device"));
        assert!(filled("/dev/none", typed("c", 0, 0)).unwrap_err().starts_with("/dev/none: no such device"));
        assert_eq!(filled("/dev/link", |_| {}), Err("/dev/link: a symbolic link, not a device node".into()));
        assert_eq!(filled("/dev/file", |_| {}), Err("/dev/file: a regular file, not a device node".into()));
        assert!(filled("/dev/null", typed("b", 0, 0)).unwrap_err().starts_with("/dev/null: of type c"));
        assert!(filled("/dev/null", typed("u", 0, 0)).unwrap_err().starts_with("/dev/null: of type c"));
    }
}
