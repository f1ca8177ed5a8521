//! Why a device can be had or not: the answer to every "unresolvable CDI devices".

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use super::consumer::readers_since;
use super::fill::fill;
use super::place::{At, DocumentPath};
use super::registry::{Found, Registry, Unresolved};
use super::sources::source_problem;
use super::spec::{ContainerEdits, DeviceNode, Hook, Spec};
use super::version::{Version, demands, minimum_version};
use crate::root::Kind;
use crate::{Root, error::chain};

/// Everything that is to be said about one device.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Explanation {
    /// Its qualified name, as asked for.
    pub device: String,
    /// Why it does not resolve; nothing if it does.
    pub unresolved: Option<String>,
    /// The file that gives it.
    pub file: Option<Utf8PathBuf>,
    /// Files whose definition the other hides.
    pub shadowed: Vec<Utf8PathBuf>,
    /// Files whose definitions conflict.
    pub conflicting: Vec<Utf8PathBuf>,
    /// Files and directories of specs that nobody can read, and why.
    pub bad: Vec<(Utf8PathBuf, String)>,
    /// Directories and files on the way that an engine run by a user other than root cannot read.
    pub closed: Vec<Closed>,
    /// What the edits name on this host and is not there, or is something else.
    pub host: Vec<HostProblem>,
    /// Which versions the file's readers need.
    pub version: Option<Versions>,
}

/// A directory or file that only its owner can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// Which.
    pub path: Utf8PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

/// Something about this host that would keep a container with the device from starting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostProblem {
    /// Where in the spec.
    pub place: String,
    /// What is wrong.
    pub problem: String,
}

/// The versions of the specification that matter for a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// What the file declares; readers that know only older ones refuse it.
    pub declared: String,
    /// What its content needs.
    pub needed: String,
    /// The places that need more than the oldest version.
    pub because: Vec<(String, String)>,
    /// The first release of each program that reads it as it is.
    pub read_since: Vec<(String, String)>,
}

/// Explains a device: where it comes from, who can read it, and whether `host` is as its spec says.
pub fn explain(registry: &Registry, root: &Root, host: &Root, device: &str) -> Explanation {
    let listing = registry.listing();
    let mut explanation = Explanation { device: device.to_owned(), ..Explanation::default() };
    for error in &listing.directory_errors {
        explanation.bad.push((error.path.clone(), chain(&*error.error)));
    }
    for file in &listing.files {
        if let Err(error) = &file.spec {
            explanation.bad.push((file.path.clone(), chain(error)));
        }
    }
    match registry.find(device) {
        Ok(found) => {
            let shadowed = listing.shadowed.iter().filter(|contested| contested.device == device);
            let files = shadowed.flat_map(|contested| &contested.files);
            explanation.shadowed = files.filter(|file| **file != found.file.path).cloned().collect();
            explanation.resolved(&found, root, host);
        }
        Err(Unresolved::Conflict(contested)) => {
            explanation.unresolved = Some(Unresolved::Conflict(contested.clone()).to_string());
            explanation.conflicting = contested.files;
        }
        Err(reason) => {
            explanation.unresolved = Some(reason.to_string());
            let directories = registry.directories();
            explanation.closed = directories.iter().flat_map(|path| closed(root, path)).collect();
        }
    }
    explanation
}

impl Explanation {
    fn resolved(&mut self, found: &Found, root: &Root, host: &Root) {
        let (Some(spec), Some(device)) = (found.spec(), found.device()) else { return };
        self.file = Some(found.file.path.clone());
        self.closed = closed(root, &found.file.path);
        self.version = Some(versions(spec));
        let top = At::TOP.field("containerEdits");
        host_problems(&spec.container_edits, &top, host, &mut self.host);
        let devices = At::TOP.field("devices");
        let index = spec.devices.iter().position(|it| it.name == device.name).unwrap_or_default();
        let at = devices.index(index);
        host_problems(&device.container_edits, &at.field("containerEdits"), host, &mut self.host);
    }
}

/// The versions that matter for a spec.
pub fn versions(spec: &Spec) -> Versions {
    let mut because = Vec::new();
    demands(spec, &mut |at, version| because.push((at.path().to_string(), version.to_string())));
    let declared = spec.version.parse().unwrap_or(Version::FLOOR);
    Versions {
        declared: spec.version.clone(),
        needed: minimum_version(spec).to_string(),
        because,
        read_since: readers_since(declared).map(|(name, since)| (name.to_owned(), since)).collect(),
    }
}

