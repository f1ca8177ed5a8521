//! Symbol versions: which of other libraries an object needs, and which it defines (LSB, "Symbol Versioning").

use std::fmt;
use std::str::FromStr;

use goblin::elf::dynamic::{DT_VERDEF, DT_VERDEFNUM, DT_VERNEED, DT_VERNEEDNUM, Dyn};
use serde::{Serialize, Serializer};

use super::{Fault, HEAD, Layout, Object, Parsed, Strings, step, value};
use crate::root::Opened;

const MAX_VERSIONS: usize = 1 << 12; // the largest seen, glibc's own, is 50

/// One version of one library that an object cannot be loaded without (DT_VERNEED).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct VersionNeed {
    /// The library, e.g. `libc.so.6`.
    pub library: String,
    /// The version, e.g. `GLIBC_2.34`.
    pub version: String,
}

/// A version of glibc, e.g. 2.36; its parts are compared as numbers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u32>);

impl Version {
    /// The glibc version that a symbol version stands for.
    pub fn of_symbol(version: &str) -> Option<Version> {
        match version {
            // Relative relocations in packed form, which glibc has since 2.36.
            "GLIBC_ABI_DT_RELR" => Some(Version(vec![2, 36])),
            version => version.strip_prefix("GLIBC_")?.parse().ok(),
        }
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Version, Self::Err> {
        text.split('.').map(str::parse).collect::<Result<_, _>>().map(Version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(u32::to_string).collect();
        formatter.write_str(&parts.join("."))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Object {
    /// The newest glibc version that the object asks for.
    pub fn glibc_floor(&self) -> Option<Version> {
        self.version_needs.iter().filter_map(|need| Version::of_symbol(&need.version)).max()
    }
}

/// The symbol versions that the object defines (DT_VERDEF), its own name among them.
pub fn defined_versions(file: &Opened) -> Parsed<Vec<String>> {
    let layout = Layout::read(file)?;
    let dynamic = layout.dynamic(file)?;
    let (Some(address), Some(count)) = (value(&dynamic, DT_VERDEF), value(&dynamic, DT_VERDEFNUM)) else {
        return Ok(Vec::new());
    };
    let strings = layout.strings(file, &dynamic)?;
    layout.in_table(file, address, |bytes| layout.version_definitions_in(bytes, count, &strings))
}

impl Layout {
    /// DT_VERNEED.
    pub(super) fn version_needs(
        &self,
        file: &Opened,
        dynamic: &[Dyn],
        strings: &Strings,
    ) -> Parsed<Vec<VersionNeed>> {
        let (Some(address), Some(count)) = (value(dynamic, DT_VERNEED), value(dynamic, DT_VERNEEDNUM)) else {
            return Ok(Vec::new());
        };
        self.in_table(file, address, |bytes| self.version_needs_in(bytes, count, strings))
    }

    /// Reads a table that has no size of its own: most are in one small piece.
    fn in_table<T>(
        &self,
        file: &Opened,
        address: u64,
        read: impl Fn(&[u8]) -> Parsed<Vec<T>>,
    ) -> Parsed<Vec<T>> {
        let offset = self.offset(address).ok_or(Fault::Content("an ELF version table outside the file"))?;
        let first = file.read_at(offset, HEAD)?;
        match read(&first) {
            Err(_) if first.len() == HEAD => read(&file.read_at(offset, MAX_VERSIONS * 16)?),
            parsed => parsed,
        }
    }

    fn version_needs_in(&self, bytes: &[u8], count: u64, strings: &Strings) -> Parsed<Vec<VersionNeed>> {
        let mut needs = Vec::new();
        let mut entry = 0;
        for _ in 0..count.min(MAX_VERSIONS as u64) {
            let library = strings.at(u64::from(self.u32(bytes, step(entry, 4))?))?;
            let mut auxiliary = step(entry, self.u32(bytes, step(entry, 8))?);
            for _ in 0..self.u16(bytes, step(entry, 2))? {
                let version = strings.at(u64::from(self.u32(bytes, step(auxiliary, 8))?))?;
                strings.spend(library.len())?;
                needs.push(VersionNeed { library: library.clone(), version });
                if needs.len() > MAX_VERSIONS {
                    return Err(Fault::Content("an ELF version table without an end"));
                }
                auxiliary = step(auxiliary, self.u32(bytes, step(auxiliary, 12))?);
            }
            entry = step(entry, self.u32(bytes, step(entry, 12))?);
        }
        needs.sort();
        needs.dedup();
        Ok(needs)
    }

    /// Each definition's first name, which is the version; the others are those that it follows.
    fn version_definitions_in(&self, bytes: &[u8], count: u64, strings: &Strings) -> Parsed<Vec<String>> {
        let mut versions = Vec::new();
        let mut entry = 0;
        for _ in 0..count.min(MAX_VERSIONS as u64) {
            let name = step(entry, self.u32(bytes, step(entry, 12))?);
            versions.push(strings.at(u64::from(self.u32(bytes, name)?))?);
            match self.u32(bytes, step(entry, 16))? {
                0 => break,
                next => entry = step(entry, next),
            }
        }
        versions.sort();
        versions.dedup();
        Ok(versions)
    }
}
