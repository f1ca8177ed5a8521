//! Fixture hosts become specs: the reference specs, and every bad host.

// The lints' leave for tests does not reach helper functions, and a test's own trees are not a host's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

#[path = "support/elf.rs"]
mod elf;
#[path = "support/tree.rs"]
mod tree;

use expect_test::expect_file;
use libgpuspec::cdi;
use libgpuspec::inventory::Inventory;
use libgpuspec::plan::plan;
use libgpuspec::policy::{Depth, Gpus, HostTools, Policy, Search};
use libgpuspec::probe::probe;
use libgpuspec::render::spec::{Format, text};
use libgpuspec::vendor::nvidia::NVIDIA;
use libgpuspec::{Error, Notice, error};

use tree::Tree;

fn search() -> Search {
    Search { library_directories: Vec::new(), driver_version: None, depth: Depth::Fast, gpus: Gpus::Required }
}

fn policy() -> Policy {
    Policy {
        driver_root: "/".into(),
        dev_root: "/".into(),
        hook: "/usr/libexec/libgpuspec/oci-hook".into(),
        host_tools: HostTools::Skip,
    }
}

fn inspect(page: &str, search: &Search) -> Result<(Inventory, Vec<Notice>), Error> {
    let tree = Tree::build(page);
    let mut notices = Vec::new();
    probe(&tree.host(), &NVIDIA, search, &mut notices).map(|inventory| {
        let told = |notice: Notice| Notice(notice.0.replace(tree.path().as_str(), ""));
        (inventory, notices.into_iter().map(told).collect())
    })
}

/// One reference spec for each kind of host, in specs/; `UPDATE_EXPECT=1` writes them anew.
#[test]
fn each_kind_of_host_has_its_reference_spec() {
    for (page, version, expected) in [
        // Its DRM nodes are for groups, which additionalGids says.
        (include_str!("hosts/debian.tree"), "0.7.0", expect_file!["../specs/nvidia-debian.yaml"]),
        (include_str!("hosts/fedora.tree"), "0.5.0", expect_file!["../specs/nvidia-fedora.yaml"]),
        (include_str!("hosts/arch.tree"), "0.5.0", expect_file!["../specs/nvidia-arch.yaml"]),
        (include_str!("hosts/nixos.tree"), "0.5.0", expect_file!["../specs/nvidia-nixos.yaml"]),
    ] {
        let (inventory, _) = inspect(page, &search()).unwrap();
        let spec = plan(&NVIDIA, &inventory, &policy());
        assert_eq!(cdi::validate_to_write(&spec), []);
        assert_eq!(spec.version, version);
        expected.assert_eq(&text(&spec, &inventory, Format::Yaml).unwrap());
    }
}

#[test]
fn the_same_host_gives_the_same_bytes_whatever_its_place() {
    let made = || {
        let (inventory, _) = inspect(include_str!("hosts/debian.tree"), &search()).unwrap();
        text(&plan(&NVIDIA, &inventory, &policy()), &inventory, Format::Yaml).unwrap()
    };
    assert_eq!(made(), made());
}

#[test]
fn host_tools_are_mounted_only_when_asked_for() {
    let (inventory, _) = inspect(include_str!("hosts/debian.tree"), &search()).unwrap();
    let mounted = |host_tools| {
        let spec = plan(&NVIDIA, &inventory, &Policy { host_tools, ..policy() });
        let paths = spec.container_edits.mounts.into_iter().map(|mount| mount.container_path);
        paths.filter(|path| path.contains("gtk3") || path.contains("nvidia_drv")).collect::<Vec<_>>()
    };
    assert!(mounted(HostTools::Skip).is_empty());
    let directory = "/usr/lib/x86_64-linux-gnu";
    let expected = [
        format!("{directory}/libnvidia-gtk3.so.550.163.01"),
        "/usr/lib/xorg/modules/drivers/nvidia_drv.so".into(),
    ];
    assert_eq!(mounted(HostTools::Mount), expected);
}

#[test]
fn roots_are_put_before_host_paths_alone() {
    let (inventory, _) = inspect(include_str!("hosts/fedora.tree"), &search()).unwrap();
    let policy = Policy { driver_root: "/run/driver".into(), dev_root: "/run/driver".into(), ..policy() };
    let spec = plan(&NVIDIA, &inventory, &policy);
    for mount in &spec.container_edits.mounts {
        assert!(mount.host_path.starts_with("/run/driver/usr/"), "{mount:?}");
        assert!(!mount.container_path.contains("/run/driver"), "{mount:?}");
    }
    let node = &spec.devices[0].container_edits.device_nodes[0];
    assert_eq!((node.path.as_str(), node.host_path.as_str()), ("/dev/nvidia0", "/run/driver/dev/nvidia0"));
}

