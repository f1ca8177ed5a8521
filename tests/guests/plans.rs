//! What a driver's spec becomes for each machine: the reference host's for all, and single questions by value.

use expect_test::expect_file;
use libgpuspec::apply::{CUDA_COMPAT_DIRECTORY, CudaCompat, DeviceFiles, Profile, Request};
use libgpuspec::cdi::{self, ContainerEdits, Hook};
use libgpuspec::nspawn::guest::Cache;
use libgpuspec::nspawn::{
    Bind, BindSource, Content, Farm, Guest, Loader, LoaderKind, Options, Preparation, Refused, RootKind,
    Sources, Wanted, plan,
};

use crate::tree::Tree;
use crate::{inspect, machine};

/// What the reference host has besides its driver.
const MORE: &str = r#"
    etc/group                   "root:x:0:\nvideo:x:44:\nrender:x:105:\n"
    proc/driver/nvidia/params   "ResmanDebugLevel: 1\nModifyDeviceFiles: 1\n""#;

/// The reference host's devices on this machine.
fn prepared(guest: &Guest, options: &Options) -> Preparation {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(checkout.join("tests/hosts/debian.tree")).unwrap();
    let host = Tree::build(&format!("{page}\n{MORE}"));
    let text = std::fs::read_to_string(checkout.join("specs/nvidia-debian.yaml")).unwrap();
    let spec = cdi::read(text.as_bytes()).unwrap();
    let mut edits = spec.container_edits.clone();
    edits.append(&spec.devices.iter().find(|device| device.name == "all").unwrap().container_edits);
    given(&host, &edits, guest, options).unwrap()
}

pub(crate) fn given(
    host: &Tree,
    edits: &ContainerEdits,
    guest: &Guest,
    options: &Options,
) -> Result<Preparation, Refused> {
    let requests: Vec<Request> = edits.hooks.iter().map(meaning).collect();
    let (sources, notices) = Sources::read(&host.host().dev, edits, &requests);
    assert_eq!(notices, Vec::new());
    let wanted = Wanted { edits, requests: &requests, unknown_hooks: &[], sources: &sources };
    plan::plan(&wanted, guest, options)
}

/// What a hook of ours is told to do.
fn meaning(hook: &Hook) -> Request {
    let mut request = Request::default();
    for pair in hook.args.windows(2) {
        match pair[0].as_str() {
            "--optional-mount" => request.optional_mounts.push(pair[1].parse().unwrap()),
            "--link" => request.links.push(pair[1].parse().unwrap()),
            "--device-link" => request.device_links.push(pair[1].parse().unwrap()),
            "--folder" => request.folders.push(pair[1].as_str().into()),
            "--cuda-compat" => {
                let directory = CUDA_COMPAT_DIRECTORY.into();
                let host_driver = Some(pair[1].clone());
                request.cuda_compat = Some(CudaCompat { host_driver, host_cuda: None, directory });
            }
            "--libraries" => request.libraries.push(pair[1].parse().unwrap()),
            _ => {}
        }
    }
    if hook.args.iter().any(|word| word == "--hide-device-files") {
        request.device_files = DeviceFiles::Hide;
    }
    if hook.args.iter().any(|word| word == "--application-profile") {
        request.profile = Profile::Write;
    }
    request
}

/// A preparation on one page.
fn page(preparation: &Preparation) -> String {
    let mut page = String::new();
    for entry in &preparation.tree {
        let content = match &entry.content {
            Content::File(source) => format!("<- {source}"),
            Content::Directory(source) => format!("<= {source}"),
            Content::Link(text) => format!("-> {text}"),
            Content::Text(text) => format!("{text:?}"),
        };
        page.push_str(&format!("{} {content}\n", entry.at));
    }
    page.push_str(&format!("\n{:#?}\n\n", preparation.loader));
    preparation.nodes.iter().for_each(|node| page.push_str(&format!("{node:?}\n")));
    preparation.binds.iter().for_each(|bind| page.push_str(&format!("{bind:?}\n")));
    preparation.environment.iter().for_each(|(name, value)| page.push_str(&format!("{name}={value}\n")));
    preparation.notices.iter().for_each(|notice| page.push_str(&format!("notice: {notice}\n")));
    preparation.usual.iter().for_each(|notice| page.push_str(&format!("usual: {notice}\n")));
    page
}

