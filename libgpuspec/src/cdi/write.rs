//! Spec files put into a spec directory and taken out of it: whole or not at all, by the specification's names.

use camino::{Utf8Path, Utf8PathBuf};

use super::name::split_kind;
use super::problem::{SerializeError, Violation};
use super::registry::is_spec_name;
use super::spec::Spec;
use super::{json, validate_to_write, yaml};
use crate::root::{Directory, Durability};
use crate::{Error, Root};

/// What is done with a file that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is replaced.
    Replace,
    /// It stays, and nothing is written.
    Keep,
}

/// Why a spec was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Readers would refuse it, or crash.
    #[error("the spec is not valid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Violation>),
    /// The name would lead out of the directory, or is none.
    #[error("{0:?} is no name of a file in a spec directory")]
    Name(String),
    /// There is a file of this name.
    #[error("{0}: exists already")]
    Exists(Utf8PathBuf),
    /// It cannot be said in text.
    #[error(transparent)]
    Text(#[from] SerializeError),
    /// The system refused.
    #[error(transparent)]
    System(#[from] Error),
}

/// The name of the file for a spec that stays: `vendor-class`.
pub fn spec_name(spec: &Spec) -> String {
    let (vendor, class) = split_kind(&spec.kind);
    format!("{vendor}-{class}")
}

/// The name of the file for a spec that goes with something of this id: `vendor-class_id`.
///
/// Nothing removes such a file but [`remove`].
pub fn transient_spec_name(spec: &Spec, id: &str) -> String {
    format!("{}_{}", spec_name(spec), id.replace('/', "_"))
}

/// Writes a valid spec into a directory of `root`, which is made if it is missing; returns its path there.
///
/// `.yaml` is added to a name that ends in neither that nor `.json`, which decides the format. The
/// file has mode 0644, so that rootless engines read it too, and is on disk when this returns.
pub fn write(
    root: &Root,
    directory: &Utf8Path,
    name: &str,
    spec: &Spec,
    existing: Existing,
) -> Result<Utf8PathBuf, WriteError> {
    let violations = validate_to_write(spec);
    if !violations.is_empty() {
        return Err(WriteError::Invalid(violations));
    }
    let name = file_name(name)?;
    let text = if name.ends_with(".json") { json::to_string(spec)? } else { yaml::to_string(spec)? };
    let opened = root.make_directory(directory)?;
    match existing {
        Existing::Replace => opened.replace_file(&name, text.as_bytes(), 0o644, None, Durability::Synced)?,
        Existing::Keep if create(&opened, &name, &text)? => {}
        Existing::Keep => return Err(WriteError::Exists(directory.join(name))),
    }
    Ok(directory.join(name))
}

/// Removes what [`write()`] wrote under this name; its absence is no error.
pub fn remove(root: &Root, directory: &Utf8Path, name: &str) -> Result<(), WriteError> {
    let name = file_name(name)?;
    if let Some(opened) = root.directory(directory)? {
        opened.remove(&name)?;
    }
    Ok(())
}

fn file_name(name: &str) -> Result<String, WriteError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(WriteError::Name(name.to_owned()));
    }
    Ok(if is_spec_name(name) { name.to_owned() } else { format!("{name}.yaml") })
}

