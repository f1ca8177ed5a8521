//! Where a machine's additions to its settings are written: to a file of ours, to a user's, or for its unit alone.

use camino::{Utf8Path, Utf8PathBuf};

use super::changes::{Before, Change, Changes, Sort, bring_back, temporary};
use super::machine::{MAX_SETTINGS, Machine, SETTINGS, settings_name};
use super::manifest::{Tree, Whose};
use super::settings_file;
use crate::Root;
use crate::error::{Error, Result};
use crate::root::{Attributes, Directory, Durability, Kind};

/// Below it nspawn looks for a file that is not kept; systemd-nspawn@.service has it made.
const RUN: &str = "/run";
const GENERATED: &str = "/systemd/nspawn";

/// Where a machine's settings file is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsPlace {
    /// Where it is, a user's own too: a block is added to it for as long as the machine runs.
    Shared,
    /// In a copy in the machine's state, which its unit alone sees in the place of /etc/systemd/nspawn.
    Private,
}

/// What a machine's settings say without additions, of an untrusted file what nspawn follows.
pub(super) fn base(machine: &Machine) -> Vec<u8> {
    match &machine.settings {
        Some(file) if file.trusted => settings_file::without_block(&file.text),
        Some(file) => settings_file::kept(&file.text).into_bytes(),
        None => Vec::new(),
    }
}

/// The change by which nspawn finds these lines, in a file that it trusts.
pub(super) fn change(host: &Root, machine: &Machine, lines: &str) -> Result<Tree> {
    let name = settings_name(&machine.name);
    let trusted = machine.settings.as_ref().filter(|file| file.trusted);
    let generated = Utf8Path::new(RUN).join(GENERATED.trim_start_matches('/')).join(&name);
    let path = trusted.map_or(generated, |file| file.path.clone());
    let (top, directory) = match path.strip_prefix(RUN) {
        Ok(_) => (Utf8PathBuf::from(RUN), GENERATED),
        Err(_) => (path.parent().unwrap_or("/".into()).to_owned(), "/"),
    };
    let root = Root::open(&host.outside(&top))?;
    let mut changes = Changes::default();
    if directory != "/" && root.directory("/systemd".into())?.is_none() {
        changes.visit(&root, "/systemd")?;
    }
    changes.visit(&root, directory)?;
    let before = before(&root, directory, &name)?;
    let after = settings_file::with_block(&base(machine), lines);
    let path = Utf8Path::new(directory).join(&name);
    changes.files.push(Change { path, sort: Sort::Settings, before, after });
    let identity = root.target(Utf8Path::new("/"))?.map(|entry| entry.identity).unwrap_or_default();
    Ok(Tree { whose: Whose::Host, path: host.outside(&top), identity, changes })
}

/// A user's file; what is left of one that was ours is none.
fn before(root: &Root, directory: &str, name: &str) -> Result<Option<Before>> {
    let Some(directory) = root.directory(directory.into())? else { return Ok(None) };
    if directory.entry(name)?.is_some_and(|entry| entry.kind == Kind::Symlink) {
        let path = directory.path().join(name);
        let reason =
            "a symbolic link, to which nothing is written: enable the machine with --no-touch".to_owned();
        return Err(Error::Format { path, reason });
    }
    let Some(bytes) = directory.read(name, MAX_SETTINGS)? else { return Ok(None) };
    let Some(attributes) = directory.attributes(name)? else { return Ok(None) };
    let own = settings_file::without_block(&bytes);
    Ok((!own.is_empty() || !settings_file::has_block(&bytes)).then_some(Before { bytes: own, attributes }))
}

/// Takes a block of ours out of the machine's trusted files, and tells which had one; in /run a file that had nothing
/// else goes.
pub fn remove_block(host: &Root, machine: &str) -> Result<Vec<Utf8PathBuf>> {
    let name = settings_name(machine);
    let mut paths = Vec::new();
    for place in SETTINGS {
        let Some(directory) = host.directory(place.into())? else { continue };
        if directory.entry(&name)?.is_none_or(|entry| entry.kind != Kind::File) {
            continue;
        }
        let bytes = directory.read(&name, MAX_SETTINGS)?.unwrap_or_default();
        let Some(attributes) = directory.attributes(&name)?.filter(|_| settings_file::has_block(&bytes))
        else {
            continue;
        };
        let own = settings_file::without_block(&bytes);
        match own.is_empty() && place.starts_with(RUN) {
            true => directory.remove(&name)?,
            // As a power cut left it.
            false if bring_back(&directory, &name, &own)? => {}
            false => {
                directory.put(&name, &temporary(&name), &own, &Attributes { times: None, ..attributes })?
            }
        }
        paths.push(Utf8Path::new(place).join(&name));
    }
    Ok(paths)
}

/// Writes the machine's settings with these lines into its state, where they are for its unit alone.
pub(super) fn write_private(state: &Directory, machine: &Machine, lines: &str) -> Result<()> {
    let after = settings_file::with_block(&base(machine), lines);
    let directory = state.make_directory("settings")?;
    directory.replace_file(&settings_name(&machine.name), &after, 0o644, None, Durability::Lazy)
}
