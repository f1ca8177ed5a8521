//! A preparation as arguments of systemd-nspawn alone: every file of the tree bound by itself, nothing made for it.
//!
//! For scripts that take nothing back: nothing is there to be taken back. It can do without a tree since below the
//! machine's /run every bind makes its own place.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};

use super::lines;
use super::quote::Unwritable;
use crate::Notice;
use crate::nspawn::{Bind, BindSource, Content, Loader, Preparation, TREE, Way};

/// Links from link to link, more being taken for a circle.
const MAX_LINKS: usize = 16;

/// The arguments, and what cannot be had by them.
///
/// `booted` is as for [`lines::arguments`]. Files with text of ours, nodes made for the machine, and links over its
/// directories need a place on this machine, and are left out.
pub fn arguments(
    preparation: &Preparation,
    booted: Option<&str>,
) -> Result<(Vec<String>, Vec<Notice>), Unwritable> {
    let (files, mut notices) = files(preparation);
    let mut flat = Preparation { environment: preparation.environment.clone(), ..Preparation::default() };
    flat.binds.extend(files.iter().map(|(at, source)| bind(Utf8Path::new(TREE).join(at), source)));
    for node in &preparation.nodes {
        let why = match node.way {
            Way::Plain => None,
            Way::Cloned { mapped: true, .. } => Some("its mode lets nobody in a user namespace use it"),
            Way::Cloned { mapped: false, .. } => {
                Some("its owner, group or mode is to be another in the machine")
            }
        };
        notices.extend(why.map(|why| {
            Notice(format!(
                "{}: {why}, and a node made for the machine is more than arguments; cdi-gen nspawn run makes one",
                node.path
            ))
        }));
        flat.nodes.push(crate::nspawn::Node { way: Way::Plain, ..node.clone() });
    }
    for given in &preparation.binds {
        match &given.source {
            BindSource::Host(_) => flat.binds.push(given.clone()),
            // By its path alone it costs the start when it is gone, and others may exchange it.
            BindSource::Held(source) => notices.push(Notice(format!(
                "{source}: comes and goes, and arguments cannot hold it; cdi-gen nspawn run can"
            ))),
            BindSource::Tree(below) => flat.binds.extend(files.iter().filter_map(|(at, source)| {
                Some(bind(joined(&given.at, at.strip_prefix(below).ok()?), source))
            })),
            BindSource::Machine(path) => {
                let is_there = path.strip_prefix(TREE).is_ok_and(|at| files.contains_key(at));
                flat.binds.extend(is_there.then(|| given.clone()));
            }
        }
    }
    if let Loader::Overlay(_) | Loader::Cache(_) = preparation.loader {
        notices.push(Notice(
            "the machine's loader is told by LD_LIBRARY_PATH alone, or not at all: more than that is more than arguments"
                .to_owned(),
        ));
    }
    flat.binds.sort();
    flat.binds.dedup();
    Ok((lines::arguments(&flat, "/".into(), booted)?, notices))
}

fn bind(at: Utf8PathBuf, source: &Utf8Path) -> Bind {
    Bind { at, source: BindSource::Host(source.to_owned()), read_only: true }
}

fn joined(directory: &Utf8Path, rest: &Utf8Path) -> Utf8PathBuf {
    if rest.as_str().is_empty() { directory.to_owned() } else { directory.join(rest) }
}

/// This machine's files by their names in the tree, each link as what it leads to.
fn files(preparation: &Preparation) -> (BTreeMap<Utf8PathBuf, &Utf8Path>, Vec<Notice>) {
    let entries: BTreeMap<&Utf8Path, &Content> =
        preparation.tree.iter().map(|entry| (entry.at.as_path(), &entry.content)).collect();
    let (mut files, mut notices) = (BTreeMap::new(), Vec::new());
    let mut of_directories = Vec::new();
    let mut tell = |at: &Utf8Path, what: &str| {
        notices.push(Notice(format!(
            "{TREE}/{at}: {what}, which is more than arguments; cdi-gen nspawn run makes it"
        )));
    };
    for (at, content) in &entries {
        match content {
            Content::File(source) | Content::Directory(source) => {
                files.insert((*at).to_owned(), source.as_path());
            }
            Content::Text(_) => tell(at, "a file made for the machine"),
            Content::Link(text) => match end(&entries, at) {
                Some(End::At(source)) => drop(files.insert((*at).to_owned(), source)),
                Some(End::Below(directory)) => of_directories.push((*at, directory)),
                None => tell(at, &format!("a link to {text}")),
            },
        }
    }
    // By such a link all that is in the directory has one more name, what is linked there too.
    let named = files.clone();
    for (at, directory) in of_directories {
        let renamed = |(name, source): (&Utf8PathBuf, &_)| {
            Some((joined(at, name.strip_prefix(&directory).ok()?), *source))
        };
        files.extend(named.iter().filter_map(renamed));
    }
    (files, notices)
}

/// What a link leads to.
enum End<'a> {
    /// This file or directory of the host's.
    At(&'a Utf8Path),
    /// A directory of the tree itself.
    Below(Utf8PathBuf),
}

