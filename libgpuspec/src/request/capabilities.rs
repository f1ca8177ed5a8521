//! Which parts of a driver a container asks for, and a spec of ours without the others.
//!
//! Specs say nothing of capabilities. The vendor's table does, by file name: the same table that gave
//! the files their tags when the spec was made. A file that it does not know stays.

use std::collections::BTreeSet;

use camino::Utf8Path;

use crate::apply::{Link, OptionalMount};
use crate::cdi::{ContainerEdits, Hook, Mount};
use crate::inventory::Capability;
use crate::vendor::{self, Destination, Source, Vendor};

/// The libraries of 32-bit programs are a capability of their own, since few containers have any.
const COMPAT32: &str = "compat32";
const ABIS_32: [&str; 2] = ["i386", "armhf"];

/// What a container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    wanted: BTreeSet<Capability>,
    compat32: bool,
}

/// Reads a list of capabilities; `None` for `all`, and a word that is none comes back as the error.
pub fn capabilities(value: &str) -> Result<Option<Capabilities>, String> {
    let mut read = Capabilities { wanted: BTreeSet::new(), compat32: false };
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match Capability::ALL.into_iter().find(|capability| capability.word() == word) {
            Some(capability) => drop(read.wanted.insert(capability)),
            None if word == COMPAT32 => read.compat32 = true,
            None if word == "all" => return Ok(None),
            None => return Err(word.to_owned()),
        }
    }
    Ok(Some(read))
}

impl Capabilities {
    /// The edits of one of our own specs without what serves none of these.
    pub fn filter(&self, vendor: &Vendor, edits: &ContainerEdits) -> ContainerEdits {
        let mut edits = edits.clone();
        let unwanted: Vec<String> = if self.compat32 { Vec::new() } else { directories_32(&edits.hooks) };
        let kept = |path: &str| {
            let path = Utf8Path::new(path);
            let foreign = unwanted.iter().any(|directory| path.starts_with(directory));
            !foreign
                && serves(vendor, path).is_none_or(|serves| serves.iter().any(|it| self.wanted.contains(it)))
        };
        edits.mounts.retain(|Mount { container_path, .. }| kept(container_path));
        for hook in &mut edits.hooks {
            hook.args = arguments(&hook.args, kept);
        }
        edits
    }
}

/// What a file of the container serves, by the vendor's table; `None` for a file it does not know.
fn serves(vendor: &Vendor, path: &Utf8Path) -> Option<&'static [Capability]> {
    let (name, parent) = (path.file_name()?, path.parent()?);
    if let Some(rule) = vendor.library_rule(name) {
        return Some(rule.serves);
    }
    let also = |link: &&str| path.as_str().ends_with(&format!("/{link}"));
    if let Some(rule) = vendor.libraries.iter().find(|rule| rule.also.iter().chain(rule.links).any(also)) {
        return Some(rule.serves);
    }
    if let Some(rule) = vendor.optional.iter().find(|rule| rule.path == path) {
        return Some(rule.serves);
    }
    let here =
        |rule: &&vendor::FileRule| vendor::matches(&any_version(rule.name), name) && lies_in(rule, parent);
    vendor.files.iter().find(here).map(|rule| rule.serves)
}

fn lies_in(rule: &vendor::FileRule, parent: &Utf8Path) -> bool {
    match rule.destination {
        Destination::Directory(directory) => vendor::matches(&any_version(directory), parent.as_str()),
        Destination::Programs => parent.ends_with("bin") || parent.ends_with("sbin"),
        Destination::Libraries(below) => parent.ends_with(below),
        Destination::Same => rule.sources.iter().any(|source| {
            matches!(source, Source::Directory(directory) if vendor::matches(&any_version(directory), parent.as_str()))
        }),
    }
}

fn any_version(pattern: &str) -> String {
    pattern.replace("{version}", "*")
}

/// Directories of the container that hold 32-bit libraries, by what our hook tells the loader.
fn directories_32(hooks: &[Hook]) -> Vec<String> {
    let libraries = hooks.iter().flat_map(|hook| values(&hook.args, "--libraries"));
    libraries
        .filter_map(|value| {
            let (abi, rest) = value.split_once(':')?;
            ABIS_32.contains(&abi).then(|| rest.split(':').next().unwrap_or_default().to_owned())
        })
        .collect()
}

fn values<'a>(arguments: &'a [String], flag: &'a str) -> impl Iterator<Item = &'a str> {
    arguments.windows(2).filter_map(move |pair| match pair {
        [name, value] if name == flag => Some(value.as_str()),
        _ => None,
    })
}

/// A hook's arguments without the mounts, links and libraries that are not kept; all others stay.
fn arguments(old: &[String], kept: impl Fn(&str) -> bool) -> Vec<String> {
    let mut new: Vec<String> = Vec::with_capacity(old.len());
    for argument in old {
        let flag = new.last().map(String::as_str).unwrap_or_default();
        let replaced = match flag {
            "--link" => link(argument, &kept),
            "--libraries" => libraries(argument, &kept),
            "--optional-mount" => optional_mount(argument, &kept),
            _ => Some(argument.clone()),
        };
        match replaced {
            Some(argument) => new.push(argument),
            None => drop(new.pop()),
        }
    }
    new
}

fn link(argument: &str, kept: impl Fn(&str) -> bool) -> Option<String> {
    let Ok(link) = argument.parse::<Link>() else { return Some(argument.to_owned()) };
    let directory = Utf8Path::new(&link.directory);
    // A manifest's link has a name of its own, and serves what its library does.
    let both = kept(directory.join(&link.name).as_str()) && kept(directory.join(&link.target).as_str());
    both.then(|| argument.to_owned())
}

