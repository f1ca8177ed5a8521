//! What a machine is asked to be given and how, as words of a command line: typed for `cdi-gen nspawn`, written into a
//! unit, and read there by `nspawn-prepare`.

#![forbid(unsafe_code)]

use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use libgpuspec::apply::Request;
use libgpuspec::cdi::ContainerEdits;
use libgpuspec::nspawn::{LoaderKind, MachineRoot, Order, RootKind, Told, UnknownLoader};
use serde::{Deserialize, Serialize};

use crate::entry::{device, machine_directory};

/// The way in which a machine's loader finds libraries; none is the default's.
pub type Way = Option<LoaderKind>;

/// The word of the default.
const AUTO: &str = "auto";
/// All ways.
const WAYS: [Way; 5] = [
    None,
    Some(LoaderKind::Cache),
    Some(LoaderKind::Overlay),
    Some(LoaderKind::Environment),
    Some(LoaderKind::Nothing),
];

/// Takes one of these ways by its word.
pub fn ways(offered: &[Way]) -> impl TypedValueParser<Value = Way> + use<> {
    let values = offered.iter().map(|way| PossibleValue::new(word(*way)).help(what(*way)));
    PossibleValuesParser::new(values.collect::<Vec<_>>()).try_map(|text| way(&text))
}

fn what(way: Way) -> &'static str {
    match way {
        None => "The default",
        Some(LoaderKind::Cache) => "Its /etc/ld.so.cache is extended while it runs",
        Some(LoaderKind::Overlay) => {
            "Links are laid over its directory of libraries, which is read-only meanwhile"
        }
        Some(LoaderKind::Environment) => {
            "LD_LIBRARY_PATH, which neither set-user-ID programs nor logins heed"
        }
        Some(LoaderKind::Nothing) => "Not at all: the libraries are in /run/gpuspec/lib",
    }
}

fn word(way: Way) -> &'static str {
    way.map_or(AUTO, LoaderKind::word)
}

fn way(text: &str) -> Result<Way, UnknownLoader> {
    if text == AUTO { Ok(None) } else { text.parse().map(Some) }
}

/// Takes `yes` or `no`.
pub fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

/// Devices of specs, and how their libraries are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
// Whoever flattens it may have the name for its own.
#[group(skip)]
pub struct Devices {
    /// A device of a CDI spec; may be given several times
    #[arg(long = "device", value_name = "VENDOR/CLASS=NAME", value_parser = device, required = true)]
    #[serde(rename = "devices")]
    pub names: Vec<String>,
    /// A spec directory, lowest precedence first; may be given several times
    /// [default: /etc/cdi and /var/run/cdi]
    #[arg(long = "spec-dir", value_name = "DIR")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spec_directories: Vec<Utf8PathBuf>,
    /// How the machine's loader finds the libraries [default: by what its root is]
    #[arg(long, value_parser = ways(&WAYS))]
    #[serde(default, skip_serializing_if = "Option::is_none", with = "by_word")]
    pub loader: Option<Way>,
    /// Go on without what a spec's hook of this name does, where its meaning is not known here
    #[arg(long = "allow-hook", value_name = "NAME")]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hooks: Vec<String>,
}

/// Devices, and what is said of the machine that is given them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[group(skip)]
pub struct Asked {
    /// The devices.
    #[command(flatten)]
    #[serde(flatten)]
    pub devices: Devices,
    /// The machine's root directory, where it is not that of its name
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<Utf8PathBuf>,
    /// The machine's disk image, where it is not that of its name
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Utf8PathBuf>,
    /// Of no effect; earlier versions laid links over this directory of a disk image
    #[arg(long, value_name = "DIR", value_parser = machine_directory, hide = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library_directory: Option<Utf8PathBuf>,
    /// Write nothing to the machine's tree, not even while it runs [default: if its root is read-only or volatile]
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Whether the machine has a user namespace [default: what its unit and settings say]
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no())]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<bool>,
}

impl Devices {
    /// The same with what was asked for before, where nothing else is.
    pub fn over(self, before: Devices) -> Devices {
        fn or<T>(list: Vec<T>, other: Vec<T>) -> Vec<T> {
            if list.is_empty() { other } else { list }
        }
        Devices {
            names: or(self.names, before.names),
            spec_directories: or(self.spec_directories, before.spec_directories),
            loader: self.loader.or(before.loader),
            allowed_hooks: or(self.allowed_hooks, before.allowed_hooks),
        }
    }
}

impl Asked {
    /// The machine's root, if that is said.
    pub fn root(&self) -> Option<MachineRoot> {
        let directory = self.directory.clone().map(MachineRoot::Directory);
        directory.or_else(|| self.image.clone().map(MachineRoot::Image))
    }

