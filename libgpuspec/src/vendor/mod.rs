//! A vendor as a value: tables of what its driver is made of, and the readers of its kernel files.

pub mod nvidia;
pub mod requests;

use crate::Notice;
use crate::error::Result;
use crate::host::Host;
use crate::inventory::{Capability, FileKind, Gpu, Node};

/// Everything that is particular to one vendor.
#[derive(Debug)]
pub struct Vendor {
    /// For messages.
    pub name: &'static str,
    /// The CDI kind of its GPUs, `vendor/class`.
    pub kind: &'static str,
    /// Libraries whose file names carry the driver's version; without one of them there is no driver.
    pub anchors: &'static [&'static str],
    /// The libraries that are known by name.
    pub libraries: &'static [LibraryRule],
    /// How the names of the driver's libraries begin; enough where a library of the driver needs them.
    pub prefixes: &'static [&'static str],
    /// Directories of libraries that only such a driver has, in order.
    pub library_directories: &'static [&'static str],
    /// Directories below each directory of libraries that hold drivers, or parts of them.
    pub library_subdirectories: &'static [&'static str],
    /// Directories whose subdirectories are each one driver's, programs and X modules too.
    pub private_directories: &'static [&'static str],
    /// Everything that is no library.
    pub files: &'static [FileRule],
    /// Sockets and directories of daemons, which come and go.
    pub optional: &'static [OptionalRule],
    /// Nodes below `/dev` that every user of the driver opens.
    pub control_nodes: &'static [&'static str],
    /// `NAME=VALUE` for every container.
    pub environment: &'static [&'static str],
    /// Further words for the hook; `{version}` stands for the driver's version.
    pub hook_flags: &'static [&'static str],
    /// Whether a text is a version of the driver's.
    pub is_version: fn(&str) -> bool,
    /// The loaded kernel module's version.
    pub module_version: fn(&Host) -> Result<Option<String>>,
    /// The GPUs that the kernel knows, ordered, with what they have in /dev.
    pub gpus: fn(&Host) -> Result<Odd<Vec<Gpu>>>,
    /// Where the kernel lists the GPUs, for messages.
    pub gpu_directory: &'static str,
    /// What to do where GPUs or nodes are missing.
    pub missing_gpu_remedy: &'static str,
}

/// What was read, and what was odd about it.
pub type Odd<T> = (T, Vec<Notice>);

/// One library.
#[derive(Debug)]
pub struct LibraryRule {
    /// The name up to and with `.so`; a `*` before `.so` stands for any text.
    pub stem: &'static str,
    /// What it serves.
    pub serves: &'static [Capability],
    /// Where it must appear, and for whom.
    pub place: Place,
    /// Names in the loader's directory that consumers open and that are links to it, whether or not the host has them.
    pub links: &'static [&'static str],
    /// Paths below the directory of libraries at which it must appear once more, even where no link can be made.
    pub also: &'static [&'static str],
}

