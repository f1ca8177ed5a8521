//! Images with the musl C library: its loader has a list of directories instead of a cache.
//!
//! A list that is there replaces musl's own three directories, so a first one names them too
//! (ldso/dynlink.c). What no list can do is make libraries of glibc's load: the notice says so.

use camino::{Utf8Path, Utf8PathBuf};

use super::{ETC, Libraries, own_directory, own_text, replace};
use crate::Root;
use crate::error::Result;
use crate::ldcache::Abi;
use crate::notice::Notice;

/// Where musl's loader looks without a list.
const DEFAULTS: &str = "/lib\n/usr/local/lib\n/usr/lib\n";
/// Larger than any such list.
const MAX_LIST: u64 = 64 << 10;

/// Adds the libraries' directories to musl's list, behind what is there; what that cannot do comes back.
pub(super) fn list_directories(root: &Root, libraries: &[Libraries]) -> Result<Vec<Notice>> {
    let mut notices = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for word in libraries.iter().filter_map(|one| architecture(one.abi)) {
        if seen.contains(&word) || root.target(&loader(word))?.is_none() {
            continue;
        }
        seen.push(word);
        let ours = libraries.iter().filter(|one| architecture(one.abi) == Some(word));
        let directories: Vec<&Utf8Path> = ours.map(|one| one.directory.as_path()).collect();
        add(root, &format!("ld-musl-{word}.path"), &directories)?;
        notices.push(Notice(format!(
            "{}: the image's C library is musl, and the driver's libraries are made for glibc: they load only \
             through a layer such as gcompat, or in an image with glibc",
            root.outside(&loader(word))
        )));
    }
    Ok(notices)
}

fn loader(architecture: &str) -> Utf8PathBuf {
    format!("/lib/ld-musl-{architecture}.so.1").into()
}

fn add(root: &Root, name: &str, directories: &[&Utf8Path]) -> Result<()> {
    let old = own_text(root, &Utf8Path::new(ETC).join(name), MAX_LIST)?;
    let mut new = old.clone().unwrap_or_else(|| DEFAULTS.to_owned());
    for directory in directories {
        if !new.split([':', '\n']).any(|known| known == directory.as_str()) {
            if !new.is_empty() && !new.ends_with('\n') {
                new.push('\n');
            }
            new.push_str(directory.as_str());
            new.push('\n');
        }
    }
    match old {
        Some(old) if old == new => Ok(()),
        _ => replace(&own_directory(root, ETC)?, name, new.as_bytes()),
    }
}

/// musl's word for an ABI, as in the name of its loader.
fn architecture(abi: Abi) -> Option<&'static str> {
    match abi {
        Abi::X86_64 => Some("x86_64"),
        Abi::I386 => Some("i386"),
        Abi::X32 => Some("x32"),
        Abi::Aarch64 => Some("aarch64"),
        Abi::Armhf => Some("armhf"),
        Abi::Ppc64 => Some("powerpc64le"),
        Abi::Riscv64 => Some("riscv64"),
        Abi::Other(_) => None,
    }
}
