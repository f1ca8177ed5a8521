//! The loader's configuration in the container, so that the image's own later `ldconfig` finds the driver.

use camino::{Utf8Path, Utf8PathBuf};

use super::request::directory;
use super::{own_directory, own_file, own_text, replace};
use crate::Root;
use crate::error::Result;
use crate::root::{Directory, Kind};

pub(crate) const LIST_DIRECTORY: &str = "/etc/ld.so.conf.d";
/// Sorts before the image's own lists: the first directory of a name wins.
pub(super) const DRIVER_LIST: &str = "00-gpuspec.conf";
const HEAD: &str = "# where the GPU driver's libraries are; written at container start by oci-hook\n";
const CONF_NAME: &str = "ld.so.conf";
pub(crate) const CONF: &str = "/etc/ld.so.conf";
const INCLUDE: &str = "include /etc/ld.so.conf.d/*.conf";
/// Larger than any such file; the largest seen has 2 KiB.
const MAX_CONF: u64 = 64 << 10;
/// Most directories taken of a list of ours, which has one; each may hold thousands of libraries.
const MAX_DIRECTORIES: usize = 4;

/// Writes directories to a list of /etc/ld.so.conf.d, each once.
pub(super) fn list(root: &Root, name: &str, directories: &[&Utf8Path]) -> Result<()> {
    let text = list_text(directories);
    let directory = own_directory(root, LIST_DIRECTORY)?;
    // A link under our name is the image's doing.
    let is_link = directory.entry(name)?.is_some_and(|entry| entry.kind == Kind::Symlink);
    let old = if is_link { None } else { directory.read(name, MAX_CONF)? };
    match old {
        Some(old) if old == text.as_bytes() => Ok(()),
        _ => replace(&directory, name, text.as_bytes()),
    }
}

/// The text of such a list.
pub(crate) fn list_text(directories: &[&Utf8Path]) -> String {
    let mut text = HEAD.to_owned();
    for (index, directory) in directories.iter().enumerate() {
        if !directories.iter().take(index).any(|earlier| earlier == directory) {
            text.push_str(directory.as_str());
            text.push('\n');
        }
    }
    text
}

/// Where the list of the driver's directories is.
pub(crate) fn list_path() -> Utf8PathBuf {
    Utf8Path::new(LIST_DIRECTORY).join(DRIVER_LIST)
}

/// What a list says without the directories in `tree`; `None` where it has none of them.
pub(crate) fn unlisted(list: &[u8], tree: &Utf8Path) -> Option<Vec<u8>> {
    let is_in =
        |line: &&[u8]| str::from_utf8(line).is_ok_and(|line| Utf8Path::new(line.trim()).starts_with(tree));
    let lines = || list.split_inclusive(|byte| *byte == b'\n');
    let rest = || lines().filter(|line| !is_in(line) && *line != HEAD.as_bytes()).flatten().copied();
    lines().any(|line| is_in(&line)).then(|| rest().collect())
}

/// Removes a list of ours.
pub(super) fn forget(root: &Root, name: &str) -> Result<()> {
    own_directory(root, LIST_DIRECTORY)?.remove(name)
}

/// The directories in a list of ours; a line that names none is passed over.
pub(super) fn listed(root: &Root, name: &str) -> Result<Vec<Utf8PathBuf>> {
    // What is no file of the tree itself is no list of ours.
    let text = own_text(root, &Utf8Path::new(LIST_DIRECTORY).join(name), MAX_CONF)
        .ok()
        .flatten()
        .unwrap_or_default();
    let directories = text.lines().filter_map(|line| directory(line).ok());
    Ok(directories.take(MAX_DIRECTORIES).collect())
}

/// Makes /etc/ld.so.conf include the lists of /etc/ld.so.conf.d, ahead of all else where it does not yet.
pub(super) fn include_lists(root: &Root, etc: &Directory) -> Result<()> {
    let old = own_file(root, Utf8Path::new(CONF), MAX_CONF)?.unwrap_or_default();
    including(&old).map_or(Ok(()), |new| replace(etc, CONF_NAME, &new))
}

/// The configuration with the lists included; `None` where they are.
pub(crate) fn including(conf: &[u8]) -> Option<Vec<u8>> {
    (!includes_list(conf)).then(|| [INCLUDE.as_bytes(), b"\n", conf].concat())
}

/// The configuration without the line that [`including`] adds; `None` where it does not begin with it.
pub(crate) fn without_include(conf: &[u8]) -> Option<Vec<u8>> {
    Some(conf.strip_prefix(INCLUDE.as_bytes())?.strip_prefix(b"\n")?.to_vec())
}

/// Whether a line includes our list, by one of the patterns that distributions use (ldconfig(8)).
fn includes_list(conf: &[u8]) -> bool {
    conf.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok()).any(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        // Relative patterns count from the directory of the file.
        let ours = |pattern: &str| {
            let pattern = pattern.trim_start_matches("/etc/");
            matches!(pattern, "ld.so.conf.d/*.conf" | "ld.so.conf.d/*" | "ld.so.conf.d/00-gpuspec.conf")
        };
        words.next() == Some("include") && words.any(ours)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_include_is_recognised() {
        let cases = [
            ("", false),
            ("include /etc/ld.so.conf.d/*.conf", true),
            ("/opt/lib\n  include\tld.so.conf.d/*.conf # all\n", true),
            ("include ld.so.conf.d/*", true),
            ("include /opt/*.conf ld.so.conf.d/*.conf", true),
            ("# include ld.so.conf.d/*.conf\n", false),
            ("include ld.so.conf.d/cuda.conf\n", false),
            ("includes ld.so.conf.d/*.conf\n", false),
        ];
        for (conf, expected) in cases {
            assert_eq!(includes_list(conf.as_bytes()), expected, "{conf}");
        }
    }
}
