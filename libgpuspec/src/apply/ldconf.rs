//! The loader's configuration in the container, so that the image's own later `ldconfig` finds the driver.

use camino::Utf8Path;

use super::{ETC, Libraries, own_directory, replace};
use crate::Root;
use crate::error::Result;
use crate::root::Directory;

const LIST_DIRECTORY: &str = "/etc/ld.so.conf.d";
/// Sorts before the image's own lists: the first directory of a name wins.
const LIST_NAME: &str = "00-gpuspec.conf";
const CONF_NAME: &str = "ld.so.conf";
const INCLUDE: &str = "include /etc/ld.so.conf.d/*.conf";
/// Larger than any such file; the largest seen has 2 KiB.
const MAX_CONF: u64 = 64 << 10;

/// Writes the driver's directories to /etc/ld.so.conf.d/00-gpuspec.conf.
pub(super) fn list_directories(root: &Root, libraries: &[Libraries]) -> Result<()> {
    let mut text =
        "# where the GPU driver's libraries are; written at container start by oci-hook\n".to_owned();
    for (index, one) in libraries.iter().enumerate() {
        if !libraries.iter().take(index).any(|earlier| earlier.directory == one.directory) {
            text.push_str(one.directory.as_str());
            text.push('\n');
        }
    }
    let directory = own_directory(root, LIST_DIRECTORY)?;
    let old = root.read(&Utf8Path::new(LIST_DIRECTORY).join(LIST_NAME), MAX_CONF)?;
    match old {
        Some(old) if old == text.as_bytes() => Ok(()),
        _ => replace(&directory, LIST_NAME, text.as_bytes()),
    }
}

/// Makes /etc/ld.so.conf include the lists of /etc/ld.so.conf.d, ahead of all else where it does not yet.
pub(super) fn include_list(root: &Root, etc: &Directory) -> Result<()> {
    let old = root.read(&Utf8Path::new(ETC).join(CONF_NAME), MAX_CONF)?.unwrap_or_default();
    if includes_list(&old) {
        return Ok(());
    }
    let new = [INCLUDE.as_bytes(), b"\n", &old].concat();
    replace(etc, CONF_NAME, &new)
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
