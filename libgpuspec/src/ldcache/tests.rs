//! The cache reader held against caches of every shape, whole and broken.

use super::*;

/// A cache as glibc lays it out; `(name, path, flags, hwcap)` in the order given.
pub(super) fn build(entries: &[(&str, &str, u32, u64)]) -> Vec<u8> {
    let strings_start = HEADER + entries.len() * ENTRY;
    let (mut table, mut strings) = (Vec::new(), Vec::new());
    for (name, path, flags, hwcap) in entries {
        let value = (strings_start + strings.len()) as u32;
        strings.extend_from_slice(path.as_bytes());
        strings.push(0);
        let key = (strings_start + strings.len()) as u32;
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
        [*flags, key, value, 0].iter().for_each(|word| table.extend(word.to_ne_bytes()));
        table.extend(hwcap.to_ne_bytes());
    }
    let mut file = MAGIC.to_vec();
    file.extend((entries.len() as u32).to_ne_bytes());
    file.extend((strings.len() as u32).to_ne_bytes());
    file.extend([if cfg!(target_endian = "little") { 2 } else { 3 }, 0, 0, 0]);
    file.extend([0; 16]);
    file.extend(table);
    file.extend(strings);
    file
}

/// The same behind a table of the old format, as `ldconfig -c compat` writes it.
pub(super) fn behind_old_format(file: &[u8], old_entries: usize) -> Vec<u8> {
    let mut both = OLD_MAGIC.to_vec();
    both.push(0);
    both.extend((old_entries as u32).to_ne_bytes());
    both.extend(vec![0; old_entries * OLD_ENTRY]);
    both.resize(both.len().next_multiple_of(8), 0);
    both.extend(file);
    both
}

/// The cache with these hwcaps names in an extension block, behind an old table where one is asked for.
pub(super) fn with_extension(file: &[u8], hwcaps: &[&str], old_entries: Option<usize>) -> Vec<u8> {
    let word = |number: usize| (number as u32).to_ne_bytes();
    let (count, length) = (number(file, 20).unwrap(), number(file, 24).unwrap());
    let mut file = file.to_vec();
    let names: Vec<usize> = hwcaps
        .iter()
        .map(|name| {
            file.extend(name.as_bytes());
            file.push(0);
            file.len() - name.len() - 1
        })
        .collect();
    let strings = file.len() - HEADER - count * ENTRY;
    assert!(strings > length);
    file[24..28].copy_from_slice(&word(strings));
    let base = old_entries.map_or(0, |count| behind_old_format(&[], count).len());
    file.resize(file.len().next_multiple_of(4), 0);
    let generator = b"made by a test";
    let block = file.len() + base;
    file[32..36].copy_from_slice(&word(block));
    let (text, list) = (block + 8 + 32, block + 8 + 32 + 16);
    let words = [0xeaa4_2174, 2, 0, 0, text, generator.len(), 1, 0, list, 4 * names.len()];
    words.iter().for_each(|number| file.extend(word(*number)));
    file.extend(generator);
    file.extend([0; 2]);
    names.iter().for_each(|name| file.extend(word(*name)));
    old_entries.map_or(file.clone(), |count| behind_old_format(&file, count))
}

const SAMPLE: [(&str, &str, u32, u64); 3] = [
    ("libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1", 0x0303, 0),
    ("libz.so.1", "/lib/i386-linux-gnu/libz.so.1", 0x0003, 0),
    ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", 0x0303, 5),
];

fn sample() -> Vec<Entry> {
    let entry = |(name, path, flags, hwcap): (&str, &str, u32, u64)| Entry {
        name: name.to_owned(),
        path: path.into(),
        abi: Abi::from_flags(flags),
        hwcap,
    };
    SAMPLE.map(entry).to_vec()
}

#[test]
fn entries_come_out_in_file_order() {
    assert_eq!(entries(&build(&[])), Ok(Vec::new()));
    assert_eq!(entries(&build(&SAMPLE)), Ok(sample()));
}

#[test]
fn a_leading_old_table_is_skipped() {
    for old_entries in 0..4 {
        assert_eq!(entries(&behind_old_format(&build(&SAMPLE), old_entries)), Ok(sample()));
    }
}

#[test]
fn a_cache_cut_anywhere_is_an_error() {
    for file in [build(&SAMPLE), behind_old_format(&build(&SAMPLE), 2)] {
        for length in 0..file.len() {
            assert!(entries(&file[..length]).is_err(), "cut at {length}");
        }
    }
}

#[test]
fn hostile_numbers_are_errors() {
    let hostile = [u32::MAX, u32::MAX - 1, 1 << 31, 0x0fff_ffff, 4_000_000];
    // count, length of strings, extension, then flags, key and value of the first entry
    for at in [20, 24, 32, HEADER + 4, HEADER + 8] {
        for number in hostile {
            let mut file = build(&SAMPLE);
            file[at..at + 4].copy_from_slice(&number.to_ne_bytes());
            assert!(entries(&file).is_err(), "{number:#x} at {at}");
        }
    }
}

#[test]
fn the_other_byte_order_is_refused_by_name() {
    let mut file = build(&SAMPLE);
    file[28] ^= 1;
    assert_eq!(entries(&file), Err(Malformed("a loader cache of the other byte order")));
    file[28] = 0;
    assert_eq!(entries(&file), Ok(sample()), "before glibc 2.33 the byte is 0");
}

#[test]
fn endless_repetition_of_one_string_is_refused() {
    let long = "x".repeat(MAX_STRING - 1);
    let mut file = build(&vec![(long.as_str(), "", 0x0303, 0); 400]);
    let (table, strings) = (HEADER..HEADER + 400 * ENTRY, HEADER + 400 * ENTRY);
    for record in file[table].chunks_mut(ENTRY) {
        record[4..8].copy_from_slice(&(strings as u32 + 1).to_ne_bytes());
        record[8..12].copy_from_slice(&(strings as u32 + 1).to_ne_bytes());
    }
    file.truncate(strings + 2 * MAX_STRING);
    file[24..28].copy_from_slice(&(2 * MAX_STRING as u32).to_ne_bytes());
    assert_eq!(entries(&file), Err(Malformed("its entries repeat the string table without end")));
}

#[test]
fn names_that_are_no_utf8_are_left_out() {
    let mut file = build(&SAMPLE);
    let first = HEADER + 3 * ENTRY;
    file[first] = 0xff;
    assert_eq!(entries(&file), Ok(sample().split_off(1)));
}
