//! CUDA forward compatibility: whether an image's own, newer libcuda shall be loaded instead of the host's.
//!
//! CUDA images bring it in /usr/local/cuda/compat for drivers older than themselves. It says in an ELF
//! note of which driver branches it can be used with; one without a note can with every older branch.
//! The choice is kept in a list of directories of its own, which is removed when it falls the other way.

use camino::{Utf8Path, Utf8PathBuf};

use super::{ldcache, ldconf, own_directory, scan, symlinks, version::numbers};
use crate::error::{Error, Result};
use crate::root::Root;
use crate::{Notice, elf};

/// Where CUDA images have their compatibility libraries.
pub const DIRECTORY: &str = "/usr/local/cuda/compat";

/// Sorts before the list of the driver's directories.
pub(super) const LIST_NAME: &str = "00-gpuspec-cuda-compat.conf";

/// The `n_name` of the note in section `.note.cuda.fwd_compatibility`.
const NOTE_OWNER: &str = "NVIDIA Corporation";

const LIBRARY: &str = "libcuda.so.";

/// What the host has, and where the container may have newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaCompat {
    /// The host's driver version, e.g. `550.163.01`.
    pub host_driver: Option<String>,
    /// The CUDA version that the host's driver supports, e.g. `12.4`; counts where the note tells no drivers.
    pub host_cuda: Option<String>,
    /// The directory in the container.
    pub directory: Utf8PathBuf,
}

/// What the library's note says, as far as it is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Note {
    /// The CUDA version it is of.
    cuda: Option<String>,
    /// The driver branches it can be used with.
    drivers: Vec<u64>,
}

/// Makes the loader find the compatibility libraries first, or no longer.
pub(super) fn choose(root: &Root, compat: &CudaCompat) -> Result<Vec<Notice>> {
    if !is_chosen(root, compat)? {
        return give_up(root).map(|()| Vec::new());
    }
    let links = scan::scan(root, &compat.directory)?.links;
    let notices = symlinks::make(root, &links);
    ldconf::list(root, LIST_NAME, &[&compat.directory])?;
    ldconf::include_lists(root, &own_directory(root, super::ETC)?)?;
    Ok(notices)
}

/// Takes back what an earlier run has chosen.
fn give_up(root: &Root) -> Result<()> {
    let directories = ldconf::listed(root, LIST_NAME)?;
    if directories.is_empty() {
        return Ok(());
    }
    ldcache::demote(root, &own_directory(root, super::ETC)?, &directories)?;
    ldconf::forget(root, LIST_NAME)
}

fn is_chosen(root: &Root, compat: &CudaCompat) -> Result<bool> {
    let Some(name) = library(root, &compat.directory)? else { return Ok(false) };
    let path = compat.directory.join(&name);
    let Some(opened) = root.open_file(&path)? else { return Ok(false) };
    let unusable = |reason: String| Error::Format { path: root.outside(&path), reason };
    let notes = elf::notes(&opened, NOTE_OWNER).map_err(|fault| unusable(fault.to_string()))?;
    let note = first(&notes).map_err(|reason| unusable(reason.to_owned()))?;
    Ok(decide(&name, note.as_ref(), compat))
}

/// The file name of the one library: that to which libcuda.so.1 leads where there are several.
fn library(root: &Root, directory: &Utf8Path) -> Result<Option<String>> {
    let names = root.list(directory)?.unwrap_or_default().into_iter().map(|(name, _)| name);
    let versioned = |name: &String| name.strip_prefix(LIBRARY).is_some_and(|rest| rest.contains('.'));
    let mut names: Vec<String> = names.filter(versioned).collect();
    if names.len() > 1 {
        let loaded = root.resolve(&directory.join("libcuda.so.1"))?;
        names.retain(|name| loaded.as_ref().and_then(|path| path.file_name()) == Some(name));
        if names.is_empty() {
            let reason = "several libcuda.so, and no libcuda.so.1 that leads to one of them".to_owned();
            return Err(Error::Format { path: root.outside(directory), reason });
        }
    }
    Ok(names.pop())
}

/// The first note that can be read; an error where there are only others.
fn first(notes: &[Vec<u8>]) -> std::result::Result<Option<Note>, &'static str> {
    let mut parsed = notes.iter().map(|note| parse(note));
    match parsed.next() {
        Some(Err(reason)) => parsed.find_map(|note| note.ok()).map(Some).ok_or(reason),
        first => first.transpose(),
    }
}

