//! Who can change what a path leads to: the owner and the mode of everything on the way to it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Entry, Kind, MAX_LINKS, Root};
use crate::error::{Error, Result};

/// /proc/self/uid_map of the initial user namespace (user_namespaces(7)).
const INITIAL: [&str; 3] = ["0", "0", "4294967295"];
/// The longest map and the longest number that is read.
const MAX_TEXT: u64 = 1 << 14;
/// The overflow uid where the kernel does not name one (proc(5)).
const OVERFLOW: u32 = 65534;

/// The users whose files a program trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owners(Vec<u32>);

impl Owners {
    /// Root alone: for what runs as root.
    pub fn root() -> Owners {
        Owners(vec![0])
    }

    /// Root and the user who runs this program.
    ///
    /// In a user namespace without the host's root also the overflow uid, which stands for every user that has no
    /// number there: the root of the host is one of them.
    pub fn caller() -> Owners {
        let mut owners = vec![0, rustix::process::geteuid().as_raw()];
        if in_user_namespace() && !has_hosts_root(uid_map()) {
            owners.push(overflow());
        }
        Owners(owners)
    }

    /// Whether a user is one of them.
    pub(super) fn has(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }

    /// Why a user other than these can change the file or directory, if one can.
    pub fn exposure(&self, entry: &Entry) -> Option<Exposure> {
        // In a sticky directory (/tmp) others can add names, but not remove those of its owner.
        let is_sticky = entry.kind == Kind::Directory && entry.mode & 0o1000 != 0;
        // A user's private group has the user's number (USERGROUPS_ENAB, login.defs(5)); no other user is in it.
        let is_private = entry.uid != 0 && entry.gid == entry.uid;
        let others = if is_private { 0o002 } else { 0o022 };
        if !self.has(entry.uid) {
            Some(Exposure::Owner(entry.uid))
        // The mode of a link means nothing (symlink(7)).
        } else if entry.kind != Kind::Symlink && entry.mode & others != 0 && !is_sticky {
            Some(Exposure::Mode(entry.mode))
        } else {
            None
        }
    }
}

/// How a user who is not trusted can change a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// The file belongs to this user.
    Owner(u32),
    /// The group or all users can write to it.
    Mode(u32),
}

impl fmt::Display for Exposure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exposure::Owner(uid) => write!(formatter, "belongs to user {uid}"),
            Exposure::Mode(mode) if mode & 0o002 != 0 => {
                write!(formatter, "can be written by all users (mode {mode:04o})")
            }
            Exposure::Mode(mode) => write!(formatter, "can be written by its group (mode {mode:04o})"),
        }
    }
}

impl Root {
    /// The first file, link or directory on the way to `path`, itself included, that a user other than
    /// `owners` can change.
    ///
    /// Links are followed by hand, so that each link and the directories on both sides of it count.
    /// `None` also where something on the way is missing: what is not there is not judged.
    pub fn exposed(&self, path: &Utf8Path, owners: &Owners) -> Result<Option<(Utf8PathBuf, Exposure)>> {
        let mut done = Utf8PathBuf::from("/");
        let mut rest = names(path);
        let mut links = 0;
        if let Some(exposure) = self.entry(&done)?.and_then(|entry| owners.exposure(&entry)) {
            return Ok(Some((done, exposure)));
        }
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                done.pop();
                continue;
            }
            let step = done.join(name);
            let Some(entry) = self.entry(&step)? else { return Ok(None) };
            if let Some(exposure) = owners.exposure(&entry) {
                return Ok(Some((step, exposure)));
            }
            if entry.kind != Kind::Symlink {
                done = step;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                let reason = format!("more than {MAX_LINKS} links on the way");
                return Err(Error::Format { path: self.outside(path), reason });
            }
            let Some(target) = self.read_link(&step)? else {
                let reason = "a link whose text is not UTF-8".to_owned();
                return Err(Error::Format { path: self.outside(&step), reason });
            };
            if target.is_absolute() {
                done = "/".into();
            }
            let mut ahead = names(&target);
            ahead.append(&mut rest);
            rest = ahead;
        }
        Ok(None)
    }
}

fn names(path: &Utf8Path) -> VecDeque<String> {
    let names = path.as_str().split('/').filter(|name| !matches!(*name, "" | "."));
    names.map(str::to_owned).collect()
}

/// Whether this process has a user namespace of its own.
pub(super) fn in_user_namespace() -> bool {
    is_partial(uid_map())
}

/// /proc/self/uid_map, read once; empty where it cannot be read.
fn uid_map() -> &'static str {
    static MAP: OnceLock<String> = OnceLock::new();
    MAP.get_or_init(|| read_proc("self/uid_map"))
}

fn read_proc(path: &str) -> String {
    let text = Root::proc().and_then(|proc| proc.read_text(path.into(), MAX_TEXT));
    text.ok().flatten().unwrap_or_default()
}

