//! A file tree that is never stepped out of: the only door to a host's, a driver's or a container's files.
//!
//! Every path given to a [`Root`] is *inside* it: absolute or relative makes no difference, `..`
//! stops at the root, and every symbolic link, absolute or not, resolves inside
//! (openat2(2), `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`). Reading opens regular files only,
//! without blocking; absence is `Ok(None)`. Writing goes through a [`Directory`]: one descriptor,
//! one name, and what stands there is replaced by a new inode or not at all.

mod bind;
mod cover;
mod directory;
mod entry;
mod extended;
mod inside;
mod kernel_fs;
mod memory;
mod mountinfo;
mod owners;
mod proc;
mod times;
mod trusted;
mod view;
mod walk;
mod watch;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{self, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

pub use bind::{ClonedMount, Restrictions};
pub use directory::{Directory, Durability, Lock};
pub use entry::{Entry, Kind};
pub(crate) use mountinfo::Peers;
pub use owners::{Exposure, Owners};
pub use times::{Attributes, Times};
pub use trusted::is_run_time;
pub(crate) use view::Views;
pub use view::view;
pub(crate) use walk::Walk;
pub use watch::{Changes, Stamp, Watch};

/// Most entries of one directory, more being an error; ten times the largest library directory seen.
const MAX_ENTRIES: usize = if cfg!(test) { 1_000 } else { 100_000 };

/// Most links on the way to one file, as many as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// How often a walk that a rename disturbed is tried again (openat2(2), EAGAIN).
const MAX_TRIES: u32 = 128;

/// A directory below which all paths stay.
#[derive(Debug)]
pub struct Root {
    inner: OwnedFd,
    path: Utf8PathBuf,
    recorded: Option<BTreeMap<Utf8PathBuf, Entry>>,
    absolute: OnceLock<Utf8PathBuf>,
    /// The directory that was judged as /dev, and whether it is the container's own.
    own_dev: OnceLock<((u64, u64), bool)>,
    /// Whether a path may lead over mounts.
    mounts: ResolveFlags,
}

/// Something found in a [`Root`], held by a descriptor that cannot read or write it (`O_PATH`).
#[derive(Debug)]
pub struct Found<'a> {
    root: &'a Root,
    path: &'a Utf8Path,
    fd: OwnedFd,
    /// What it is.
    pub entry: Entry,
}

impl Found<'_> {
    /// Opens it for reading, if it is a regular file; nothing blocks.
    ///
    /// The type is judged before, since opening a device can have effects, and the very same inode
    /// is opened, through the kernel's link to the descriptor: the path may mean another by now.
    /// That the link led there is checked, not believed.
    pub fn open(&self) -> Result<Opened> {
        if self.entry.kind != Kind::File {
            return Err(Error::WrongKind {
                path: self.root.outside(self.path),
                kind: self.entry.kind.word(),
                wanted: Kind::File.word(),
            });
        }
        let opened = reopen(self.fd.as_fd(), &self.entry);
        opened.map_err(|errno| self.root.error(self.path, "opening it", errno.into()))
    }

    /// Its path inside the root, every link followed, as the kernel tells it (proc(5), `/proc/self/fd`).
    pub fn real_path(&self) -> Result<Utf8PathBuf> {
        let (root, found) = (self.root.absolute_path()?, descriptor_path(self.fd.as_fd())?);
        match found.strip_prefix(&root) {
            Ok(inside) => Ok(Utf8Path::new("/").join(inside)),
            Err(_) => Err(Error::Format { path: found, reason: format!("lies outside {root}") }),
        }
    }
}

/// Opens for reading the regular file that an `O_PATH` descriptor holds.
fn reopen(fd: BorrowedFd<'_>, entry: &Entry) -> rustix::io::Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |flags| fs::open(descriptor_link(fd), flags, Mode::empty());
    // Whoever may not keep a file's time of access (open(2)) changes it.
    let file = match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags)?,
        opened => opened?,
    };
    let stat = fs::fstat(&file)?;
    if (stat.st_dev, stat.st_ino) != entry.identity {
        return Err(Errno::STALE);
    }
    Ok(Opened { file: file.into(), size: entry.size })
}

/// A regular file opened for ranged reads.
#[derive(Debug)]
pub struct Opened {
    /// The descriptor, read-only.
    pub file: File,
    /// Its size in bytes when it was opened.
    pub size: u64,
}

impl Opened {
    /// All bytes; more than `limit` of them are an error. `path` is for messages.
    fn read(self, limit: u64, path: Utf8PathBuf) -> Result<Vec<u8>> {
        if self.size > limit {
            return Err(Error::TooLarge { path, limit });
        }
        // Files of /proc and /sys say size 0, and any file can grow: the limit counts, not the size.
        let mut bytes = Vec::with_capacity(usize::try_from(self.size).unwrap_or(0) + 1);
        let read = self.file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::Io { path: path.clone(), action: "reading it", source })?;
        if bytes.len() as u64 > limit { Err(Error::TooLarge { path, limit }) } else { Ok(bytes) }
    }

    /// Up to `length` bytes from `offset`; fewer only where the file ends.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }
}

