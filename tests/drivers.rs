//! Real NVIDIA drivers, out of a distribution's packages: nothing that a container can use is missing.
//!
//! The trees are fetched by `tests/run.sh drivers` into `$LIBGPUSPEC_CACHE`; without them each test says
//! that it was skipped.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/elf.rs"]
mod elf;
#[path = "support/tree.rs"]
mod tree;

use std::collections::BTreeSet;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};

use camino::{Utf8Path, Utf8PathBuf};
use expect_test::expect_file;
use libgpuspec::Root;
use libgpuspec::cdi::Spec;
use libgpuspec::host::Host;
use libgpuspec::inventory::Inventory;
use libgpuspec::plan::plan;
use libgpuspec::policy::{Depth, Gpus, HostTools, Policy, Search};
use libgpuspec::probe::probe;
use libgpuspec::vendor::nvidia::NVIDIA;

use tree::Tree;

/// The package trees by driver and by how they came about, where they are there.
fn trees(state: &str) -> Vec<Utf8PathBuf> {
    let cache = env::var("LIBGPUSPEC_CACHE").unwrap_or_else(|_| "/var/cache/libgpuspec-tests".to_owned());
    let paths = ["driver-550", "driver-535"].map(|driver| Utf8Path::new(&cache).join(driver).join(state));
    let (there, missing): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.join("usr").is_dir());
    missing.iter().for_each(|path| skip(&format!("no driver at {path}; tests/run.sh drivers fetches it")));
    there
}

/// Said past the test harness, which keeps what a passing test prints to itself.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// A host with this driver and one simulated GPU; the kernel module's version is the libraries'.
fn inventory(driver: &Utf8Path, depth: Depth) -> Inventory {
    let kernel = Tree::build(
        r#"proc/driver/nvidia/gpus/0000:01:00.0/information  "GPU UUID: \t GPU-9221d5d1-b60b-a624-bf14-0a1819cfda3b\nDevice Minor: \t 0\n"
        dev/nvidia0    c 195:0 0666 0:0
        dev/nvidiactl  c 195:255 0666 0:0"#,
    );
    let host = Host { driver: Root::open(driver).unwrap(), ..kernel.host() };
    let search =
        Search { library_directories: Vec::new(), driver_version: None, depth, gpus: Gpus::Required };
    let mut notices = Vec::new();
    let inventory = probe(&host, &NVIDIA, &search, &mut notices).unwrap();
    let odd = notices.iter().filter(|notice| !notice.0.contains("no such device node"));
    assert_eq!(odd.collect::<Vec<_>>(), Vec::<&libgpuspec::Notice>::new());
    inventory
}

fn spec(inventory: &Inventory, host_tools: HostTools) -> Spec {
    let hook = "/usr/libexec/libgpuspec/oci-hook".into();
    plan(&NVIDIA, inventory, &Policy { driver_root: "/".into(), dev_root: "/".into(), hook, host_tools })
}

/// The complete list for each version, reviewed as code; `UPDATE_EXPECT=1` writes it anew.
#[test]
fn the_mounts_of_each_driver_version_are_these() {
    for state in ["root", "installed"] {
        for tree in trees(state) {
            let inventory = inventory(&tree, Depth::Fast);
            let mut list = String::new();
            for mount in spec(&inventory, HostTools::Mount).container_edits.mounts {
                let by_default = spec(&inventory, HostTools::Skip).container_edits.mounts.contains(&mount);
                let note = if by_default { "" } else { "  (host tool)" };
                // Unpacked packages have /lib and /usr/lib apart; an installed root has them merged.
                let source = mount.host_path.replace("/usr/lib/firmware", "/lib/firmware");
                list += &format!("{} <- {source}{note}\n", mount.container_path);
            }
            let expected = format!("../specs/drivers/{}.txt", inventory.driver_version);
            if Path::new(env!("CARGO_MANIFEST_DIR")).join(&expected).is_file()
                || env::var_os("UPDATE_EXPECT").is_some()
            {
                expect_file![manifest(&expected)].assert_eq(&list);
            } else {
                println!(
                    "skipped: no list of driver {} in specs/drivers; the other tests judge it",
                    inventory.driver_version
                );
            }
        }
    }
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Judged without the library: every file with ELF's magic and a library's name in the packages is mounted,
/// but for those that only an X server or the settings program load.
#[test]
fn every_shared_object_of_the_packages_is_mounted() {
    const HOSTS_OWN: [&str; 4] =
        ["libnvidia-gtk", "libnvidia-wayland-client", "libglxserver_nvidia", "nvidia_drv.so"];
    for tree in trees("root") {
        let spec = spec(&inventory(&tree, Depth::Fast), HostTools::Skip);
        let mounted: BTreeSet<_> =
            spec.container_edits.mounts.iter().map(|mount| mount.host_path.as_str()).collect();
        let mut judged = 0;
        for entry in walkdir::WalkDir::new(&tree).follow_links(false) {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap();
            let library = name.ends_with(".so") || name.contains(".so.");
            let own = HOSTS_OWN.iter().any(|own| name.starts_with(own));
            if !entry.file_type().is_file() || !library || own || !is_elf(entry.path()) {
                continue;
            }
            let inside = format!("/{}", entry.path().strip_prefix(&tree).unwrap().display());
            assert!(mounted.contains(inside.as_str()), "{tree}: {inside} is not mounted");
            judged += 1;
        }
        assert!(judged >= 30, "{tree}: only {judged} libraries");
    }
}

fn is_elf(path: &Path) -> bool {
    std::fs::read(path).unwrap().starts_with(b"\x7fELF")
}

#[test]
fn what_the_peer_misses_is_there() {
    for tree in trees("root") {
        let spec = spec(&inventory(&tree, Depth::Fast), HostTools::Skip);
        let paths: Vec<_> =
            spec.container_edits.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
        let count = |end: &str| paths.iter().filter(|path| path.ends_with(end)).count();
        let ends = [
            "/libnvidia-api.so.1",
            "/usr/bin/nvidia-smi",
            "/usr/bin/nvidia-debugdump",
            "-rc",
            "/nvoptix.bin",
        ];
        for end in ends {
            // The 535 packages have no NVAPI library and keep nvoptix.bin out.
            let packaged = walk_has(&tree, end.rsplit('/').next().unwrap());
            assert_eq!(count(end), usize::from(packaged), "{tree}: {end} in {paths:#?}");
        }
        assert_eq!(count(".bin") - count("nvoptix.bin"), 2, "{tree}: both GSP images");
        assert_eq!(count("nvidia-powerd") + count("nvidia-modprobe"), 0);
    }
}

fn walk_has(tree: &Utf8Path, end: &str) -> bool {
    walkdir::WalkDir::new(tree)
        .into_iter()
        .any(|entry| entry.unwrap().file_name().to_str().unwrap().ends_with(end))
}

/// What the libraries mention in their text and would open is what the fast way found.
#[test]
fn the_deep_way_finds_nothing_more() {
    for tree in trees("root") {
        let (fast, deep) = (inventory(&tree, Depth::Fast), inventory(&tree, Depth::Deep));
        let sonames = |inventory: &Inventory| -> Vec<String> {
            inventory.libraries.iter().map(|library| library.soname.clone()).collect()
        };
        assert_eq!(sonames(&fast), sonames(&deep), "{tree}");
    }
}
