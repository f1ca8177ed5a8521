//! oci-hook: makes the driver usable inside a container that a runtime is about to start.
//!
//! state (standard input) → container's root → mounts → sandbox → links, loader cache, loader configuration.
//! Nothing is executed but, where others could write to this program, a sealed view or copy of it; neither the
//! environment nor the working directory is looked at: both can be the image's.

#![forbid(unsafe_code)]

mod sealed;

use std::process::ExitCode;
use std::time::Duration;

use camino::Utf8Path;
use libgpuspec::apply::{self, Step, Undone, container};
use libgpuspec::{Error, Notice, Root};
use oci_hook::cli::{self, Command, Job};
use oci_hook::report::{Priority, Report};
use oci_hook::sandbox::{self, DEADLINE, Lost};
use oci_hook::tree_lock::{Locks, TreeLock};
use oci_hook::{contract, kernel, stdin};

/// One exit status a class of failure: a runtime that drops our words still reports the number.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The state cannot be used.
    State = 65,
    /// The bundle's config.json cannot be used.
    Config = 66,
    /// The container's root cannot be used.
    Root = 67,
    /// A step that was required was not done.
    Required = 68,
    /// The work did not end in time.
    Deadline = 69,
    /// The work could not be confined.
    Sandbox = 70,
}

const PROGRAM: &str = "oci-hook";
/// For the lines of a run: standard error can be a pipe that nobody reads.
const REPORT: Duration = Duration::from_secs(2);
/// Some ten are open at a time.
const MAX_FILES: u64 = 64;

fn main() -> ExitCode {
    kernel::close_inherited();
    kernel::ignore_file_size_signal();
    contract::enter(MAX_FILES);
    if let Err(error) = sealed::ensure() {
        say(Priority::Warning, &format!("no sealed copy of this program, going on without: {error}"));
    }
    match cli::parse() {
        // All of it, for the first look at the state or the root can wait for a file system already.
        Command::Apply(job) => {
            match sandbox::timed(DEADLINE, move || run(*job)).unwrap_or_else(|lost| Err(failure(&lost))) {
                Ok(done) => finish(&done),
                Err(failure) => fail(&failure),
            }
        }
        Command::Nothing => ExitCode::SUCCESS,
        Command::Unknown(name) => {
            // A spec made by a newer cdi-gen must not keep containers from starting.
            say(Priority::Warning, &format!("unknown hook `{name}`; ignored"));
            ExitCode::SUCCESS
        }
    }
}

/// Most runs have nothing to say, and none goes into another namespace first.
fn say(priority: Priority, text: &str) {
    Report::open(PROGRAM).say(priority, text);
}

/// What was not done in the container, and what must be.
struct Done {
    undone: Vec<Undone>,
    required: Vec<Step>,
    /// Given back where its file can be removed, not in the confined thread.
    _lock: Option<TreeLock>,
}

fn run(job: Job) -> Result<Done, (Failure, Notice)> {
    let Job { request, required, state, plain } = job;
    let failed = |failure: Failure| move |error: Error| (failure, error.into());
    let bytes = read_state(state.as_deref()).map_err(failed(Failure::State))?;
    let state = container::State::parse(&bytes).map_err(failed(Failure::State))?;
    let place = state.place().map_err(failed(Failure::Config))?;
    let root = place.open(plain).map_err(failed(Failure::Root))?;
    let lock = Locks::open().take(&root);
    let mut undone = apply::mount(&root, &request);
    let edited = sandbox::here(&root, |root| apply::edit(root, &request));
    undone.extend(edited.map_err(|lost| failure(&lost))?);
    Ok(Done { undone, required, _lock: lock })
}

fn finish(done: &Done) -> ExitCode {
    if !done.undone.is_empty() {
        kernel::end_after(REPORT);
        let report = Report::open(PROGRAM);
        done.undone.iter().for_each(|one| report.say(Priority::Warning, &one.notice.0));
        report.finish();
    }
    match done.undone.iter().find(|one| done.required.contains(&one.step)) {
        None => ExitCode::SUCCESS,
        Some(one) => fail(&(Failure::Required, Notice(format!("required, and not done: {}", one.notice)))),
    }
}

fn fail((failure, notice): &(Failure, Notice)) -> ExitCode {
    kernel::end_after(REPORT);
    say(Priority::Error, &notice.0);
    ExitCode::from(*failure as u8)
}

fn failure(lost: &Lost) -> (Failure, Notice) {
    let failure = match lost {
        Lost::Deadline => Failure::Deadline,
        Lost::Sandbox(_) => Failure::Sandbox,
    };
    (failure, Notice(lost.to_string()))
}

/// The state's bytes, from standard input or from the file that was named.
fn read_state(file: Option<&str>) -> Result<Vec<u8>, Error> {
    let Some(path) = file.map(Utf8Path::new) else { return stdin::read(container::MAX_STATE) };
    let (parent, name) =
        path.parent().zip(path.file_name()).filter(|_| path.is_absolute()).ok_or_else(|| {
            Error::Container(format!("its state is said to be in `{path}`: give an absolute path, or none"))
        })?;
    let missing = || Error::Container(format!("its state is said to be in {path}: no such file"));
    Root::open(parent)?.read(name.into(), container::MAX_STATE)?.ok_or_else(missing)
}