/// A sound host with a few lines more or fewer, and what comes of it: an error, or a notice.
#[test]
fn bad_hosts_give_one_clear_error_or_go_on_with_a_notice() {
    const CUDA: &str = "usr/lib64/libcuda.so.580.95.05";
    let sound = include_str!("hosts/fedora.tree");
    let without =
        |word: &str| sound.lines().filter(|line| !line.contains(word)).collect::<Vec<_>>().join("\n");
    let with = |more: &str| format!("{sound}\n{more}");
    let instead = |more: &str| {
        format!(
            "{}\n{more}",
            sound
                .lines()
                .filter(|line| !line.contains("lib64/libcuda.so.580"))
                .collect::<Vec<_>>()
                .join("\n")
        )
    };
    let cases: Vec<(&str, String, Result<&str, &str>)> = vec![
        ("no driver", without("lib"), Err("no NVIDIA driver below")),
        ("no GPU", without("information"), Err("no NVIDIA GPU: ")),
        ("no node", without("dev/nvidia0"), Err("has no node of any")),
        ("all excluded", sound.replace("GPU Excluded:\\t No", "GPU Excluded:\\t Yes"), Err("all excluded")),
        ("another module", sound.replace("Module  580.95.05", "Module  575.57.08"), Err("--driver-version")),
        ("two versions", with("usr/lib64/libcuda.so.470.10 elf64 soname=libcuda.so.1"), Ok("driver version 580.95.05 is taken")),
        ("truncated", instead(&format!("{CUDA} \"\u{7f}ELF\"")), Err(CUDA)),
        ("text", instead(&format!("{CUDA} \"GROUP ( libcuda.so.1 )\"")), Err("not an ELF object")),
        ("text beside a sound one", with("usr/local/lib/libcuda.so.1 \"hello\""), Ok("/usr/local/lib/libcuda.so.1: not an ELF object")),
        ("fifo", instead(&format!("{CUDA} fifo")), Err("a FIFO, not a regular file")),
        ("fifo beside a sound one", with("usr/local/lib/libnvidia-ml.so.1 fifo"), Ok("a FIFO, not a regular file")),
        ("loop", with("usr/local/lib/libnvidia-encode.so.1 -> libnvidia-encode.so.1"), Err("libnvidia-encode.so.1")),
        ("directory loop", with("usr/local/lib/nvidia -> nvidia"), Ok("/usr/local/lib/nvidia")),
        ("empty file", with("usr/local/lib/libnvidia-cfg.so.1 \"\""), Ok("")),
        ("no control node", without("dev/nvidia-uvm-tools"), Ok("/dev/nvidia-uvm-tools: no such device node")),
        ("firmware is a fifo", with("usr/lib/firmware/nvidia/580.95.05/gsp_x.bin fifo"), Ok("gsp_x.bin: a FIFO")),
        ("manifest names nothing", with("usr/share/vulkan/icd.d/nvidia_icd.json \"{\\\"ICD\\\": {\\\"library_path\\\": \\\"/gone/libx.so\\\"}}\"").replace("\\\"", "\""), Ok("names /gone/libx.so, which is no library of the driver")),
        (
            "another's manifest",
            with("usr/share/glvnd/egl_vendor.d/50_notnvidia.json \"{\\\"ICD\\\": {\\\"library_path\\\": \\\"/usr/lib64/libc.so.6\\\"}}\""),
            Ok("which is no library of the driver"),
        ),
        ("garbage cache", with("etc/ld.so.cache \"glibc-ld.so.cache1.1\""), Ok("/etc/ld.so.cache: ")),
    ];
    for (name, page, expected) in cases {
        match (inspect(&page, &search()), expected) {
            (Ok((inventory, notices)), Ok(notice)) => {
                let told = notices.iter().any(|told| told.0.contains(notice));
                assert!(told || notice.is_empty(), "{name}: {notices:#?}");
                let spec = plan(&NVIDIA, &inventory, &policy());
                let mounted =
                    |path: &str| spec.container_edits.mounts.iter().any(|mount| mount.host_path == path);
                assert!(
                    mounted(&format!("/{CUDA}")) && !mounted("/usr/lib64/libc.so.6") && !mounted("/usr"),
                    "{name}"
                );
            }
            (Err(error), Err(text)) => {
                let told = error::chain(&error);
                assert!(told.contains(text) && !told.contains('\n'), "{name}: {told}");
            }
            (got, _) => panic!("{name}: {got:#?}"),
        }
    }
}

#[test]
fn a_version_can_be_asked_for() {
    let page = format!(
        "{}\nusr/lib64/libcuda.so.470.10 elf64 soname=libcuda.so.1",
        include_str!("hosts/fedora.tree")
    );
    let ask =
        |version: &str| inspect(&page, &Search { driver_version: Some(version.to_owned()), ..search() });
    let (inventory, _) = ask("470.10").unwrap();
    let paths: Vec<_> = inventory.libraries.iter().map(|library| library.path.as_str()).collect();
    assert_eq!(paths, ["/usr/lib64/libcuda.so.470.10"]);
    assert!(error::chain(&ask("999.99").unwrap_err()).contains("not on disk"));
}

