//! The extension block at the end of a loader cache (glibc 2.33 and later): who wrote the cache, and
//! the names of the hwcaps subdirectories.

use std::ops::Range;

use super::insert::{Shift, put, word};
use super::{Cache, Malformed, number};

/// First word of the block (glibc, sysdeps/generic/dl-cache.h).
const MAGIC: usize = 0xeaa4_2174;
const HEADER: usize = 8;
const SECTION: usize = 16;
/// The section of 32-bit offsets of strings; the other one known, 0, is text.
const HWCAPS: usize = 1;
/// glibc writes two.
const MAX_SECTIONS: usize = 16;

/// Where the block starts in the cache: behind the strings, on a multiple of four.
pub(super) fn start(body: &[u8], base: usize, offset: usize, strings_end: usize) -> Result<usize, Malformed> {
    let start = offset.checked_sub(base).filter(|start| offset.is_multiple_of(4) && *start >= strings_end);
    start.filter(|start| *start < body.len()).ok_or(Malformed("its extension block lies in an odd place"))
}

/// The offsets of the names in the string table that the block has.
pub(super) fn names(cache: &Cache<'_>) -> Result<Vec<u32>, Malformed> {
    let block = cache.extension.and_then(|start| cache.body.get(start..)).unwrap_or_default();
    if block.is_empty() {
        return Ok(Vec::new());
    }
    let from = cache.base + cache.extension.unwrap_or_default();
    let mut names = Vec::new();
    for section in 0..sections(block)? {
        let Section { tag, data, .. } = section_at(block, from, section)?;
        if tag == HWCAPS {
            let (words, _) = block.get(data).unwrap_or_default().as_chunks();
            names.extend(words.iter().map(|word| u32::from_ne_bytes(*word)));
        }
    }
    Ok(names)
}

/// One section: what it is, and where its bytes and its header lie in the block.
#[derive(Debug)]
struct Section {
    tag: usize,
    data: Range<usize>,
    at: usize,
}

const ODD: Malformed = Malformed("its extension block is of no form known here");

fn sections(block: &[u8]) -> Result<usize, Malformed> {
    let sections = number(block, 4).filter(|count| number(block, 0) == Some(MAGIC) && *count <= MAX_SECTIONS);
    sections.ok_or(ODD)
}

fn section_at(block: &[u8], from: usize, section: usize) -> Result<Section, Malformed> {
    let at = HEADER + section * SECTION;
    let field = |index: usize| number(block, at + 4 * index).ok_or(ODD);
    let (tag, offset, size) = (field(0)?, field(2)?, field(3)?);
    let data = offset.checked_sub(from).ok_or(ODD)?;
    let end = data.checked_add(size).filter(|end| *end <= block.len()).ok_or(ODD)?;
    Ok(Section { tag, data: data..end, at })
}

/// The block as it reads at offset `to` of the new file, whose strings moved by `strings`.
pub(super) fn moved(
    cache: &Cache<'_>,
    block: &[u8],
    to: usize,
    strings: &Shift,
) -> Result<Vec<u8>, Malformed> {
    let from = cache.base + cache.extension.unwrap_or_default();
    let mut moved = block.to_vec();
    for section in 0..sections(block)? {
        let Section { tag, data, at } = section_at(block, from, section)?;
        put(&mut moved, at + 8, word(to + data.start)?);
        if tag == HWCAPS {
            for place in data.step_by(4) {
                let name = block.get(place..).and_then(|rest| rest.first_chunk()).ok_or(ODD)?;
                put(&mut moved, place, strings.offset(u32::from_ne_bytes(*name))?);
            }
        }
    }
    Ok(moved)
}