fn optional_mount(argument: &str, kept: impl Fn(&str) -> bool) -> Option<String> {
    let Ok(mount) = argument.parse::<OptionalMount>() else { return Some(argument.to_owned()) };
    kept(mount.path.as_str()).then(|| argument.to_owned())
}

fn libraries(argument: &str, kept: impl Fn(&str) -> bool) -> Option<String> {
    let mut parts = argument.split(':');
    let (Some(abi), Some(directory)) = (parts.next(), parts.next()) else { return Some(argument.to_owned()) };
    let names: Vec<&str> = parts.filter(|name| kept(&format!("{directory}/{name}"))).collect();
    (!names.is_empty()).then(|| format!("{abi}:{directory}:{}", names.join(":")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::nvidia::NVIDIA;

    fn read(words: &str) -> Capabilities {
        capabilities(words).unwrap().unwrap()
    }

    #[test]
    fn words_are_read() {
        assert_eq!(capabilities("all"), Ok(None));
        assert_eq!(capabilities("utility,all"), Ok(None));
        assert_eq!(capabilities("utility, warp"), Err("warp".to_owned()));
        let expected =
            Capabilities { wanted: [Capability::Utility, Capability::Video].into(), compat32: true };
        assert_eq!(capabilities("video,utility,compat32"), Ok(Some(expected)));
    }

    #[test]
    fn a_file_serves_what_the_table_says() {
        use Capability::{Compute, Display, Graphics, Ngx, Utility, Video};
        let cases: [(&str, Option<&[Capability]>); 13] = [
            ("/usr/lib64/libcuda.so.1", Some(&[Compute])),
            ("/usr/lib64/libnvidia-ml.so.1", Some(&[Utility])),
            ("/usr/lib64/libnvidia-fbc.so.1", Some(&[Video, Display])),
            ("/usr/lib64/gbm/nvidia-drm_gbm.so", Some(&[Graphics, Compute])),
            ("/usr/lib64/libGLX_indirect.so.0", Some(&[Graphics])),
            ("/usr/bin/nvidia-smi", Some(&[Utility])),
            ("/opt/nvidia-smi", None),
            ("/lib/firmware/nvidia/550.1/gsp_ga10x.bin", Some(&[Compute, Utility])),
            ("/run/nvidia-persistenced/socket", Some(&[Utility, Compute])),
            ("/usr/share/vulkan/icd.d/nvidia_icd.json", Some(&[Graphics])),
            ("/usr/lib64/nvidia/wine/_nvngx.dll", Some(&[Ngx])),
            ("/usr/lib64/libfoo.so.1", None),
            ("/usr/share/nvidia/nvidia-application-profiles-550.1-rc", Some(&[Graphics])),
        ];
        for (path, expected) in cases {
            assert_eq!(serves(&NVIDIA, path.into()), expected, "{path}");
        }
    }

    fn mount(path: &str) -> Mount {
        Mount { host_path: path.into(), container_path: path.into(), ..Mount::default() }
    }

    fn edits() -> ContainerEdits {
        let args = [
            "oci-hook",
            "create-container",
            "--link",
            "libcuda.so.1::/usr/lib64/libcuda.so",
            "--link",
            "libnvidia-ml.so.1::/usr/lib64/libnvidia-ml.so",
            "--device-link",
            "../card0::/dev/dri/by-path/pci-0",
            "--libraries",
            "x86-64:/usr/lib64:libcuda.so.1:libnvidia-ml.so.1",
            "--libraries",
            "i386:/usr/lib:libcuda.so.1:libnvidia-ml.so.1",
        ];
        let hook = Hook { args: args.map(str::to_owned).to_vec(), ..Hook::default() };
        let paths = [
            "/usr/lib64/libcuda.so.1",
            "/usr/lib64/libnvidia-ml.so.1",
            "/usr/lib/libnvidia-ml.so.1",
            "/opt/x",
        ];
        ContainerEdits { mounts: paths.map(mount).to_vec(), hooks: vec![hook], ..ContainerEdits::default() }
    }

    fn filtered(words: &str) -> (Vec<String>, String) {
        let edits = read(words).filter(&NVIDIA, &edits());
        let mounts = edits.mounts.into_iter().map(|mount| mount.container_path).collect();
        (mounts, edits.hooks[0].args.join(" "))
    }

    #[test]
    fn what_serves_nothing_that_is_asked_for_goes() {
        let (mounts, hook) = filtered("utility");
        assert_eq!(mounts, ["/usr/lib64/libnvidia-ml.so.1", "/opt/x"]);
        assert_eq!(
            hook,
            "oci-hook create-container --link libnvidia-ml.so.1::/usr/lib64/libnvidia-ml.so \
             --device-link ../card0::/dev/dri/by-path/pci-0 --libraries x86-64:/usr/lib64:libnvidia-ml.so.1"
        );
        let (mounts, hook) = filtered("display");
        assert_eq!(mounts, ["/opt/x"]);
        assert_eq!(hook, "oci-hook create-container --device-link ../card0::/dev/dri/by-path/pci-0");
    }

    #[test]
    fn libraries_of_32_bits_are_asked_for_by_name() {
        let (mounts, hook) = filtered("utility,compat32");
        assert_eq!(mounts, ["/usr/lib64/libnvidia-ml.so.1", "/usr/lib/libnvidia-ml.so.1", "/opt/x"]);
        assert!(hook.ends_with("--libraries i386:/usr/lib:libnvidia-ml.so.1"), "{hook}");
    }
}
