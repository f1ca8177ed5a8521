//! What an ELF file says of itself, read by a handful of bounded ranged reads.
//!
//! Section headers are not needed and not trusted: everything comes from the program headers and
//! the dynamic section (System V ABI, chapter 5; GNU symbol versioning in the LSB). A library of
//! 100 MB costs a few KiB. [`notes`] alone asks the section headers, and believes none of their numbers.

mod notes;
mod versions;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;

use goblin::container::{Container, Ctx};
use goblin::elf::dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, Dyn, Dynamic};
use goblin::elf::program_header::{PF_W, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramHeader};
use goblin::elf::{Elf, header};
use serde::Serialize;

use crate::root::Opened;

pub use notes::notes;
pub use versions::{Version, VersionNeed, defined_versions};

/// Read at once: the header, most program headers, most notes.
const HEAD: usize = 4096;
const MAX_PROGRAM_HEADERS: usize = 256; // 20 times the largest seen
const MAX_DYNAMIC: usize = 1 << 16; // 4096 entries; the largest seen has 40
const MAX_STRINGS: usize = 1 << 22; // the largest seen is 300 KiB
const MAX_STRING: usize = 1 << 12; // the longest file name a system takes
const MAX_TEXT: usize = 1 << 15; // bytes of all strings taken of one file; twenty times the largest seen
const MAX_NEEDED: usize = 256; // ten times the largest seen
const MAX_RUNPATH: usize = 256; // directories; the largest seen has 10
const MAX_MENTIONED: usize = 4096; // names; the largest seen has 80
const MAX_NOTES: usize = 1 << 12;
const NT_GNU_BUILD_ID: u32 = 3;

/// The word size of an ELF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// 32 bits.
    Elf32,
    /// 64 bits.
    Elf64,
}

impl Class {
    /// The byte that says it in an ELF header (EI_CLASS).
    pub fn ident(self) -> u8 {
        match self {
            Class::Elf32 => 1,
            Class::Elf64 => 2,
        }
    }
}

/// What a dynamic loader would ask of an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Word size.
    pub class: Class,
    /// `e_machine`.
    pub machine: u16,
    /// Whether it asks for a program interpreter: a program, not a library.
    pub interpreted: bool,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// DT_NEEDED, in order.
    pub needed: Vec<String>,
    /// DT_RUNPATH, or DT_RPATH where that is missing; split at the colons. A fact for readers: nothing is
    /// looked for there, since a driver's libraries lie where its loader finds them.
    pub runpath: Vec<String>,
    /// DT_VERNEED.
    pub version_needs: Vec<VersionNeed>,
    /// The GNU build-id note in hexadecimal.
    pub build_id: Option<String>,
}

/// Why a file is not an object that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file's content.
    #[error("{0}")]
    Content(&'static str),
    /// The system.
    #[error("reading it")]
    Read(#[from] io::Error),
}

type Parsed<T> = Result<T, Fault>;

/// Reads what an opened file says of itself.
pub fn inspect(file: &Opened) -> Parsed<Object> {
    Layout::read(file)?.object(file)
}

/// The program interpreter that the object asks for (PT_INTERP): a program's dynamic loader.
pub fn interpreter(file: &Opened) -> Parsed<Option<String>> {
    let layout = Layout::read(file)?;
    let Some(segment) = layout.segments.iter().find(|segment| segment.p_type == PT_INTERP) else {
        return Ok(None);
    };
    let length = usize::try_from(segment.p_filesz).unwrap_or(MAX_STRING).min(MAX_STRING);
    Strings::new(file.read_at(segment.p_offset, length)?).at(0).map(Some)
}

/// Names of the form `lib….so…` that stand as text in the object's read-only data: what it may dlopen.
///
/// Reads all segments that are not writable: many linkers put constants beside the code.
pub fn mentioned_libraries(file: &Opened) -> Parsed<Vec<String>> {
    let layout = Layout::read(file)?;
    let mut names = BTreeSet::new();
    // Segments do not overlap in an honest file.
    let mut left = MAX_SCANNED.min(file.size);
    let constant = |segment: &&ProgramHeader| segment.p_type == PT_LOAD && segment.p_flags & PF_W == 0;
    for segment in layout.segments.iter().filter(constant) {
        left =
            left.checked_sub(segment.p_filesz).ok_or(Fault::Content("more constants than a library has"))?;
        scan(file, segment, &mut names)?;
    }
    Ok(names.into_iter().collect())
}

/// Bytes of one file that are scanned; five times the largest library seen.
const MAX_SCANNED: u64 = 1 << 29;

/// One block of a scan, and how much of it is looked at again with the next.
const BLOCK: usize = 1 << 20;
const LONGEST_NAME: usize = 256;

fn scan(file: &Opened, segment: &ProgramHeader, names: &mut BTreeSet<String>) -> Parsed<()> {
    let end = segment.p_offset.saturating_add(segment.p_filesz).min(file.size);
    let mut at = segment.p_offset;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK + LONGEST_NAME);
        let block = file.read_at(at, length)?;
        for name in block.split(|byte| *byte == 0).filter_map(library_name) {
            names.insert(name);
            if names.len() > MAX_MENTIONED {
                return Err(Fault::Content("more names of libraries among its constants than a library has"));
            }
        }
        if block.len() <= BLOCK {
            break;
        }
        at += BLOCK as u64;
    }
    Ok(())
}

