//! The stage between creation and start, for runtimes without CDI: state → config → edits → the container's tree.
//!
//! Sources are cloned in this machine's namespace; then this process goes into the container's, opens the root
//! there and attaches them. What cannot be done any more at this stage, variables and groups, is told.

#![forbid(unsafe_code)]

use camino::Utf8Path;
use libgpuspec::apply::{self, container};
use libgpuspec::cdi::{ContainerEdits, DeviceNode, Mount, fill};
use libgpuspec::request::{self, Request};
use libgpuspec::root::{ClonedMount, Entry, Kind, Restrictions};
use libgpuspec::{Notice, Root};
use oci_hook::sandbox::{self, Lost};
use oci_hook::{meaning, stdin};
use serde_json::Value;

use crate::created::Created;
use crate::device_program::Rule;
use crate::entry::Entry as Asked;
use crate::precreate::{MAX_CONFIG, edits, tell};
use crate::{Class, Failure, cgroup};

/// Gives the created container what it may have.
pub(crate) fn run(entry: &Asked) -> Result<(), Failure> {
    let input = |error: libgpuspec::Error| Failure::new(Class::Input, &error);
    let bytes = stdin::read(container::MAX_STATE).map_err(input)?;
    let state = container::State::parse(&bytes).map_err(input)?;
    let config = config(&state)?;
    let (request, notices) =
        request::read(&entry.rules(), &config).map_err(|error| Failure::new(Class::Request, &error))?;
    tell(&notices);
    if request.is_empty() {
        return Ok(());
    }
    give(entry, &request, &state, pid(&bytes))
}

fn config(state: &container::State) -> Result<Value, Failure> {
    let input = |error: libgpuspec::Error| Failure::new(Class::Input, &error);
    let bytes = Root::open(&state.bundle).and_then(|bundle| bundle.read("config.json".into(), MAX_CONFIG));
    let missing =
        || Failure { class: Class::Input, reason: format!("{}: no config.json in it", state.bundle) };
    let bytes = bytes.map_err(input)?.ok_or_else(missing)?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::new(Class::Input, &error))
}

fn pid(state: &[u8]) -> i64 {
    let state: Option<Value> = serde_json::from_slice(state).ok();
    state.and_then(|state| state.get("pid").and_then(Value::as_i64)).unwrap_or_default()
}

fn give(entry: &Asked, request: &Request, state: &container::State, pid: i64) -> Result<(), Failure> {
    let failed = |class| move |reason: String| Failure { class, reason };
    let machine = |error: libgpuspec::Error| Failure::new(Class::Machine, &error);
    let created = Created::new(pid).map_err(failed(Class::Input))?;
    let edits = edits(entry, request)?;
    let dev = Root::open(&entry.dev_root).map_err(machine)?;
    let nodes = fill(&edits.device_nodes, &dev).map_err(|error| Failure::new(Class::Edit, &error))?;
    let host = Root::open("/".into()).map_err(machine)?;
    let clones = clones(&host, &edits.mounts).map_err(machine)?;
    if entry.device_cgroup {
        tell(
            &rules(&nodes)
                .and_then(|rules| cgroup::allow(&created, &rules))
                .map_err(failed(Class::Cgroup))?,
        );
    }
    // Told by the machine's own paths, which may mean others in the container's namespace.
    let path = state.root().map_err(|error| Failure::new(Class::Input, &error))?;
    created.enter().map_err(failed(Class::Container))?;
    let root = container::open(&path).map_err(|error| Failure::new(Class::Container, &error))?;
    fit(&root, &nodes, &clones).map_err(|error| Failure::new(Class::Container, &error))?;
    hooks(root, &edits)
}

/// The mounts' sources, each with where and how it shall appear.
fn clones<'a>(host: &Root, mounts: &'a [Mount]) -> libgpuspec::Result<Vec<(ClonedMount, &'a Mount)>> {
    let mut clones = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let path = Utf8Path::new(&mount.host_path);
        let missing = || libgpuspec::Error::Container(format!("{path}: to be mounted, and not there"));
        clones.push((host.find(path)?.ok_or_else(missing)?.clone_mount()?, mount));
    }
    Ok(clones)
}

fn rules(nodes: &[DeviceNode]) -> Result<Vec<Rule>, String> {
    nodes.iter().filter_map(|node| Rule::new(node).transpose()).collect()
}

fn fit(root: &Root, nodes: &[DeviceNode], clones: &[(ClonedMount, &Mount)]) -> libgpuspec::Result<()> {
    for node in nodes {
        let kind = if node.node_type == "b" { Kind::BlockDevice } else { Kind::CharDevice };
        let entry = Entry {
            kind,
            mode: node.file_mode.unwrap_or(0o666),
            uid: node.uid.unwrap_or(0),
            gid: node.gid.unwrap_or(0),
            size: 0,
            major: u32::try_from(node.major).unwrap_or(0),
            minor: u32::try_from(node.minor).unwrap_or(0),
            identity: (0, 0),
        };
        root.make_node(Utf8Path::new(&node.path), &entry)?;
    }
    for (clone, mount) in clones {
        root.attach(clone, Utf8Path::new(&mount.container_path), restrictions(mount))?;
    }
    Ok(())
}

fn restrictions(mount: &Mount) -> Restrictions {
    let has = |option: &str| mount.options.iter().any(|it| it == option);
    Restrictions {
        read_only: has("ro"),
        no_suid: has("nosuid"),
        no_devices: has("nodev"),
        no_exec: has("noexec"),
    }
}

/// What the specs' createContainer hooks would do, done here: the runtime has read its config already.
fn hooks(root: Root, edits: &ContainerEdits) -> Result<(), Failure> {
    let mut requests = Vec::new();
    for hook in &edits.hooks {
        match meaning(hook) {
            Some(request) => requests.push(request),
            None => tell(&[Notice(format!("{}: a hook of another maker, not run at this stage", hook.path))]),
        }
    }
    for request in &requests {
        tell_undone(&apply::mount(&root, request));
    }
    let work =
        move |root: &Root| requests.iter().flat_map(|request| apply::edit(root, request)).collect::<Vec<_>>();
    match sandbox::run(root, work) {
        Ok(undone) => tell_undone(&undone),
        Err(Lost::Deadline) => {
            let reason = format!("links and loader cache: not done after {:?}", sandbox::DEADLINE);
            return Err(Failure { class: Class::Container, reason });
        }
        Err(Lost::Sandbox(reason)) => return Err(Failure { class: Class::Container, reason }),
    }
    Ok(())
}

fn tell_undone(undone: &[apply::Undone]) {
    undone.iter().for_each(|one| tell(std::slice::from_ref(&one.notice)));
}