/// Puts a file where none is; false if one is.
fn create(directory: &Directory, name: &str, text: &str) -> Result<bool, Error> {
    let draft = format!(".{name}.{}.new", std::process::id());
    directory.replace_file(&draft, text.as_bytes(), 0o644, None, Durability::Synced)?;
    let named = directory.rename_new(&draft, name);
    if !matches!(named, Ok(true)) {
        directory.remove(&draft)?;
    }
    named
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the outcome is looked at by plain means
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cdi::{ContainerEdits, Device, Registry};

    fn spec() -> Spec {
        let container_edits = ContainerEdits { env: vec!["A=B".into()], ..Default::default() };
        let device = Device { name: "0".into(), container_edits, ..Default::default() };
        Spec {
            version: "0.5.0".into(),
            kind: "v.com/gpu".into(),
            devices: vec![device],
            ..Default::default()
        }
    }

    fn root() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(Utf8Path::from_path(directory.path()).unwrap()).unwrap();
        (directory, root)
    }

    #[test]
    fn names_follow_the_specification() {
        assert_eq!(spec_name(&spec()), "v.com-gpu");
        assert_eq!(transient_spec_name(&spec(), "pod/1/x"), "v.com-gpu_pod_1_x");
        for (name, file) in
            [("a", "a.yaml"), ("a.yaml", "a.yaml"), ("a.json", "a.json"), ("a.conf", "a.conf.yaml")]
        {
            assert_eq!(file_name(name).unwrap(), file);
        }
        for name in ["", "../x", "a/b", ".", "..", ".hidden", "a\0"] {
            assert!(matches!(file_name(name), Err(WriteError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn a_written_spec_is_readable_by_all_and_by_the_registry() {
        let (directory, root) = root();
        let path = write(&root, "/etc/cdi".into(), &spec_name(&spec()), &spec(), Existing::Replace).unwrap();
        assert_eq!(path, "/etc/cdi/v.com-gpu.yaml");
        let file = directory.path().join("etc/cdi/v.com-gpu.yaml");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
        assert_eq!(
            fs::metadata(directory.path().join("etc/cdi")).unwrap().permissions().mode() & 0o7777,
            0o755
        );
        write(
            &root,
            "/etc/cdi".into(),
            "other.json",
            &Spec { kind: "w.com/gpu".into(), ..spec() },
            Existing::Keep,
        )
        .unwrap();
        assert!(fs::read_to_string(directory.path().join("etc/cdi/other.json")).unwrap().starts_with('{'));
        let registry = Registry::new(root, &["/etc/cdi".into()]);
        assert_eq!(registry.listing().devices, ["v.com/gpu=0", "w.com/gpu=0"]);
    }

    #[test]
    fn a_file_is_kept_or_replaced_as_asked_and_nothing_else_is_left() {
        let (directory, root) = root();
        let put = |existing| write(&root, "/d".into(), "x", &spec(), existing);
        put(Existing::Keep).unwrap();
        fs::write(directory.path().join("d/x.yaml"), "mine").unwrap();
        assert!(matches!(put(Existing::Keep), Err(WriteError::Exists(path)) if path == "/d/x.yaml"));
        assert_eq!(fs::read_to_string(directory.path().join("d/x.yaml")).unwrap(), "mine");
        put(Existing::Replace).unwrap();
        assert_ne!(fs::read_to_string(directory.path().join("d/x.yaml")).unwrap(), "mine");
        assert_eq!(fs::read_dir(directory.path().join("d")).unwrap().count(), 1);
    }

    #[test]
    fn what_readers_refuse_or_crash_on_is_not_written() {
        let (directory, root) = root();
        for kind in ["v/gpu", "v.com/c", "nonsense"] {
            let bad = Spec { kind: kind.into(), ..spec() };
            assert!(matches!(
                write(&root, "/d".into(), "x", &bad, Existing::Replace),
                Err(WriteError::Invalid(_))
            ));
        }
        assert!(!directory.path().join("d").exists());
    }

    #[test]
    fn removal_takes_the_name_that_writing_took() {
        let (directory, root) = root();
        remove(&root, "/d".into(), "x").unwrap();
        write(&root, "/d".into(), "x", &spec(), Existing::Replace).unwrap();
        remove(&root, "/d".into(), "x").unwrap();
        remove(&root, "/d".into(), "x").unwrap();
        assert_eq!(fs::read_dir(directory.path().join("d")).unwrap().count(), 0);
        assert!(matches!(remove(&root, "/d".into(), "../x"), Err(WriteError::Name(_))));
    }
}
