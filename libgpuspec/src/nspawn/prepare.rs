//! A machine made ready for its start: all is read and decided first, then written down, then done; or nothing is.

use camino::Utf8Path;

use super::cleanup::take_back;
use super::machine::{Machine, MachineRoot};
use super::manifest::{Manifest, Tree, Whose};
use super::missing::{Missing, all_there};
use super::sandbox::{Sandbox, confined};
use super::settings::{self, SettingsPlace};
use super::state::{State, check_state_name};
use super::{Guest, Loader, LoaderKind, Options, Preparation, Refused, RootKind, Sources, Wanted};
use super::{guest, loader, plan, tree};
use crate::apply::Request;
use crate::cdi::ContainerEdits;
use crate::error::{Error, Result};
use crate::render::nspawn::lines::lines;
use crate::root::Directory;
use crate::{Notice, Root};

/// What is to be prepared.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The machine's name.
    pub machine: &'a str,
    /// Its root; where nothing is said it is looked up by its name.
    pub root: Option<MachineRoot>,
    /// What the specs of its devices say.
    pub edits: &'a ContainerEdits,
    /// What their hooks mean.
    pub requests: &'a [Request],
    /// The names of hooks whose meaning is not known.
    pub unknown_hooks: &'a [String],
    /// Those of them that may be left out.
    pub allowed_hooks: &'a [String],
    /// How its loader finds libraries; by its root where nothing is said.
    pub loader: Option<LoaderKind>,
    /// What becomes of its root; by its settings where nothing is said.
    pub root_kind: Option<RootKind>,
    /// Whether it has a user namespace; by its settings where nothing is said.
    pub user_namespace: Option<bool>,
    /// By what systemd-nspawn is told.
    pub told: Told,
}

/// By what systemd-nspawn is told of a preparation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// By arguments or a bundle's config, which the caller passes on.
    #[default]
    Arguments,
    /// Its settings file.
    Settings(SettingsPlace),
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// A spec asks for what is not known here.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The machine is not there, or of no use.
    #[error(transparent)]
    Machine(Error),
    /// A spec names what this host does not have.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// A step of the work: something could not be read, made or written.
    #[error(transparent)]
    Step(#[from] Error),
}

/// Prepares a machine; whatever fails, nothing of it is left.
///
/// What an earlier start has left is taken back first. What was odd, and what could not be taken back, is told.
pub fn prepare(
    host: &Root,
    order: &Order<'_>,
    sandbox: Sandbox,
    notices: &mut Vec<Notice>,
) -> std::result::Result<Preparation, Failed> {
    check_state_name(order.machine).map_err(Failed::Machine)?;
    let state = State::open(host, order.machine)?;
    notices.extend(take_back(&state, sandbox)?);
    let done = preview(host, order, sandbox).and_then(|mut decided| {
        let done = carry_out(host, &state, &mut decided, order, sandbox);
        if done.is_err() {
            let back = take_back(&state, sandbox);
            notices.extend(back.unwrap_or_else(|error| vec![error.into()]));
        }
        Ok((done?, decided))
    });
    notices.extend(state.close().err().map(Notice::from));
    let (held, Decided { preparation, notices: told, .. }) = done?;
    notices.extend(told);
    notices.extend(held);
    Ok(preparation)
}

/// All that is known before anything is done.
#[derive(Debug)]
pub struct Decided {
    /// The machine.
    pub machine: Machine,
    /// What its tree says of itself.
    pub guest: Guest,
    /// What this host has of what it is to be given.
    pub sources: Sources,
    /// Whether it has a user namespace.
    pub user_namespace: bool,
    /// What it is given.
    pub preparation: Preparation,
    /// What was odd.
    pub notices: Vec<Notice>,
    /// What its loader is told in its tree.
    changes: Option<Tree>,
    /// Device and inode of the tree that was looked at.
    identity: Option<(u64, u64)>,
}

/// All that [`prepare`] knows before it does anything; nothing is done.
pub fn preview(host: &Root, order: &Order<'_>, sandbox: Sandbox) -> std::result::Result<Decided, Failed> {
    let machine = match &order.root {
        Some(root) => Machine::with_root(host, order.machine, root.clone()),
        None => Machine::find(host, order.machine),
    };
    let machine = machine.map_err(Failed::Machine)?;
    let (identity, guest, mut notices) = inspect(host, &machine.root, sandbox).map_err(Failed::Machine)?;
    let options = Options {
        loader: order.loader,
        root: order.root_kind.unwrap_or_else(|| machine.root_kind()),
        user_namespace: order.user_namespace.unwrap_or_else(|| machine.has_user_namespace()),
        runs: false,
        allowed_hooks: order.allowed_hooks.to_vec(),
    };
    let (sources, preparation) = planned(host, order, &guest, &options, &mut notices)?;
    let changes = match (&preparation.loader, &machine.root) {
        (Loader::Cache(libraries), MachineRoot::Directory(path)) => {
            Some(guest_changes(host, path, libraries.clone(), sandbox)?)
        }
        (Loader::Cache(_) | Loader::Overlay(_) | Loader::Environment | Loader::Nothing, _) => None,
    };
    let user_namespace = options.user_namespace;
    Ok(Decided { machine, guest, sources, user_namespace, preparation, notices, changes, identity })
}

