//! From what is there and what was asked for to a CDI spec: the only place that decides.
//!
//! `(Inventory, Policy) → plan → cdi::Spec`. A pure function: no file, clock or environment, and the
//! same input gives the same spec, sorted.
//!
//! A library is mounted at its soname in the loader's directory, so that it loads even where no link
//! can be made; its other names are links, made by the spec's one hook, which also tells the
//! container's loader cache. Programs, firmware and data go where their consumers open them.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};

use crate::cdi::{ContainerEdits, Device, DeviceNode, Hook, Mount, Spec, minimum_version};
use crate::inventory::{DriverFile, Gpu, Inventory, Library, Node};
use crate::policy::{HostTools, Policy};
use crate::vendor::{LibraryRule, Place, Vendor};

/// Seconds the hook may take; it needs a thousandth of one.
const HOOK_TIMEOUT: i64 = 10;

/// Some runtimes give a hook without an environment the container's (runc before 1.3), so it has one.
const HOOK_ENVIRONMENT: &str = "LC_ALL=C";

/// A file has no mounts below it to recurse into or to keep private: each word more costs the
/// runtime a system call for every mount.
const READ_ONLY: &[&str] = &["ro", "nosuid", "nodev", "bind"];

/// The spec for these GPUs and this driver.
pub fn plan(vendor: &Vendor, inventory: &Inventory, policy: &Policy) -> Spec {
    let wanted = Wanted::choose(vendor, inventory, policy);
    let devices = devices(vendor, inventory, policy);
    let environment: Vec<String> = vendor.environment.iter().map(|&pair| pair.to_owned()).collect();
    let mut spec = Spec {
        version: String::new(),
        kind: vendor.kind.to_owned(),
        annotations: BTreeMap::new(),
        devices,
        container_edits: ContainerEdits {
            env: environment,
            device_nodes: inventory.nodes.iter().map(|node| device_node(node, policy)).collect(),
            hooks: vec![hook(vendor, inventory, &wanted, policy)],
            mounts: wanted.mounts(policy),
            additional_gids: groups(&inventory.nodes),
            ..ContainerEdits::default()
        },
    };
    spec.version = minimum_version(&spec).to_string();
    spec
}

/// Whether a spec was made here: only our own hook has this name and verb.
pub fn is_ours(spec: &Spec) -> bool {
    let hooks = &spec.container_edits.hooks;
    hooks.iter().any(|hook| matches!(hook.args.as_slice(), [name, verb, ..] if name == "oci-hook" && verb == "create-container"))
}

/// The parts of the inventory that a container shall see.
struct Wanted<'a> {
    vendor: &'a Vendor,
    libraries: Vec<&'a Library>,
    files: Vec<&'a DriverFile>,
}

