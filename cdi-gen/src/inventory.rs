//! `cdi-gen inventory`: what is there.

use std::fmt::Write;

use anyhow::Result;
use clap::Args;
use libgpuspec::inventory::{Capability, Inventory};

use crate::discovery::Discovery;
use crate::output::{self, Status};

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
        let text = if self.json {
            serde_json::to_string_pretty(&inventory)? + "\n"
        } else {
            output::printable(&table(&inventory)?)
        };
        output::text(&text)?;
        let usable = inventory.gpus.iter().any(|gpu| !gpu.nodes.is_empty());
        Ok(if usable || self.discovery.allows_no_gpu() { Status::Done } else { Status::NoGpu })
    }
}

fn table(inventory: &Inventory) -> Result<String> {
    let mut text = String::new();
    let module = inventory.module_version.as_deref().unwrap_or("not loaded");
    writeln!(text, "{} driver {} (kernel module: {module})", inventory.vendor, inventory.driver_version)?;
    gpus(inventory, &mut text)?;
    writeln!(text, "\nControl nodes:")?;
    for node in &inventory.nodes {
        writeln!(text, "  {}  {}:{}  {:04o}", node.path, node.major, node.minor, node.mode)?;
    }
    libraries(inventory, &mut text)?;
    files(inventory, &mut text)?;
    Ok(text)
}

fn gpus(inventory: &Inventory, text: &mut String) -> Result<()> {
    writeln!(text, "\nGPUs ({}):", inventory.gpus.len())?;
    for gpu in &inventory.gpus {
        let uuid = gpu.uuid.as_deref().unwrap_or("UUID not known yet");
        let model = gpu.model.as_deref().unwrap_or("unknown model");
        let excluded = if gpu.excluded { "  excluded" } else { "" };
        let nodes: Vec<&str> = gpu.nodes.iter().map(|node| node.path.as_str()).collect();
        writeln!(
            text,
            "  {}  {}  {uuid}  {model}{excluded}  {}",
            gpu.index,
            gpu.pci_address,
            nodes.join(" ")
        )?;
    }
    Ok(())
}

fn libraries(inventory: &Inventory, text: &mut String) -> Result<()> {
    writeln!(text, "\nLibraries ({}):", inventory.libraries.len())?;
    for library in &inventory.libraries {
        let glibc = library.glibc_floor.as_ref().map(|floor| format!("glibc {floor}")).unwrap_or_default();
        let (name, abi, serves) = (&library.soname, library.abi, words(&library.capabilities));
        let path = &library.path;
        writeln!(
            text,
            "  {name:<42} {abi:<8} {glibc:<11} {serves:<24} {path}{}",
            host_tool(library.host_tool)
        )?;
    }
    Ok(())
}

fn files(inventory: &Inventory, text: &mut String) -> Result<()> {
    writeln!(text, "\nOther files ({}):", inventory.files.len())?;
    for file in &inventory.files {
        let (place, serves, path) = (&file.destination, words(&file.capabilities), &file.path);
        writeln!(text, "  {place:<58} {serves:<18} {path}{}", host_tool(file.host_tool))?;
    }
    Ok(())
}

fn host_tool(only: bool) -> &'static str {
    if only { "  (host tool)" } else { "" }
}

fn words<'a>(capabilities: impl IntoIterator<Item = &'a Capability>) -> String {
    let words: Vec<&str> = capabilities.into_iter().map(|capability| capability.word()).collect();
    words.join(",")
}
