//! Two spec directories of any files: the good ones are found, whatever lies beside them.
//!
//! The input is files with a line `%%%` between them; one that starts with `!` goes to the second
//! directory, and all of them are changed once while the registry watches.
#![no_main]

use std::fs;

use camino::Utf8Path;
use libfuzzer_sys::fuzz_target;
use libgpuspec::Root;
use libgpuspec::cdi::Registry;

const GOOD: &str = "cdiVersion: 0.5.0\nkind: sentinel.com/only\ndevices: [{name: one, containerEdits: {env: [A=B]}}]\n";

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir_in(if Utf8Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
    let path = Utf8Path::from_path(directory.path()).unwrap();
    fs::create_dir(path.join("a")).unwrap();
    fs::create_dir(path.join("b")).unwrap();
    let registry = Registry::new(Root::open(path).unwrap(), &["/a".into(), "/b".into()]);
    let files: Vec<&[u8]> = split(bytes).take(16).collect();
    for round in 0..2 {
        for (index, file) in files.iter().enumerate().skip(round) {
            let (below, content) = match file.strip_prefix(b"!") {
                Some(rest) => ("b", rest),
                None => ("a", *file),
            };
            fs::write(path.join(below).join(format!("{}.yaml", (index + round) % files.len())), content).unwrap();
        }
        fs::write(path.join("a/sentinel.yaml"), GOOD).unwrap();
        let listing = registry.listing();
        let sentinel = "sentinel.com/only=one";
        let contested = listing.conflicts.iter().chain(&listing.shadowed).any(|it| it.device == sentinel);
        assert!(contested || registry.resolve(&[sentinel]).is_ok());
        // A new registry, which has seen nothing change, finds the same.
        let fresh = Registry::new(Root::open(path).unwrap(), &["/a".into(), "/b".into()]).listing();
        assert_eq!((listing.devices, listing.conflicts), (fresh.devices, fresh.conflicts));
    }
});

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let all = rest?;
        let Some(at) = all.windows(4).position(|window| window == b"%%%\n") else { return rest.take() };
        rest = all.get(at + 4..);
        all.get(..at)
    })
}