#[test]
fn the_reference_host_gives_each_machine_what_is_listed() {
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cases = [
        ("debian", RootKind::Directory, false),
        ("split", RootKind::ReadOnly, true),
        ("fedora", RootKind::Volatile, true),
        ("arch", RootKind::Directory, true),
        ("nixos", RootKind::Directory, false),
        ("alpine", RootKind::Directory, false),
    ];
    for (name, root, user_namespace) in cases {
        let (guest, _) = inspect(&machine(name));
        let preparation = prepared(&guest, &Options { root, user_namespace, ..Options::default() });
        expect_file![checkout.join(format!("tests/machines/{name}.txt"))].assert_eq(&page(&preparation));
    }
}

/// A host of these lines, a spec of these mounts (`SOURCE:DESTINATION[:OPTIONS]`) and hook words, on a guest.
fn small(host: &str, mounts: &[&str], words: &[&str], guest: &Guest, options: &Options) -> Preparation {
    given(&Tree::build(host), &edits(mounts, words), guest, options).unwrap()
}

pub(crate) fn edits(mounts: &[&str], words: &[&str]) -> ContainerEdits {
    let mount = |text: &&str| {
        let parts: Vec<&str> = text.split(':').collect();
        let options = parts.get(2).map(|options| options.split(',').map(str::to_owned).collect());
        cdi::Mount {
            host_path: parts[0].to_owned(),
            container_path: parts[1].to_owned(),
            options: options.unwrap_or_default(),
            mount_type: parts.get(3).copied().unwrap_or_default().to_owned(),
        }
    };
    let hook = Hook { args: words.iter().map(|&word| word.to_owned()).collect(), ..Hook::default() };
    ContainerEdits {
        mounts: mounts.iter().map(mount).collect(),
        hooks: vec![hook],
        ..ContainerEdits::default()
    }
}

