//! The device cgroup of a created container: its own and no other, widened by the devices that it gets.
//!
//! Version 1 has a file that takes rules. Version 2 has programs, of which each must allow; they are replaced by
//! wider ones. Which version counts is told by what is mounted, as runtimes tell it.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use libgpuspec::error::chain;
use libgpuspec::root::{Directory, Kind};
use libgpuspec::{Notice, Root};
use oci_hook::kernel::{self, Programs};
use rustix::process::{Resource, Rlimit};

use crate::created::{Created, MAX_TEXT};
use crate::device_program::{MAX_INSTRUCTIONS, Rule, widened};

const MOUNT: &str = "/sys/fs/cgroup";
const VERSION_1: &str = "devices";
const ALLOW: &str = "devices.allow";
/// The kernel lets no cgroup have more (BPF_CGROUP_MAX_PROGS), and its outer ones have some each.
const MAX_PROGRAMS: usize = 1024;
const REMEDY: &str = "leave --device-cgroup out, or use CDI or precreate";

/// Lets the container use these devices.
pub(crate) fn allow(created: &Created, rules: &[Rule]) -> Result<Vec<Notice>, String> {
    let root = Root::open(MOUNT.into()).map_err(|error| chain(&error))?;
    let top = directory(&root, "/")?;
    if top.is_on_cgroup2().map_err(|error| chain(&error))? {
        let own = Own::find(created, &root, "")?;
        own.belongs_to(created, &root)?;
        return widen(&own.directory, rules);
    }
    let root = Root::open(&root.outside(VERSION_1.into())).map_err(|error| chain(&error))?;
    let own = Own::find(created, &root, VERSION_1)?;
    own.belongs_to(created, &root)?;
    for rule in rules {
        own.directory.write(ALLOW, rule.line().as_bytes()).map_err(|error| chain(&error))?;
    }
    Ok(Vec::new())
}

/// A cgroup that is the container's.
struct Own {
    path: String,
    directory: Directory,
}

impl Own {
    /// That of the hierarchy with this controller; version 2 is the one without.
    fn find(created: &Created, root: &Root, controller: &str) -> Result<Own, String> {
        let none = || format!("no device cgroup in /proc/{}/cgroup: {REMEDY}", created.pid());
        let path = path(&created.text("cgroup")?, controller).ok_or_else(none)?;
        let ours = path_of_this_process(controller)?;
        // Outside the cgroup namespace of this process a path begins with `/..`.
        if path == "/" || path.starts_with("/..") || is_within(&ours, &path) {
            return Err(format!("the container's device cgroup {path} is not its own: {REMEDY}"));
        }
        let directory = directory(root, &path)?;
        // A process that is gone has left its number, and so perhaps its cgroup, to another.
        created
            .is_alive()
            .then_some(Own { path, directory })
            .ok_or_else(|| "its process has ended".to_owned())
    }

    /// An error if anything but the container's process is in it: what it may open, all in it may.
    fn belongs_to(&self, created: &Created, root: &Root) -> Result<(), String> {
        let failed = |error: libgpuspec::Error| chain(&error);
        let members = format!("{}/cgroup.procs", self.path);
        let members = root.read_text(members.as_str().into(), MAX_TEXT).map_err(failed)?;
        let inside = root.list(self.path.as_str().into()).map_err(failed)?.unwrap_or_default();
        let is_alone = members.unwrap_or_default().trim_end() == created.pid().to_string()
            && inside.iter().all(|(_, kind)| *kind != Kind::Directory);
        let shared = || format!("{}: the container is not alone in it: {REMEDY}", self.directory.path());
        is_alone.then_some(()).ok_or_else(shared)
    }
}

fn path_of_this_process(controller: &str) -> Result<String, String> {
    let proc = Root::proc().map_err(|error| chain(&error))?;
    let text = proc.read_text("self/cgroup".into(), MAX_TEXT).map_err(|error| chain(&error))?;
    path(&text.unwrap_or_default(), controller).ok_or_else(|| "no cgroup in /proc/self/cgroup".to_owned())
}

fn directory(root: &Root, path: &str) -> Result<Directory, String> {
    let found = root.directory(path.into()).map_err(|error| chain(&error))?;
    found.ok_or_else(|| format!("{}: not there", root.outside(path.into())))
}

/// Whether one cgroup is another or lies below it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path of the cgroup that a controller has, or that of version 2 for none (proc_pid_cgroup(5)).
fn path(text: &str, controller: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|it| it == controller).then(|| path.to_owned())
    })
}

/// Puts a wider program in place of each that is attached to a cgroup of version 2.
fn widen(cgroup: &Directory, rules: &[Rule]) -> Result<Vec<Notice>, String> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| format!("{}: {what}: {error}: {REMEDY}", cgroup.path())
    };
    let ids = |which| {
        kernel::attached(cgroup.descriptor(), which, MAX_PROGRAMS).map_err(failed("asking for its programs"))
    };
    let ((own, flags), (effective, _)) = (ids(Programs::Own)?, ids(Programs::Effective)?);
    if own.is_empty() && !effective.is_empty() {
        return Err(format!("{}: outer cgroups restrict it, and not its own: {REMEDY}", cgroup.path()));
    }
    // Linux before 5.11 counts programs as locked memory, of which there may be too little; what comes of it is told.
    let _ = rustix::process::setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    // All are made before the first is put into place.
    let mut pairs = Vec::with_capacity(own.len());
    for id in &own {
        let old = kernel::program(*id).map_err(failed("opening its program"))?;
        let new = wider(&old, rules)
            .map_err(|why| format!("{}: its program cannot be widened: {why}: {REMEDY}", cgroup.path()))?;
        pairs.push((old, new));
    }
    for (old, new) in &pairs {
        kernel::replace(cgroup.descriptor(), old.as_fd(), new.as_fd(), flags)
            .map_err(failed("replacing its program"))?;
    }
    let outer = format!("{}: programs of outer cgroups count too, and stay", cgroup.path());
    Ok(if effective.len() > own.len() { vec![Notice(outer)] } else { Vec::new() })
}

fn wider(old: &OwnedFd, rules: &[Rule]) -> Result<OwnedFd, String> {
    let told = kernel::told(old.as_fd(), MAX_INSTRUCTIONS).map_err(|error| format!("reading it: {error}"))?;
    if told.kind != kernel::DEVICE_PROGRAM || told.maps > 0 {
        return Err("it is no plain device program".to_owned());
    }
    let old = told.instructions.ok_or_else(|| {
        format!("the kernel does not tell its instructions, or they are more than {MAX_INSTRUCTIONS}")
    })?;
    kernel::load(&widened(rules, &old)?).map_err(|error| format!("loading the wider one: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_of_a_controller_is_found_among_others() {
        let cases = [
            ("5:devices:/a:b/c\n4:memory:/\n", "devices", Some("/a:b/c")),
            ("5:cpu,devices:/x\n", "devices", Some("/x")),
            ("0::/x\n", "devices", None),
            ("5:devicesx:/x\n", "devices", None),
            ("", "devices", None),
            ("5:devices:/a\n1:name=systemd:/b\n0::/c:d\n", "", Some("/c:d")),
            ("5:devices:/a\n", "", None),
        ];
        for (text, controller, expected) in cases {
            assert_eq!(path(text, controller).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_cgroup_with_this_process_in_it_is_no_containers() {
        for (inner, outer, expected) in
            [("/a", "/a", true), ("/a/b", "/a", true), ("/ab", "/a", false), ("/", "/a", false)]
        {
            assert_eq!(is_within(inner, outer), expected, "{inner} in {outer}");
        }
    }
}
