//! Notes of an ELF file by their owner: found by the section headers, since not every note is loaded.

use goblin::elf::Elf;
use goblin::elf::section_header::{SHT_NOTE, SectionHeader};

use super::{Fault, Layout, Parsed};
use crate::root::Opened;

/// The sizes of name and content, and the type.
const HEADER: usize = 12;
const MAX_SECTIONS: usize = 1024; // ten times the largest seen
const MAX_NOTE: usize = 1 << 16;
const MAX_NOTES: usize = 1 << 20; // bytes of all sections of notes; a thousand times the largest seen
/// How far beyond its section a note is read.
const MAX_OVERRUN: usize = 1 << 12;

/// What the notes of this owner say, in the order of their sections (elf(5), Nhdr).
pub fn notes(file: &Opened, owner: &str) -> Parsed<Vec<Vec<u8>>> {
    let layout = Layout::read(file)?;
    let (mut found, mut left) = (Vec::new(), MAX_NOTES);
    for section in sections(&layout, file)?.iter().filter(|section| section.sh_type == SHT_NOTE) {
        let size = usize::try_from(section.sh_size).unwrap_or(usize::MAX).min(MAX_NOTE);
        left = left.checked_sub(size).ok_or(Fault::Content("more notes than an ELF object has"))?;
        // A note of NVIDIA's can be larger than the section says.
        let bytes = file.read_at(section.sh_offset, size + MAX_OVERRUN)?;
        // Fields are padded to the section's alignment: 4, rarely 8.
        let align = if section.sh_addralign == 8 { 8 } else { 4 };
        found.extend(notes_in(&layout, &bytes, size, owner, align));
    }
    Ok(found)
}

fn sections(layout: &Layout, file: &Opened) -> Parsed<Vec<SectionHeader>> {
    let parsed = Elf::parse_header(&layout.head)
        .map_err(|_| Fault::Content("an ELF header that is cut short or wrong"))?;
    let count = usize::from(parsed.e_shnum).min(MAX_SECTIONS);
    if count == 0 || parsed.e_shoff == 0 {
        return Ok(Vec::new());
    }
    let size = SectionHeader::size(layout.context);
    let table = file.read_at(parsed.e_shoff, count * size)?;
    match table.len() / size {
        0 => Ok(Vec::new()),
        whole => SectionHeader::parse_from(&table, 0, whole, layout.context)
            .map_err(|_| Fault::Content("ELF section headers that are cut short")),
    }
}

/// The notes that start in the first `size` bytes.
fn notes_in(layout: &Layout, bytes: &[u8], size: usize, owner: &str, align: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < size
        && let Some(note) = bytes.get(start..).and_then(|rest| first_note(layout, rest, align))
    {
        if trimmed(note.name) == owner.as_bytes() {
            found.push(note.content.to_vec());
        }
        start += note.length;
    }
    found
}

struct Note<'a> {
    name: &'a [u8],
    content: &'a [u8],
    /// From its header to the next note's.
    length: usize,
}

/// Name and content of a note, whose content ends with the bytes at the latest.
fn first_note<'a>(layout: &Layout, bytes: &'a [u8], align: usize) -> Option<Note<'a>> {
    let name_size = layout.u32(bytes, 0).ok()? as usize;
    let size = layout.u32(bytes, 4).ok()? as usize;
    let name_end = HEADER.checked_add(name_size)?;
    let name = bytes.get(HEADER..name_end)?;
    let padded = name_end.checked_next_multiple_of(align)?;
    let has_padding = bytes.get(name_end..padded)?.iter().all(|byte| *byte == 0);
    let start = if has_padding { padded } else { name_end };
    let end = start.checked_add(size)?;
    let content = bytes.get(start..end.min(bytes.len()))?;
    Some(Note { name, content, length: end.checked_next_multiple_of(align)? })
}

fn trimmed(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    name.get(..end).unwrap_or_default()
}
