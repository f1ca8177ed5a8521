//! From what a spec says, what this machine has and what the guest is to what the guest is given: nothing is looked at.
//!
//! `(Wanted, Guest, Options) → plan → Preparation`. Mounts find their place in the tree, links follow
//! what they lead to, nodes and sockets go where they belong, and the loader is told where libraries are.

mod draft;
mod environment;
mod links;
mod loader;
mod mounts;
mod nodes;
mod place;
mod reason;

use super::{Guest, Options, Preparation, Refused, Wanted};

use draft::Draft;

pub(super) use mounts::directory as library_directory;

/// What this guest is given of it. The same arguments give the same preparation.
pub fn plan(wanted: &Wanted<'_>, guest: &Guest, options: &Options) -> Result<Preparation, Refused> {
    let unknown = wanted.unknown_hooks.iter();
    let (allowed, refused): (Vec<_>, Vec<_>) =
        unknown.partition(|name| options.allowed_hooks.iter().any(|allowed| allowed == *name));
    if let Some(name) = refused.first() {
        return Err(Refused::Hook(name.to_string()));
    }
    let mut draft = Draft::new(guest);
    mounts::place(&mut draft, wanted);
    links::place(&mut draft, wanted.requests);
    nodes::place(&mut draft, wanted, options);
    let loader = loader::choose(&mut draft, options);
    environment::gather(&mut draft, &wanted.edits.env, &loader);
    reason::tell_rest(&mut draft, wanted, &allowed);
    Ok(draft.finish(loader))
}
