//! The links that a spec's hooks make: other names of what is in the tree, and links among device nodes.

use camino::{Utf8Path, Utf8PathBuf};

use super::draft::Draft;
use super::place;
use super::reason::Reason;
use crate::apply::{self, Link, Request};
use crate::nspawn::Content;

/// Most links that lead over each other (path_resolution(7) has 40).
const MAX_CHAIN: usize = 40;

/// Places the links whose ends are in the tree.
pub(super) fn place(draft: &mut Draft<'_>, requests: &[Request]) {
    let mut open: Vec<&Link> = requests.iter().flat_map(|request| &request.links).collect();
    open.sort_by(|one, other| (&one.directory, &one.name).cmp(&(&other.directory, &other.name)));
    open.dedup();
    for _ in 0..MAX_CHAIN {
        let before = open.len();
        open.retain(|link| !place_one(draft, link));
        if open.len() == before {
            break;
        }
    }
    for link in open {
        if !draft.left_out.contains(&end(link)) {
            draft.leave(Reason::Nowhere, &path(link));
        }
    }
}

fn path(link: &Link) -> Utf8PathBuf {
    Utf8Path::new(&link.directory).join(&link.name)
}

fn end(link: &Link) -> Utf8PathBuf {
    place::led_to(Utf8Path::new(&link.directory), &link.target)
}

/// Whether the link's end has a place; then it has one too.
fn place_one(draft: &mut Draft<'_>, link: &Link) -> bool {
    let Some(end) = draft.placed.get(&end(link)).cloned() else { return false };
    let path = path(link);
    let Some(at) = beside(&path, &end) else {
        // The library's path in a manifest, which leads to the tree by now.
        draft.placed.insert(path, end);
        return true;
    };
    if at == end || draft.tree.contains_key(&at) {
        draft.placed.insert(path, at);
        return true;
    }
    let abi = draft.libraries.iter().find(|(_, name)| *name == end).map(|(abi, _)| *abi);
    if draft.put(&path, at.clone(), Content::Link(place::relative(&at, &end))) && at.parent() == end.parent()
    {
        draft.libraries.extend(abi.map(|abi| (abi, at)));
    }
    true
}

/// Where a link stands: with what it leads to, in a directory of modules where it is one.
fn beside(path: &Utf8Path, end: &Utf8Path) -> Option<Utf8PathBuf> {
    let (name, parent) = (path.file_name()?, end.parent()?);
    let top = end.components().next()?.as_str();
    match place::module(path) {
        Some(module) if top == "lib" || top == "lib32" => Some(Utf8Path::new(top).join(module).join(name)),
        _ if top == "bin" || apply::is_library(name) => Some(parent.join(name)),
        _ => place::searched(path),
    }
}