#[test]
fn without_a_gpu_a_template_has_the_one_device_all() {
    let page: String = include_str!("hosts/fedora.tree")
        .lines()
        .filter(|line| !line.contains("proc/"))
        .fold(String::new(), |page, line| page + line + "\n");
    let (inventory, _) = inspect(&page, &Search { gpus: Gpus::Optional, ..search() }).unwrap();
    let spec = plan(&NVIDIA, &inventory, &policy());
    assert_eq!(cdi::validate_to_write(&spec), []);
    assert_eq!(spec.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["all"]);
    assert_eq!(spec.container_edits.device_nodes.len(), 4);
}

/// A library cut anywhere is an error that names it, never a library of another name.
#[test]
fn a_cut_library_is_damaged_wherever_it_is_cut() {
    let page: String = include_str!("hosts/fedora.tree")
        .lines()
        .filter(|line| !line.contains("needs=libc.so.6,lib"))
        .fold(String::new(), |page, line| page + line + "\n");
    let whole = elf::Stub::x86_64("libcuda.so.1").bytes();
    let tree = Tree::build(&page);
    let file = tree.path().join("usr/lib64/libcuda.so.580.95.05");
    for length in 1..whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        let error = error::chain(&probe(&tree.host(), &NVIDIA, &search(), &mut Vec::new()).unwrap_err());
        assert!(error.starts_with(file.as_str()), "{length}: {error}");
    }
}

#[test]
fn a_directory_with_the_c_library_is_never_the_drivers_own() {
    let page = format!(
        "{}\nopt/all/libcuda.so.580.95.05 elf64 soname=libcuda.so.1\nopt/all/libc.so.6 elf64 soname=libc.so.6\nopt/all/libX11.so.6 elf64 soname=libX11.so.6",
        include_str!("hosts/fedora.tree")
    );
    for directory in ["/opt/all", "/opt/all/", "/usr/lib64/"] {
        let search = Search { library_directories: vec![directory.into()], ..search() };
        let (inventory, _) = inspect(&page, &search).unwrap();
        let sonames: Vec<_> = inventory.libraries.iter().map(|library| library.soname.as_str()).collect();
        assert!(sonames.contains(&"libcuda.so.1") && !sonames.contains(&"libc.so.6"), "{sonames:?}");
        assert!(!sonames.contains(&"libX11.so.6"), "{sonames:?}");
    }
}

/// A name that would end the hook's argument is left out, and the container still starts.
#[test]
fn odd_names_do_not_reach_the_hook() {
    let page =
        format!("{}\nusr/lib64/libcuda.so.a::b -> libcuda.so.580.95.05", include_str!("hosts/fedora.tree"));
    let (inventory, _) = inspect(&page, &search()).unwrap();
    let spec = plan(&NVIDIA, &inventory, &policy());
    assert!(!spec.container_edits.hooks[0].args.iter().any(|arg| arg.contains("a::b")));
}

/// With two drivers unpacked side by side the programs are those of the driver that was taken.
#[test]
fn programs_are_of_the_driver_that_was_taken() {
    let kernel: String = include_str!("hosts/fedora.tree")
        .lines()
        .filter(|line| line.starts_with("proc/") || line.starts_with("dev/"))
        .fold(String::new(), |page, line| page + line + "\n");
    let page = format!(
        "{kernel}
        usr/lib/x86_64-linux-gnu/libc.so.6                              elf64 soname=libc.so.6
        usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.261.03   elf64 soname=libcuda.so.1
        usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-api.so.1      elf64 soname=libnvidia-api.so.1
        usr/lib/x86_64-linux-gnu/nvidia/tesla/libcuda.so.580.95.05      elf64 soname=libcuda.so.1
        usr/lib/nvidia/current/nvidia-smi                               elf64 soname=
        usr/lib/nvidia/tesla/nvidia-smi                                 elf64 soname="
    );
    let (inventory, _) = inspect(&page, &search()).unwrap();
    let paths: Vec<_> = inventory.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/usr/lib/nvidia/tesla/nvidia-smi"]);
    assert_eq!(inventory.libraries.len(), 1, "{:#?}", inventory.libraries);
}

/// A library that only another's text leads to: the deep way finds it, the fast way does not.
#[test]
fn the_deep_way_finds_what_is_only_mentioned() {
    let page = format!(
        "{}\nusr/lib64/libnvidia-hidden.so.7 elf64 soname=libnvidia-hidden.so.7",
        include_str!("hosts/fedora.tree")
    );
    let tree = Tree::build(&page);
    let mentions =
        elf::Stub { text: "/usr/lib/libnvidia-hidden.so.7", ..elf::Stub::x86_64("libnvidia-ml.so.1") };
    std::fs::write(tree.path().join("usr/lib64/libnvidia-ml.so.580.95.05"), mentions.bytes()).unwrap();
    let has = |depth| {
        let inventory = probe(&tree.host(), &NVIDIA, &Search { depth, ..search() }, &mut Vec::new()).unwrap();
        inventory.libraries.iter().any(|library| library.soname == "libnvidia-hidden.so.7")
    };
    assert!(has(Depth::Deep) && !has(Depth::Fast));
}
