//! Files changed for as long as a machine runs: what they were, what they are made, and how that is taken back.
//!
//! A change is known whole before it is made, so that it can be taken back however far it got. What somebody
//! else has changed meanwhile keeps that: only what is ours leaves it ([`Sort::rest`]).

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ldcache;
use crate::root::{Attributes, Directory};
use crate::{Notice, Root, apply};

use super::{TREE, settings_file};

/// What a file is, and so what in it is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sort {
    /// A loader's cache.
    Cache,
    /// A list of ours in ld.so.conf.d.
    List,
    /// The loader's configuration, which includes the lists.
    Configuration,
    /// A settings file of nspawn.
    Settings,
}

/// A file before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// Where it is, absolute in its tree.
    pub(super) path: Utf8PathBuf,
    /// What it is.
    pub(super) sort: Sort,
    /// What it was, if it was there.
    pub(super) before: Option<Before>,
    /// What it is made.
    pub(super) after: Vec<u8>,
}

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Before {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Its owner, mode and times.
    pub(super) attributes: Attributes,
}

/// A directory in which files are changed, as it was; nothing if it was not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Where it is, absolute in its tree.
    pub(super) path: Utf8PathBuf,
    /// Its owner, mode and times.
    pub(super) before: Option<Attributes>,
}

/// All changes in one tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The directories, each after the one it lies in.
    pub(super) places: Vec<Place>,
    /// The files.
    pub(super) files: Vec<Change>,
}

impl Changes {
    /// Adds a directory, as it is now.
    pub(super) fn visit(&mut self, root: &Root, path: &str) -> Result<()> {
        let path = Utf8PathBuf::from(path);
        if !self.places.iter().any(|place| place.path == path) {
            let before = root.directory_attributes(&path)?;
            self.places.push(Place { path, before });
        }
        Ok(())
    }

    /// Makes the changes; the directories' times stay as they were.
    ///
    /// What is new belongs to whom the tree does: in a user namespace that is its root.
    pub(super) fn make(&self, root: &Root) -> Result<()> {
        let top = root.target(Utf8Path::new("/"))?;
        let made = self.make_files(root, top.map_or((0, 0), |top| (top.uid, top.gid)));
        let kept = self.keep_times(root).into_iter().next().map_or(Ok(()), Err);
        made.and(kept)
    }

    fn make_files(&self, root: &Root, owner: (u32, u32)) -> Result<()> {
        for place in self.places.iter().filter(|place| place.before.is_none()) {
            apply::own_directory(root, place.path.as_str())?.set_owner(owner.0, owner.1)?;
        }
        for change in &self.files {
            let (directory, name) = change.place(root)?;
            // As a power cut left it.
            if let Some(before) = &change.before {
                bring_back(&directory, name, &before.bytes)?;
            }
            let new = Attributes { mode: 0o644, uid: owner.0, gid: owner.1, times: None };
            let old = change.before.as_ref().map(|before| Attributes { times: None, ..before.attributes });
            directory.put_aside(name, &temporary(name), &change.after, &old.unwrap_or(new))?;
        }
        Ok(())
    }

    /// Gives directories the times that they have had.
    fn keep_times(&self, root: &Root) -> Vec<Error> {
        let keep = |place: &Place| {
            let Some(times) = place.before.and_then(|before| before.times) else { return Ok(()) };
            root.directory(&place.path)?.map_or(Ok(()), |directory| directory.set_times(times))
        };
        self.places.iter().filter_map(|place| keep(place).err()).collect()
    }

    /// The directories' times from now on: what others did in them since counts.
    pub(super) fn renew_times(&mut self, root: &Root) -> Result<()> {
        for place in &mut self.places {
            if let (Some(before), Some(now)) = (&mut place.before, root.directory_attributes(&place.path)?) {
                before.times = now.times;
            }
        }
        Ok(())
    }

    /// Takes back whatever of the changes was made.
    pub(super) fn take_back(&self, root: &Root) -> Left {
        let files = self.files.iter().rev().filter_map(|change| change.take_back(root).err()).collect();
        let made = self.places.iter().rev().filter(|place| place.before.is_none());
        let mut places: Vec<Error> =
            made.filter_map(|place| remove_directory(root, &place.path).err()).collect();
        places.extend(self.keep_times(root));
        Left { files, places }
    }
}