impl Root {
    /// Opens the directory at `path` of this machine; the last component may be a link.
    pub fn open(path: &Utf8Path) -> Result<Root> {
        let failed =
            |source: io::Error| Error::Io { path: path.to_owned(), action: "opening it as a root", source };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path.as_std_path(), flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok(Root::new(fd, path.to_owned()))
    }

    fn new(inner: OwnedFd, path: Utf8PathBuf) -> Root {
        let (absolute, own_dev) = (OnceLock::new(), OnceLock::new());
        Root { inner, path, recorded: None, absolute, own_dev, mounts: ResolveFlags::empty() }
    }

    /// The same tree with device nodes known from a record instead of from disk: a captured host,
    /// or an image that is built where no node can be made. Paths are inside the root, absolute.
    pub fn with_recorded_nodes(mut self, nodes: BTreeMap<Utf8PathBuf, Entry>) -> Root {
        self.recorded = Some(nodes);
        self
    }

    /// The directory's descriptor, for rules on what is below it.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }

    /// The directory's own path on this machine.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// The directory's absolute path on this machine, every link followed.
    pub fn absolute_path(&self) -> Result<Utf8PathBuf> {
        // Asked for with every resolved path, and always the same.
        match self.absolute.get() {
            Some(path) => Ok(path.clone()),
            None => {
                descriptor_path(self.inner.as_fd()).map(|path| self.absolute.get_or_init(|| path).clone())
            }
        }
    }

    /// A path inside this root as it reads on this machine.
    pub fn outside(&self, inside: &Utf8Path) -> Utf8PathBuf {
        self.path.join(inside.as_str().trim_start_matches('/'))
    }

    /// Whether this is the machine's own root directory.
    pub fn is_machine_root(&self) -> Result<bool> {
        let own = fs::fstat(&self.inner)
            .map_err(|errno| self.error("/".into(), "reading its status", errno.into()))?;
        let machine =
            fs::stat("/").map_err(|errno| self.error("/".into(), "reading its status", errno.into()))?;
        Ok((own.st_dev, own.st_ino) == (machine.st_dev, machine.st_ino))
    }

    /// What is at `path` itself; a link is not followed at the end.
    pub fn entry(&self, path: &Utf8Path) -> Result<Option<Entry>> {
        if let Some(recorded) = self.recorded(path) {
            return Ok(Some(recorded));
        }
        Ok(self.find_itself(path)?.map(|found| found.entry))
    }

    /// What `path` leads to, links followed.
    pub fn target(&self, path: &Utf8Path) -> Result<Option<Entry>> {
        if let Some(recorded) = self.recorded(path) {
            return Ok(Some(recorded));
        }
        Ok(self.find(path)?.map(|found| found.entry))
    }

    /// Finds what `path` leads to, links followed, and holds on to it.
    pub fn find<'a>(&'a self, path: &'a Utf8Path) -> Result<Option<Found<'a>>> {
        self.found(path, OFlags::PATH)
    }

