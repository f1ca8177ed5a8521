//! N9: containers with room for no further process or thread, and hardly any memory.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::container::{Container, PLAIN, is_root, run, skipped};

/// A cgroup of version 1 in which there can be one process.
struct Alone(PathBuf);

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

impl Alone {
    fn new(name: &str) -> Option<Alone> {
        let alone = Alone(format!("/sys/fs/cgroup/pids/gpuspec-{name}-{}", std::process::id()).into());
        if fs::create_dir(&alone.0).is_err() {
            skipped("no cgroup of version 1 for processes on this machine");
            return None;
        }
        fs::write(alone.0.join("pids.max"), "1").unwrap();
        Some(alone)
    }

    /// A shell that is alone there and becomes the hook.
    fn hook(&self, words: &[&str], commands: &str) -> Command {
        let mut command = Command::new("sh");
        let script = format!("{commands} echo $$ >$G/cgroup.procs; exec \"$@\"");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_oci-hook")]).args(words).env("G", &self.0);
        command
    }
}

#[test]
fn n9_hook_without_a_thread_does_its_work() {
    let Some(alone) = is_root().then(|| Alone::new("n9")).flatten() else { return };
    let container = Container::new("");
    let words = ["create-container", PLAIN, "--libraries", "x86-64:/usr/lib/x:libcuda.so.1"];
    let ended = run(&mut alone.hook(&words, ""), container.state().as_bytes());
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(container.cache(), ["libcuda.so.1 /usr/lib/x/libcuda.so.1"]);
    container.assert_outside_unchanged();
}

/// Its work is confined as the thread's is.
#[test]
fn n9_hook_without_a_thread_is_confined() {
    let Some(alone) = is_root().then(|| Alone::new("n9c")).flatten() else { return };
    let container = Container::new("etc/ld.so.conf |");
    let words = ["create-container", PLAIN, "--libraries", "x86-64:/usr/lib/x:libcuda.so.1"];
    // The FIFO makes it warn, and it waits where nobody reads that.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = alone.hook(&words, "");
    fill(&writer);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(writer).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), container.state().as_bytes()).unwrap();
    let status = format!("/proc/{}/status", child.id());
    let field = |name: &str| {
        let text = fs::read_to_string(&status).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned())).unwrap()
    };
    // CHOWN, DAC_OVERRIDE, FOWNER.
    while field("CapEff:") != "000000000000000b" {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    assert_eq!((field("Threads:").as_str(), field("NoNewPrivs:").as_str()), ("1", "1"));
    drop(reader);
    drop(command);
    child.wait().unwrap();
}

/// Leaves no room in a pipe.
fn fill(pipe: &std::io::PipeWriter) {
    let flags = rustix::fs::fcntl_getfl(pipe).unwrap();
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while rustix::io::write(pipe, &[b' '; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(pipe, flags).unwrap();
}

/// The kernel keeps the deadline then; it has no words and no status of its own.
#[test]
fn n9_hook_without_a_thread_ends_where_a_file_system_hangs() {
    let Some(alone) = is_root().then(|| Alone::new("n9h")).flatten() else { return };
    let container = Container::new("");
    let mount = "exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 f $R || exit 9; sleep 15 >/dev/null 2>&1 &";
    let words = ["create-container", PLAIN, "--link", "a::/b"];
    let inner = alone.hook(&words, mount);
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(inner.get_program()).args(inner.get_args());
    command.env("R", container.rootfs()).env("G", &alone.0);
    let state = container.state();
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), state.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("mount:") || stderr.contains("/dev/fuse") {
        return skipped(&format!("no FUSE on this machine: {stderr}"));
    }
    assert_eq!(output.status.signal(), Some(14), "SIGALRM: {stderr}");
}