/// Where the links from this one on lead; nowhere if out of the tree, or to what is not bound.
fn end<'a>(entries: &BTreeMap<&Utf8Path, &'a Content>, at: &Utf8Path) -> Option<End<'a>> {
    let mut at = at.to_owned();
    for _ in 0..MAX_LINKS {
        match entries.get(at.as_path()) {
            Some(Content::File(source) | Content::Directory(source)) => return Some(End::At(source)),
            Some(Content::Text(_)) => return None,
            Some(Content::Link(text)) => at = beside(&at, text)?,
            None => {
                let is_above = entries.keys().any(|name| name.starts_with(&at));
                return is_above.then_some(End::Below(at));
            }
        }
    }
    None
}

/// Where a link in the tree leads; nowhere if out of it.
fn beside(at: &Utf8Path, text: &Utf8Path) -> Option<Utf8PathBuf> {
    let start = if text.is_absolute() { "".into() } else { at.parent()?.to_owned() };
    let text = if text.is_absolute() { text.strip_prefix(TREE).ok()? } else { text };
    let mut path = start;
    for part in text.components() {
        match part.as_str() {
            "." => {}
            ".." => path = path.parent()?.to_owned(),
            name => path.push(name),
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nspawn::{Node, NodeKind, TreeEntry};

    fn tree(entries: &[(&str, Content)]) -> Vec<TreeEntry> {
        entries.iter().map(|(at, content)| TreeEntry { at: (*at).into(), content: content.clone() }).collect()
    }

    fn file(path: &str) -> Content {
        Content::File(path.into())
    }

    fn link(text: &str) -> Content {
        Content::Link(text.into())
    }

    #[test]
    fn each_file_is_bound_by_each_of_its_names() {
        let tree = tree(&[
            ("lib/libx.so", link("libx.so.1")),
            ("lib/libx.so.1", link("libx.so.1.2")),
            ("lib/libx.so.1.2", file("/host/libx.so.1.2")),
            ("lib/other", link("../share/y")),
            ("lib/absolute", link("/run/gpuspec/share/y")),
            ("lib/out", link("../../etc/passwd")),
            ("lib/circle", link("circle")),
            ("share/OpenCL/vendors/own.icd", link("/etc/OpenCL/vendors/own.icd")),
            ("share/y", file("/host/y")),
            ("etc/shared", link("../share")),
        ]);
        let environment = vec![("LD_LIBRARY_PATH".into(), "/run/gpuspec/lib".into())];
        let loader = Loader::Environment;
        let preparation = Preparation { tree, environment, loader, ..Preparation::default() };
        let (arguments, notices) = arguments(&preparation, None).unwrap();
        let expected = [
            "--setenv=LD_LIBRARY_PATH=/run/gpuspec/lib",
            "--bind-ro=/host/y:/run/gpuspec/etc/shared/y",
            "--bind-ro=/host/y:/run/gpuspec/lib/absolute",
            "--bind-ro=/host/libx.so.1.2:/run/gpuspec/lib/libx.so",
            "--bind-ro=/host/libx.so.1.2:/run/gpuspec/lib/libx.so.1",
            "--bind-ro=/host/libx.so.1.2:/run/gpuspec/lib/libx.so.1.2",
            "--bind-ro=/host/y:/run/gpuspec/lib/other",
            "--bind-ro=/host/y:/run/gpuspec/share/y",
        ];
        assert_eq!(arguments, expected);
        let told: Vec<&str> =
            notices.iter().map(|notice| notice.0.split(", which").next().unwrap()).collect();
        let expected = [
            "/run/gpuspec/lib/circle: a link to circle",
            "/run/gpuspec/lib/out: a link to ../../etc/passwd",
            "/run/gpuspec/share/OpenCL/vendors/own.icd: a link to /etc/OpenCL/vendors/own.icd",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn binds_of_the_tree_are_binds_of_its_files() {
        let tree = tree(&[("lib/a", file("/host/a")), ("params", Content::Text("x".into()))]);
        let from = |at: &str, source| Bind { at: at.into(), source, read_only: true };
        let binds = vec![
            from("/run/opengl-driver/lib", BindSource::Tree("lib".into())),
            from("/run/x/a", BindSource::Tree("lib/a".into())),
            from("/proc/driver/nvidia/params", BindSource::Machine("/run/gpuspec/params".into())),
        ];
        let (arguments, notices) =
            arguments(&Preparation { tree, binds, ..Preparation::default() }, None).unwrap();
        let expected = [
            "--bind-ro=/host/a:/run/gpuspec/lib/a",
            "--bind-ro=/host/a:/run/opengl-driver/lib/a",
            "--bind-ro=/host/a:/run/x/a",
        ];
        assert_eq!(arguments, expected);
        assert!(notices.len() == 1 && notices[0].0.starts_with("/run/gpuspec/params: "), "{notices:?}");
    }

    #[test]
    fn what_needs_more_is_told() {
        for (mapped, why) in
            [(true, "its mode lets nobody in a user namespace"), (false, "its owner, group or mode")]
        {
            let way = Way::Cloned { uid: 0, gid: 44, mode: 0o660, mapped };
            let (path, source) = ("/dev/x".into(), "/dev/x".into());
            let node = Node { path, source, kind: NodeKind::Char, major: 1, minor: 3, way };
            let loader = Loader::Cache(Vec::new());
            let preparation = Preparation { nodes: vec![node], loader, ..Preparation::default() };
            let (arguments, notices) = arguments(&preparation, None).unwrap();
            assert_eq!((arguments, notices.len()), (vec!["--bind=/dev/x".to_owned()], 2));
            assert!(notices[0].0.contains(why), "{notices:?}");
        }
    }
}
