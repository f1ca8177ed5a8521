//! The loader's configuration in the container, so that the image's own later `ldconfig` finds the driver.

use camino::{Utf8Path, Utf8PathBuf};

use super::request::directory;
use super::{own_directory, own_file, own_text, replace};
use crate::Root;
use crate::error::Result;
use crate::root::{Directory, Kind};

pub(crate) const LIST_DIRECTORY: &str = "/etc/ld.so.conf.d";
/// How the names of our lists begin.
const OWN: &str = "00-gpuspec";
/// Names directories that hold the driver's libraries alone, so it can precede the image's own lists.
pub(super) const DRIVER_LIST: &str = "00-gpuspec.conf";
const HEAD: &str = "# where the GPU driver's libraries are; written at container start by oci-hook\n";
const CONF_NAME: &str = "ld.so.conf";
pub(crate) const CONF: &str = "/etc/ld.so.conf";
/// Of our lists alone: an image that does not include the others does not search what they name.
const INCLUDE: &str = "include /etc/ld.so.conf.d/00-gpuspec*.conf";
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

/// Makes /etc/ld.so.conf include our lists ahead of all other directories.
pub(super) fn include_lists(root: &Root, etc: &Directory) -> Result<()> {
    let old = own_file(root, Utf8Path::new(CONF), MAX_CONF)?.unwrap_or_default();
    let new = if is_preceded(root)? { with_include(&old) } else { including(&old) };
    new.map_or(Ok(()), |new| replace(etc, CONF_NAME, &new))
}

/// The configuration with our lists included first; `None` where they are.
pub(crate) fn including(conf: &[u8]) -> Option<Vec<u8>> {
    if includes_lists_first(conf) { None } else { with_include(conf) }
}

/// The configuration with the line of our lists alone; `None` where it begins with it.
fn with_include(conf: &[u8]) -> Option<Vec<u8>> {
    without_include(conf).is_none().then(|| [INCLUDE.as_bytes(), b"\n", conf].concat())
}

/// Whether a list of the image's comes before ours in the order of ldconfig(8), which sorts them by name.
fn is_preceded(root: &Root) -> Result<bool> {
    let lists = root.list(Utf8Path::new(LIST_DIRECTORY))?.unwrap_or_default();
    Ok(lists.iter().any(|(name, _)| name.as_str() < OWN && name.ends_with(".conf")))
}

/// The configuration without the line that [`including`] adds; `None` where it does not begin with it.
pub(crate) fn without_include(conf: &[u8]) -> Option<Vec<u8>> {
    Some(conf.strip_prefix(INCLUDE.as_bytes())?.strip_prefix(b"\n")?.to_vec())
}

/// Whether the first line that counts includes our lists, by one of the patterns that distributions use.
fn includes_lists_first(conf: &[u8]) -> bool {
    let mut lines = conf
        .split(|byte| *byte == b'\n')
        .map(|line| str::from_utf8(line).unwrap_or("?").split('#').next().unwrap_or_default().trim());
    let mut words = lines.find(|line| !line.is_empty()).unwrap_or_default().split_whitespace();
    // Relative patterns count from the directory of the file.
    let ours = |pattern: &str| {
        let pattern = pattern.trim_start_matches("/etc/");
        matches!(pattern, "ld.so.conf.d/*.conf" | "ld.so.conf.d/*" | "ld.so.conf.d/00-gpuspec*.conf")
    };
    words.next() == Some("include") && words.next().is_some_and(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_an_include_counts_where_nothing_precedes_it() {
        let cases = [
            ("", false),
            ("include /etc/ld.so.conf.d/*.conf", true),
            ("# all\n\n  include\tld.so.conf.d/*.conf # all\n/opt/lib\n", true),
            ("/opt/lib\ninclude ld.so.conf.d/*.conf\n", false),
            ("include ld.so.conf.d/*", true),
            ("include ld.so.conf.d/00-gpuspec*.conf\n/opt/lib\n", true),
            ("include ld.so.conf.d/*.conf /opt/*.conf", true),
            ("include /opt/*.conf ld.so.conf.d/*.conf", false),
            ("# include ld.so.conf.d/*.conf\n", false),
            ("include ld.so.conf.d/cuda.conf\n", false),
            ("includes ld.so.conf.d/*.conf\n", false),
        ];
        for (conf, expected) in cases {
            assert_eq!(includes_lists_first(conf.as_bytes()), expected, "{conf}");
        }
    }
}
