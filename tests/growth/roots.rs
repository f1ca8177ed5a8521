//! What a hostile driver root costs `probe`.

use camino::Utf8Path;
use libgpuspec::Root;
use libgpuspec::host::Host;
use libgpuspec::policy::{Depth, Gpus, Search};
use libgpuspec::probe::probe;
use libgpuspec::vendor::nvidia::NVIDIA;

use super::{UNIT, grows_linearly, hostile};

/// H6: each excess of a driver root, in all sizes.
#[test]
fn h6_probing_a_driver_root_is_linear() {
    for (name, excess) in hostile::EXCESSES {
        grows_linearly(name, |size| hostile::root(*excess, size * UNIT / 40), |root| drop(probed(root)));
    }
}

/// H6: what is said about an excess are few lines.
#[test]
fn h6_an_excess_gives_few_notices() {
    for (name, excess) in
        hostile::EXCESSES.iter().filter(|(name, _)| *name == "needed libraries that are missing")
    {
        let notices = probed(&hostile::root(*excess, 15));
        assert!(notices.len() < 10, "{name}: {notices:?}");
        assert!(
            notices.iter().any(|notice| notice.contains("and 2990 more: required")),
            "{name}: {notices:?}"
        );
    }
}

fn probed(root: &tempfile::TempDir) -> Vec<String> {
    let open = || Root::open(Utf8Path::from_path(root.path()).unwrap()).unwrap();
    let host = Host { driver: open(), dev: open(), proc: open(), sys: open() };
    let search = Search {
        library_directories: Vec::new(),
        driver_version: None,
        depth: Depth::Fast,
        gpus: Gpus::Optional,
    };
    let mut notices = Vec::new();
    let result = probe(&host, &NVIDIA, &search, &mut notices);
    notices.into_iter().map(|notice| notice.0).chain(result.err().map(|error| error.to_string())).collect()
}
