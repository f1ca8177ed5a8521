//! A container that a runtime has created and not started: its process, looked at before it is believed.

#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};

use libgpuspec::Root;
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

/// More than any file of /proc that is read here has.
const MAX_TEXT: u64 = 64 << 10;

/// The container's first process.
#[derive(Debug)]
pub(crate) struct Created {
    pidfd: OwnedFd,
    pid: i32,
    proc: Root,
}

impl Created {
    /// The process of this number, if it is one that our own runtime made for a container.
    pub(crate) fn new(pid: i64) -> Result<Created, String> {
        let odd = |why: &str| format!("the state's pid {pid} {why}; this stage is prestart or createRuntime");
        // In createContainer runc says 1 and crun 0, which here are the machine's.
        let number = i32::try_from(pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw);
        let number = number.ok_or_else(|| odd("is no container's"))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty())
            .map_err(|errno| odd(&format!("cannot be opened: {errno}")))?;
        let proc = Root::open("/proc".into()).map_err(|error| error.to_string())?;
        let created = Created { pidfd, pid: number.as_raw_nonzero().get(), proc };
        if created.parent()? != getppid().map(|parent| parent.as_raw_nonzero().get()) {
            return Err(odd("is not the runtime's child"));
        }
        if !created.has_own("mnt")? {
            return Err(odd("has no mount namespace of its own"));
        }
        if created.has_own("user")? {
            return Err("the container has a user namespace, in which this stage can make nothing: use CDI, or precreate".to_owned());
        }
        Ok(created)
    }

    fn text(&self, name: &str) -> Result<String, String> {
        let path = format!("{}/{name}", self.pid);
        let text = self.proc.read_text(path.as_str().into(), MAX_TEXT).map_err(|error| error.to_string())?;
        text.ok_or_else(|| format!("/proc/{path}: not there"))
    }

    fn parent(&self) -> Result<Option<i32>, String> {
        let status = self.text("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        Ok(line.and_then(|number| number.trim().parse().ok()))
    }

    fn has_own(&self, namespace: &str) -> Result<bool, String> {
        let link = |of: &str| {
            let path = format!("{of}/ns/{namespace}");
            let text = self.proc.read_link(path.as_str().into()).map_err(|error| error.to_string())?;
            text.ok_or_else(|| format!("/proc/{path}: not there"))
        };
        Ok(link(&self.pid.to_string())? != link("self")?)
    }

    /// Lets the container use these devices: by its cgroup of version 1, and no other.
    pub(crate) fn allow(&self, rules: &[String]) -> Result<(), String> {
        let path = devices_cgroup(&self.text("cgroup")?);
        let own = devices_cgroup(
            &self.proc.read_text("self/cgroup".into(), MAX_TEXT).ok().flatten().unwrap_or_default(),
        );
        let Some(path) = path else {
            return Err("no device cgroup of version 1: leave --device-cgroup out, or use CDI".to_owned());
        };
        if path == "/" || Some(&path) == own.as_ref() {
            return Err(format!("the container's device cgroup {path} is not its own"));
        }
        let root = Root::open("/sys/fs/cgroup/devices".into()).map_err(|error| error.to_string())?;
        let directory = root.directory(path.as_str().into()).map_err(|error| error.to_string())?;
        let directory = directory.ok_or_else(|| format!("/sys/fs/cgroup/devices{path}: not there"))?;
        for rule in rules {
            directory.write(ALLOW, rule.as_bytes()).map_err(|error| libgpuspec::error::chain(&error))?;
        }
        Ok(())
    }

    /// Goes into its mount namespace, and stays there.
    pub(crate) fn enter(&self) -> Result<(), String> {
        let entered = move_into_thread_name_spaces(self.pidfd.as_fd(), ThreadNameSpaceType::MOUNT);
        entered.map_err(|errno| format!("going into the container's mount namespace: {errno}"))
    }
}

const ALLOW: &str = "devices.allow";

/// The path of the cgroup that the `devices` controller has (proc_pid_cgroup(5)).
fn devices_cgroup(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|it| it == "devices").then(|| path.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_cgroup_is_found_among_others() {
        let cases = [
            ("5:devices:/a:b/c\n4:memory:/\n", Some("/a:b/c")),
            ("5:cpu,devices:/x\n", Some("/x")),
            ("0::/x\n", None),
            ("5:devicesx:/x\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(devices_cgroup(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn no_process_but_a_containers_is_believed() {
        let own = i64::from(std::process::id());
        for pid in [1, 0, -1, i64::from(i32::MAX), 1 << 40, own] {
            assert!(Created::new(pid).is_err(), "{pid}");
        }
    }
}
