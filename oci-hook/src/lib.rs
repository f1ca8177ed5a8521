//! What a hook's words mean, and the room its work is done in: shared by the two programs and by whoever reads specs.

pub mod cli;
pub mod contract;
pub mod entry;
pub mod kernel;
pub mod machine;
mod peer;
pub mod report;
pub mod sandbox;
pub mod stdin;
pub mod tree_lock;
pub mod watch;

use camino::Utf8Path;
use libgpuspec::apply::Request;
use libgpuspec::cdi::Hook;

use cli::Command;

/// The programs whose words are known here: ours, and the peer's two.
const PROGRAMS: [&str; 3] = ["oci-hook", "nvidia-cdi-hook", "nvidia-ctk"];

/// What a spec's hook comes to; `None` where only its own program knows.
///
/// A hook that is to do nothing asks for nothing, which is an empty request.
fn meaning(hook: &Hook) -> Option<Request> {
    let name = Utf8Path::new(hook.args.first()?).file_name()?;
    if !PROGRAMS.contains(&name) || hook.hook_name != "createContainer" {
        return None;
    }
    match cli::parse_words(hook.args.iter().map(Into::into)).ok()? {
        Command::Apply(job) => Some(job.request),
        Command::Nothing => Some(Request::default()),
        Command::Unknown(_) => None,
    }
}

/// What specs' hooks come to, and those of which that is not known.
pub fn meanings(hooks: &[Hook]) -> (Vec<Request>, Vec<&Hook>) {
    let (mut requests, mut unknown) = (Vec::new(), Vec::new());
    for hook in hooks {
        match meaning(hook) {
            Some(request) => requests.push(request),
            None => unknown.push(hook),
        }
    }
    (requests, unknown)
}

/// The name by which a hook's user allows for it to be left out.
pub fn name(hook: &Hook) -> String {
    Utf8Path::new(&hook.path).file_name().unwrap_or(&hook.path).to_owned()
}

#[cfg(test)]
mod tests {
    use libgpuspec::apply::DeviceFiles;

    use super::*;

    fn hook(name: &str, words: &str) -> Hook {
        let args = words.split(' ').map(str::to_owned).collect();
        Hook { hook_name: name.to_owned(), path: "/usr/bin/x".to_owned(), args, ..Hook::default() }
    }

    #[test]
    fn hooks_are_understood_whoever_made_the_spec() {
        let links = || vec!["libcuda.so.1::/lib/libcuda.so".parse().unwrap()];
        let linked = || Some(Request { links: links(), ..Request::default() });
        let cases = [
            ("oci-hook create-container --link libcuda.so.1::/lib/libcuda.so", linked()),
            ("nvidia-cdi-hook create-symlinks --link libcuda.so.1::/lib/libcuda.so", linked()),
            ("/opt/nvidia-ctk hook create-symlinks --link libcuda.so.1::/lib/libcuda.so", linked()),
            (
                "nvidia-cdi-hook disable-device-node-modification",
                Some(Request { device_files: DeviceFiles::Hide, ..Request::default() }),
            ),
            ("nvidia-cdi-hook noop", Some(Request::default())),
            ("nvidia-cdi-hook of-a-later-version", None),
            ("nvidia-cdi-hook create-symlinks --of-a-later-version", None),
            ("oci-hook --help", None),
            ("vendor-hook create-symlinks --link libcuda.so.1::/lib/libcuda.so", None),
        ];
        for (words, expected) in cases {
            assert_eq!(meaning(&hook("createContainer", words)), expected, "{words}");
        }
    }

    #[test]
    fn other_points_of_a_containers_life_are_not_taken_for_this_one() {
        let words = "nvidia-cdi-hook create-symlinks --link libcuda.so.1::/lib/libcuda.so";
        assert_eq!(meaning(&hook("poststop", words)), None);
        assert_eq!(meaning(&Hook { hook_name: "createContainer".to_owned(), ..Hook::default() }), None);
    }
}