/// Every directory above a path, and what is there, that is not open to all.
fn closed(root: &Root, path: &Utf8Path) -> Vec<Closed> {
    let mut closed = Vec::new();
    for step in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
        let Ok(Some(entry)) = root.target(step) else { continue };
        // A directory of files has to be listed, too; those above it only passed through.
        let listed = step == path || Some(step) == path.parent();
        let needed = match (entry.kind == Kind::Directory, listed) {
            (true, true) => 0o005,
            (true, false) => 0o001,
            (false, _) => 0o004,
        };
        if entry.mode & needed != needed {
            closed.push(Closed { path: step.to_owned(), mode: entry.mode });
        }
    }
    closed
}

fn host_problems(edits: &ContainerEdits, at: &At<'_>, host: &Root, found: &mut Vec<HostProblem>) {
    let mut note = |path: DocumentPath, problem: Option<String>| {
        found.extend(problem.map(|problem| HostProblem { place: path.to_string(), problem }));
    };
    for (index, node) in edits.device_nodes.iter().enumerate() {
        note(at.field("deviceNodes").index(index).path(), node_problem(node, host));
    }
    for (index, mount) in edits.mounts.iter().enumerate() {
        let problem = source_problem(mount, host).map(|problem| chain(&problem));
        note(at.field("mounts").index(index).field("hostPath").path(), problem);
    }
    for (index, hook) in edits.hooks.iter().enumerate() {
        note(at.field("hooks").index(index).field("path").path(), hook_problem(hook, host));
    }
}

fn missing(host: &Root, path: &Utf8Path) -> Option<String> {
    match host.target(path) {
        Ok(Some(_)) => None,
        Ok(None) => Some(format!("{path}: not on this host")),
        Err(error) => Some(chain(&error)),
    }
}

fn node_problem(node: &DeviceNode, host: &Root) -> Option<String> {
    if let Err(error) = fill(std::slice::from_ref(node), host) {
        return Some(chain(&error));
    }
    let path = node.source();
    let entry = match host.entry(path) {
        Ok(Some(entry)) => entry,
        Ok(None) => return Some(format!("{path}: not on this host; rootless engines cannot make it")),
        Err(error) => return Some(chain(&error)),
    };
    let (major, minor) = (i64::from(entry.major), i64::from(entry.minor));
    if node.major != 0 && (node.major, node.minor) != (major, minor) {
        let (old, older) = (node.major, node.minor);
        return Some(format!(
            "{path}: {old}:{older} by the spec and {major}:{minor} on this host; make it anew"
        ));
    }
    None
}

