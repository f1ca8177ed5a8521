//! Entries out of a loader cache: the opposite of an insertion, after which the file is what it was before.

use std::ops::Range;

use camino::Utf8Path;

use super::extension::{self, names};
use super::insert::{Shift, push, put, word};
use super::{Cache, ENTRY, HEADER, Malformed, Record};

/// The cache `file` without the entries whose path is one of `ours`; `None` where it has none.
///
/// Strings that only they had go with them.
pub fn remove(file: &[u8], ours: impl Fn(&Utf8Path) -> bool) -> Result<Option<Vec<u8>>, Malformed> {
    let cache = Cache::parse(file)?;
    let (mut kept, mut gone) = (Vec::with_capacity(cache.count), Vec::new());
    let mut budget = cache.budget();
    for record in cache.records() {
        let path = cache.string(record.value, &mut budget)?;
        let path = str::from_utf8(path).ok();
        match path.is_some_and(|path| ours(Utf8Path::new(path))) {
            true => gone.push(record),
            false => kept.push(record),
        }
    }
    if gone.is_empty() {
        return Ok(None);
    }
    let holes = holes(&cache, &kept, &gone)?;
    write(&cache, &kept, holes).map(Some)
}

/// The parts of the string table that only the records to be removed name.
fn holes(cache: &Cache<'_>, kept: &[Record], gone: &[Record]) -> Result<Vec<Range<usize>>, Malformed> {
    let mut used: Vec<u32> = kept.iter().flat_map(|record| [record.key, record.value]).collect();
    used.extend(names(cache)?);
    let used = strings(cache, used)?;
    let mut holes: Vec<Range<usize>> = Vec::new();
    for string in strings(cache, gone.iter().flat_map(|record| [record.key, record.value]).collect())? {
        // Each is the tail of what precedes it up to the last NUL, so one with the same end has the rest.
        let after = used.partition_point(|other| other.start <= string.start);
        let before = after.checked_sub(1).and_then(|index| used.get(index));
        let covered = holes.last().map_or(0, |hole| hole.end);
        if before.is_some_and(|other| other.end == string.end) || string.start < covered {
            continue;
        }
        let end =
            used.get(after).filter(|other| other.end == string.end).map_or(string.end, |other| other.start);
        holes.push(string.start..end);
    }
    Ok(holes)
}

/// Where the strings at these offsets lie in the cache, their NULs with them, in order.
fn strings(cache: &Cache<'_>, mut offsets: Vec<u32>) -> Result<Vec<Range<usize>>, Malformed> {
    offsets.sort_unstable();
    offsets.dedup();
    let mut budget = cache.budget();
    let range = |offset: u32| {
        let length = cache.string(offset, &mut budget)?.len();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(start..start.saturating_add(length + 1))
    };
    offsets.into_iter().map(range).collect()
}

/// Header, entries, the strings that are left, the extension block.
fn write(cache: &Cache<'_>, kept: &[Record], holes: Vec<Range<usize>>) -> Result<Vec<u8>, Malformed> {
    let block = cache.extension.and_then(|start| cache.body.get(start..)).unwrap_or_default();
    let shift = Shift { from: cache.strings.clone(), to: HEADER + kept.len() * ENTRY, holes };
    let mut file = Vec::with_capacity(cache.body.len());
    file.extend_from_slice(cache.body.get(..HEADER).unwrap_or_default());
    for record in kept {
        push(&mut file, &shift.record(record)?);
    }
    let mut from = shift.from.start;
    for hole in &shift.holes {
        file.extend_from_slice(cache.body.get(from..hole.start).unwrap_or_default());
        from = hole.end;
    }
    file.extend_from_slice(cache.body.get(from..shift.from.end).unwrap_or_default());
    put(&mut file, 20, word(kept.len())?);
    let length = file.len().saturating_sub(shift.to);
    put(&mut file, 24, word(length)?);
    put(&mut file, 32, 0);
    if !block.is_empty() {
        file.resize(file.len().next_multiple_of(4), 0);
        let start = file.len();
        put(&mut file, 32, word(start)?);
        file.extend(extension::moved(cache, block, start, &shift)?);
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
