//! What was seen in a machine, as one process tells it another.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::Notice;
use crate::ldcache::{self, Abi};
use crate::nspawn::Guest;
use crate::nspawn::guest::{Cache, Layout, Libc, Programs};

/// A [`Guest`] and what was odd of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    name: Option<String>,
    libc: Libc,
    layout: Layout,
    programs: Vec<(u32, Utf8PathBuf, Option<String>)>,
    cache: Listed,
    groups: BTreeMap<String, u32>,
    opencl: BTreeSet<String>,
    notices: Vec<Notice>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Listed {
    Missing,
    Usable(Vec<(String, Utf8PathBuf, u32, u64)>),
    Unusable,
}

impl Seen {
    pub(super) fn of(guest: Guest, notices: Vec<Notice>) -> Seen {
        let Guest { name, libc, layout, programs, cache, groups, opencl } = guest;
        let one = |found: Programs| {
            let Programs { abi, directory, glibc } = found;
            (abi.flags(), directory, glibc.map(|glibc| glibc.to_string()))
        };
        let entry = |entry: ldcache::Entry| (entry.name, entry.path, entry.abi.flags(), entry.hwcap);
        let cache = match cache {
            Cache::Missing => Listed::Missing,
            Cache::Usable(entries) => Listed::Usable(entries.into_iter().map(entry).collect()),
            Cache::Unusable => Listed::Unusable,
        };
        let programs = programs.into_iter().map(one).collect();
        Seen { name, libc, layout, programs, cache, groups, opencl, notices }
    }

    pub(super) fn told(self) -> (Guest, Vec<Notice>) {
        let Seen { name, libc, layout, programs, cache, groups, opencl, notices } = self;
        let one = |(abi, directory, glibc): (u32, Utf8PathBuf, Option<String>)| Programs {
            abi: Abi::from_flags(abi),
            directory,
            glibc: glibc.and_then(|glibc| glibc.parse().ok()),
        };
        let entry =
            |(name, path, abi, hwcap)| ldcache::Entry { name, path, abi: Abi::from_flags(abi), hwcap };
        let cache = match cache {
            Listed::Missing => Cache::Missing,
            Listed::Usable(entries) => Cache::Usable(entries.into_iter().map(entry).collect()),
            Listed::Unusable => Cache::Unusable,
        };
        let programs = programs.into_iter().map(one).collect();
        (Guest { name, libc, layout, programs, cache, groups, opencl }, notices)
    }
}
