//! Sources of mounts that no other user chose: each link and each directory on the way is judged as it is opened.
//!
//! `fs.protected_symlinks` and `fs.protected_hardlinks` are off by default in the kernel, so in a directory such as /tmp
//! every user can put a link where a daemon's directory was, or give a file of root's a second name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Found, MAX_LINKS, Owners, Root};
use crate::error::{Error, Result};

/// Each directory on the way is held open, and the hook may have 64 files.
const MAX_DEPTH: usize = 40;
const WORLD_WRITABLE: u32 = 0o002;
const GROUP_WRITABLE: u32 = 0o020;

/// What is opened at one component of a path.
struct Step {
    fd: OwnedFd,
    stat: fs::Stat,
}

impl Root {
    /// Finds what `path` leads to, if no other user than root or this process chose it.
    ///
    /// A link of another user is an error, and so is any link in a directory that all may write to. In a directory that
    /// others may write to, all or its group, a file must be root's or this process's, under its one name. In a user namespace without the host's root,
    /// an owner who has no number there counts as root.
    pub fn find_trusted<'a>(&'a self, path: &'a Utf8Path) -> Result<Option<Found<'a>>> {
        let failed = |errno: Errno| self.error(path, "looking it up", errno.into());
        let mut above: Vec<Step> = Vec::new();
        let mut here = self.step(self.inner.as_fd(), ".").map_err(failed)?;
        let mut left = components(path);
        let mut links = 0;
        let owners = Owners::caller();
        while let Some(name) = left.pop() {
            if name == ".." {
                here = above.pop().unwrap_or(here);
                continue;
            }
            let next = match self.step(here.fd.as_fd(), &name) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            };
            judge(&owners, &here.stat, &next.stat, &name).map_err(|reason| self.distrusted(path, reason))?;
            if FileType::from_raw_mode(next.stat.st_mode) != FileType::Symlink {
                above.push(std::mem::replace(&mut here, next));
                if above.len() > MAX_DEPTH {
                    return Err(self.distrusted(path, format!("more than {MAX_DEPTH} directories deep")));
                }
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(failed(Errno::LOOP));
            }
            let text = self.link_text(path, fs::readlinkat(&next.fd, "", Vec::new()))?;
            let text = text.ok_or_else(|| failed(Errno::ILSEQ))?;
            if text.is_absolute() {
                above.truncate(1);
                here = above.pop().unwrap_or(here);
            }
            left.extend(components(&text));
        }
        Ok(Some(Found { root: self, path, fd: here.fd, entry: here.stat.into() }))
    }

    /// One component, links not followed; a mount on it is entered.
    fn step(&self, parent: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Step> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | self.mounts;
        let fd = fs::openat2(parent, name, flags, Mode::empty(), resolve)?;
        let stat = fs::fstat(&fd)?;
        Ok(Step { fd, stat })
    }

    fn distrusted(&self, path: &Utf8Path, reason: String) -> Error {
        Error::Format { path: self.outside(path), reason }
    }
}

