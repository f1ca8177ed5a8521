//! New entries into a loader cache: merged in the loader's order, ahead of others of the same name.
//!
//! Nothing is sorted or looked up anew: the image's entries keep their order and their strings, which
//! only shift by as much as the table before them grows.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;

use camino::Utf8Path;

use super::order::compare;
use super::{Abi, Budget, Cache, ENTRY, HEADER, MAGIC, Malformed, Record, extension};

/// A library to be found by its name, whatever the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Library<'a> {
    /// Which programs can use it.
    pub abi: Abi,
    /// The directory in the container that it lies in, absolute and without a slash at the end.
    pub directory: &'a Utf8Path,
    /// Its file name there.
    pub name: &'a str,
}

/// The cache `file` with these libraries first among those of their name and ABI; `None` where
/// that is what it says already.
///
/// Without a file, the cache of these libraries alone. A table of the old format ahead of the new one is
/// not carried over: no loader since glibc 2.2 looks at it.
pub fn insert(file: Option<&[u8]>, libraries: &[Library<'_>]) -> Result<Option<Vec<u8>>, Malformed> {
    let empty = empty();
    let cache = Cache::parse(file.unwrap_or(&empty))?;
    let merged = merge(&cache, &sorted(libraries))?;
    merged.map(|steps| write(&cache, &steps)).transpose()
}

/// In the cache's order, of equals the first given first, each once.
fn sorted<'a>(libraries: &'a [Library<'a>]) -> Vec<&'a Library<'a>> {
    let mut all: Vec<&Library<'_>> = libraries.iter().collect();
    let mut seen = BTreeSet::new();
    all.retain(|library| seen.insert(library.key()));
    all.sort_by(|a, b| b.order(a.name.as_bytes(), a.abi.flags()));
    all
}

/// A cache without entries: magic, byte order, no strings.
fn empty() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let order = [if cfg!(target_endian = "little") { 2 } else { 3 }];
    let known = MAGIC.iter().chain(&[0; 8]).chain(&order);
    header.iter_mut().zip(known).for_each(|(byte, known)| *byte = *known);
    header
}

impl Library<'_> {
    /// How this entry stands to another: by name, then by flags. A cache descends in this order, and
    /// of equals the loader takes the first.
    fn order(&self, name: &[u8], flags: u32) -> Ordering {
        compare(self.name.as_bytes(), name).then_with(|| self.abi.flags().cmp(&flags))
    }

    /// What tells it from every other: name, directory, flags.
    fn key(&self) -> Key<'_> {
        (self.name.as_bytes(), self.directory.as_str().as_bytes(), self.abi.flags())
    }

    fn path_length(&self) -> usize {
        self.directory.as_str().len() + 1 + self.name.len()
    }
}

type Key<'a> = (&'a [u8], &'a [u8], u32);

/// What tells the library of a record, where it can be one of those that are inserted here.
fn key<'a>(
    cache: &Cache<'a>,
    name: &'a [u8],
    record: &Record,
    budget: &mut Budget,
) -> Result<Option<Key<'a>>, Malformed> {
    if record.hwcap != 0 {
        return Ok(None);
    }
    let path = cache.string(record.value, budget)?;
    let directory = path.strip_suffix(name).and_then(|head| head.strip_suffix(b"/"));
    Ok(directory.map(|directory| (name, directory, record.flags)))
}

/// One entry of the cache to be written.
#[derive(Debug)]
enum Step<'a> {
    Keep(Record),
    Insert(&'a Library<'a>),
}

/// The entries of the new cache in order; `None` where they are those of the old one.
fn merge<'a>(cache: &Cache<'_>, libraries: &[&'a Library<'a>]) -> Result<Option<Vec<Step<'a>>>, Malformed> {
    let ours: BTreeSet<Key<'_>> = libraries.iter().map(|library| library.key()).collect();
    let mut budget = cache.budget();
    let mut steps = Vec::with_capacity(cache.count + libraries.len());
    let mut changed = false;
    let mut waiting = libraries;
    let mut latest: Option<&Library<'_>> = None;
    'records: for record in cache.records() {
        let name = cache.string(record.key, &mut budget)?;
        while let Some((library, rest)) = waiting.split_first() {
            let order = library.order(name, record.flags);
            if order == Ordering::Less {
                break;
            }
            (waiting, latest) = (rest, Some(*library));
            if order == Ordering::Equal && key(cache, name, &record, &mut budget)? == Some(library.key()) {
                steps.push(Step::Keep(record));
                continue 'records;
            }
            steps.push(Step::Insert(library));
            changed = true;
        }
        // Entries of one name stand together: what says once more what one of ours says follows it.
        latest = latest.filter(|latest| compare(latest.name.as_bytes(), name).is_eq());
        let ours_again = latest.is_some()
            && key(cache, name, &record, &mut budget)?.is_some_and(|key| ours.contains(&key));
        if ours_again {
            changed = true;
        } else {
            steps.push(Step::Keep(record));
        }
    }
    changed |= !waiting.is_empty();
    steps.extend(waiting.iter().map(|library| Step::Insert(library)));
    Ok(changed.then_some(steps))
}