    /// Finds what is at `path` itself, and holds on to it: a link at the end is found as a link.
    pub fn find_itself<'a>(&'a self, path: &'a Utf8Path) -> Result<Option<Found<'a>>> {
        self.found(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn found<'a>(&'a self, path: &'a Utf8Path, flags: OFlags) -> Result<Option<Found<'a>>> {
        let Some(fd) = self.at(path, flags, "looking it up")? else { return Ok(None) };
        let stat = fs::fstat(&fd).map_err(|errno| self.error(path, "reading its status", errno.into()))?;
        Ok(Some(Found { root: self, path, fd, entry: stat.into() }))
    }

    fn recorded(&self, path: &Utf8Path) -> Option<Entry> {
        self.recorded.as_ref().and_then(|nodes| nodes.get(path).cloned())
    }

    /// Opens a regular file for reading; anything else that is there is an error, nothing blocks.
    pub fn open_file(&self, path: &Utf8Path) -> Result<Option<Opened>> {
        self.find(path)?.map(|found| found.open()).transpose()
    }

    /// A regular file's bytes; one of more than `limit` bytes is an error.
    pub fn read(&self, path: &Utf8Path, limit: u64) -> Result<Option<Vec<u8>>> {
        self.open_file(path)?.map(|opened| opened.read(limit, self.outside(path))).transpose()
    }

    /// A regular file's text, bytes that are no UTF-8 replaced.
    pub fn read_text(&self, path: &Utf8Path, limit: u64) -> Result<Option<String>> {
        Ok(self.read(path, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The names in a directory with what each is, sorted; names that are no UTF-8 are left out.
    pub fn list(&self, path: &Utf8Path) -> Result<Option<Vec<(String, Kind)>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let mut names = match self.at(path, flags, "opening the directory")? {
            Some(fd) => {
                let names = self.names(path, fd, |_| true)?.into_iter();
                names.filter_map(|(name, kind)| Some((name.into_string().ok()?, kind))).collect()
            }
            None if self.recorded.is_none() => return Ok(None),
            None => Vec::new(),
        };
        let recorded = self.recorded.iter().flatten().filter(|(node, _)| node.parent() == Some(path));
        names.extend(recorded.filter_map(|(node, entry)| Some((node.file_name()?.to_owned(), entry.kind))));
        names.sort();
        names.dedup();
        Ok(Some(names))
    }

    /// The names in a directory that `keep` says yes to, whatever bytes they have.
    pub fn list_where(
        &self,
        path: &Utf8Path,
        keep: impl Fn(&OsStr) -> bool,
    ) -> Result<Option<Vec<(OsString, Kind)>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let fd = self.at(path, flags, "opening the directory")?;
        fd.map(|fd| self.names(path, fd, keep)).transpose()
    }

    fn names(
        &self,
        path: &Utf8Path,
        fd: OwnedFd,
        keep: impl Fn(&OsStr) -> bool,
    ) -> Result<Vec<(OsString, Kind)>> {
        let failed = |errno: Errno| self.error(path, "reading the directory", errno.into());
        let mut names = Vec::new();
        for entry in fs::Dir::new(fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || !keep(name) {
                continue;
            }
            if names.len() == MAX_ENTRIES {
                let reason = format!("more than {MAX_ENTRIES} entries, which no directory of this use has");
                return Err(Error::Format { path: self.outside(path), reason });
            }
            names.push((name.to_owned(), entry.file_type().into()));
        }
        Ok(names)
    }

    /// The text of a symbolic link; `None` also where something else is there.
    pub fn read_link(&self, path: &Utf8Path) -> Result<Option<Utf8PathBuf>> {
        let Some(handle) = self.at(path, OFlags::PATH | OFlags::NOFOLLOW, "looking it up")? else {
            return Ok(None);
        };
        self.link_text(path, fs::readlinkat(&handle, "", Vec::new()))
    }

    fn link_text(
        &self,
        path: &Utf8Path,
        read: rustix::io::Result<std::ffi::CString>,
    ) -> Result<Option<Utf8PathBuf>> {
        match read {
            Ok(text) => Ok(text.into_string().ok().map(Utf8PathBuf::from)),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(path, "reading the link", errno.into())),
        }
    }

    /// The path inside this root that `path` leads to once every link is followed.
    pub fn resolve(&self, path: &Utf8Path) -> Result<Option<Utf8PathBuf>> {
        self.find(path)?.map(|found| found.real_path()).transpose()
    }

    /// The directory at `path`, for work on single names in it.
    pub fn directory(&self, path: &Utf8Path) -> Result<Option<Directory>> {
        let found = self.at(path, OFlags::PATH | OFlags::DIRECTORY, "opening the directory")?;
        Ok(found.map(|fd| Directory { fd, path: self.outside(path) }))
    }

    /// The directory at `path`, made with mode 0755 where it or a parent is missing.
    pub fn make_directory(&self, path: &Utf8Path) -> Result<Directory> {
        const ACTION: &str = "making the directory";
        if let Some(directory) = self.directory(path)? {
            return Ok(directory);
        }
        let mut done = Utf8PathBuf::from("/");
        let mut parent =
            self.directory(&done)?.ok_or_else(|| self.error(&done, ACTION, Errno::NOENT.into()))?;
        for name in path.as_str().split('/').filter(|name| !name.is_empty()) {
            done.push(name);
            // What is there already may be a link to a place inside; only a missing name is made.
            parent = match self.directory(&done)? {
                Some(directory) => directory,
                None => parent
                    .make(name, self.outside(&done))
                    .map_err(|errno| self.error(&done, ACTION, errno.into()))?,
            };
        }
        Ok(parent)
    }

    /// Opens a path inside this root, links followed inside; `None` where nothing is there.
    ///
    fn at(&self, path: &Utf8Path, flags: OFlags, action: &'static str) -> Result<Option<OwnedFd>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | self.mounts;
        let mut tries = 0;
        loop {
            match fs::openat2(&self.inner, path.as_str(), flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(fd) => return Ok(Some(fd)),
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                // Something was renamed during the walk, so the kernel cannot vouch for the result.
                Err(Errno::AGAIN | Errno::INTR) if tries < MAX_TRIES => tries += 1,
                Err(Errno::XDEV) => return Err(proc::covered(&self.outside(path))),
                Err(errno) => return Err(self.error(path, action, errno.into())),
            }
        }
    }

    fn error(&self, path: &Utf8Path, action: &'static str, source: io::Error) -> Error {
        Error::Io { path: self.outside(path), action, source }
    }
}

/// The kernel's link to what a descriptor is open on (proc(5)).
fn descriptor_link(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn descriptor_path(fd: BorrowedFd<'_>) -> Result<Utf8PathBuf> {
    let link = descriptor_link(fd);
    let text = fs::readlink(&link, Vec::new()).map_err(|errno| Error::Io {
        path: link.into(),
        action: "asking for a descriptor's path (is /proc mounted?)",
        source: errno.into(),
    })?;
    text.into_string().map(Utf8PathBuf::from).map_err(|text| Error::Format {
        path: text.into_cstring().to_string_lossy().into_owned().into(),
        reason: "a path that is no UTF-8 text, which no spec can hold".to_owned(),
    })
}
