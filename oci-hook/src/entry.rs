//! What an entry of hooks.d says, as words of a command line: who writes them and who reads them share these.

#![forbid(unsafe_code)]

use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::cdi::{NameError, QualifiedName};
use libgpuspec::request::Rules;

/// Which containers may have which devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
// Whoever flattens it may have the name for its own.
#[group(skip)]
pub struct Entry {
    /// Give every container this device
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME", value_parser = device)]
    pub devices: Vec<String>,
    /// Let a container's cdi.k8s.io/… annotations ask for devices of this kind; an image can set them
    #[arg(long = "allow-annotations", value_name = "VENDOR/CLASS", value_parser = kind)]
    pub annotations: Vec<String>,
    /// Let a container's variables (NVIDIA_VISIBLE_DEVICES, AMD_VISIBLE_DEVICES …) ask for devices of this kind;
    /// an image can set them
    #[arg(long = "allow-environment", value_name = "VENDOR/CLASS", value_parser = kind)]
    pub environment: Vec<String>,
    /// Let this variable of a container name devices of a kind, ahead of NVIDIA_VISIBLE_DEVICES, as
    /// DOCKER_RESOURCE_GPU=nvidia.com/gpu for Swarm; an image can set it
    #[arg(long = "environment-variable", value_name = "NAME=VENDOR/CLASS", value_parser = variable)]
    pub variables: Vec<(String, String)>,
    /// A spec directory, lowest precedence first [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "spec-dir", value_name = "DIR")]
    pub spec_directories: Vec<Utf8PathBuf>,
    /// In created containers (not podman's): let them use the devices, by their device cgroup. A runtime that sets
    /// its rules anew (update, a reload of systemd) takes that back
    #[arg(long)]
    pub device_cgroup: bool,
}

impl Entry {
    /// Who may ask for what.
    pub fn rules(&self) -> Rules {
        let (devices, annotations) = (self.devices.clone(), self.annotations.clone());
        let (environment, variables) = (self.environment.clone(), self.variables.clone());
        Rules { devices, annotations, environment, variables }
    }

    /// The words that say so.
    pub fn words(&self) -> Vec<String> {
        let directories: Vec<String> = self.spec_directories.iter().map(ToString::to_string).collect();
        let variables: Vec<String> =
            self.variables.iter().map(|(name, kind)| format!("{name}={kind}")).collect();
        let lists = [
            ("--device", &self.devices),
            ("--allow-annotations", &self.annotations),
            ("--allow-environment", &self.environment),
            ("--environment-variable", &variables),
            ("--spec-dir", &directories),
        ];
        let words = lists
            .into_iter()
            .flat_map(|(flag, values)| values.iter().flat_map(move |value| [flag.to_owned(), value.clone()]));
        words.chain(self.device_cgroup.then(|| "--device-cgroup".to_owned())).collect()
    }
}

/// A qualified name.
pub fn device(text: &str) -> Result<String, NameError> {
    text.parse().map(|name: QualifiedName| name.to_string())
}

/// A directory of a machine, as the machine's own programs name it.
pub fn machine_directory(text: &str) -> Result<Utf8PathBuf, &'static str> {
    const WANTED: &str =
        "name the directory as the machine's programs do, absolute and without `.` or `..`, as /usr/lib64";
    libgpuspec::apply::directory(text).map_err(|_| WANTED)
}

fn kind(text: &str) -> Result<String, NameError> {
    // A kind is a qualified name without its device.
    device(&format!("{text}=x")).map(|_| text.to_owned())
}

fn variable(text: &str) -> Result<(String, String), String> {
    const WANTED: &str = "write NAME=VENDOR/CLASS, as DOCKER_RESOURCE_GPU=nvidia.com/gpu";
    let (name, of) = text.split_once('=').ok_or(WANTED)?;
    let is_plain = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if name.is_empty() || !name.chars().all(is_plain) {
        return Err(WANTED.to_owned());
    }
    Ok((name.to_owned(), kind(of).map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        entry: Entry,
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        let entry = Entry {
            devices: vec!["v.com/c=a".to_owned(), "v.com/c=b".to_owned()],
            annotations: vec!["v.com/c".to_owned()],
            environment: vec!["nvidia.com/gpu".to_owned()],
            variables: vec![("DOCKER_RESOURCE_GPU".to_owned(), "nvidia.com/gpu".to_owned())],
            spec_directories: vec!["/etc/cdi".into()],
            device_cgroup: true,
        };
        for entry in [entry, Entry::default()] {
            let words = ["program".to_owned()].into_iter().chain(entry.words());
            assert_eq!(Cli::try_parse_from(words).unwrap().entry, entry);
        }
    }
}
