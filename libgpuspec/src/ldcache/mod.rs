//! The dynamic loader's cache, bytes ↔ entries: read by `probe` on a host, extended by `apply` in a container.
//!
//! The format is glibc's `glibc-ld.so.cache1.1` (2.2 and later), alone or behind the older
//! `ld.so-1.7.0` table: a header of 48 bytes, entries of 24, a string table, and since glibc 2.33 an
//! extension block. Offsets of strings count from the header, those of the extension block from the
//! file's start. No I/O here, and no number of the file is believed before it is held against the
//! file's length.

mod abi;
mod extension;
mod insert;
mod order;
mod remove;
#[cfg(test)]
mod tests;

use std::ops::Range;

use camino::Utf8PathBuf;

pub use abi::{Abi, UnknownAbi};
pub use insert::{Library, insert};
pub use remove::remove;

/// Largest cache that is looked at; the largest seen (a full desktop's) has 0.4 MiB.
pub const MAX_SIZE: u64 = 4 << 20;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// Longest string taken from the table, PATH_MAX of linux/limits.h.
const MAX_STRING: usize = 4096;

/// How often over a cache's bytes may be read as strings; honest caches reach 2, one name and one path each.
const MAX_REUSE: usize = 4;

/// Why bytes are no loader cache that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// One library the loader can find by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name that programs ask for, mostly a SONAME.
    pub name: String,
    /// The file, as seen by the loader that uses the cache.
    pub path: Utf8PathBuf,
    /// Which programs can use it.
    pub abi: Abi,
    /// What the processor must have for it; 0 is any processor of the ABI.
    pub hwcap: u64,
}

/// All libraries in a cache file, in its order: of several with one name and ABI the loader takes the
/// first whose `hwcap` the processor has.
///
/// Entries whose name or path is no UTF-8 are left out.
pub fn entries(file: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let cache = Cache::parse(file)?;
    let mut budget = cache.budget();
    let mut entries = Vec::with_capacity(cache.count);
    for record in cache.records() {
        let (name, path) = (cache.string(record.key, &mut budget)?, cache.string(record.value, &mut budget)?);
        if let (Ok(name), Ok(path)) = (str::from_utf8(name), str::from_utf8(path)) {
            let (name, path) = (name.to_owned(), path.into());
            entries.push(Entry { name, path, abi: Abi::from_flags(record.flags), hwcap: record.hwcap });
        }
    }
    Ok(entries)
}

/// The parts of a cache file, each known to lie inside it.
#[derive(Debug)]
struct Cache<'a> {
    /// From the new format's header to the end of the file.
    body: &'a [u8],
    count: usize,
    /// The string table, in `body`.
    strings: Range<usize>,
    /// Where the extension block starts, in `body`.
    extension: Option<usize>,
    /// What the extension block's offsets, which count from the file's start, exceed those in `body`.
    base: usize,
}

/// Bytes of strings that may still be read: entries may share strings, and a file of a million entries
/// that all name one long string would take minutes.
#[derive(Debug)]
struct Budget(usize);

/// One entry as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Record {
    flags: u32,
    key: u32,
    value: u32,
    hwcap: u64,
}

impl<'a> Cache<'a> {
    fn parse(file: &'a [u8]) -> Result<Cache<'a>, Malformed> {
        if file.len() as u64 > MAX_SIZE {
            return Err(Malformed("larger than any loader cache can honestly be"));
        }
        let base = header(file)?;
        let body = file.get(base..).unwrap_or_default();
        let truncated = Malformed("a loader cache cut short");
        if body.len() < HEADER {
            return Err(truncated);
        }
        // The two low bits say the byte order since glibc 2.33; before, nothing did.
        let native = if cfg!(target_endian = "little") { 2 } else { 3 };
        match body.get(28).map(|flags| flags & 3) {
            Some(order) if order == 0 || order == native => {}
            _ => return Err(Malformed("a loader cache of the other byte order")),
        }
        let (count, length) = (number(body, 20).unwrap_or(0), number(body, 24).unwrap_or(0));
        let start = count.checked_mul(ENTRY).and_then(|entries| entries.checked_add(HEADER));
        let start = start.filter(|start| *start <= body.len()).ok_or(truncated)?;
        let end = start.checked_add(length).filter(|end| *end <= body.len()).ok_or(truncated)?;
        let extension = match number(body, 32) {
            None | Some(0) => None,
            Some(offset) => Some(extension::start(body, base, offset, end)?),
        };
        Ok(Cache { body, count, strings: start..end, extension, base })
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        let table = self.body.get(HEADER..self.strings.start).unwrap_or_default();
        table.as_chunks::<ENTRY>().0.iter().map(Record::from_bytes)
    }

    fn budget(&self) -> Budget {
        Budget(self.body.len().saturating_mul(MAX_REUSE))
    }

    /// The string at an offset of an entry, without its NUL.
    fn string(&self, offset: u32, budget: &mut Budget) -> Result<&'a [u8], Malformed> {
        let from = usize::try_from(offset).ok().filter(|from| self.strings.contains(from));
        let rest = from.and_then(|from| self.body.get(from..self.strings.end));
        let rest = rest.ok_or(Malformed("an entry names a string outside the table"))?;
        let window = rest.get(..MAX_STRING).unwrap_or(rest);
        let end = window.iter().position(|byte| *byte == 0);
        let string = end.and_then(|end| window.get(..end));
        let string = string.ok_or(Malformed("a string of the table has no end"))?;
        let left = budget.0.checked_sub(string.len());
        budget.0 = left.ok_or(Malformed("its entries repeat the string table without end"))?;
        Ok(string)
    }
}

impl Record {
    fn from_bytes(bytes: &[u8; ENTRY]) -> Record {
        let [f0, f1, f2, f3, k0, k1, k2, k3, v0, v1, v2, v3, _, _, _, _, hwcap @ ..] = *bytes;
        Record {
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            key: u32::from_ne_bytes([k0, k1, k2, k3]),
            value: u32::from_ne_bytes([v0, v1, v2, v3]),
            hwcap: u64::from_ne_bytes(hwcap),
        }
    }
}

/// Where the new format's header starts: at once, or behind the old format's table.
fn header(file: &[u8]) -> Result<usize, Malformed> {
    if file.starts_with(MAGIC) {
        return Ok(0);
    }
    if !file.starts_with(OLD_MAGIC) {
        return Err(Malformed("no loader cache of a format known here (glibc-ld.so.cache1.1)"));
    }
    let end = number(file, OLD_HEADER - 4)
        .and_then(|count| count.checked_mul(OLD_ENTRY))
        .and_then(|table| table.checked_add(OLD_HEADER))
        .filter(|end| *end <= file.len())
        .ok_or(Malformed("a loader cache cut short"))?;
    // The new header is aligned as its 64-bit numbers are: to 8, on i386 to 4.
    [end.next_multiple_of(8), end.next_multiple_of(4)]
        .into_iter()
        .find(|base| file.get(*base..).is_some_and(|body| body.starts_with(MAGIC)))
        .ok_or(Malformed("a loader cache of the old format alone (ld.so-1.7.0)"))
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let number = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_ne_bytes(*number)).ok()
}