pub(crate) fn tree_of(preparation: &Preparation) -> Vec<String> {
    page(preparation).lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

pub(crate) fn notices_of(preparation: &Preparation) -> Vec<&str> {
    preparation.notices.iter().chain(&preparation.usual).map(|notice| notice.0.as_str()).collect()
}

pub(crate) fn on(name: &str) -> Guest {
    inspect(&machine(name)).0
}

#[test]
fn libraries_newer_than_the_machine_are_left_out_with_their_links() {
    let host = "
        usr/lib64/libold.so.1  elf64 soname=libold.so.1 wants=GLIBC_2.2.5,GLIBC_2.31
        usr/lib64/libnew.so.1  elf64 soname=libnew.so.1 wants=GLIBC_2.2.5,GLIBC_2.38
        usr/lib64/libpack.so.1 elf64 soname=libpack.so.1 wants=GLIBC_ABI_DT_RELR";
    let mounts = ["libold.so.1", "libnew.so.1", "libpack.so.1"]
        .map(|name| format!("/usr/lib64/{name}:/usr/lib64/{name}"));
    let mounts = mounts.each_ref().map(String::as_str);
    let words =
        ["", "--link", "libnew.so.1::/usr/lib64/libnew.so", "--link", "libold.so.1::/usr/lib64/libold.so"];
    let split = small(host, &mounts, &words, &on("split"), &Options::default());
    assert_eq!(
        tree_of(&split),
        ["lib/libold.so -> libold.so.1", "lib/libold.so.1 <- /usr/lib64/libold.so.1"]
    );
    assert_eq!(
        notices_of(&split),
        [
            "/usr/lib64/libnew.so.1: needs glibc 2.38, and the machine has 2.31; left out",
            "/usr/lib64/libpack.so.1: needs glibc 2.36, and the machine has 2.31; left out",
        ]
    );
    assert_eq!(tree_of(&small(host, &mounts, &words, &on("fedora"), &Options::default())).len(), 5);
}

#[test]
fn a_machine_of_another_processor_gets_nodes_alone() {
    let (guest, _) = inspect("usr/lib/aarch64-linux-gnu/libc.so.6  elf64 machine=183 defines=GLIBC_2.36");
    let host = "
        usr/lib64/libx.so.1   elf64 soname=libx.so.1
        usr/bin/tool          elf64 interp=/lib64/ld-linux-x86-64.so.2";
    let mounts = ["/usr/lib64/libx.so.1:/usr/lib64/libx.so.1", "/usr/bin/tool:/usr/bin/tool"];
    let given = small(host, &mounts, &[], &guest, &Options::default());
    assert_eq!((tree_of(&given).len(), &given.loader), (0, &Loader::Nothing));
    let expected = "/usr/bin/tool, /usr/lib64/libx.so.1: for x86-64 programs, of which the machine has none";
    assert_eq!(notices_of(&given), [expected]);
}

#[test]
fn both_word_sizes_are_kept_apart() {
    let host = "
        usr/lib64/libx.so.1   elf64 soname=libx.so.1
        usr/lib/libx.so.1     elf32 soname=libx.so.1";
    let mounts = ["/usr/lib64/libx.so.1:/usr/lib64/libx.so.1", "/usr/lib/libx.so.1:/usr/lib/libx.so.1"];
    let given =
        small(host, &mounts, &[], &on("arch"), &Options { root: RootKind::ReadOnly, ..Options::default() });
    assert_eq!(
        tree_of(&given),
        ["lib/libx.so.1 <- /usr/lib64/libx.so.1", "lib32/libx.so.1 <- /usr/lib/libx.so.1"]
    );
    let farm = |directory: &str, text: &str| Farm {
        directory: directory.into(),
        links: [("libx.so.1".to_owned(), text.into())].into(),
    };
    let farms = vec![
        farm("/usr/lib", "/run/gpuspec/lib/libx.so.1"),
        farm("/usr/lib32", "/run/gpuspec/lib32/libx.so.1"),
    ];
    assert_eq!(given.loader, Loader::Overlay(farms));
}

/// As nvidia-ctk writes it: files under their own names, links by one hook, the loader told of folders.
#[test]
fn a_spec_of_the_peers_becomes_the_same_tree() {
    let host = "
        usr/lib/x86_64-linux-gnu/libcuda.so.580              elf64 soname=libcuda.so.1
        usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.580  elf64 soname=libnvidia-allocator.so.1
        usr/lib/firmware/nvidia/580/gsp_ga10x.bin            elf64 machine=243
        usr/lib/x86_64-linux-gnu/nvidia/wine/nvngx.dll       \"MZ\"";
    let mounts = [
        "/usr/lib/x86_64-linux-gnu/libcuda.so.580:/usr/lib/x86_64-linux-gnu/libcuda.so.580:ro",
        "/usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.580:/usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.580:ro",
        "/usr/lib/firmware/nvidia/580/gsp_ga10x.bin:/lib/firmware/nvidia/580/gsp_ga10x.bin:ro",
        "/usr/lib/x86_64-linux-gnu/nvidia/wine/nvngx.dll:/usr/lib/x86_64-linux-gnu/nvidia/wine/nvngx.dll:ro",
    ];
    let words = [
        "--link",
        "libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so",
        "--link",
        "libcuda.so.580::/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "--link",
        "../libnvidia-allocator.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so",
        "--link",
        "libnvidia-allocator.so.580::/usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.1",
        "--folder",
        "/usr/lib/x86_64-linux-gnu",
    ];
    let given = small(host, &mounts, &words, &on("debian"), &Options::default());
    assert_eq!(
        tree_of(&given),
        [
            "lib/gbm/nvidia-drm_gbm.so -> ../libnvidia-allocator.so.1",
            "lib/libcuda.so -> libcuda.so.1",
            "lib/libcuda.so.1 <- /usr/lib/x86_64-linux-gnu/libcuda.so.580",
            "lib/libcuda.so.580 -> libcuda.so.1",
            "lib/libnvidia-allocator.so.1 <- /usr/lib/x86_64-linux-gnu/libnvidia-allocator.so.580",
            "lib/libnvidia-allocator.so.580 -> libnvidia-allocator.so.1",
            "lib/nvidia/wine/nvngx.dll <- /usr/lib/x86_64-linux-gnu/nvidia/wine/nvngx.dll",
        ]
    );
    let firmware =
        "/lib/firmware/nvidia/580/gsp_ga10x.bin: the kernel loads firmware from the host; left out";
    assert!(given.notices.is_empty(), "{:?}", given.notices);
    assert_eq!(notices_of(&given), [firmware]);
}

/// As other vendors write it: whole directories, a socket, a file system, and paths that say no one place.
#[test]
fn directories_and_sockets_have_their_places() {
    let host = "
        opt/rocm/lib/libamdhip64.so.6      elf64 soname=libamdhip64.so.6
        opt/rocm/lib/libnew.so.1           elf64 soname=libnew.so.1 needs=libc.so.6 wants=GLIBC_2.99
        usr/share/vulkan/icd.d/radeon.json \"{}\"
        run/vendor/socket                  socket
        etc/vendor.conf                    \"x\"";
    let mounts = [
        "/opt/rocm:/opt/rocm:ro,rbind",
        "/usr/share/vulkan/icd.d:/usr/share/vulkan/icd.d:ro",
        "/run/vendor/socket:/var/run/vendor/socket",
        "/etc/vendor.conf:/etc/vendor.conf",
        "/etc/vendor.conf:/sys/vendor.conf",
        "/etc/vendor.conf:/etc/../vendor.conf",
        "tmpfs:/scratch::tmpfs",
        "/run/gone:/run/gone",
    ];
    let words = ["--folder", "/opt/rocm/lib"];
    let given = small(host, &mounts, &words, &on("debian"), &Options::default());
    assert_eq!(
        tree_of(&given),
        [
            "etc/vendor.conf <- /etc/vendor.conf",
            "opt/rocm <= /opt/rocm",
            "share/vulkan/icd.d <= /usr/share/vulkan/icd.d"
        ]
    );
    let libraries = vec!["x86-64:/run/gpuspec/opt/rocm/lib:libamdhip64.so.6".parse().unwrap()];
    assert_eq!(given.loader, Loader::Cache(libraries));
    let socket = BindSource::Held("/run/vendor/socket".into());
    assert_eq!(given.binds, [Bind { at: "/run/vendor/socket".into(), source: socket, read_only: false }]);
    assert_eq!(
        notices_of(&given),
        [
            "/etc/../vendor.conf, /scratch: no file, directory or socket at a plain path; left out",
            "/opt/rocm/lib/libnew.so.1: needs glibc 2.99, and the machine has 2.36; left out",
            "/run/gone: not on this host: its service does not run; start it, and then the machine",
            "/sys/vendor.conf: nothing is mounted over /proc and /sys; left out",
            "/etc/vendor.conf, /opt/rocm: looked for at that path, where a bind would leave an empty file in the machine; it is below /run/gpuspec instead, and a link in the machine can lead there",
        ]
    );
}

#[test]
fn manifests_name_libraries_where_they_are() {
    let host = r#"
        nix/store/abc/lib/libGLX_x.so.0      elf64 soname=libGLX_x.so.0
        nix/store/abc/share/icd.json         "{\"ICD\": {\"library_path\": \"/nix/store/abc/lib/libGLX_x.so.0\"}}"
        nix/store/abc/lib/libGLX_x.so        elf64 soname=libother.so.1
        nix/store/abc/share/two.json         "[{\"library_path\": \"\/nix\/store\/abc/lib/libGLX_x.so\"}, {\"library_path\": \"/nix/store/abc/lib/libGLX_x.so.0\"}]"
        nix/store/abc/share/plain.json       "{\"ICD\": {\"library_path\": \"libGLX_x.so.0\"}}"
        nix/store/abc/share/x.icd            "/nix/store/abc/lib/libGLX_x.so.0\n""#;
    let mounts = [
        "/nix/store/abc/lib/libGLX_x.so.0:/usr/lib64/libGLX_x.so.0",
        "/nix/store/abc/lib/libGLX_x.so:/nix/store/abc/lib/libGLX_x.so",
        "/nix/store/abc/share/two.json:/usr/share/vulkan/icd.d/two.json",
        "/nix/store/abc/share/icd.json:/usr/share/vulkan/icd.d/icd.json",
        "/nix/store/abc/share/plain.json:/usr/share/vulkan/icd.d/plain.json",
        "/nix/store/abc/share/x.icd:/etc/OpenCL/vendors/x.icd",
    ];
    let words = ["--link", "/usr/lib64/libGLX_x.so.0::/nix/store/abc/lib/libGLX_x.so.0"];
    let given = small(host, &mounts, &words, &on("debian"), &Options::default());
    assert_eq!(
        tree_of(&given),
        [
            "lib/libGLX_x.so -> libother.so.1",
            "lib/libGLX_x.so.0 <- /nix/store/abc/lib/libGLX_x.so.0",
            "lib/libother.so.1 <- /nix/store/abc/lib/libGLX_x.so",
            r#"share/OpenCL/vendors/x.icd "/run/gpuspec/lib/libGLX_x.so.0\n""#,
            r#"share/vulkan/icd.d/icd.json "{\n  \"ICD\": {\n    \"library_path\": \"/run/gpuspec/lib/libGLX_x.so.0\"\n  }\n}\n""#,
            "share/vulkan/icd.d/plain.json <- /nix/store/abc/share/plain.json",
            r#"share/vulkan/icd.d/two.json "[\n  {\n    \"library_path\": \"/run/gpuspec/lib/libother.so.1\"\n  },\n  {\n    \"library_path\": \"/run/gpuspec/lib/libGLX_x.so.0\"\n  }\n]\n""#,
        ]
    );
    assert_eq!(notices_of(&given), Vec::<&str>::new());
}

#[test]
fn opencl_drivers_of_the_machines_own_are_found_still() {
    let host = r#"
        usr/lib64/libx.so.1      elf64 soname=libx.so.1
        etc/OpenCL/vendors/x.icd "libx.so.1\n""#;
    let own =
        "etc/OpenCL/vendors/pocl.icd \"p\"\netc/OpenCL/vendors/x.icd \"x\"\netc/OpenCL/vendors/notes \"\"";
    let (guest, _) = inspect(&format!("{}\n{own}", machine("debian")));
    let mounts =
        ["/usr/lib64/libx.so.1:/usr/lib64/libx.so.1", "/etc/OpenCL/vendors/x.icd:/etc/OpenCL/vendors/x.icd"];
    let given = small(host, &mounts, &[], &guest, &Options::default());
    assert_eq!(
        tree_of(&given),
        [
            "lib/libx.so.1 <- /usr/lib64/libx.so.1",
            "share/OpenCL/vendors/pocl.icd -> /etc/OpenCL/vendors/pocl.icd",
            "share/OpenCL/vendors/x.icd <- /etc/OpenCL/vendors/x.icd",
        ]
    );
    let given = small(host, &["/etc/OpenCL/vendors:/etc/OpenCL/vendors"], &[], &guest, &Options::default());
    assert_eq!(tree_of(&given), ["share/OpenCL/vendors <= /etc/OpenCL/vendors"]);
    assert!(notices_of(&given)[0].contains("without OCL_ICD_VENDORS"), "{:?}", given.notices);
    let given = small(host, &mounts[..1], &[], &guest, &Options::default());
    assert_eq!(tree_of(&given).len(), 1, "nothing is looked for there then");
}

#[test]
fn hooks_of_unknown_meaning_are_refused_unless_allowed() {
    let (edits, sources) = (ContainerEdits::default(), Sources::default());
    let unknown = ["other-hook".to_owned()];
    let wanted = Wanted { edits: &edits, requests: &[], unknown_hooks: &unknown, sources: &sources };
    let refused = plan::plan(&wanted, &on("debian"), &Options::default());
    assert_eq!(refused, Err(Refused::Hook("other-hook".to_owned())));
    let allowed = Options { allowed_hooks: unknown.to_vec(), ..Options::default() };
    let given = plan::plan(&wanted, &on("debian"), &allowed).unwrap();
    assert_eq!(notices_of(&given), ["other-hook: a hook that was not run"]);
}

#[test]
fn the_loaders_way_follows_the_root_and_the_c_library() {
    let host = "usr/lib64/libx.so.1  elf64 soname=libx.so.1";
    let odd = Guest { cache: Cache::Unusable, ..on("debian") };
    let cases: [(Guest, RootKind, Option<LoaderKind>, &str); 18] = [
        (on("debian"), RootKind::Directory, None, "cache"),
        (on("fedora"), RootKind::Directory, None, "cache"),
        (on("debian"), RootKind::ReadOnly, None, "overlay"),
        (on("debian"), RootKind::Volatile, None, "overlay"),
        (on("debian"), RootKind::Ephemeral, None, "overlay"),
        (on("debian"), RootKind::Image, None, "environment"),
        (odd, RootKind::Directory, None, "overlay"),
        (on("nixos"), RootKind::Directory, None, "none"),
        (on("alpine"), RootKind::Directory, None, "none"),
        (on("debian"), RootKind::Image, Some(LoaderKind::Overlay), "environment"),
        (on("debian"), RootKind::OutOfReach, Some(LoaderKind::Overlay), "environment"),
        (Guest::default(), RootKind::Image, None, "environment"),
        (on("debian"), RootKind::OutOfReach, None, "environment"),
        (on("nixos"), RootKind::OutOfReach, None, "none"),
        (on("alpine"), RootKind::OutOfReach, None, "none"),
        (Guest::default(), RootKind::Image, Some(LoaderKind::Overlay), "environment"),
        (on("debian"), RootKind::ReadOnly, Some(LoaderKind::Environment), "environment"),
        (on("alpine"), RootKind::Directory, Some(LoaderKind::Cache), "cache"),
    ];
    for (guest, root, loader, expected) in cases {
        let options = Options { root, loader, ..Options::default() };
        let given = small(host, &["/usr/lib64/libx.so.1:/usr/lib64/libx.so.1"], &[], &guest, &options);
        let word = match given.loader {
            Loader::Cache(_) => "cache",
            Loader::Overlay(_) => "overlay",
            Loader::Environment => "environment",
            Loader::Nothing => "none",
        };
        let path = given.environment.iter().find(|(name, _)| name == "LD_LIBRARY_PATH");
        let path = path.map(|(_, value)| value.as_str());
        assert_eq!(path, (word == "environment").then_some("/run/gpuspec/lib"), "{guest:?}");
        assert_eq!(word, expected, "{root:?} {loader:?} {guest:?}");
    }
}
