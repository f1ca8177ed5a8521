//! The stage between creation and start, for runtimes without CDI: state → config → edits → the container's tree.
//!
//! Sources are cloned in this machine's namespace; then this process goes into the container's, opens the root
//! there, becomes root of the user namespace that it has, and attaches them. What cannot be done any more at this stage, variables and groups, is told.

#![forbid(unsafe_code)]

use libgpuspec::apply;
use libgpuspec::apply::container::{self, PlainRoot};
use libgpuspec::cdi::{ContainerEdits, DeviceNode, fill};
use libgpuspec::request::{self, Request};
use libgpuspec::{Notice, Root};
use oci_hook::report::Report;
use oci_hook::sandbox::{self, Lost};
use oci_hook::tree_lock::Locks;
use oci_hook::{contract, stdin};
use rustix::process::Pid;
use rustix::thread::CapabilitySet;
use serde_json::Value;

use crate::created::{Created, Users};
use crate::device_program::Rule;
use crate::entry::Entry;
use crate::outfit::Outfit;
use crate::precreate::{MAX_CONFIG, edits};
use crate::{Class, Failure, cgroup, child};

/// To go into the container's namespaces, to mount and to make nodes there, and files as any user; of its device
/// cgroup, the first too.
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::DAC_OVERRIDE);

/// Gives up all rights but those that this stage needs, for good.
pub(crate) fn keep_rights() -> Result<(), Failure> {
    contract::keep(KEPT).map_err(|error| Failure::new(Class::Machine, &error))
}

/// Gives the container that this runtime created what it may have.
pub(crate) fn run(entry: &Entry, report: &Report, runtime: Option<Pid>) -> Result<(), Failure> {
    let input = |error: libgpuspec::Error| Failure::new(Class::Input, &error);
    let bytes = stdin::read(container::MAX_STATE).map_err(input)?;
    let state = container::State::parse(&bytes).map_err(input)?;
    let config = config(&state)?;
    let (request, notices) =
        request::read(&entry.said.rules(), &config).map_err(|error| Failure::new(Class::Request, &error))?;
    report.tell(&notices);
    if request.is_empty() {
        return Ok(());
    }
    let created =
        Created::new(pid(&bytes), runtime).map_err(|reason| Failure { class: Class::Input, reason })?;
    give(entry, report, &request, &state, &created)
}

fn config(state: &container::State) -> Result<Value, Failure> {
    let input = |error: libgpuspec::Error| Failure::new(Class::Input, &error);
    let bytes =
        container::bundle(&state.bundle).and_then(|bundle| bundle.read("config.json".into(), MAX_CONFIG));
    let missing =
        || Failure { class: Class::Input, reason: format!("{}: no config.json in it", state.bundle) };
    let bytes = bytes.map_err(input)?.ok_or_else(missing)?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::new(Class::Input, &error))
}

fn pid(state: &[u8]) -> i64 {
    let state: Option<Value> = serde_json::from_slice(state).ok();
    state.and_then(|state| state.get("pid").and_then(Value::as_i64)).unwrap_or_default()
}

fn give(
    entry: &Entry,
    report: &Report,
    request: &Request,
    state: &container::State,
    created: &Created,
) -> Result<(), Failure> {
    let failed = |class| move |reason: String| Failure { class, reason };
    let machine = |error: libgpuspec::Error| Failure::new(Class::Machine, &error);
    let edits = edits(entry, request, report)?;
    let dev = Root::open(&entry.dev_root).map_err(machine)?;
    let nodes = fill(&edits.device_nodes, &dev).map_err(|error| Failure::new(Class::Edit, &error))?;
    let host = Root::open("/".into()).map_err(machine)?;
    let outfit = Outfit::new(&host, &dev, &nodes, &edits.mounts, created.users())?;
    if entry.said.device_cgroup {
        let rules = rules(&nodes).and_then(|rules| cgroup::allow(created, &rules));
        report.tell(&rules.map_err(failed(Class::Cgroup))?);
    }
    // Read before the namespace changes: the bundle's path may mean another directory in the container's.
    let place = state.place().map_err(|error| Failure::new(Class::Input, &error))?;
    // In a user namespace its file could not be removed.
    let locks = (created.users() == Users::Machine).then(Locks::open);
    created.enter().map_err(failed(Class::Container))?;
    let container = |error: libgpuspec::Error| Failure::new(Class::Container, &error);
    // Root of the container's user namespace may not come this far: engines keep their trees from other users.
    let root = place.open(PlainRoot::Refused).map_err(container)?;
    created.become_root().map_err(failed(Class::Container))?;
    child::end_with_parent();
    let _lock = locks.and_then(|locks| locks.take(&root));
    report.tell(&outfit.put(&root).map_err(container)?);
    hooks(root, &edits, report)
}

fn rules(nodes: &[DeviceNode]) -> Result<Vec<Rule>, String> {
    nodes.iter().filter_map(|node| Rule::new(node).transpose()).collect()
}

/// What the specs' createContainer hooks would do, done here: the runtime has read its config already.
fn hooks(root: Root, edits: &ContainerEdits, report: &Report) -> Result<(), Failure> {
    let (requests, unknown) = oci_hook::meanings(&edits.hooks);
    for hook in unknown {
        report.tell(&[Notice(format!("{}: a hook of another maker, not run at this stage", hook.path))]);
    }
    for request in &requests {
        tell_undone(&apply::mount(&root, request), report);
    }
    let work =
        move |root: &Root| requests.iter().flat_map(|request| apply::edit(root, request)).collect::<Vec<_>>();
    let lost =
        |lost: Lost| Failure { class: Class::Container, reason: format!("links and loader cache: {lost}") };
    tell_undone(&sandbox::run(root, work).map_err(lost)?, report);
    Ok(())
}

fn tell_undone(undone: &[apply::Undone], report: &Report) {
    undone.iter().for_each(|one| report.tell(std::slice::from_ref(&one.notice)));
}