impl<'a> Wanted<'a> {
    fn choose(vendor: &'a Vendor, inventory: &'a Inventory, policy: &Policy) -> Wanted<'a> {
        let wanted = |host_tool: bool| !host_tool || policy.host_tools == HostTools::Mount;
        Wanted {
            vendor,
            libraries: inventory.libraries.iter().filter(|library| wanted(library.host_tool)).collect(),
            files: inventory.files.iter().filter(|file| wanted(file.host_tool)).collect(),
        }
    }

    /// One mount a destination, sorted by it.
    fn mounts(&self, policy: &Policy) -> Vec<Mount> {
        let mut mounts = BTreeMap::new();
        let mut mount = |source: &Utf8Path, destination: Utf8PathBuf| {
            mounts.entry(destination.to_string()).or_insert_with(|| Mount {
                host_path: below(&policy.driver_root, source),
                container_path: destination.into_string(),
                options: READ_ONLY.iter().map(|&option| option.to_owned()).collect(),
                mount_type: String::new(),
            });
        };
        for library in &self.libraries {
            mount(&library.path, self.destination(library));
            for path in self.rule(library).map(|rule| rule.also).unwrap_or_default() {
                mount(&library.path, library.directory.join(path));
            }
        }
        for file in &self.files {
            mount(&file.path, file.destination.clone());
        }
        mounts.into_values().collect()
    }

    /// Every name under which a mounted library is opened too: (link, text), sorted.
    fn links(&self) -> BTreeMap<Utf8PathBuf, Utf8PathBuf> {
        let mut links = BTreeMap::new();
        for library in &self.libraries {
            let (destination, soname) = (self.destination(library), &library.soname);
            for name in &library.names {
                links.insert(destination.with_file_name(name), soname.into());
            }
            let from_directory = destination.strip_prefix(&library.directory).unwrap_or(&destination);
            for name in self.consumers_names(library).iter().filter(|name| *name != soname) {
                links.insert(library.directory.join(name), from_directory.to_owned());
            }
        }
        for file in &self.files {
            links.extend(self.manifests_link(file));
        }
        let mounted: BTreeSet<_> = self.libraries.iter().map(|library| self.destination(library)).collect();
        links.retain(|path, _| !mounted.contains(path));
        links
    }

    /// A manifest that names its library by an absolute path has that path lead to the mounted one.
    fn manifests_link(&self, file: &DriverFile) -> Option<(Utf8PathBuf, Utf8PathBuf)> {
        let named = file.names.as_ref()?;
        let library = self.libraries.iter().find(|library| library.path == named.library)?;
        Some((named.path.clone(), self.destination(library)))
    }

    /// What the loader's cache shall know: for each ABI and directory the names in it.
    fn loadable(&self) -> BTreeMap<(String, &'a Utf8Path), BTreeSet<&'a str>> {
        let mut loadable: BTreeMap<_, BTreeSet<&'a str>> = BTreeMap::new();
        let by_loader =
            |library: &&&'a Library| self.destination(library).parent() == Some(&library.directory);
        for library in self.libraries.iter().filter(by_loader) {
            let names = loadable.entry((library.abi.to_string(), library.directory.as_path())).or_default();
            names.insert(library.soname.as_str());
            // ldconfig lists a development link beside the soname, and programs dlopen it.
            names.extend(library.names.iter().map(String::as_str).filter(|name| name.ends_with(".so")));
            names.extend(self.consumers_names(library).iter().filter(|name| name.ends_with(".so")));
        }
        loadable
    }

    fn destination(&self, library: &Library) -> Utf8PathBuf {
        let directory = match self.rule(library).map(|rule| rule.place) {
            Some(Place::Below(name)) => library.directory.join(name),
            Some(Place::XModule(sort)) => x_module_directory(library, sort),
            Some(Place::Loader | Place::HostTool) | None => library.directory.clone(),
        };
        directory.join(&library.soname)
    }

    /// The names that consumers open, whether or not the host has them.
    fn consumers_names(&self, library: &Library) -> &'static [&'static str] {
        self.rule(library).map(|rule| rule.links).unwrap_or_default()
    }

    fn rule(&self, library: &Library) -> Option<&'static LibraryRule> {
        self.vendor.library_rule(&library.soname)
    }
}

/// Where the X server looks: where the driver root's own looks, if the module is there already.
fn x_module_directory(library: &Library, sort: &str) -> Utf8PathBuf {
    let own = library
        .path
        .parent()
        .filter(|directory| directory.ends_with(Utf8Path::new("xorg/modules").join(sort)));
    own.map_or_else(|| Utf8Path::new("/usr/lib/xorg/modules").join(sort), Utf8Path::to_owned)
}

