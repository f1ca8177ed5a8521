//! `cdi-gen inventory`: what is there.

use anyhow::Result;
use clap::Args;
use libgpuspec::inventory::{Capability, Inventory};

use crate::discovery::Discovery;
use crate::output::{self, Status, one_line};

/// Prints what was found: the driver's libraries and files, the GPUs and their nodes.
#[derive(Debug, Args)]
pub(crate) struct InventoryCommand {
    #[command(flatten)]
    discovery: Discovery,
    /// Print JSON for programs instead of a table for people
    #[arg(long)]
    json: bool,
}

impl InventoryCommand {
    pub(crate) fn run(&self) -> Result<Status> {
        let inventory = self.discovery.inventory_with_or_without_gpu(&self.discovery.host()?)?;
        let text =
            if self.json { serde_json::to_string_pretty(&inventory)? + "\n" } else { table(&inventory) };
        output::text(&text)?;
        let usable = inventory.gpus.iter().any(|gpu| !gpu.nodes.is_empty());
        Ok(if usable || self.discovery.allows_no_gpu() { Status::Done } else { Status::NoGpu })
    }
}

/// Each line by itself, since a name may hold a line feed.
fn table(inventory: &Inventory) -> String {
    let module = inventory.module_version.as_deref().unwrap_or("not loaded");
    let mut lines =
        vec![format!("{} driver {} (kernel module: {module})", inventory.vendor, inventory.driver_version)];
    gpus(inventory, &mut lines);
    lines.extend([String::new(), "Control nodes:".to_owned()]);
    for node in &inventory.nodes {
        lines.push(format!("  {}  {}:{}  {:04o}", node.path, node.major, node.minor, node.mode));
    }
    libraries(inventory, &mut lines);
    files(inventory, &mut lines);
    lines.iter().map(|line| one_line(line) + "\n").collect()
}

fn gpus(inventory: &Inventory, lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("GPUs ({}):", inventory.gpus.len())]);
    for gpu in &inventory.gpus {
        let uuid = gpu.uuid.as_deref().unwrap_or("UUID not known yet");
        let model = gpu.model.as_deref().unwrap_or("unknown model");
        let excluded = if gpu.excluded { "  excluded" } else { "" };
        let nodes: Vec<&str> = gpu.nodes.iter().map(|node| node.path.as_str()).collect();
        let (index, address, nodes) = (gpu.index, &gpu.pci_address, nodes.join(" "));
        lines.push(format!("  {index}  {address}  {uuid}  {model}{excluded}  {nodes}"));
    }
}

fn libraries(inventory: &Inventory, lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("Libraries ({}):", inventory.libraries.len())]);
    for library in &inventory.libraries {
        let glibc = library.glibc_floor.as_ref().map(|floor| format!("glibc {floor}")).unwrap_or_default();
        let (name, abi, serves) = (&library.soname, library.abi, words(&library.capabilities));
        let (path, host_tool) = (&library.path, host_tool(library.host_tool));
        lines.push(format!("  {name:<42} {abi:<8} {glibc:<11} {serves:<24} {path}{host_tool}"));
    }
}

fn files(inventory: &Inventory, lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("Other files ({}):", inventory.files.len())]);
    for file in &inventory.files {
        let (place, serves, path) = (&file.destination, words(&file.capabilities), &file.path);
        lines.push(format!("  {place:<58} {serves:<18} {path}{}", host_tool(file.host_tool)));
    }
}

fn host_tool(only: bool) -> &'static str {
    if only { "  (host tool)" } else { "" }
}

fn words<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> String {
    let words: Vec<&str> = capabilities.into_iter().map(|capability| capability.word()).collect();
    words.join(",")
}
