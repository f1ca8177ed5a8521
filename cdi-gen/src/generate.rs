//! `cdi-gen generate`: this host's driver and GPUs as a CDI spec.

use anyhow::{Result, bail};
use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use libgpuspec::Root;
use libgpuspec::cdi::{self, Reader, Spec, Version, readers_since};
use libgpuspec::plan::plan;
use libgpuspec::policy::{HostTools, Policy};
use libgpuspec::probe::engines;
use libgpuspec::render::spec::{self, Format};

use crate::convert::Target;
use crate::discovery::{Discovery, VENDOR};
use crate::output::{self, Status};
use crate::{convert, hook, install, specs};

/// Makes a CDI spec for the GPUs and the driver of this host.
#[derive(Debug, Args)]
pub(crate) struct Generate {
    /// Write to this file instead of stdout, atomically
    #[arg(long, value_name = "FILE", conflicts_with = "install")]
    output: Option<Utf8PathBuf>,
    /// Write the file of the spec directory that engines read (exit status 4 when another file there has the same devices)
    #[arg(long)]
    install: bool,
    /// With --install: take the place of another file that has the same devices
    #[arg(long, requires = "install")]
    replace: bool,
    /// With --install: the spec directory
    #[arg(long, value_name = "DIR", default_value = "/etc/cdi", requires = "install")]
    spec_dir: Utf8PathBuf,
    /// Format of the spec; by default what the file's name says, else yaml
    #[arg(long)]
    format: Option<FormatName>,
    /// The hook that the spec names; by default the installed one, else the one beside this program
    #[arg(long, value_name = "FILE")]
    hook_path: Option<Utf8PathBuf>,
    /// Also mount what only programs of a host use: X server modules, nvidia-settings, nvidia-modprobe …
    #[arg(long)]
    host_tools: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    discovery: Discovery,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    Yaml,
    Json,
}

impl Generate {
    pub(crate) fn run(&self) -> Result<Status> {
        let host = self.discovery.host()?;
        let inventory = self.discovery.inventory(&host)?;
        let policy = Policy {
            driver_root: host.driver.absolute_path()?,
            dev_root: host.dev.absolute_path()?,
            hook: hook::path(self.hook_path.as_deref(), "oci-hook")?,
            host_tools: if self.host_tools { HostTools::Mount } else { HostTools::Skip },
        };
        let Some(spec) = self.target.fit(plan(VENDOR, &inventory, &policy)) else {
            return Ok(Status::Invalid);
        };
        let Some(spec) = self.for_readers(spec)? else { return Ok(Status::Invalid) };
        check(&spec)?;
        let text = spec::text(&spec, &inventory, self.format())?;
        match &self.output {
            Some(file) => output::file(file, &text),
            None if self.install => {
                install::install(&self.spec_dir, &spec, &text, self.format(), self.placement())
            }
            None => output::text(&text),
        }
    }

    /// The spec as every engine of this system reads it: one that is too new is refused as a whole.
    ///
    /// Where it goes is not known unless it is installed, so elsewhere its readers are named and nothing is dropped.
    fn for_readers(&self, spec: Spec) -> Result<Option<Spec>> {
        let version: Version = spec.version.parse()?;
        if version <= Version::V0_5_0 || !self.target.is_open() {
            return Ok(Some(spec));
        }
        if !self.install {
            let readers: Vec<String> =
                readers_since(version).map(|(name, since)| format!("{name} from {since}")).collect();
            output::note(&format!(
                "cdiVersion {version} is read by {}; for older ones use --target",
                readers.join(", ")
            ));
            return Ok(Some(spec));
        }
        let engines = engines(&self.readers()?)?;
        let Some(oldest) = engines.iter().min_by_key(|engine| engine.newest()) else { return Ok(Some(spec)) };
        if oldest.newest() >= version {
            return Ok(Some(spec));
        }
        output::note(&format!(
            "{oldest} is installed and reads cdiVersion {} at most; --cdi-version {version} keeps what is dropped for it",
            oldest.newest()
        ));
        Ok(convert::fit(&spec, Reader::from(oldest)))
    }

    /// The system whose engines read the spec directory: the one that is looked at, or this one.
    fn readers(&self) -> Result<Root> {
        let system = self.discovery.system()?;
        match specs::absolute(&self.spec_dir)?.starts_with(system.absolute_path()?) {
            true => Ok(system),
            false => Ok(Root::open("/".into())?),
        }
    }

    fn format(&self) -> Format {
        match (self.format, self.output.as_deref().and_then(|file| file.extension())) {
            (Some(FormatName::Json), _) | (None, Some("json")) => Format::Json,
            (Some(FormatName::Yaml), _) | (None, _) => Format::Yaml,
        }
    }

    fn placement(&self) -> install::Placement {
        if self.replace { install::Placement::Replace } else { install::Placement::Keep }
    }
}

/// A spec that breaks a rule would take other specs down with it in some engines: it never leaves.
fn check(spec: &Spec) -> Result<()> {
    let violations = cdi::validate_to_write(spec);
    if violations.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    bail!("the spec would be invalid, so nothing was written: {}", lines.join("; "))
}