fn hook_problem(hook: &Hook, host: &Root) -> Option<String> {
    let path = Utf8Path::new(&hook.path);
    match host.target(path) {
        Ok(Some(entry)) if entry.kind != Kind::File => {
            Some(format!("{path}: a {}, not a program", entry.kind.word()))
        }
        Ok(Some(entry)) if entry.mode & 0o111 == 0 => Some(format!("{path}: not executable")),
        _ => missing(host, path),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests {
    use std::collections::BTreeMap;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::root::Entry;

    /// A root with `/etc/cdi` and these files, a character device 195:0 at /dev/gpu, and its registry.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Root, Registry) {
        let tree = tempfile::tempdir().unwrap();
        fs::set_permissions(tree.path(), Permissions::from_mode(0o755)).unwrap();
        for directory in ["etc/cdi", "run/cdi"] {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
        }
        for (name, text) in files {
            fs::write(tree.path().join(name), text).unwrap();
        }
        let open = || Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
        let gpu = Entry {
            kind: Kind::CharDevice,
            mode: 0o666,
            uid: 0,
            gid: 0,
            size: 0,
            major: 195,
            minor: 0,
            identity: (0, 0),
        };
        let root = open().with_recorded_nodes(BTreeMap::from([("/dev/gpu".into(), gpu)]));
        let registry = Registry::new(open(), &["/etc/cdi".into(), "/run/cdi".into()]);
        (tree, root, registry)
    }

    fn spec(edits: &str) -> String {
        format!("cdiVersion: 0.6.0\nkind: v.com/cc\ndevices: [{{name: '0', containerEdits: {{{edits}}}}}]\n")
    }

    fn explained(files: &[(&str, &str)]) -> Explanation {
        let (_tree, root, registry) = tree(files);
        explain(&registry, &root, &root, "v.com/cc=0")
    }

    #[test]
    fn a_good_device_has_a_file_versions_and_nothing_amiss() {
        let good =
            explained(&[("etc/cdi/x.yaml", &spec("deviceNodes: [{path: /dev/gpu, type: c, major: 195}]"))]);
        assert_eq!(good.file, Some("/etc/cdi/x.yaml".into()));
        assert_eq!(
            (good.unresolved, good.shadowed, good.bad, good.closed, good.host),
            (None, vec![], vec![], vec![], vec![])
        );
        let versions = good.version.unwrap();
        assert_eq!((versions.declared.as_str(), versions.needed.as_str()), ("0.6.0", "0.5.0"));
        assert_eq!(versions.because, [("devices[0].name".to_owned(), "0.5.0".to_owned())]);
        assert_eq!(versions.read_since[0], ("podman".to_owned(), "4.7".to_owned()));
    }

    #[test]
    fn unknown_devices_come_with_the_bad_files_and_closed_directories() {
        let (tree, root, registry) = tree(&[("etc/cdi/bad.yaml", "{")]);
        fs::set_permissions(tree.path().join("etc/cdi"), Permissions::from_mode(0o700)).unwrap();
        let unknown = explain(&registry, &root, &root, "v.com/cc=0");
        assert!(unknown.unresolved.unwrap().contains("no spec defines it"));
        assert_eq!(unknown.bad[0].0, "/etc/cdi/bad.yaml");
        assert_eq!(unknown.closed, [Closed { path: "/etc/cdi".into(), mode: 0o700 }]);
    }

    #[test]
    fn shadowed_and_conflicting_files_are_named() {
        let text = spec("env: [A=B]");
        let shadowing = explained(&[("etc/cdi/x.yaml", &text), ("run/cdi/x.yaml", &text)]);
        assert_eq!(
            (shadowing.file, shadowing.shadowed),
            (Some("/run/cdi/x.yaml".into()), vec!["/etc/cdi/x.yaml".into()])
        );
        let conflicting = explained(&[("etc/cdi/x.yaml", &text), ("etc/cdi/x.json", &text)]);
        assert_eq!(conflicting.conflicting, ["/etc/cdi/x.json", "/etc/cdi/x.yaml"]);
        assert!(conflicting.unresolved.unwrap().contains("conflicting"));
    }

    #[test]
    fn what_a_rootless_user_cannot_read_is_named() {
        let (tree, root, registry) = tree(&[("etc/cdi/x.yaml", &spec("env: [A=B]"))]);
        fs::set_permissions(tree.path().join("etc/cdi/x.yaml"), Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(tree.path().join("etc"), Permissions::from_mode(0o750)).unwrap();
        // It can be passed through, and not be listed.
        fs::set_permissions(tree.path().join("etc/cdi"), Permissions::from_mode(0o711)).unwrap();
        let closed = explain(&registry, &root, &root, "v.com/cc=0").closed;
        let expected = [("/etc", 0o750), ("/etc/cdi", 0o711), ("/etc/cdi/x.yaml", 0o600)];
        assert_eq!(closed, expected.map(|(path, mode)| Closed { path: path.into(), mode }));
    }

    #[test]
    fn what_is_not_on_the_host_as_the_spec_says_is_named() {
        let edits = "deviceNodes: [{path: /dev/gpu, type: c, major: 508}, {path: /dev/none}, {path: /dev/nine, type: c, major: 9}], \
                     mounts: [{hostPath: /etc/cdi, containerPath: /a}, {hostPath: /gone, containerPath: /b}], \
                     hooks: [{hookName: poststop, path: /etc/cdi/x.yaml}, {hookName: poststop, path: /etc}, {hookName: poststop, path: /no}]";
        let host = explained(&[("etc/cdi/x.yaml", &spec(edits))]).host;
        let short: Vec<(String, &str)> = host
            .iter()
            .map(|it| (it.place.replace("devices[0].containerEdits.", ""), it.problem.as_str()))
            .collect();
        let expected = [
            ("deviceNodes[0]", "/dev/gpu: 508:0 by the spec and 195:0 on this host; make it anew"),
            (
                "deviceNodes[1]",
                "/dev/none: no such device on this host; is its driver loaded, or the spec out of date?",
            ),
            ("deviceNodes[2]", "/dev/nine: not on this host; rootless engines cannot make it"),
            ("mounts[1].hostPath", "/gone: not on this host"),
            ("hooks[0].path", "/etc/cdi/x.yaml: not executable"),
            ("hooks[1].path", "/etc: a directory, not a program"),
            ("hooks[2].path", "/no: not on this host"),
        ];
        assert_eq!(short, expected.map(|(place, problem)| (place.to_owned(), problem)));
    }
}
