//! The variables by which a machine's programs find what no fixed place has.

use std::collections::BTreeSet;

use camino::Utf8Path;

use super::draft::Draft;
use super::place::{MODULES, SEARCHED};
use crate::Notice;
use crate::nspawn::guest::{Layout, Libc, OPENCL};
use crate::nspawn::settings_file::is_variable_name;
use crate::nspawn::{Content, Loader, TREE};

/// systemd's default, with what a split /usr wants (sd-path, DEFAULT_PATH).
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const LD_LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// Where the tree has OpenCL's drivers.
const DRIVERS: &str = "share/OpenCL/vendors";

/// The spec's own, then those of the tree; what the spec sets itself is only added to where it is a list.
pub(super) fn gather(draft: &mut Draft<'_>, env: &[String], loader: &Loader) {
    for (name, value) in env.iter().filter_map(|pair| pair.split_once('=')) {
        if is_variable_name(name) {
            draft.environment.insert(name.to_owned(), value.to_owned());
        } else {
            let text = format!("{name}: not the name of a variable that systemd accepts; left out");
            draft.notices.push(Notice(text));
        }
    }
    let directories: BTreeSet<String> = draft
        .libraries
        .iter()
        .filter_map(|(_, at)| at.parent())
        .map(|directory| format!("{TREE}/{directory}"))
        .collect();
    if *loader == Loader::Environment {
        let directories: Vec<String> = directories.into_iter().collect();
        append(draft, LD_LIBRARY_PATH, "", &directories.join(":"));
    }
    match draft.guest.libc {
        Libc::Glibc | Libc::Unknown => {}
        // None of its programs can load what these would lead to.
        Libc::Musl | Libc::Absent => return,
    }
    for one in &SEARCHED {
        // A store's programs look in the tree already, and in nothing that these name.
        let wanted = draft.guest.layout == Layout::Directories || one.to.starts_with("share/egl");
        if wanted && draft.has(one.to) {
            draft.environment.entry(one.variable.to_owned()).or_insert_with(|| one.value.to_owned());
        }
    }
    if draft.guest.layout == Layout::Store {
        return;
    }
    link_opencl(draft);
    for (module, variable) in &MODULES {
        let below = |directory: &str| format!("{directory}/{module}");
        if draft.has(&below("lib")) {
            let own = draft.guest.programs.iter().map(|programs| below(programs.directory.as_str()));
            let value: Vec<String> = std::iter::once(below(&format!("{TREE}/lib"))).chain(own).collect();
            draft.environment.entry((*variable).to_owned()).or_insert_with(|| value.join(":"));
        }
    }
    if draft.has("bin") {
        append(draft, "PATH", PATH, &format!("{TREE}/bin"));
    }
}

/// Adds to a list of directories, behind what is there.
fn append(draft: &mut Draft<'_>, name: &str, default: &str, directories: &str) {
    let value = draft.environment.entry(name.to_owned()).or_insert_with(|| default.to_owned());
    if !value.is_empty() {
        value.push(':');
    }
    value.push_str(directories);
}

/// The machine's own OpenCL drivers beside those of the tree, since their loaders take one directory only: ocl-icd and
/// Khronos' both read what a link there leads to (OCL_ICD_FILENAMES, which adds, is Khronos' alone).
fn link_opencl(draft: &mut Draft<'_>) {
    if let Some(Content::Directory(_)) = draft.tree.get(Utf8Path::new(DRIVERS)) {
        let hidden = "the machine's own OpenCL drivers are found by programs without OCL_ICD_VENDORS only";
        draft.notices.extend((!draft.guest.opencl.is_empty()).then(|| Notice(hidden.to_owned())));
    } else if draft.has(DRIVERS) {
        for name in &draft.guest.opencl {
            let link = Content::Link(Utf8Path::new(OPENCL).join(name));
            // One of the same name is the same driver's.
            draft.add(Utf8Path::new(DRIVERS).join(name), link);
        }
    }
}
