//! Optional mounts: sockets and directories of the host's daemons, which come and go, and never cost a start.
//!
//! They are looked up on the host when a container starts, so a spec lists them whether or not a daemon runs. A runtime
//! runs createContainer hooks before pivot_root(2), so the host's tree is still there.

use std::str::FromStr;

use camino::{Utf8Path, Utf8PathBuf};

use super::request::{BadRequest, plain};
use crate::error::{Error, Result};
use crate::root::{ClonedMount, Found, Kind, Restrictions};
use crate::{Notice, Root, apply};

/// Connecting to a socket needs write access, and so do clients that share a directory.
pub(crate) const RESTRICTIONS: Restrictions =
    Restrictions { read_only: false, no_suid: true, no_devices: true, no_exec: true };

/// A mount of a socket or directory of the host, if it is there; written `TYPE:HOST::CONTAINER`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OptionalMount {
    /// What it must be, [`Kind::Socket`] or [`Kind::Directory`]: `socket` or `directory` as TYPE.
    pub kind: Kind,
    /// The absolute path on the host.
    pub source: Utf8PathBuf,
    /// The absolute path in the container.
    pub path: Utf8PathBuf,
}

impl FromStr for OptionalMount {
    type Err = BadRequest;

    fn from_str(text: &str) -> std::result::Result<OptionalMount, BadRequest> {
        let (kind, paths) = text.split_once(':').ok_or(BadRequest::OptionalMount)?;
        let kinds = [Kind::Socket, Kind::Directory];
        let kind = kinds.into_iter().find(|it| it.word() == kind).ok_or(BadRequest::OptionalMount)?;
        let (source, path) = paths.split_once("::").ok_or(BadRequest::OptionalMount)?;
        if path.contains("::") {
            return Err(BadRequest::OptionalMount);
        }
        Ok(OptionalMount { kind, source: plain(source)?.into(), path: plain(path)?.into() })
    }
}

impl OptionalMount {
    /// What is to be mounted, if it is on the host; an error if it is something else, or if another user chose it.
    pub fn find<'a>(&'a self, host: &'a Root) -> Result<Option<Found<'a>>> {
        let Some(found) = host.find_trusted(&self.source)? else { return Ok(None) };
        if found.entry.kind == self.kind {
            return Ok(Some(found));
        }
        let (kind, wanted) = (found.entry.kind.word(), self.kind.word());
        Err(Error::WrongKind { path: host.outside(&self.source), kind, wanted })
    }
}

/// Mounts what is there; what is missing on the host is left out without a word.
pub(super) fn mount(root: &Root, mounts: &[OptionalMount]) -> Vec<Notice> {
    if mounts.is_empty() {
        return Vec::new();
    }
    let host = match Root::open("/".into()) {
        Ok(host) => host,
        Err(error) => return vec![error.into()],
    };
    mounts.iter().filter_map(|one| mount_one(root, &host, one).err().map(Notice::from)).collect()
}

fn mount_one(root: &Root, host: &Root, mount: &OptionalMount) -> Result<()> {
    let Some(source) = mount.find(host)? else { return Ok(()) };
    if is_mounted(root, &mount.path, &source)? {
        return Ok(());
    }
    attach(root, &source.clone_mount()?, &mount.path)
}

/// Whether a volume of the user, or an earlier run of the hook, shows the same file there already.
fn is_mounted(root: &Root, path: &Utf8Path, source: &Found<'_>) -> Result<bool> {
    Ok(root.find(path)?.is_some_and(|there| there.entry.identity == source.entry.identity))
}

/// Nothing is made on a volume, which may be the host's; a tmpfs of the container's own is not one.
fn attach(root: &Root, clone: &ClonedMount, path: &Utf8Path) -> Result<()> {
    if root.find(path)?.is_none() && !apply::is_own_place(root, path)? && !is_on_own_tmpfs(root, path)? {
        let reason = "on another mount than the container's root; nothing is made there".to_owned();
        return Err(Error::Format { path: root.outside(path), reason });
    }
    root.attach(clone, path, clone.restricted(RESTRICTIONS)?)
}

fn is_on_own_tmpfs(root: &Root, path: &Utf8Path) -> Result<bool> {
    let directory = path.parent().map(|parent| apply::nearest(root, parent)).transpose()?.flatten();
    directory.map_or(Ok(false), |directory| root.is_own_tmpfs(&directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_optional_mounts_are_read() {
        let mount = |kind, source: &str, path: &str| {
            Ok(OptionalMount { kind, source: source.into(), path: path.into() })
        };
        let cases = [
            ("socket:/run/a/socket::/run/b", mount(Kind::Socket, "/run/a/socket", "/run/b")),
            ("directory:/tmp/a:b::/tmp/c", mount(Kind::Directory, "/tmp/a:b", "/tmp/c")),
            ("/run/a::/run/b", Err(BadRequest::OptionalMount)),
            ("regular file:/a::/b", Err(BadRequest::OptionalMount)),
            ("socket:/a", Err(BadRequest::OptionalMount)),
            ("socket:/a::/b::/c", Err(BadRequest::OptionalMount)),
            ("socket:a::/b", Err(BadRequest::Path)),
            ("socket:/a/../b::/b", Err(BadRequest::Path)),
            ("socket:/a::/", Err(BadRequest::Path)),
            ("socket:::", Err(BadRequest::Path)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<OptionalMount>(), expected, "{text}");
        }
    }
}