/// Whether a map is another than that of the initial namespace.
fn is_partial(map: &str) -> bool {
    !map.trim().is_empty() && !map.split_whitespace().eq(INITIAL)
}

/// Whether a map has user 0 of the namespace around this one (user_namespaces(7), uid_map).
fn has_hosts_root(map: &str) -> bool {
    map.lines().any(|line| line.split_whitespace().nth(1) == Some("0"))
}

fn overflow() -> u32 {
    read_proc("sys/kernel/overflowuid").trim().parse().unwrap_or(OVERFLOW)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    fn mode(path: &std::path::Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A tree with /safe/file, and the root that it is.
    fn tree() -> (tempfile::TempDir, Root) {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("safe")).unwrap();
        fs::write(tree.path().join("safe/file"), "").unwrap();
        for name in ["", "safe"] {
            mode(&tree.path().join(name), 0o755);
        }
        mode(&tree.path().join("safe/file"), 0o644);
        let root = Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
        (tree, root)
    }

    fn exposed(root: &Root, path: &str) -> Option<(String, Exposure)> {
        let found = root.exposed(path.into(), &Owners::caller()).unwrap();
        found.map(|(path, exposure)| (path.to_string(), exposure))
    }

    #[test]
    fn modes_on_the_way_count() {
        let (tree, root) = tree();
        assert_eq!(exposed(&root, "/safe/file"), None);
        assert_eq!(exposed(&root, "/safe/missing"), None);
        mode(&tree.path().join("safe"), 0o1777);
        assert_eq!(exposed(&root, "/safe/file"), None, "sticky");
        for (name, bits) in [("safe/file", 0o664), ("safe/file", 0o646), ("safe", 0o775), ("safe", 0o757)] {
            let (_other, root) = {
                let (tree, root) = self::tree();
                mode(&tree.path().join(name), bits);
                (tree, root)
            };
            assert_eq!(exposed(&root, "/safe/file"), Some((format!("/{name}"), Exposure::Mode(bits))));
        }
    }

    /// N2: the way as given counts, not only the way that is left once links are followed.
    #[test]
    fn n2_links_and_the_directories_on_both_sides_count() {
        let (tree, root) = tree();
        let open = tree.path().join("open");
        fs::create_dir(&open).unwrap();
        symlink("/safe/file", open.join("absolute")).unwrap();
        symlink("../safe/file", open.join("relative")).unwrap();
        symlink("../open", tree.path().join("safe/back")).unwrap();
        symlink("back/absolute", tree.path().join("safe/chain")).unwrap();
        for path in ["/open/absolute", "/open/relative", "/safe/chain", "/open/./../safe/back/relative"] {
            mode(&open, 0o755);
            assert_eq!(exposed(&root, path), None, "{path}");
            mode(&open, 0o777);
            assert_eq!(exposed(&root, path), Some(("/open".into(), Exposure::Mode(0o777))), "{path}");
        }
        symlink("loop", tree.path().join("loop")).unwrap();
        assert!(root.exposed("/loop".into(), &Owners::caller()).is_err());
    }

    #[test]
    fn n2_the_owner_of_each_link_and_directory_counts() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (tree, root) = tree();
        symlink("safe/file", tree.path().join("link")).unwrap();
        assert_eq!(exposed(&root, "/link"), None);
        lchown(tree.path().join("link"), Some(1001), Some(1001)).unwrap();
        assert_eq!(exposed(&root, "/link"), Some(("/link".into(), Exposure::Owner(1001))));
        chown(tree.path().join("safe"), Some(65534), None).unwrap();
        assert_eq!(exposed(&root, "/safe/file"), Some(("/safe".into(), Exposure::Owner(65534))));
    }

    #[test]
    fn a_users_private_group_may_write() {
        let file = |uid, gid, mode| Entry {
            kind: Kind::File,
            mode,
            uid,
            gid,
            size: 0,
            major: 0,
            minor: 0,
            identity: (0, 0),
        };
        let owners = Owners(vec![0, 1000]);
        assert_eq!(owners.exposure(&file(1000, 1000, 0o664)), None);
        for (uid, gid, mode) in [(1000, 100, 0o664), (1000, 1000, 0o666), (0, 0, 0o664)] {
            assert_eq!(owners.exposure(&file(uid, gid, mode)), Some(Exposure::Mode(mode)), "{uid} {gid}");
        }
        assert_eq!(owners.exposure(&file(1001, 1001, 0o644)), Some(Exposure::Owner(1001)));
    }

    #[test]
    fn user_namespaces_are_known_by_their_map() {
        for (map, is_partial, has_hosts_root) in [
            ("", false, false),
            ("         0          0 4294967295\n", false, true),
            ("         0       1000          1\n", true, false),
            ("0 1000 1\n1000 0 1\n", true, true),
            ("0 100000 65536\n65536 1 1\n", true, false),
        ] {
            assert_eq!(super::is_partial(map), is_partial, "{map}");
            assert_eq!(super::has_hosts_root(map), has_hosts_root, "{map}");
        }
    }
}