    /// The same with what was asked for before, where nothing else is.
    pub fn over(self, before: Asked) -> Asked {
        let before = match self.root() {
            Some(_) => Asked { directory: None, image: None, library_directory: None, ..before },
            None => before,
        };
        Asked {
            devices: self.devices.over(before.devices),
            directory: self.directory.or(before.directory),
            image: self.image.or(before.image),
            library_directory: self.library_directory.or(before.library_directory),
            read_only: self.read_only || before.read_only,
            user_namespace: self.user_namespace.or(before.user_namespace),
        }
    }

    /// What is to be prepared for the machine of this name; whoever asks tells systemd-nspawn.
    pub fn order<'a>(
        &'a self,
        machine: &'a str,
        edits: &'a ContainerEdits,
        requests: &'a [Request],
        unknown_hooks: &'a [String],
    ) -> Order<'a> {
        Order {
            machine,
            root: self.root(),
            edits,
            requests,
            unknown_hooks,
            allowed_hooks: &self.devices.allowed_hooks,
            loader: self.devices.loader.flatten(),
            root_kind: self.read_only.then_some(RootKind::ReadOnly),
            user_namespace: self.user_namespace,
            told: Told::Arguments,
        }
    }

    /// The words that say so.
    pub fn words(&self) -> Vec<String> {
        let Devices { names, spec_directories, loader, allowed_hooks } = &self.devices;
        let paths = |paths: &[Utf8PathBuf]| paths.iter().map(ToString::to_string).collect();
        let flags: [(&str, Vec<String>); 8] = [
            ("device", names.clone()),
            ("spec-dir", paths(spec_directories)),
            ("loader", loader.iter().map(|way| word(*way).to_owned()).collect()),
            ("allow-hook", allowed_hooks.clone()),
            ("directory", paths(self.directory.as_slice())),
            ("image", paths(self.image.as_slice())),
            ("library-directory", paths(self.library_directory.as_slice())),
            (
                "user-namespace",
                self.user_namespace.iter().map(|&is| if is { "yes" } else { "no" }.to_owned()).collect(),
            ),
        ];
        let words = flags
            .iter()
            .flat_map(|(flag, values)| values.iter().map(move |value| format!("--{flag}={value}")));
        words.chain(self.read_only.then(|| "--read-only".to_owned())).collect()
    }
}

mod by_word {
    //! A way in a document: its word.

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Way, way, word};

    pub(super) fn serialize<S: Serializer>(given: &Option<Way>, serializer: S) -> Result<S::Ok, S::Error> {
        given.map(word).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Way>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| way(&text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        asked: Asked,
    }

    /// Every choice with every other, and texts that look like something else.
    fn all() -> Vec<Asked> {
        let devices = |loader| Devices {
            names: vec!["v.com/c=a".to_owned(), "v.com/c=b".to_owned()],
            spec_directories: vec!["/a b".into(), "/c=d".into()],
            loader,
            allowed_hooks: vec!["--image".to_owned(), "x y".to_owned()],
        };
        let one = || Devices { names: vec!["v.com/c=a".to_owned()], ..Devices::default() };
        let given = WAYS.iter().map(|way| devices(Some(*way))).chain([devices(None), one()]);
        let path = Utf8PathBuf::from("/m x=1");
        let roots = [(None, None), (Some(path.clone()), None), (None, Some(path))];
        let mut all = Vec::new();
        for devices in given {
            for (directory, image) in roots.clone() {
                for user_namespace in [None, Some(true), Some(false)] {
                    for read_only in [true, false] {
                        let library_directory = image.as_ref().map(|_| "/usr/lib64".into());
                        let (directory, image, devices) = (directory.clone(), image.clone(), devices.clone());
                        all.push(Asked {
                            devices,
                            directory,
                            image,
                            library_directory,
                            read_only,
                            user_namespace,
                        });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn what_is_written_is_read_as_it_was_meant() {
        for asked in all() {
            let words = ["program".to_owned()].into_iter().chain(asked.words());
            assert_eq!(Cli::try_parse_from(words).unwrap().asked, asked, "{:?}", asked.words());
            let text = serde_json::to_string(&asked).unwrap();
            assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), asked, "{text}");
        }
        let odd = r#"{"devices": ["v.com/c=a"], "loader": "odd"}"#;
        let told = serde_json::from_str::<Asked>(odd).unwrap_err().to_string();
        assert!(told.contains("known are cache, overlay, environment, none"), "{told}");
    }

    #[test]
    fn what_is_asked_for_now_counts_before_what_was() {
        for asked in all() {
            assert_eq!(asked.clone().over(Asked::default()), asked);
            assert_eq!(Asked::default().over(asked.clone()), asked);
        }
        let image = Asked { image: Some("/i".into()), ..Asked::default() };
        let directory = Asked { directory: Some("/d".into()), ..Asked::default() };
        assert_eq!(directory.clone().over(image), directory, "one root");
    }
}
