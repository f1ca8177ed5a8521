//! The flags that say where and how a host is looked at, typed and understood.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use libgpuspec::host::Host;
use libgpuspec::inventory::Inventory;
use libgpuspec::policy::{Depth, Gpus, Search};
use libgpuspec::probe::probe;
use libgpuspec::vendor::Vendor;
use libgpuspec::vendor::nvidia::NVIDIA;
use libgpuspec::{Root, root};

use crate::output;

/// The vendor whose GPUs are looked for.
pub(crate) static VENDOR: &Vendor = &NVIDIA;

/// Where a host's files are, and which of them count.
#[derive(Debug, Args)]
#[command(next_help_heading = "Discovery")]
pub(crate) struct Discovery {
    /// Directory below which usr/…, dev/…, proc/… and sys/… are looked for, unless one of the next four says otherwise
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: Utf8PathBuf,
    /// Directory below which the driver's usr/…, etc/…, lib/…, run/… are looked for
    #[arg(long, value_name = "DIR")]
    driver_root: Option<Utf8PathBuf>,
    /// Directory below which dev/… is looked for; by default the driver root when that holds dev/nvidiactl
    #[arg(long, value_name = "DIR")]
    dev_root: Option<Utf8PathBuf>,
    /// Directory below which proc/… is looked for
    #[arg(long, value_name = "DIR")]
    proc_root: Option<Utf8PathBuf>,
    /// Directory below which sys/… is looked for
    #[arg(long, value_name = "DIR")]
    sys_root: Option<Utf8PathBuf>,
    /// Directory, inside the driver root, that is searched for libraries before all others
    #[arg(long, value_name = "DIR")]
    library_search_path: Vec<Utf8PathBuf>,
    /// Driver version to take, whatever the loaded kernel module's is
    #[arg(long, value_name = "VERSION")]
    driver_version: Option<String>,
    /// Also find libraries that the driver's libraries only mention in their text (reads them whole)
    #[arg(long)]
    deep: bool,
    /// Go on without a GPU, as for an image build: one device `all` with the driver's files
    #[arg(long)]
    allow_no_gpu: bool,
}

impl Discovery {
    /// The trees to look at.
    pub(crate) fn host(&self) -> Result<Host> {
        let open = |given: &Option<Utf8PathBuf>| Root::open(given.as_ref().unwrap_or(&self.root));
        let driver = open(&self.driver_root)?;
        let dev = match &self.dev_root {
            None if holds_nodes(&driver)? => Root::open(driver.path())?,
            given => open(given)?,
        };
        Ok(Host { driver, dev, proc: open(&self.proc_root)?, sys: open(&self.sys_root)? })
    }

    /// The tree of the system whose engines read the spec.
    pub(crate) fn system(&self) -> Result<Root> {
        Ok(Root::open(&self.root)?)
    }

    /// What is on that host; what was odd goes to stderr.
    pub(crate) fn inventory(&self, host: &Host) -> Result<Inventory> {
        self.probe(host, if self.allow_no_gpu { Gpus::Optional } else { Gpus::Required })
    }

    /// The same, where a missing GPU is told and no error.
    pub(crate) fn inventory_with_or_without_gpu(&self, host: &Host) -> Result<Inventory> {
        self.probe(host, Gpus::Optional)
    }

    pub(crate) fn allows_no_gpu(&self) -> bool {
        self.allow_no_gpu
    }

    fn probe(&self, host: &Host, gpus: Gpus) -> Result<Inventory> {
        let mut notices = Vec::new();
        let inventory = probe(host, VENDOR, &self.search(gpus), &mut notices);
        output::notices(&notices);
        Ok(inventory?)
    }

    fn search(&self, gpus: Gpus) -> Search {
        Search {
            library_directories: self.library_search_path.clone(),
            driver_version: self.driver_version.clone(),
            depth: if self.deep { Depth::Deep } else { Depth::Fast },
            gpus,
        }
    }
}

fn holds_nodes(driver: &Root) -> Result<bool> {
    let entry = driver.target(Utf8Path::new("/dev/nvidiactl")).context("looking for the dev root")?;
    Ok(entry.is_some_and(|entry| entry.kind == root::Kind::CharDevice))
}
