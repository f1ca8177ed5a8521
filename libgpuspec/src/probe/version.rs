//! Which driver version is meant: the kernel module's, unless the caller says otherwise.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::directories::{LibraryDirectory, SHARED};
use crate::Notice;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::policy::Search;
use crate::vendor::{Vendor, stem, suffix};

/// Versions, each with a file that carries it.
type OnDisk = BTreeMap<String, Utf8PathBuf>;

/// The versions that the driver's anchor libraries carry in their names, each with a file that does.
fn on_disk(directories: &[LibraryDirectory], vendor: &Vendor) -> OnDisk {
    let mut versions = BTreeMap::new();
    for directory in directories {
        let anchors = directory
            .names
            .iter()
            .filter(|name| stem(name).is_some_and(|stem| vendor.anchors.contains(&stem)));
        for name in anchors {
            if let Some(version) = suffix(name).filter(|suffix| (vendor.is_version)(suffix)) {
                versions.entry(version.to_owned()).or_insert_with(|| directory.path.join(name));
            }
        }
    }
    versions
}

/// The version to take of those on disk; the choice is told wherever there was one.
pub(super) fn choose(
    host: &Host,
    vendor: &Vendor,
    directories: &[LibraryDirectory],
    module: Option<&str>,
    search: &Search,
    notices: &mut Vec<Notice>,
) -> Result<String> {
    let on_disk = on_disk(directories, vendor);
    if on_disk.is_empty() {
        return Err(no_driver(host, vendor, directories));
    }
    let found = words(host, &on_disk);
    let (version, why) = match (&search.driver_version, module) {
        (Some(version), _) => (asked_for(version, &on_disk, &found)?, "it was asked for"),
        (None, Some(version)) => (the_modules(version, &on_disk, &found)?, "the loaded kernel module has it"),
        (None, None) => {
            let why = "no kernel module is loaded, and the loader finds this one first";
            (loaders_choice(host, directories, vendor, &on_disk, &found)?, why)
        }
    };
    if on_disk.len() > 1 || module.is_some_and(|module| module != version) {
        notices.push(Notice(format!("driver version {version} is taken: {why}; on disk: {found}")));
    }
    Ok(version)
}

/// Most versions that one line names.
const MAX_NAMED: usize = 10;

fn words(host: &Host, on_disk: &OnDisk) -> String {
    let first = on_disk.iter().take(MAX_NAMED);
    let mut words: Vec<String> =
        first.map(|(version, path)| format!("{version} ({})", host.driver.outside(path))).collect();
    if let Some(more) = on_disk.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        words.push(format!("{more} more"));
    }
    words.join(", ")
}

fn asked_for(version: &str, on_disk: &OnDisk, found: &str) -> Result<String> {
    if on_disk.contains_key(version) {
        return Ok(version.to_owned());
    }
    Err(Error::DriverVersion(format!("driver version {version} is not on disk; found: {found}")))
}

fn the_modules(version: &str, on_disk: &OnDisk, found: &str) -> Result<String> {
    if on_disk.contains_key(version) {
        return Ok(version.to_owned());
    }
    Err(Error::DriverVersion(format!(
        "the loaded kernel module is version {version}, but the libraries on disk are {found}: reboot or reload \
         the module, install the libraries of {version}, or take other ones by --driver-version"
    )))
}

/// The version that the names the loader looks for lead to, in the order of its directories.
fn loaders_choice(
    host: &Host,
    directories: &[LibraryDirectory],
    vendor: &Vendor,
    on_disk: &OnDisk,
    found: &str,
) -> Result<String> {
    if let Some(only) = on_disk.keys().next().filter(|_| on_disk.len() == 1) {
        return Ok(only.clone());
    }
    for directory in directories {
        for anchor in vendor.anchors {
            let real = host.driver.resolve(&directory.path.join(format!("{anchor}.1")))?;
            let version = real.as_deref().and_then(Utf8Path::file_name).and_then(suffix);
            if let Some(version) = version.filter(|version| on_disk.contains_key(*version)) {
                return Ok(version.to_owned());
            }
        }
    }
    Err(Error::DriverVersion(format!(
        "several driver versions are on disk and no kernel module is loaded: {found}; choose one by --driver-version"
    )))
}

fn no_driver(host: &Host, vendor: &Vendor, directories: &[LibraryDirectory]) -> Error {
    let names: Vec<String> = vendor.anchors.iter().map(|stem| format!("{stem}.VERSION")).collect();
    let there: Vec<&str> = directories.iter().map(|directory| directory.path.as_str()).collect();
    let places = if there.is_empty() {
        format!("{}, none of which is there", SHARED.join(", "))
    } else {
        there.join(", ")
    };
    Error::NoDriver {
        vendor: vendor.name,
        root: host.driver.path().to_owned(),
        looked_for: format!(
            "{} in {places}; install the driver's libraries, name their directory \
             by --library-search-path, or a driver that lies elsewhere by --driver-root",
            names.join(" and ")
        ),
    }
}
