//! Stub shared objects: the few hundred bytes that a loader, `ldconfig` and `readelf` take for a library.

/// What the stub says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stub<'a> {
    /// `EI_CLASS`: 1 for 32 bits, 2 for 64.
    pub(crate) class: u8,
    /// `e_machine`.
    pub(crate) machine: u16,
    /// DT_SONAME.
    pub(crate) soname: &'a str,
    /// DT_NEEDED, in order.
    pub(crate) needed: &'a [&'a str],
    /// Text among its constants, as a library has that it would dlopen.
    pub(crate) text: &'a str,
    /// PT_INTERP, if not empty: a program's.
    pub(crate) interpreter: &'a str,
    /// Versions that it defines (DT_VERDEF).
    pub(crate) defines: &'a [&'a str],
    /// Versions of libc.so.6 that it needs (DT_VERNEED).
    pub(crate) wants: &'a [&'a str],
}

impl<'a> Stub<'a> {
    /// A 64-bit x86 library that needs nothing.
    pub(crate) fn x86_64(soname: &'a str) -> Stub<'a> {
        Stub {
            class: 2,
            machine: 62,
            soname,
            needed: &[],
            text: "",
            interpreter: "",
            defines: &[],
            wants: &[],
        }
    }

    /// A 32-bit x86 library. It needs libc, by which alone `ldconfig` tells glibc's from older ones.
    pub(crate) fn i386(soname: &'a str) -> Stub<'a> {
        Stub { class: 1, machine: 3, needed: &["libc.so.6"], ..Stub::x86_64(soname) }
    }

    /// The file: ELF header, PT_LOAD over all of it at address 0, PT_DYNAMIC, for programs PT_INTERP, strings,
    /// version tables, and the four section headers that some readers insist on. Little-endian.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let wide = self.class == 2;
        let (header, segment, dynamic, section) = if wide { (64, 56, 16, 64) } else { (52, 32, 8, 40) };
        let segments = if self.interpreter.is_empty() { 2 } else { 3 };
        let mut strings = vec![0];
        let mut entries = Vec::new();
        let soname = Some((14, self.soname)).filter(|(_, soname)| !soname.is_empty());
        for (tag, text) in self.needed.iter().map(|needed| (1, *needed)).chain(soname) {
            entries.push((tag, strings.len() as u64));
            strings.extend(text.as_bytes());
            strings.push(0);
        }
        strings.extend(self.text.as_bytes());
        strings.push(0);
        let interpreter = add(&mut strings, self.interpreter);
        let libc = add(&mut strings, "libc.so.6");
        let defines: Vec<usize> = self.defines.iter().map(|version| add(&mut strings, version)).collect();
        let wants: Vec<usize> = self.wants.iter().map(|version| add(&mut strings, version)).collect();
        let section_names = strings.len();
        strings.extend(b".dynstr\0.dynamic\0.shstrtab\0");
        let (definitions, needs) = (definitions(&defines), needs(libc, &wants));
        let tables = [(&definitions, defines.len(), 0x6fff_fffc), (&needs, wants.len().min(1), 0x6fff_fffe)];
        let dynamic_start = header + segments * segment;
        let versioned = tables.iter().filter(|(table, ..)| !table.is_empty()).count();
        let dynamic_size = dynamic * (entries.len() + 3 + 2 * versioned);
        let strings_start = dynamic_start + dynamic_size;
        let definitions_start = (strings_start + strings.len()).next_multiple_of(8);
        let needs_start = definitions_start + definitions.len();
        for ((table, count, tag), start) in tables.iter().zip([definitions_start, needs_start]) {
            if !table.is_empty() {
                entries.extend([(*tag, start as u64), (*tag + 1, *count as u64)]);
            }
        }
        let sections_start = (needs_start + needs.len()).next_multiple_of(8);
        let size = sections_start + 4 * section;
        entries.extend([(5, strings_start as u64), (10, strings.len() as u64), (0, 0)]);

        let mut file = Vec::with_capacity(size);
        let half = |file: &mut Vec<u8>, number: usize| file.extend((number as u16).to_le_bytes());
        let word = |file: &mut Vec<u8>, number: usize| file.extend((number as u32).to_le_bytes());
        let long = |file: &mut Vec<u8>, number: usize| match wide {
            true => file.extend((number as u64).to_le_bytes()),
            false => file.extend((number as u32).to_le_bytes()),
        };
        file.extend([0x7f, b'E', b'L', b'F', self.class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        half(&mut file, 3);
        half(&mut file, usize::from(self.machine));
        word(&mut file, 1);
        [0, header, sections_start].iter().for_each(|number| long(&mut file, *number));
        word(&mut file, 0);
        [header, segment, segments, section, 4, 3].iter().for_each(|number| half(&mut file, *number));
        let program = (3, strings_start + interpreter, self.interpreter.len() + 1, 1);
        let table = [(1, 0, size, 4096), (2, dynamic_start, dynamic_size, 8), program];
        for (kind, start, length, align) in table.into_iter().take(segments) {
            word(&mut file, kind);
            if wide {
                word(&mut file, 4);
            }
            [start, start, start, length, length].iter().for_each(|number| long(&mut file, *number));
            if !wide {
                word(&mut file, 4);
            }
            long(&mut file, align);
        }
        for (tag, value) in entries {
            long(&mut file, tag);
            long(&mut file, value as usize);
        }
        file.extend(&strings);
        file.resize(definitions_start, 0);
        file.extend(&definitions);
        file.extend(&needs);
        file.resize(sections_start, 0);
        let sections = [
            (0, 0, 0, 0, 0, 0),
            (section_names, 3, strings_start, strings.len(), 0, 0),
            (section_names + 8, 6, dynamic_start, dynamic_size, 1, dynamic),
            (section_names + 17, 3, strings_start, strings.len(), 0, 0),
        ];
        for (name, kind, start, length, link, entry) in sections {
            word(&mut file, name);
            word(&mut file, kind);
            [0, start, start, length].iter().for_each(|number| long(&mut file, *number));
            word(&mut file, link);
            word(&mut file, 0);
            [1, entry].iter().for_each(|number| long(&mut file, *number));
        }
        file
    }
}

/// Adds a string to a table of strings.
fn add(strings: &mut Vec<u8>, text: &str) -> usize {
    let at = strings.len();
    strings.extend(text.as_bytes());
    strings.push(0);
    at
}

/// Verdef and Verdaux, one of each a version.
fn definitions(names: &[usize]) -> Vec<u8> {
    let mut table = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let next = if index + 1 == names.len() { 0 } else { 28 };
        [1, 0, index as u16 + 1, 1].iter().for_each(|half| table.extend(half.to_le_bytes()));
        [0, 20, next, *name as u32, 0].iter().for_each(|word| table.extend(word.to_le_bytes()));
    }
    table
}

/// One Verneed with a Vernaux for each version.
fn needs(library: usize, names: &[usize]) -> Vec<u8> {
    let mut table = Vec::new();
    if names.is_empty() {
        return table;
    }
    [1, names.len() as u16].iter().for_each(|half| table.extend(half.to_le_bytes()));
    [library as u32, 16, 0].iter().for_each(|word| table.extend(word.to_le_bytes()));
    for (index, name) in names.iter().enumerate() {
        let next = if index + 1 == names.len() { 0 } else { 16 };
        table.extend(0_u32.to_le_bytes());
        [0, index as u16 + 2].iter().for_each(|half| table.extend(half.to_le_bytes()));
        [*name as u32, next].iter().for_each(|word| table.extend(word.to_le_bytes()));
    }
    table
}