/// The library that a NUL-terminated text names, with or without directories before it.
fn library_name(text: &[u8]) -> Option<String> {
    if text.len() < 7 || text.len() > LONGEST_NAME {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let name = text.rsplit('/').next().unwrap_or(text);
    let plain = |character: char| character.is_ascii_alphanumeric() || "._+-".contains(character);
    let shaped = name.starts_with("lib") && (name.ends_with(".so") || name.contains(".so."));
    (shaped && name.chars().all(plain)).then(|| name.to_owned())
}

/// Where things are in the file.
struct Layout {
    class: Class,
    little: bool,
    machine: u16,
    context: Ctx,
    head: Vec<u8>,
    segments: Vec<ProgramHeader>,
}

impl Layout {
    fn read(file: &Opened) -> Parsed<Layout> {
        let head = file.read_at(0, HEAD)?;
        if !head.starts_with(header::ELFMAG) {
            return Err(Fault::Content("not an ELF object"));
        }
        let parsed = Elf::parse_header(&head)
            .map_err(|_| Fault::Content("an ELF header that is cut short or wrong"))?;
        let class = match parsed.container() {
            Ok(Container::Big) => Class::Elf64,
            Ok(Container::Little) => Class::Elf32,
            Err(_) => return Err(Fault::Content("an ELF header of no known class")),
        };
        let endianness =
            parsed.endianness().map_err(|_| Fault::Content("an ELF header of no known byte order"))?;
        let container = if class == Class::Elf64 { Container::Big } else { Container::Little };
        let context = Ctx::new(container, endianness);
        let count = usize::from(parsed.e_phnum).min(MAX_PROGRAM_HEADERS);
        let size = count * ProgramHeader::size(context);
        let start = usize::try_from(parsed.e_phoff).unwrap_or(usize::MAX);
        let segments = match head.get(start..start.saturating_add(size)) {
            Some(table) => ProgramHeader::parse(table, 0, count, context),
            None => ProgramHeader::parse(&file.read_at(parsed.e_phoff, size)?, 0, count, context),
        };
        let segments = segments.map_err(|_| Fault::Content("ELF program headers that are cut short"))?;
        let inside = |segment: &ProgramHeader| {
            let end = segment.p_offset.checked_add(segment.p_filesz);
            segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC
                || end.is_some_and(|end| end <= file.size)
        };
        if segments.len() < usize::from(parsed.e_phnum) || !segments.iter().all(inside) {
            return Err(Fault::Content("an ELF object that is cut short"));
        }
        let little = endianness.is_little();
        Ok(Layout { class, little, machine: parsed.e_machine, context, head, segments })
    }

    fn object(&self, file: &Opened) -> Parsed<Object> {
        let mut object = Object {
            class: self.class,
            machine: self.machine,
            interpreted: self.segments.iter().any(|segment| segment.p_type == PT_INTERP),
            soname: None,
            needed: Vec::new(),
            runpath: Vec::new(),
            version_needs: Vec::new(),
            build_id: self.build_id(file)?,
        };
        let dynamic = self.dynamic(file)?;
        if dynamic.is_empty() {
            return Ok(object);
        }
        let strings = self.strings(file, &dynamic)?;
        let mut rpath = Vec::new();
        for entry in &dynamic {
            match entry.d_tag {
                DT_SONAME => object.soname = Some(strings.at(entry.d_val)?),
                DT_NEEDED if object.needed.len() == MAX_NEEDED => {
                    return Err(Fault::Content("an ELF object that needs more libraries than any does"));
                }
                DT_NEEDED => object.needed.push(strings.at(entry.d_val)?),
                DT_RUNPATH => object.runpath = split(&strings.at(entry.d_val)?)?,
                DT_RPATH => rpath = split(&strings.at(entry.d_val)?)?,
                _ => {}
            }
        }
        if object.runpath.is_empty() {
            object.runpath = rpath;
        }
        object.version_needs = self.version_needs(file, &dynamic, &strings)?;
        Ok(object)
    }

    fn dynamic(&self, file: &Opened) -> Parsed<Vec<Dyn>> {
        let Some(segment) = self.segments.iter().find(|segment| segment.p_type == PT_DYNAMIC) else {
            return Ok(Vec::new());
        };
        let length = usize::try_from(segment.p_filesz).unwrap_or(usize::MAX).min(MAX_DYNAMIC);
        let bytes = file.read_at(segment.p_offset, length)?;
        // The parser reads from a whole file: it is shown this segment as one.
        let alone =
            ProgramHeader { p_type: PT_DYNAMIC, p_filesz: bytes.len() as u64, ..ProgramHeader::default() };
        let parsed = Dynamic::parse(&bytes, &[alone], self.context)
            .map_err(|_| Fault::Content("an ELF dynamic section that is cut short"))?;
        Ok(parsed.map(|dynamic| dynamic.dyns).unwrap_or_default())
    }

    fn strings(&self, file: &Opened, dynamic: &[Dyn]) -> Parsed<Strings> {
        let address =
            value(dynamic, DT_STRTAB).ok_or(Fault::Content("an ELF dynamic section without strings"))?;
        let size = value(dynamic, DT_STRSZ).unwrap_or(MAX_STRINGS as u64);
        let offset = self.offset(address).ok_or(Fault::Content("an ELF string table outside the file"))?;
        let length = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_STRINGS);
        Ok(Strings::new(file.read_at(offset, length)?))
    }

    /// The file offset of a virtual address: dynamic entries are addresses.
    fn offset(&self, address: u64) -> Option<u64> {
        let loaded = self.segments.iter().filter(|segment| segment.p_type == PT_LOAD);
        loaded
            .filter_map(|segment| {
                let inside =
                    address.checked_sub(segment.p_vaddr).filter(|inside| *inside < segment.p_filesz)?;
                segment.p_offset.checked_add(inside)
            })
            .next()
    }

    fn build_id(&self, file: &Opened) -> Parsed<Option<String>> {
        for segment in self.segments.iter().filter(|segment| segment.p_type == PT_NOTE) {
            let length = usize::try_from(segment.p_filesz).unwrap_or(usize::MAX).min(MAX_NOTES);
            let start = usize::try_from(segment.p_offset).unwrap_or(usize::MAX);
            let found = match self.head.get(start..start.saturating_add(length)) {
                Some(bytes) => self.build_id_in(bytes),
                None => self.build_id_in(&file.read_at(segment.p_offset, length)?),
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn build_id_in(&self, mut notes: &[u8]) -> Option<String> {
        loop {
            let name_size = self.u32(notes, 0).ok()? as usize;
            let size = self.u32(notes, 4).ok()? as usize;
            let kind = self.u32(notes, 8).ok()?;
            let content = 12usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
            let end = content.checked_add(size)?;
            if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
                return Some(notes.get(content..end)?.iter().map(|byte| format!("{byte:02x}")).collect());
            }
            notes = notes.get(end.checked_next_multiple_of(4)?..)?;
        }
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Parsed<u16> {
        let field = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
        let field = field.ok_or(Fault::Content("an ELF table that is cut short"))?;
        Ok(if self.little { u16::from_le_bytes(field) } else { u16::from_be_bytes(field) })
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Parsed<u32> {
        let field = bytes.get(at..).and_then(|rest| rest.first_chunk().copied());
        let field = field.ok_or(Fault::Content("an ELF table that is cut short"))?;
        Ok(if self.little { u32::from_le_bytes(field) } else { u32::from_be_bytes(field) })
    }
}

/// The string table. Entries may share strings, so what is taken of it is counted.
struct Strings {
    table: Vec<u8>,
    left: Cell<usize>,
}

impl Strings {
    fn new(table: Vec<u8>) -> Strings {
        Strings { table, left: Cell::new(MAX_TEXT) }
    }

    /// Counts the bytes of a string that is copied.
    fn spend(&self, bytes: usize) -> Parsed<()> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.ok_or(Fault::Content("an ELF object with longer names than any has"))?);
        Ok(())
    }

    fn at(&self, offset: u64) -> Parsed<String> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let tail = self.table.get(start..).ok_or(Fault::Content("an ELF string outside its table"))?;
        let end = tail.iter().take(MAX_STRING).position(|byte| *byte == 0);
        let text = tail.get(..end.ok_or(Fault::Content("an ELF string without an end"))?);
        let text = text.and_then(|text| std::str::from_utf8(text).ok());
        let text = text.ok_or(Fault::Content("an ELF string that is no text"))?;
        self.spend(text.len())?;
        Ok(text.to_owned())
    }
}

fn value(dynamic: &[Dyn], tag: u64) -> Option<u64> {
    dynamic.iter().find(|entry| entry.d_tag == tag).map(|entry| entry.d_val)
}

/// An offset moved on by what a file says; past every table rather than around zero.
fn step(at: usize, by: u32) -> usize {
    at.saturating_add(by as usize)
}

fn split(path: &str) -> Parsed<Vec<String>> {
    let parts: Vec<&str> = path.split(':').filter(|part| !part.is_empty()).collect();
    if parts.len() > MAX_RUNPATH {
        return Err(Fault::Content("an ELF object with a longer search path than any has"));
    }
    Ok(parts.into_iter().map(str::to_owned).collect())
}