/// What this host has of what is ordered, and what a guest is given of it.
pub(super) fn planned(
    host: &Root,
    order: &Order<'_>,
    guest: &Guest,
    options: &Options,
    notices: &mut Vec<Notice>,
) -> std::result::Result<(Sources, Preparation), Failed> {
    let (sources, told) = Sources::read(host, order.edits, order.requests);
    notices.extend(told);
    all_there(order.edits, &sources)?;
    let wanted = Wanted {
        edits: order.edits,
        requests: order.requests,
        unknown_hooks: order.unknown_hooks,
        sources: &sources,
    };
    let mut preparation = plan(&wanted, guest, options)?;
    notices.append(&mut preparation.notices);
    Ok((sources, preparation))
}

type Inspected = (Option<(u64, u64)>, Guest, Vec<Notice>);

fn inspect(host: &Root, root: &MachineRoot, sandbox: Sandbox) -> Result<Inspected> {
    let MachineRoot::Directory(path) = root else { return Ok((None, Guest::default(), Vec::new())) };
    let root = guest_root(host, path)?;
    let identity = identity(&root)?;
    let (guest, notices) = confined(sandbox, root, guest::inspect)?;
    Ok((identity, guest, notices))
}

fn identity(root: &Root) -> Result<Option<(u64, u64)>> {
    Ok(root.target(Utf8Path::new("/"))?.map(|entry| entry.identity))
}

/// A guest's tree, which is not the host's own.
fn guest_root(host: &Root, path: &Utf8Path) -> Result<Root> {
    crate::apply::container::open(&host.outside(path))
}

fn carry_out(
    host: &Root,
    state: &State<'_>,
    decided: &mut Decided,
    order: &Order<'_>,
    sandbox: Sandbox,
) -> Result<Vec<Notice>> {
    let directory = state.make()?;
    // First of all: what cannot be held is named nowhere.
    let mut notices = hold(host, decided, &directory)?;
    let Decided { machine, preparation, changes, .. } = decided;
    let unwritable = |error: crate::render::nspawn::Unwritable| Error::Machine(error.to_string());
    let text = lines(preparation, &state.path(), &settings::base(machine)).map_err(unwritable)?;
    let mut trees: Vec<Tree> = changes.take().into_iter().collect();
    if order.told == Told::Settings(SettingsPlace::Shared) {
        trees.push(settings::change(host, machine, &text)?);
    }
    let mut manifest = Manifest { done: false, trees };
    manifest.create(&directory)?;
    // Elsewhere its root has no right to that.
    notices.extend(tree::make(host, &directory, preparation)?.filter(|_| !decided.user_namespace));
    for tree in &manifest.trees {
        let gone = || Error::Machine(format!("{}: gone while the machine was prepared", tree.path));
        tree.with(sandbox, |root, changes| changes.make(root))?.ok_or_else(gone)??;
    }
    // Last of all: whatever ends the work before, the machine finds no line of ours.
    if order.told == Told::Settings(SettingsPlace::Private) {
        settings::write_private(&directory, machine, &text)?;
    }
    finish(&directory, &mut manifest)?;
    Ok(notices)
}

/// Mounts, in the state, what links are laid over. The notices name directories that are gone.
fn hold(host: &Root, decided: &mut Decided, state: &Directory) -> Result<Vec<Notice>> {
    let Loader::Overlay(farms) = &mut decided.preparation.loader else { return Ok(Vec::new()) };
    let path = decided.machine.root.path();
    let root = guest_root(host, path)?;
    // Of an image nothing was looked at.
    if decided.identity.is_none() || identity(&root)? != decided.identity {
        return Err(Error::Machine(format!("{path}: another tree than the one that was looked at")));
    }
    tree::hold(&root, state, farms)
}

fn guest_changes(
    host: &Root,
    path: &Utf8Path,
    libraries: Vec<crate::apply::Libraries>,
    sandbox: Sandbox,
) -> Result<Tree> {
    let root = guest_root(host, path)?;
    let identity = identity(&root)?.unwrap_or_default();
    let changes = confined(sandbox, root, move |root| loader::changes(root, &libraries))??;
    Ok(Tree { whose: Whose::Guest, path: host.outside(path), identity, changes })
}

/// From here on what others do to the files is theirs.
fn finish(state: &Directory, manifest: &mut Manifest) -> Result<()> {
    manifest.done = true;
    manifest.update(state)
}
