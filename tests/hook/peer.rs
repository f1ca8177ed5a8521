//! The verbs of nvidia-cdi-hook: the same results on well-behaved images, and none of its known defects.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::container::{Container, PLAIN, is_root, run};
use crate::elf::Stub;
use crate::note;
use crate::rootfs;

const FOLDER: &str = "usr/lib64";
const CUDA_LIST: &str = "etc/ld.so.conf.d/00-gpuspec-cuda-compat.conf";
const COMPAT: &str = "usr/local/cuda/compat";
const COMPAT_ENTRY: &str = "libcuda.so.1 /usr/local/cuda/compat/libcuda.so.1";
const DRIVER_ENTRY: &str = "libcuda.so.1 /usr/lib64/libcuda.so.1";

fn library(container: &Container, path: &str, soname: &str) {
    let path = container.rootfs().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, Stub::x86_64(soname).bytes()).unwrap();
}

/// A driver's libraries as mounts have them, one of them without the link that `ldconfig` would make.
fn driver(container: &Container) {
    library(container, "usr/lib64/libcuda.so.550.1", "libcuda.so.1");
    library(container, "usr/lib64/libnvidia-ml.so.550.1", "libnvidia-ml.so.1");
    for (name, target) in [("libcuda.so.1", "libcuda.so.550.1"), ("libcuda.so", "libcuda.so.1")] {
        std::os::unix::fs::symlink(target, container.rootfs().join(FOLDER).join(name)).unwrap();
    }
}

fn noted(owner: &str, content: &str) -> Vec<u8> {
    note::added(Stub::x86_64("libcuda.so.1").bytes(), owner, content.as_bytes())
}

