//! Noticing change in a tree: stamps of files, and inotify(7) on directories, polled by the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use camino::Utf8Path;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{self, AtFlags, OFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::{Directory, Entry, Root};
use crate::error::Result;

/// What is different about a file whenever it, or what its name stands for, has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    size: i64,
    changed: (i64, i64),
    modified: (i64, i64),
    names: u64,
}

impl Stamp {
    /// Whether both are of one file or directory, changed or not.
    pub fn same_file(self, other: Stamp) -> bool {
        self.file == other.file
    }

    /// Whether the file has more names than one: no watch on a directory tells of changes by the others.
    pub fn has_other_names(self) -> bool {
        self.names > 1
    }

    /// Whether a change from now on must show in the stamp: it is older than the clock's tick.
    pub fn is_settled(self) -> bool {
        let now = clock_gettime(ClockId::Realtime);
        let nanoseconds =
            |(seconds, rest): (i64, i64)| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        nanoseconds(self.changed) + TICK < nanoseconds((now.tv_sec, now.tv_nsec))
    }
}

/// Longer than any kernel's tick, in nanoseconds.
const TICK: i128 = 50_000_000;

impl From<fs::Stat> for Stamp {
    #[allow(clippy::unnecessary_cast, clippy::cast_possible_wrap)] // the types differ by architecture
    fn from(stat: fs::Stat) -> Self {
        Stamp {
            file: (stat.st_dev as u64, stat.st_ino as u64),
            size: stat.st_size as i64,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            names: stat.st_nlink as u64,
        }
    }
}

impl Root {
    /// What `path` leads to, links followed, and its stamp.
    pub fn stamp(&self, path: &Utf8Path) -> Result<Option<(Entry, Stamp)>> {
        let Some(fd) = self.at(path, OFlags::PATH, "looking it up")? else { return Ok(None) };
        let stat = fs::fstat(&fd).map_err(|errno| self.error(path, "reading its status", errno.into()))?;
        Ok(Some((stat.into(), stat.into())))
    }
}

impl Directory {
    /// What stands at `name`, links not followed, and its stamp.
    pub fn stamp(&self, name: &str) -> Result<Option<(Entry, Stamp)>> {
        match fs::statat(&self.fd, self.component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((stat.into(), stat.into()))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(name, "reading its status", errno)),
        }
    }
}

/// A queue of the changes in some directories, kept by the kernel until it is asked for.
#[derive(Debug)]
pub struct Watch {
    queue: OwnedFd,
    /// What the caller calls the directories of each watch; two names can be one directory.
    names: BTreeMap<i32, BTreeSet<usize>>,
}

/// What has changed since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Names in directories at which something has.
    pub names: BTreeSet<(usize, String)>,
    /// Directories that have themselves, or at names that are no UTF-8.
    pub directories: BTreeSet<usize>,
    /// Whether there was more than could be told: anything may have.
    pub anything: bool,
}

/// Most events taken at once; more of them are a flood, and everything is looked at anew.
const MAX_EVENTS: usize = 4096;

impl Watch {
    /// A queue that watches nothing yet; an error where the system has no more to give.
    pub fn new() -> io::Result<Watch> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Watch { queue, names: BTreeMap::new() })
    }

    /// Watches a directory under a number of the caller's, in place of what it named before.
    pub fn add(&mut self, number: usize, directory: &Directory) -> io::Result<()> {
        self.forget(number);
        let flags = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let path = format!("/proc/self/fd/{}", directory.fd.as_raw_fd());
        let watch = inotify::add_watch(&self.queue, path, flags)?;
        self.names.entry(watch).or_default().insert(number);
        Ok(())
    }

    /// Watches a directory no longer.
    pub fn forget(&mut self, number: usize) {
        for numbers in self.names.values_mut() {
            numbers.remove(&number);
        }
        let unused: Vec<i32> =
            self.names.iter().filter(|(_, numbers)| numbers.is_empty()).map(|(watch, _)| *watch).collect();
        for watch in unused {
            self.names.remove(&watch);
            // It fails where the directory is gone, and its watch with it.
            let _ = inotify::remove_watch(&self.queue, watch);
        }
    }

    /// What has changed since this was last asked, never waiting.
    pub fn changes(&self) -> Changes {
        let mut changes = Changes::default();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.queue, &mut buffer);
        for _ in 0..MAX_EVENTS {
            match events.next() {
                Err(Errno::AGAIN) => return changes,
                Err(Errno::INTR) => {}
                Err(_) => break,
                Ok(event) => self.take(&event, &mut changes),
            }
        }
        changes.anything = true;
        changes
    }

    fn take(&self, event: &inotify::Event<'_>, changes: &mut Changes) {
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            changes.anything = true;
        }
        for &number in self.names.get(&event.wd()).into_iter().flatten() {
            match event.file_name().map(|name| name.to_str()) {
                Some(Ok(name)) => changes.names.insert((number, name.to_owned())),
                // A name that is no UTF-8 cannot be told; whoever cares finds it in the directory.
                None | Some(Err(_)) => changes.directories.insert(number),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_settled_once_the_clock_has_ticked() {
        let fresh = tempfile::tempdir().unwrap();
        let stamp = |path: &str| Root::open(path.into()).unwrap().stamp("/".into()).unwrap().unwrap().1;
        assert!(!stamp(fresh.path().to_str().unwrap()).is_settled());
        assert!(stamp(env!("CARGO_MANIFEST_DIR")).is_settled(), "the sources are older than their program");
    }
}