/// Where a library must appear, and for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the loader's directory.
    Loader,
    /// In this directory below it, since its consumer opens it by path.
    Below(&'static str),
    /// Nowhere by default, since only programs of the host use it; else in the loader's directory.
    HostTool,
    /// The same; else where the X server keeps its modules of this sort.
    XModule(&'static str),
}

/// One file, or a family of them, that is no library.
#[derive(Debug)]
pub struct FileRule {
    /// What sort of file.
    pub kind: FileKind,
    /// The file's name; a `*` stands for any text, `{version}` for the driver's version.
    pub name: &'static str,
    /// Where it is looked for, in order; the first hit of each name wins.
    pub sources: &'static [Source],
    /// The directory in which its consumer opens it.
    pub destination: Destination,
    /// What it serves.
    pub serves: &'static [Capability],
    /// Whether only programs of the host itself have a use for it.
    pub host_tool: bool,
}

/// A socket or directory of a daemon, mounted at its own path when a container starts, if it is there.
#[derive(Debug)]
pub struct OptionalRule {
    /// What it must be: a socket or a directory.
    pub kind: crate::root::Kind,
    /// Its path.
    pub path: &'static str,
    /// What it serves.
    pub serves: &'static [Capability],
}

/// Where a file is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This directory; `{version}` stands for the driver's version.
    Directory(&'static str),
    /// Each directory of libraries that holds a library of the driver, plus this.
    Libraries(&'static str),
    /// Each directory that the kernel's firmware loader searches, plus this.
    Firmware(&'static str),
    /// Each subdirectory of the vendor's private directories.
    Private,
}

/// Where a file's consumer opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// In this directory; `{version}` stands for the driver's version.
    Directory(&'static str),
    /// Where it was found.
    Same,
    /// In this directory below the loader's.
    Libraries(&'static str),
    /// In /usr/sbin where it was found in an `sbin`, else in /usr/bin.
    Programs,
}

impl LibraryRule {
    /// Whether only programs of the host itself have a use for it.
    pub fn is_host_tool(&self) -> bool {
        match self.place {
            Place::HostTool | Place::XModule(_) => true,
            Place::Loader | Place::Below(_) => false,
        }
    }
}

impl Vendor {
    /// Whether a library's name is one of the driver's, by the table or by how it begins.
    pub fn is_drivers_name(&self, name: &str) -> bool {
        self.library_rule(name).is_some() || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    /// The rule for a library of this file name or soname.
    pub fn library_rule(&self, name: &str) -> Option<&'static LibraryRule> {
        let stem = stem(name)?;
        self.libraries.iter().find(|rule| rule.stem == stem)
    }
}

/// A library's name up to and with `.so`; `None` for what is not named like a library.
pub fn stem(name: &str) -> Option<&str> {
    let end = name.find(".so.").map(|at| at + 3).or_else(|| name.ends_with(".so").then_some(name.len()))?;
    name.get(..end)
}

/// The numbers after `.so.` of a library's name; `None` for `libx.so` and for other files.
pub fn suffix(name: &str) -> Option<&str> {
    name.split_once(".so.").map(|(_, suffix)| suffix)
}

/// Whether `text` is what `pattern` says, in which each `*` stands for any text.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    match rest.rsplit_once('*') {
        None => text.ends_with(rest),
        // Between the first star and the last, each part is taken where it first stands.
        Some((middle, tail)) => {
            let mut left = text;
            middle.split('*').all(|part| match left.split_once(part) {
                Some((_, after)) => {
                    left = after;
                    true
                }
                None => false,
            }) && left.ends_with(tail)
        }
    }
}

/// A node at `path` of the dev root, if a character device is there.
pub(crate) fn node(host: &Host, path: &camino::Utf8Path) -> Result<Option<Node>> {
    let Some(entry) = host.dev.entry(path)?.filter(|entry| entry.kind == crate::root::Kind::CharDevice)
    else {
        return Ok(None);
    };
    let crate::root::Entry { major, minor, mode, uid, gid, .. } = entry;
    Ok(Some(Node { path: path.to_owned(), major, minor, mode: mode & 0o777, uid, gid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("nvidia-smi", "nvidia-smi", true),
            ("nvidia-smi", "nvidia-smi2", false),
            ("*.bin*", "gsp_ga10x.bin", true),
            ("*.bin*", "gsp_ga10x.bin.zst", true),
            ("*.bin*", "bin", false),
            ("*nvidia*.json", "10_nvidia_wayland.json", true),
            ("*nvidia*.json", "50_mesa.json", false),
            ("*nvngx*.dll", "_nvngx.dll", true),
            ("a*a", "a", false),
            ("a*b*a", "aba", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_librarys_name_has_a_stem_and_a_suffix() {
        for (name, expected) in [
            ("libcuda.so", (Some("libcuda.so"), None)),
            ("libcuda.so.550.163.01", (Some("libcuda.so"), Some("550.163.01"))),
            ("libsofa.socket", (None, None)),
            ("nvidia_drv.so", (Some("nvidia_drv.so"), None)),
        ] {
            assert_eq!((stem(name), suffix(name)), expected, "{name}");
        }
    }
}