/// Why something could not be taken back.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Files that have something of ours still; none of their own is lost.
    pub(super) files: Vec<Error>,
    /// Directories, and their times.
    pub(super) places: Vec<Error>,
}

impl Left {
    /// All of it, told.
    pub(super) fn notices(self) -> impl Iterator<Item = Notice> {
        self.files.into_iter().chain(self.places).map(Notice::from)
    }
}

fn remove_directory(root: &Root, path: &Utf8Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match root.directory(parent)? {
        // Somebody else's files keep it.
        Some(parent) => parent.remove_empty(name).map(drop),
        None => Ok(()),
    }
}

impl Change {
    fn place(&self, root: &Root) -> Result<(Directory, &str)> {
        let (parent, name) = self.path.parent().zip(self.path.file_name()).unwrap_or(("/".into(), ""));
        Ok((apply::own_directory(root, parent.as_str())?, name))
    }

    fn take_back(&self, root: &Root) -> Result<()> {
        let parent = self.path.parent().unwrap_or("/".into());
        if root.directory(parent)?.is_none() {
            return Ok(());
        }
        let (directory, name) = self.place(root)?;
        let now = directory.read(name, ldcache::MAX_SIZE)?;
        let done = match self.fate(now.as_deref()) {
            Fate::Stays => Ok(()),
            Fate::Goes => directory.remove(name),
            Fate::Returns(before) if bring_back(&directory, name, &before.bytes)? => Ok(()),
            Fate::Returns(before) => {
                // systemd-nspawn may have given the whole tree to the users of a namespace since.
                let now = directory.attributes(name)?.unwrap_or(before.attributes);
                let attributes = Attributes { times: before.attributes.times, ..now };
                directory.put(name, &temporary(name), &before.bytes, &attributes)
            }
            Fate::Shrinks(bytes) => match directory.attributes(name)? {
                Some(attributes) => directory.put(name, &temporary(name), &bytes, &attributes),
                None => Ok(()),
            },
        };
        done.and(directory.remove(&temporary(name)))
    }

    /// What becomes of the file that reads so now.
    fn fate(&self, now: Option<&[u8]>) -> Fate<'_> {
        let is_ours = now == Some(&self.after);
        match (&self.before, now) {
            (Some(before), Some(now)) if is_ours && now != before.bytes => Fate::Returns(before),
            (None, Some(_)) if is_ours => Fate::Goes,
            (_, None) => Fate::Stays,
            (Some(before), Some(now)) if now == before.bytes => Fate::Stays,
            (before, Some(now)) => match self.sort.rest(now) {
                None => Fate::Stays,
                Some(rest) if rest.is_empty() && before.is_none() => Fate::Goes,
                Some(rest) => Fate::Shrinks(rest),
            },
        }
    }
}

/// Gives the file that was put aside its name again, if it still has these bytes: with all that is its own, and where there
/// is no room for another. There is a file of that name at any time.
pub(super) fn bring_back(directory: &Directory, name: &str, bytes: &[u8]) -> Result<bool> {
    let aside = temporary(name);
    // Whoever runs in the machine may have made anything of it.
    let is_it = directory.read(&aside, ldcache::MAX_SIZE).is_ok_and(|kept| kept.as_deref() == Some(bytes));
    if is_it {
        directory.rename(&aside, name)?;
    }
    Ok(is_it)
}

/// The name under which a file is written, and the one that it replaces is kept: always the same, so that what a
/// killed writer leaves is found.
pub(super) fn temporary(name: &str) -> String {
    format!(".{name}.gpuspec")
}

/// What becomes of a changed file.
#[derive(Debug, PartialEq, Eq)]
enum Fate<'a> {
    /// It is not ours, or nothing of it is.
    Stays,
    /// There was none.
    Goes,
    /// It is what we made it, and becomes what it was.
    Returns(&'a Before),
    /// Somebody else changed it, and these bytes are theirs.
    Shrinks(Vec<u8>),
}

impl Sort {
    /// What is left of such a file without what is ours; `None` where nothing is.
    pub(super) fn rest(self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self {
            // A cache that cannot be read has nothing of ours that a loader would find.
            Sort::Cache => ldcache::remove(bytes, |path| path.starts_with(TREE)).ok().flatten(),
            Sort::List => apply::unlisted(bytes, Utf8Path::new(TREE)),
            Sort::Configuration => apply::without_include(bytes),
            Sort::Settings => settings_file::has_block(bytes).then(|| settings_file::without_block(bytes)),
        }
    }
}