/// The components of a path, the last one first; `..` at the top is the caller's.
fn components(path: &Utf8Path) -> Vec<String> {
    let named = |component| match component {
        Utf8Component::Normal(name) => Some(name.to_owned()),
        Utf8Component::ParentDir => Some("..".to_owned()),
        Utf8Component::RootDir | Utf8Component::CurDir | Utf8Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(named).collect()
}

/// Why what lies in a directory is not trusted.
fn judge(
    owners: &Owners,
    directory: &fs::Stat,
    found: &fs::Stat,
    name: &str,
) -> std::result::Result<(), String> {
    let owner = found.st_uid;
    let kind = FileType::from_raw_mode(found.st_mode);
    let is_open = directory.st_mode & WORLD_WRITABLE != 0;
    // An access list shows in the group's bits (acl(5)).
    let is_shared = directory.st_mode & (WORLD_WRITABLE | GROUP_WRITABLE) != 0;
    if kind == FileType::Symlink && is_open {
        return Err(format!("`{name}` is a symbolic link in a world-writable directory; not followed"));
    }
    if kind == FileType::Symlink && !owners.has(owner) {
        return Err(format!("`{name}` is a symbolic link owned by user {owner}; not followed"));
    }
    if is_shared && !owners.has(owner) {
        return Err(format!("`{name}` belongs to user {owner}, in a directory that others can write to"));
    }
    if is_shared && kind != FileType::Directory && found.st_nlink > 1 {
        let count = found.st_nlink;
        return Err(format!("`{name}` has {count} hard links, in a directory that others can write to"));
    }
    Ok(())
}

/// Directories whose files come and go with a service or a boot.
const RUN_TIME: [&str; 5] = ["/run", "/var/run", "/tmp", "/var/tmp", "/dev/shm"];

/// Whether a path lies in a directory whose files come and go with a service or a boot.
pub fn is_run_time(path: &Utf8Path) -> bool {
    let mut plain = Utf8PathBuf::from("/");
    plain.extend(components(path).into_iter().rev());
    RUN_TIME.iter().any(|top| plain.starts_with(top))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &std::path::Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// `tmp` is for all, `etc` is not; other users' files are made where the test may give files away.
    fn tree() -> (tempfile::TempDir, Root) {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        for name in ["tmp/own/sub", "etc/sub"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        mode(&at("tmp"), 0o1777);
        for name in ["etc/file", "tmp/file", "etc/secret"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::fs::hard_link(at("etc/secret"), at("tmp/secret")).unwrap();
        for (text, name) in [
            ("/etc", "tmp/link"),
            ("sub", "etc/link"),
            ("../../../etc/./sub/..", "etc/sub/up"),
            ("/tmp/own", "etc/absolute"),
            ("loop", "etc/loop"),
            ("/tmp/link", "etc/by-link"),
        ] {
            symlink(text, at(name)).unwrap();
        }
        let root = Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
        (tree, root)
    }

    #[test]
    fn h9_links_and_second_names_in_world_writable_directories_are_refused() {
        let (_tree, root) = tree();
        let cases = [
            ("/tmp/own/sub", Ok(true)),
            ("/tmp/file", Ok(true)),
            ("/tmp/none", Ok(false)),
            ("/etc/file/x", Ok(false)),
            ("/etc/link", Ok(true)),
            ("/etc/sub/up/file", Ok(true)),
            ("/etc/absolute/sub", Ok(true)),
            ("/../../etc/file", Ok(true)),
            ("/tmp/link", Err("`link` is a symbolic link in a world-writable directory")),
            ("/tmp/link/file", Err("`link` is a symbolic link in a world-writable directory")),
            ("/etc/by-link", Err("`link` is a symbolic link in a world-writable directory")),
            ("/tmp/secret", Err("`secret` has 2 hard links")),
            ("/etc/loop", Err("Too many levels of symbolic links")),
        ];
        for (path, expected) in cases {
            let found = root.find_trusted(path.into());
            match expected {
                Ok(is_there) => assert_eq!(found.unwrap().is_some(), is_there, "{path}"),
                Err(word) => {
                    let text = crate::error::chain(&found.unwrap_err());
                    assert!(text.contains(word) && text.contains(path), "{path}: {text}");
                }
            }
        }
        let ends = |path: &str| root.find_trusted(path.into()).unwrap().unwrap().real_path().unwrap();
        assert_eq!(ends("/etc/sub/up/file"), "/etc/file");
        assert_eq!(ends("/etc/absolute/sub"), "/tmp/own/sub");
    }

    #[test]
    fn h9_what_another_user_put_there_is_refused() {
        let (tree, root) = tree();
        let at = |name: &str| tree.path().join(name);
        // A group or an access list may write there, which the same bits show.
        std::fs::create_dir(at("group")).unwrap();
        std::fs::write(at("group/file"), "x").unwrap();
        std::fs::hard_link(at("etc/secret"), at("group/secret")).unwrap();
        symlink("/etc/file", at("group/link")).unwrap();
        mode(&at("group"), 0o775);
        let given = [at("tmp/own"), at("tmp/file"), at("etc/link"), at("etc/sub"), at("group/file")];
        if given.iter().any(|path| std::os::unix::fs::lchown(path, Some(1001), None).is_err()) {
            eprintln!("skipped: needs CAP_CHOWN");
            return;
        }
        for (path, word) in [
            ("/tmp/own", Some("`own` belongs to user 1001")),
            ("/tmp/own/sub", Some("`own` belongs to user 1001")),
            ("/tmp/file", Some("`file` belongs to user 1001")),
            ("/etc/link", Some("`link` is a symbolic link owned by user 1001")),
            // A daemon's own directory, as /run/nvidia-persistenced is.
            ("/etc/sub", None),
            ("/group/file", Some("`file` belongs to user 1001")),
            ("/group/secret", Some("`secret` has 3 hard links")),
            ("/group/link", None),
        ] {
            let refused = root.find_trusted(path.into()).err().map(|error| error.to_string());
            assert_eq!(word.is_some(), refused.is_some(), "{path}: {refused:?}");
            assert!(refused.unwrap_or_default().contains(word.unwrap_or_default()), "{path}");
        }
    }

    #[test]
    fn h9_a_link_that_is_not_text_is_an_error() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let (tree, root) = tree();
        symlink(OsStr::from_bytes(b"\xff"), tree.path().join("etc/sub/odd")).unwrap();
        std::fs::write(tree.path().join("etc/sub/file"), "x").unwrap();
        assert!(root.find_trusted("/etc/sub/odd/file".into()).is_err());
        assert!(root.exposed("/etc/sub/odd/file".into(), &Owners::caller()).is_err());
    }

    #[test]
    fn is_run_time_accepts_only_run_time_directories() {
        for path in ["/run/a", "/var/run/a/b", "/tmp/a", "/var/tmp/a", "/dev/shm/a", "/./run/a", "//tmp/a"] {
            assert!(is_run_time(path.into()), "{path}");
        }
        for path in ["/runx/a", "/usr/lib/a", "/var/lib/tmp/a", "/dev/null"] {
            assert!(!is_run_time(path.into()), "{path}");
        }
    }
}
