//! A note in an ELF file, as a linker leaves one that is not loaded (elf(5), Nhdr).

/// The 64-bit object `file`, whose section headers are its end, with one section more.
pub(crate) fn added(mut file: Vec<u8>, owner: &str, content: &[u8]) -> Vec<u8> {
    let sections = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let mut table = file[sections..].to_vec();
    let note = file.len().next_multiple_of(8);
    file.resize(note, 0);
    for number in [owner.len() + 1, content.len(), 1] {
        file.extend((number as u32).to_le_bytes());
    }
    for bytes in [&[owner.as_bytes(), b"\0"].concat(), content] {
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(4), 0);
    }
    let size = file.len() - note;
    file.resize(file.len().next_multiple_of(8), 0);
    let start = (file.len() as u64).to_le_bytes();
    // SHT_NOTE, its place and size, aligned to 4.
    for number in [7_u64 << 32, 0, 0, note as u64, size as u64, 0, 4, 0] {
        table.extend(number.to_le_bytes());
    }
    file.extend(table);
    file[40..48].copy_from_slice(&start);
    file[60] += 1;
    file
}
