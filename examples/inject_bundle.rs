//! Gives devices to an OCI bundle and runs it: what a runtime or an engine does with this library.
//!
//! `cargo run --example inject_bundle -- BUNDLE DEVICE…`, as root; for example
//!
//! ```sh
//! mkdir -p bundle/rootfs && (cd bundle && runc spec)      # and a file tree in bundle/rootfs
//! cargo run --example inject_bundle -- bundle nvidia.com/gpu=all
//! ```
//!
//! The devices come from /etc/cdi and /var/run/cdi. The bundle's config.json is changed for good.

use std::error::Error;
use std::process::{Command, ExitCode};

use libgpuspec::Root;
use libgpuspec::cdi::Registry;
use libgpuspec::render::oci;
use libgpuspec::root::Durability;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bundle = arguments.next().ok_or("usage: inject_bundle BUNDLE DEVICE…")?;
    let devices: Vec<String> = arguments.collect();

    let machine = Root::open("/".into())?;
    let registry = Registry::new(Root::open("/".into())?, &[]);
    let edits = registry.resolve(&devices).map_err(|reasons| {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        reasons.join("\n")
    })?;

    let inside = Root::open(bundle.as_str().into())?;
    let text = inside.read("config.json".into(), 16 << 20)?.ok_or("the bundle has no config.json")?;
    let mut config = serde_json::from_slice(&text)?;
    oci::inject(&mut config, &edits, &machine)?;
    let directory = inside.directory("/".into())?.ok_or("the bundle has gone")?;
    let text = serde_json::to_vec_pretty(&config)?;
    directory.replace_file("config.json", &text, 0o644, None, Durability::Synced)?;

    let runtime =
        ["crun", "runc"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let runtime = runtime.ok_or("neither crun nor runc is installed")?;
    let name = format!("inject-bundle-{}", std::process::id());
    let status = Command::new(runtime).args(["run", "--bundle", &bundle, &name]).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
