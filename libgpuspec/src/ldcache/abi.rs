//! Which programs a library can be loaded into, as ELF headers and as the loader's cache say it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A kind of program of glibc's: processor, word size, and calling convention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Abi {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit x86 with 32-bit pointers.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with floating-point registers.
    Armhf,
    /// 64-bit POWER.
    Ppc64,
    /// 64-bit RISC-V with double-precision registers.
    Riscv64,
    /// Any other; the number is the cache's `flags`.
    Other(u32),
}

/// `flags` of a cache entry (glibc, sysdeps/generic/ldconfig.h): 3 in the low byte is an ELF library
/// of glibc 2, the next byte names what is special about the ABI. i386 has nothing special, which it
/// shares with other processors' first ABIs; a machine's cache holds only those of its own family.
const TABLE: [(Abi, u32, &str); 7] = [
    (Abi::X86_64, 0x0303, "x86-64"),
    (Abi::I386, 0x0003, "i386"),
    (Abi::X32, 0x0803, "x32"),
    (Abi::Aarch64, 0x0a03, "aarch64"),
    (Abi::Armhf, 0x0903, "armhf"),
    (Abi::Ppc64, 0x0503, "ppc64"),
    (Abi::Riscv64, 0x1003, "riscv64"),
];

impl Abi {
    /// That of the programs that this host is for.
    pub const OWN: Abi = if cfg!(target_arch = "x86_64") {
        Abi::X86_64
    } else if cfg!(target_arch = "aarch64") {
        Abi::Aarch64
    } else if cfg!(target_arch = "powerpc64") {
        Abi::Ppc64
    } else if cfg!(target_arch = "riscv64") {
        Abi::Riscv64
    } else {
        Abi::Other(0)
    };

    /// The ABI of an ELF object, from its header's `EI_CLASS` (1 or 2) and `e_machine` (elf.h).
    ///
    /// 32-bit ARM is taken as hard-float: no driver that is found here was made for the other.
    pub fn from_elf(class: u8, machine: u16) -> Option<Abi> {
        match (class, machine) {
            (2, 62) => Some(Abi::X86_64),
            (1, 3) => Some(Abi::I386),
            (1, 62) => Some(Abi::X32),
            (2, 183) => Some(Abi::Aarch64),
            (1, 40) => Some(Abi::Armhf),
            (2, 21) => Some(Abi::Ppc64),
            (2, 243) => Some(Abi::Riscv64),
            _ => None,
        }
    }

    /// The ABI of a cache entry's `flags`.
    pub fn from_flags(flags: u32) -> Abi {
        // A 32-bit library that needs no libc: ldconfig cannot tell for which one it was made.
        if flags == 0x0001 {
            return Abi::I386;
        }
        TABLE.iter().find(|(_, known, _)| *known == flags).map_or(Abi::Other(flags), |(abi, _, _)| *abi)
    }

    /// The `flags` of a cache entry for this ABI.
    pub fn flags(self) -> u32 {
        if let Abi::Other(flags) = self {
            return flags;
        }
        TABLE.iter().find(|(abi, _, _)| *abi == self).map_or(0, |(_, flags, _)| *flags)
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TABLE.iter().find(|(abi, _, _)| abi == self) {
            Some((_, _, word)) => formatter.write_str(word),
            None => write!(formatter, "{:#06x}", self.flags()),
        }
    }
}

/// Its word.
impl Serialize for Abi {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// No ABI has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no ABI known by this name; known are x86-64, i386, x32, aarch64, armhf, ppc64, riscv64")]
pub struct UnknownAbi;

impl FromStr for Abi {
    type Err = UnknownAbi;

    fn from_str(text: &str) -> Result<Abi, UnknownAbi> {
        TABLE.iter().find(|(_, _, word)| *word == text).map(|(abi, _, _)| *abi).ok_or(UnknownAbi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_abi_is_found_again_by_flags_and_by_name() {
        for (abi, flags, word) in TABLE {
            assert_eq!((Abi::from_flags(flags), abi.flags()), (abi, flags));
            assert_eq!((word.parse(), abi.to_string()), (Ok(abi), word.to_owned()));
        }
        assert_eq!(Abi::from_flags(0x0001), Abi::I386);
        assert_eq!(Abi::from_flags(0x0403), Abi::Other(0x0403));
        assert_eq!(Abi::Other(0x0403).to_string(), "0x0403");
        assert_eq!("0x0403".parse::<Abi>(), Err(UnknownAbi));
    }

    #[test]
    fn elf_headers_name_the_abi() {
        let cases = [((2, 62), Some(Abi::X86_64)), ((1, 3), Some(Abi::I386)), ((2, 183), Some(Abi::Aarch64))];
        for ((class, machine), expected) in cases {
            assert_eq!(Abi::from_elf(class, machine), expected);
        }
        assert_eq!(Abi::from_elf(2, 3), None);
    }
}