#[test]
fn links_are_made_where_the_image_leads_inside_itself() {
    // Two that the peer gets wrong: a comma, and a directory that is a link by an absolute path.
    let container = Container::new("lib64 -> /usr/lib\nusr/lib/\ndev/dri/card0");
    let ended = container.verb(&[
        "create-symlinks",
        "--link",
        "a,b.so::/lib64/c,d.so",
        "--link=libcuda.so.1::/lib64/libcuda.so",
        "--link",
        "../card0::/dev/dri/by-path/pci-card",
        "--link",
        "../card7::/dev/dri/by-path/pci-none",
    ]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let expected = [
        "dev/",
        "dev/dri/",
        "dev/dri/by-path/",
        "dev/dri/by-path/pci-card -> ../card0",
        "dev/dri/card0",
        "lib64 -> /usr/lib",
        "usr/",
        "usr/lib/",
        "usr/lib/c,d.so -> a,b.so",
        "usr/lib/libcuda.so -> libcuda.so.1",
    ];
    assert_eq!(rootfs::listing(&container.rootfs()), expected);
}

#[test]
fn it_answers_to_the_peers_names_and_state_files() {
    for words in
        [&["create-symlinks"][..], &["hook", "create-symlinks"], &["-d", "create-symlinks", "--quiet"]]
    {
        let container = Container::new("");
        let state = container.path("state.json");
        fs::write(&state, container.state()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_oci-hook"));
        command
            .arg0("nvidia-cdi-hook")
            .args(words)
            .args(["--link", "a::/b", PLAIN, "--container-spec"])
            .arg(&state);
        let ended = run(&mut command, b"");
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert_eq!(rootfs::listing(&container.rootfs()), ["b -> a"]);
    }
}

#[test]
fn a_state_file_must_be_one() {
    let container = Container::new("");
    rootfs::make(&container.path("states"), "fifo |\ndirectory/\nempty");
    fs::write(container.path("states/large"), vec![b' '; 70_000]).unwrap();
    for name in ["fifo", "directory", "empty", "large", "missing"] {
        let path = container.path("states").join(name);
        let ended =
            container.verb(&["update-ldcache", "--folder", "/l", "--container-spec", path.to_str().unwrap()]);
        assert_eq!(ended.status, Some(65), "{name}: {ended:?}");
    }
    let ended = container.verb(&["update-ldcache", "--folder", "/l", "--container-spec", "config.json"]);
    assert_eq!(ended.status, Some(65), "{ended:?}");
    assert!(ended.stderr.contains("absolute"), "{ended:?}");
    assert_eq!(rootfs::listing(&container.rootfs()), Vec::<String>::new());
}

const UPDATE: [&str; 5] = ["update-ldcache", "--ldconfig-path", "/sbin/ldconfig", "--folder", "/usr/lib64"];

#[test]
fn a_folders_libraries_are_found_by_the_loader() {
    let container =
        Container::new("usr/lib64/libfifo.so |\nusr/lib64/libtext.so.1 = text\nusr/lib64/libdir.so/");
    driver(&container);
    fs::write(container.rootfs().join("usr/lib64/libold.so.1"), Stub::i386("libold.so.1").bytes()).unwrap();
    let ended = container.verb(&UPDATE);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        container.cache(),
        ["libnvidia-ml.so.1 /usr/lib64/libnvidia-ml.so.1", DRIVER_ENTRY, "libcuda.so /usr/lib64/libcuda.so"]
    );
    let link = fs::read_link(container.rootfs().join("usr/lib64/libnvidia-ml.so.1")).unwrap();
    assert_eq!(link.to_str(), Some("libnvidia-ml.so.550.1"));
    assert!(container.text("etc/ld.so.conf.d/00-gpuspec.conf").ends_with("\n/etc/gpuspec/lib/x86-64\n"));
    let before = rootfs::manifest(&container.rootfs());
    assert_eq!(container.verb(&UPDATE).status, Some(0));
    assert_eq!(rootfs::manifest(&container.rootfs()), before, "a restart leaves nothing new");
}

#[test]
fn what_the_image_knows_of_a_folder_keeps_its_rank() {
    let container = Container::new("");
    for directory in ["opt/lib", "usr/lib64"] {
        library(&container, &format!("{directory}/libimage.so.1"), "libimage.so.1");
    }
    let image =
        ["--libraries", "x86-64:/opt/lib:libimage.so.1", "--libraries", "x86-64:/usr/lib64:libimage.so.1"];
    assert_eq!(container.hook(&image).status, Some(0));
    driver(&container);
    assert_eq!(container.verb(&UPDATE).status, Some(0));
    let cache = container.cache();
    let known: Vec<&String> = cache.iter().filter(|entry| entry.starts_with("libimage")).collect();
    assert_eq!(known, ["libimage.so.1 /opt/lib/libimage.so.1", "libimage.so.1 /usr/lib64/libimage.so.1"]);
    assert!(cache.contains(&DRIVER_ENTRY.to_owned()), "{cache:?}");
}

/// Image, and what the peer does there: it hangs, finds nothing, fails, or litters.
#[test]
fn images_on_which_the_peer_stumbles() {
    for page in [
        "etc/ld.so.conf |",
        "etc/ld.so.conf/",
        "etc/ld.so.conf = /opt/lib",
        "",
        "etc/ld.so.conf -> /dev/zero",
        "etc/ld.so.conf = include /etc/ld.so.conf\\ninclude /etc/*",
    ] {
        let container = Container::new(page);
        driver(&container);
        let ended = container.verb(&UPDATE);
        assert_eq!(ended.status, Some(0), "{page}: {ended:?}");
        assert!(container.cache().contains(&DRIVER_ENTRY.to_owned()), "{page}");
    }
}

fn cuda(container: &Container, driver: &str) -> String {
    let ended = container.verb(&["enable-cuda-compat", "--host-driver-version", driver]);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(container.verb(&UPDATE).status, Some(0));
    container.cache().into_iter().find(|entry| entry.starts_with("libcuda.so.1 ")).unwrap() + &ended.stderr
}

#[test]
fn the_newer_libcuda_of_an_image_is_loaded_where_it_may_be() {
    let notes = [
        r#"{"format":1,"CUDA Version":"12.9","driver":[535,550,565,570,575],"device":[1]}"#,
        r#"{"Format":1,"CUDA version":"12.9","driver":[]}"#,
    ];
    for (note, on) in notes.into_iter().zip([true, false]) {
        let container = Container::new("");
        driver(&container);
        fs::create_dir_all(container.rootfs().join(COMPAT)).unwrap();
        let file = container.rootfs().join(COMPAT).join("libcuda.so.575.57.08");
        fs::write(file, noted("NVIDIA Corporation", note)).unwrap();
        assert_eq!(cuda(&container, "550.163.01"), if on { COMPAT_ENTRY } else { DRIVER_ENTRY }, "{note}");
        let before = rootfs::manifest(&container.rootfs());
        cuda(&container, "550.163.01");
        assert_eq!(rootfs::manifest(&container.rootfs()), before, "a restart leaves nothing new");
        assert_eq!(container.rootfs().join(CUDA_LIST).exists(), on);
        // The host's driver was renewed: the choice falls the other way.
        assert_eq!(cuda(&container, "580.1"), DRIVER_ENTRY, "{note}");
        assert!(!container.rootfs().join(CUDA_LIST).exists());
    }
}

/// Changes the size of the one note's content, and that of its section, which is the last.
fn resized(mut file: Vec<u8>, content: impl Fn(u32) -> u32, section: impl Fn(u64) -> u64) -> Vec<u8> {
    let owner = file.windows(18).rposition(|bytes| bytes == b"NVIDIA Corporation").unwrap();
    let (note, end) = (owner - 8, file.len() - 32);
    let old = u32::from_le_bytes(file[note..note + 4].try_into().unwrap());
    file[note..note + 4].copy_from_slice(&content(old).to_le_bytes());
    let old = u64::from_le_bytes(file[end..end + 8].try_into().unwrap());
    file[end..end + 8].copy_from_slice(&section(old).to_le_bytes());
    file
}

/// Moves the content of the one note up to its name.
fn unpadded(mut file: Vec<u8>) -> Vec<u8> {
    let content = file.windows(9).position(|bytes| bytes == b"{\"format\"").unwrap();
    file.remove(content - 1);
    let end = file.windows(2).skip(content).position(|bytes| bytes == b"]}").unwrap() + content + 2;
    file.insert(end, 0);
    file
}

/// Orin's libraries have a note that is larger than its section, with NULs behind the text.
#[test]
fn runtime_4_a_note_that_overruns_its_section_is_read() {
    let text = r#"{"format":1,"CUDA Version":"12.9","driver":[535,550]}"#;
    let owner = "NVIDIA Corporation";
    let padded = format!("{text}\0\0\0\0\0");
    let keep = |size: u64| size;
    for (what, file, on) in [
        ("padding", noted(owner, &padded), true),
        ("larger than the section", resized(noted(owner, &padded), |size| size + 64, keep), true),
        (
            "without padding, larger than the section",
            resized(noted(owner, text), |size| size + 64, keep),
            true,
        ),
        ("larger than the file", resized(noted(owner, &padded), |_| 1 << 30, keep), true),
        ("a section that is too small", resized(noted(owner, &padded), |size| size, |size| size - 40), true),
        ("the largest size", resized(noted(owner, &padded), |_| u32::MAX, keep), true),
        ("a section of the header alone", resized(noted(owner, text), |size| size, |_| 12), true),
        ("an empty section", resized(noted(owner, text), |size| size, |_| 0), true),
        ("cut short", resized(noted(owner, text), |size| size - 9, keep), false),
        ("without padding of the name", unpadded(noted(owner, text)), true),
        ("another branch", noted(owner, &padded.replace("550", "560")), false),
        (
            "of two notes the first that is one",
            note::added(noted(owner, "text"), owner, text.as_bytes()),
            true,
        ),
    ] {
        let container = Container::new("");
        driver(&container);
        fs::create_dir_all(container.rootfs().join(COMPAT)).unwrap();
        fs::write(container.rootfs().join(COMPAT).join("libcuda.so.575.57.08"), file).unwrap();
        let entry = cuda(&container, "550.163.01");
        let expected = if on { COMPAT_ENTRY } else { DRIVER_ENTRY };
        assert!(entry.starts_with(expected), "{what}: {entry}");
    }
}

#[test]
fn a_cuda_version_decides_where_the_note_names_no_drivers() {
    let note = r#"{"format":1,"CUDA Version":"12.9"}"#;
    for (host, on) in [("12.4", true), ("12.9", false), ("13.0", false)] {
        let container = Container::new("");
        fs::create_dir_all(container.rootfs().join("opt/compat")).unwrap();
        let file = container.rootfs().join("opt/compat/libcuda.so.575.57.08");
        fs::write(file, noted("NVIDIA Corporation", note)).unwrap();
        let words = [
            "enable-cuda-compat",
            "--host-cuda-version",
            host,
            "--cuda-compat-container-root",
            "/opt/compat",
        ];
        let ended = container.verb(&words);
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
        assert_eq!(container.rootfs().join(CUDA_LIST).exists(), on, "{host}");
    }
}

/// T07: what stands in the image in place of the library is not followed.
#[test]
fn t07_what_is_no_library_is_not_taken_for_one() {
    for page in [
        "libcuda.so.999.1 -> /",
        "libcuda.so.999.1 -> OUTSIDE/file",
        "libcuda.so.999.1/",
        "libcuda.so.999.1 |",
        "libcuda.so.999.1 = text",
        "libcuda.so.999.1 -> /proc/self/root/etc/passwd",
        "libcuda.so.999.1 -> /proc/1/root",
        "libcuda.so.999.1 -> /dev/fd/0",
        "libcuda.so.999.1\nPLACE/libcuda.so.998.1",
    ] {
        let container = Container::new(&format!("PLACE/{page}").replace("PLACE", COMPAT));
        driver(&container);
        assert!(cuda(&container, "550.1").starts_with(DRIVER_ENTRY), "{page}");
        assert!(!container.rootfs().join(CUDA_LIST).exists(), "{page}");
    }
}

#[test]
fn of_several_libraries_the_loaders_own_choice_counts() {
    let container = Container::new("");
    driver(&container);
    for version in ["570.1", "575.1"] {
        library(&container, &format!("{COMPAT}/libcuda.so.{version}"), "libcuda.so.1");
    }
    std::os::unix::fs::symlink("libcuda.so.570.1", container.rootfs().join(COMPAT).join("libcuda.so.1"))
        .unwrap();
    assert_eq!(cuda(&container, "565.1"), COMPAT_ENTRY);
    assert_eq!(cuda(&container, "570.9"), DRIVER_ENTRY);
}

/// T12: the peer changes a directory of the host through a link in the image.
#[test]
fn t12_modes_are_those_of_directories_inside() {
    let container = Container::new("dev -> OUTSIDE\nreal/\nabove -> ../../../outside\nfile");
    let mode = |name: &str| container.rootfs().join(name).metadata().unwrap().permissions().mode() & 0o777;
    for name in ["real", "file"] {
        fs::set_permissions(container.rootfs().join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let words = [
        "chmod", "--mode", "755", "--path", "/real", "--path", "/dev/lib", "--path", "/above", "--path",
        "/file",
    ];
    let ended = container.verb(&words);
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!((mode("real"), mode("file")), (0o755, 0o700));
    assert_eq!(container.verb(&["chmod", "--mode", "755"]).status, Some(0), "without paths");
    assert_eq!(container.verb(&["chmod", "--mode", "4755", "--path", "/real"]).status, Some(2));
}

#[test]
fn noop_does_nothing_and_an_unknown_verb_warns() {
    let container = Container::new("");
    let ended = container.verb(&["noop", "--container-spec", "/nowhere"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let ended = container.verb(&["--debug", "hook", "create-soname-symlinks", "--folder", "x"]);
    assert_eq!(ended.status, Some(0));
    assert!(ended.stderr.contains("unknown hook `create-soname-symlinks`; ignored"), "{ended:?}");
    assert!(rootfs::listing(&container.rootfs()).is_empty());
}

/// Makes a character device; where this machine does not let us, says so.
fn node(container: &Container, name: &str, minor: u32) -> bool {
    let path = container.rootfs().join("dev").join(name);
    let made = Command::new("mknod").arg(path).args(["c", "195", &minor.to_string()]).output().unwrap();
    if !made.status.success() {
        crate::container::skipped("needs CAP_MKNOD");
    }
    made.status.success()
}

#[test]
fn the_application_profile_names_the_containers_gpus() {
    if !is_root() {
        return;
    }
    let container = Container::new("dev/nvidia7 = a file\ndev/nvidia9 -> nvidia1");
    let profile = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf";
    let ended = container.verb(&["update-application-profile"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert!(!container.rootfs().join("etc").exists(), "without a GPU there is nothing to say");
    for (name, minor) in [("nvidia1", 1), ("nvidia3", 3), ("nvidiactl", 255), ("nvidia99", 99)] {
        if !node(&container, name, minor) {
            return;
        }
    }
    let ended = container.verb(&["update-application-profile"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&container.text(profile)).unwrap();
    let name = "_container_";
    let expected = serde_json::json!({
        "profiles": [{ "name": name, "settings": ["EGLVisibleDGPUDevices", 0b1010] }],
        "rules": [{ "pattern": [], "profile": name }]
    });
    assert_eq!(json, expected);
    let before = rootfs::manifest(&container.rootfs());
    container.verb(&["update-application-profile"]);
    assert_eq!(rootfs::manifest(&container.rootfs()), before);
}
