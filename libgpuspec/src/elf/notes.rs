//! Notes of an ELF file by their owner: found by the section headers, since not every note is loaded.

use goblin::elf::Elf;
use goblin::elf::section_header::{SHT_NOTE, SectionHeader};

use super::{Fault, Layout, Parsed};
use crate::root::Opened;

const MAX_SECTIONS: usize = 1024; // ten times the largest seen
const MAX_NOTE: usize = 1 << 16;
const MAX_NOTES: usize = 1 << 20; // bytes of all sections of notes; a thousand times the largest seen

/// What the notes of this owner say, in the order of their sections (elf(5), Nhdr).
pub fn notes(file: &Opened, owner: &str) -> Parsed<Vec<Vec<u8>>> {
    let layout = Layout::read(file)?;
    let (mut found, mut left) = (Vec::new(), MAX_NOTES);
    for section in sections(&layout, file)?.iter().filter(|section| section.sh_type == SHT_NOTE) {
        let length = usize::try_from(section.sh_size).unwrap_or(usize::MAX).min(MAX_NOTE);
        left = left.checked_sub(length).ok_or(Fault::Content("more notes than an ELF object has"))?;
        let bytes = file.read_at(section.sh_offset, length)?;
        // Fields are padded to the section's alignment: 4, rarely 8.
        let align = if section.sh_addralign == 8 { 8 } else { 4 };
        found.extend(notes_in(&layout, &bytes, owner, align));
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

fn notes_in(layout: &Layout, bytes: &[u8], owner: &str, align: usize) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some((name, content, after)) = first_note(layout, rest, align) {
        if name.strip_suffix(b"\0").unwrap_or(name) == owner.as_bytes() {
            found.push(content.to_vec());
        }
        rest = after;
    }
    found
}

/// Name, content, and what follows.
fn first_note<'a>(layout: &Layout, bytes: &'a [u8], align: usize) -> Option<(&'a [u8], &'a [u8], &'a [u8])> {
    let name_size = layout.u32(bytes, 0).ok()? as usize;
    let size = layout.u32(bytes, 4).ok()? as usize;
    let content = 12_usize.checked_add(name_size.checked_next_multiple_of(align)?)?;
    let end = content.checked_add(size)?;
    let next = end.checked_next_multiple_of(align)?.min(bytes.len());
    Some((bytes.get(12..12 + name_size)?, bytes.get(content..end)?, bytes.get(next..)?))
}