/// Header, entries, the old strings, the new ones, the extension block.
fn write(cache: &Cache<'_>, steps: &[Step<'_>]) -> Result<Vec<u8>, Malformed> {
    let strings = cache.body.get(cache.strings.clone()).unwrap_or_default();
    let shift = Shift { from: cache.strings.clone(), to: HEADER + steps.len() * ENTRY, holes: Vec::new() };
    let inserted = || {
        steps.iter().filter_map(|step| match step {
            Step::Insert(library) => Some(*library),
            Step::Keep(_) => None,
        })
    };
    let added: usize = inserted().map(|library| library.path_length() + 1).sum();
    let block = cache.extension.and_then(|start| cache.body.get(start..)).unwrap_or_default();

    let mut file = Vec::with_capacity(shift.to + strings.len() + added + 4 + block.len());
    file.extend_from_slice(cache.body.get(..HEADER).unwrap_or_default());
    put(&mut file, 20, word(steps.len())?);
    put(&mut file, 24, word(strings.len() + added)?);
    put(&mut file, 32, 0);
    let mut next = shift.to + strings.len();
    for step in steps {
        match step {
            Step::Keep(record) => push(&mut file, &shift.record(record)?),
            Step::Insert(library) => {
                // The name is the path's tail.
                let (value, key) = (word(next)?, word(next + library.path_length() - library.name.len())?);
                push(&mut file, &Record { flags: library.abi.flags(), key, value, hwcap: 0 });
                next += library.path_length() + 1;
            }
        }
    }
    file.extend_from_slice(strings);
    for library in inserted() {
        let parts = [library.directory.as_str(), "/", library.name, "\0"];
        parts.iter().for_each(|part| file.extend_from_slice(part.as_bytes()));
    }
    if !block.is_empty() {
        file.resize(file.len().next_multiple_of(4), 0);
        let start = file.len();
        put(&mut file, 32, word(start)?);
        file.extend(extension::moved(cache, block, start, &shift)?);
    }
    Ok(file)
}

/// How far a range of a cache moves.
#[derive(Debug)]
pub(super) struct Shift {
    pub(super) from: Range<usize>,
    pub(super) to: usize,
    /// What of it does not come along, in order.
    pub(super) holes: Vec<Range<usize>>,
}

impl Shift {
    /// Where an offset lies afterwards; one that does not lie in the range is an error.
    pub(super) fn offset(&self, offset: u32) -> Result<u32, Malformed> {
        let old = usize::try_from(offset).ok().filter(|old| self.from.contains(old));
        let old = old.ok_or(Malformed("an offset of it leads outside the part it belongs to"))?;
        let holes = self.holes.iter().take_while(|hole| hole.start < old);
        word(old - self.from.start + self.to - holes.map(Range::len).sum::<usize>())
    }

    pub(super) fn record(&self, record: &Record) -> Result<Record, Malformed> {
        Ok(Record { key: self.offset(record.key)?, value: self.offset(record.value)?, ..*record })
    }
}

pub(super) fn word(number: usize) -> Result<u32, Malformed> {
    u32::try_from(number).map_err(|_| Malformed("larger than any loader cache can honestly be"))
}

pub(super) fn put(file: &mut [u8], at: usize, word: u32) {
    if let Some(place) = file.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = word.to_ne_bytes();
    }
}

pub(super) fn push(file: &mut Vec<u8>, record: &Record) {
    for word in [record.flags, record.key, record.value, 0] {
        file.extend_from_slice(&word.to_ne_bytes());
    }
    file.extend_from_slice(&record.hwcap.to_ne_bytes());
}

#[cfg(test)]
mod tests;