/// The one hook: mounts what daemons have, makes the links, and makes the loader know the libraries.
fn hook(vendor: &Vendor, inventory: &Inventory, wanted: &Wanted<'_>, policy: &Policy) -> Hook {
    let mut args = vec!["oci-hook".to_owned(), "create-container".to_owned()];
    // The spec outlives each start and stop of a daemon, so its rule is always listed. The hook resolves the path from
    // this host's root, out of which a link in another driver root would lead.
    for rule in vendor.optional.iter().filter(|_| policy.driver_root == "/") {
        let mount = format!("{}:{1}::{1}", rule.kind.word(), rule.path);
        args.extend(["--optional-mount".to_owned(), mount]);
    }
    for (path, target) in wanted.links() {
        args.extend(["--link".to_owned(), format!("{target}::{path}")]);
    }
    for link in inventory.gpus.iter().flat_map(|gpu| &gpu.links) {
        args.extend(["--device-link".to_owned(), format!("{}::{}", link.target, link.path)]);
    }
    for ((abi, directory), names) in wanted.loadable() {
        let names: Vec<&str> = names.into_iter().collect();
        args.extend(["--libraries".to_owned(), format!("{abi}:{directory}:{}", names.join(":"))]);
    }
    let version = |flag: &&str| flag.replace("{version}", &inventory.driver_version);
    args.extend(vendor.hook_flags.iter().map(version));
    Hook {
        hook_name: "createContainer".to_owned(),
        path: policy.hook.to_string(),
        args,
        env: vec![HOOK_ENVIRONMENT.to_owned()],
        timeout: Some(HOOK_TIMEOUT),
    }
}

/// Each GPU by its index and its UUID, then all of them together.
fn devices(vendor: &Vendor, inventory: &Inventory, policy: &Policy) -> Vec<Device> {
    let usable: Vec<&Gpu> = inventory.gpus.iter().filter(|gpu| !gpu.nodes.is_empty()).collect();
    let device = |name: String, gpus: &[&Gpu]| {
        let nodes: BTreeSet<&Node> = gpus.iter().flat_map(|gpu| &gpu.nodes).collect();
        let additional_gids = groups(nodes.iter().copied());
        let device_nodes = nodes.into_iter().map(|node| device_node(node, policy)).collect();
        let container_edits = ContainerEdits { device_nodes, additional_gids, ..ContainerEdits::default() };
        Device { name, annotations: BTreeMap::new(), container_edits }
    };
    let by_index = usable.iter().map(|gpu| device(gpu.index.to_string(), &[*gpu]));
    let by_uuid = usable.iter().filter_map(|gpu| Some(device(gpu.uuid.clone()?, &[*gpu])));
    let mut devices: Vec<Device> = by_index.chain(by_uuid).collect();
    let mut all = device("all".to_owned(), &usable);
    if usable.is_empty() {
        // A device must ask for something, and without a GPU there is nothing of its own.
        all.container_edits.env = vendor.environment.iter().map(|&pair| pair.to_owned()).collect();
    }
    devices.push(all);
    devices
}

/// Groups without which a user other than root cannot open these nodes (as nvidia-ctk does from 1.18 on).
fn groups<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Vec<u32> {
    const FOR_ALL: u32 = 0o006;
    let closed = nodes.into_iter().filter(|node| node.gid != 0 && node.mode & FOR_ALL != FOR_ALL);
    closed.map(|node| node.gid).collect::<BTreeSet<u32>>().into_iter().collect()
}

/// A node with its numbers, so that no engine has to look. It keeps a group that is not root's.
///
/// The owner is left out: an engine then makes it the container's user, who can open the node.
fn device_node(node: &Node, policy: &Policy) -> DeviceNode {
    let host_path = below(&policy.dev_root, &node.path);
    DeviceNode {
        path: node.path.to_string(),
        host_path: if host_path == node.path.as_str() { String::new() } else { host_path },
        node_type: "c".to_owned(),
        major: node.major.into(),
        minor: node.minor.into(),
        file_mode: Some(node.mode),
        permissions: "rw".to_owned(),
        uid: None,
        gid: Some(node.gid).filter(|&gid| gid != 0),
    }
}

fn below(root: &Utf8Path, inside: &Utf8Path) -> String {
    root.join(inside.as_str().trim_start_matches('/')).into_string()
}