/// Reads the object at the start of a note; padding may surround it.
fn parse(note: &[u8]) -> std::result::Result<Note, &'static str> {
    let start = note.iter().position(|byte| *byte != 0).unwrap_or_default();
    let text = note.get(start..).unwrap_or_default();
    let mut objects =
        serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Map<String, serde_json::Value>>();
    let fields = objects
        .next()
        .and_then(|object| object.ok())
        .ok_or("its note on forward compatibility is no JSON object")?;
    // Written in several ways of upper and lower case over the releases.
    let field =
        |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    if field("format").is_some_and(|format| format != 1) {
        return Err("its note on forward compatibility is of a format not known here");
    }
    let drivers = field("driver").and_then(serde_json::Value::as_array);
    Ok(Note {
        cuda: field("cuda version").and_then(|cuda| cuda.as_str()).map(str::to_owned),
        drivers: drivers.into_iter().flatten().filter_map(serde_json::Value::as_u64).collect(),
    })
}

/// Whether the library `name` shall be loaded.
fn decide(name: &str, note: Option<&Note>, compat: &CudaCompat) -> bool {
    let own = numbers(name.strip_prefix(LIBRARY).unwrap_or(name));
    let driver = compat.host_driver.as_deref().map(numbers).filter(|numbers| !numbers.is_empty());
    match (driver, note) {
        (Some(driver), Some(note)) if !note.drivers.is_empty() => {
            driver.first().is_some_and(|branch| note.drivers.contains(branch)) && own > driver
        }
        (Some(driver), None) => own.first() > driver.first(),
        (_, Some(note)) => match (&note.cuda, &compat.host_cuda) {
            (Some(own), Some(host)) => numbers(own) > numbers(host),
            _ => false,
        },
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &[u8] =
        br#"{"format": 1, "CUDA Version": "12.9", "driver": [535, 550, 565, 570, 575], "device": []}"#;

    #[test]
    fn notes_are_read_in_any_case_of_letters() {
        let note = parse(NOTE).unwrap();
        assert_eq!(note, Note { cuda: Some("12.9".to_owned()), drivers: vec![535, 550, 565, 570, 575] });
        assert_eq!(parse(br#"{"Format":1,"cuda version":"12.9"}"#).unwrap().cuda, note.cuda);
        for padded in ["{}\0", "{}\0\0\0\0", "\0{}\0", "{} \n\0", "{}\0text", "{}.shstrtab\0"] {
            assert_eq!(parse(padded.as_bytes()), Ok(Note::default()), "{padded:?}");
        }
        for (text, word) in
            [("", "no JSON"), ("[]", "no JSON"), (r#"{"format":2}"#, "not known"), ("{", "no JSON")]
        {
            assert!(parse(text.as_bytes()).unwrap_err().contains(word), "{text}");
        }
    }

    #[test]
    fn the_library_is_loaded_where_it_is_newer_and_fits() {
        let note = parse(NOTE).unwrap();
        let (noted, plain) = (Some(&note), None);
        let cases = [
            (noted, Some("535.261.03"), None, true),
            (noted, Some("550.163.01"), None, true),
            (noted, Some("570.1"), None, true),
            (noted, Some("560.1"), None, false),
            (noted, Some("575.57.08"), None, false),
            (noted, Some("575.57.07"), None, true),
            (noted, Some("580.1"), None, false),
            (noted, None, Some("12.4"), true),
            (noted, None, Some("12.9"), false),
            (noted, None, Some("12.10"), false),
            (noted, None, Some("13.0"), false),
            (noted, None, None, false),
            (plain, Some("550.163.01"), None, true),
            (plain, Some("575.1"), None, false),
            (plain, Some("580.1"), None, false),
            (plain, Some("nonsense"), None, false),
            (plain, None, Some("12.4"), false),
        ];
        for (note, driver, cuda, expected) in cases {
            let compat = CudaCompat {
                host_driver: driver.map(str::to_owned),
                host_cuda: cuda.map(str::to_owned),
                directory: DIRECTORY.into(),
            };
            assert_eq!(
                decide("libcuda.so.575.57.08", note, &compat),
                expected,
                "{note:?} {driver:?} {cuda:?}"
            );
        }
    }
}
