//! NVIDIA: what the driver is made of, and what its kernel module says in /proc and /sys.
//!
//! Tables first, readers below. Adding a library is adding a line. The formats of
//! `/proc/driver/nvidia` are those of the kernel module's own source (nv-procfs.c, nvlink and caps).

use camino::{Utf8Path, Utf8PathBuf};

use super::{Destination, FileRule, LibraryRule, Place, Source, Vendor, node};
use crate::Notice;
use crate::error::Result;
use crate::host::Host;
use crate::inventory::Capability::{Compute, Display, Graphics, Ngx, Utility, Video};
use crate::inventory::{Capability, FileKind, Gpu, Node, NodeLink};
use crate::root::Root;

/// The vendor as a value.
pub static NVIDIA: Vendor = Vendor {
    name: "NVIDIA",
    kind: "nvidia.com/gpu",
    anchors: &["libcuda.so", "libnvidia-ml.so"],
    libraries: LIBRARIES,
    prefixes: &["libnvidia-", "libcuda", "libnv", "libGLX_nvidia", "libEGL_nvidia", "libGLES"],
    library_directories: &[
        "/run/opengl-driver/lib",
        "/run/opengl-driver-32/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/nvidia/lib64",
        "/usr/local/nvidia/lib",
        "/opt/nvidia/current/usr/lib64",
        "/home/kubernetes/bin/nvidia/lib64",
        "/usr/lib/nvidia/tesla",
        "/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
        "/aarch64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
    ],
    library_subdirectories: &["nvidia", "vdpau", "tls"],
    private_directories: &["/usr/lib/nvidia", "/usr/lib64/nvidia", "/usr/libexec/nvidia"],
    files: FILES,
    control_nodes: &["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"],
    environment: &["NVIDIA_VISIBLE_DEVICES=void"],
    is_version,
    module_version,
    gpus,
    missing_gpu_remedy: "load the kernel module (modprobe nvidia) and make its nodes (nvidia-modprobe -c 0 -u)",
};

const fn library(stem: &'static str, serves: &'static [Capability]) -> LibraryRule {
    LibraryRule { stem, serves, place: Place::Loader, links: &[], also: &[] }
}

const fn linked(
    stem: &'static str,
    serves: &'static [Capability],
    links: &'static [&'static str],
) -> LibraryRule {
    LibraryRule { stem, serves, place: Place::Loader, links, also: &[] }
}

const fn host_tool(stem: &'static str, serves: &'static [Capability]) -> LibraryRule {
    LibraryRule { stem, serves, place: Place::HostTool(""), links: &[], also: &[] }
}

const fn x_module(stem: &'static str, directory: &'static str) -> LibraryRule {
    LibraryRule { stem, serves: &[Display], place: Place::HostTool(directory), links: &[], also: &[] }
}

static LIBRARIES: &[LibraryRule] = &[
    linked("libcuda.so", &[Compute], &["libcuda.so"]),
    library("libcudadebugger.so", &[Compute]),
    library("libnvidia-opencl.so", &[Compute]),
    library("libnvidia-ptxjitcompiler.so", &[Compute]),
    library("libnvidia-nvvm.so", &[Compute]),
    library("libnvidia-nvvm70.so", &[Compute]),
    library("libnvidia-compiler.so", &[Compute]),
    library("libnvidia-compiler-next.so", &[Compute]),
    library("libnvidia-tileiras.so", &[Compute]),
    library("libnvidia-fatbinaryloader.so", &[Compute]),
    library("libnvidia-pkcs11.so", &[Compute]),
    library("libnvidia-pkcs11-openssl3.so", &[Compute]),
    library("libnvidia-present.so", &[Graphics]),
    linked("libnvidia-ml.so", &[Utility], &["libnvidia-ml.so"]),
    library("libnvidia-cfg.so", &[Utility]),
    library("libnvidia-nscq.so", &[Utility]),
    library("libnvidia-sandboxutils.so", &[Utility]),
    library("libnvsdm.so", &[Utility]),
    linked("libnvcuvid.so", &[Video], &["libnvcuvid.so"]),
    linked("libnvidia-encode.so", &[Video], &["libnvidia-encode.so"]),
    linked("libnvidia-opticalflow.so", &[Video], &["libnvidia-opticalflow.so"]),
    linked("libnvidia-fbc.so", &[Video, Display], &["libnvidia-fbc.so"]),
    library("libnvidia-ifr.so", &[Video]),
    LibraryRule {
        stem: "libvdpau_nvidia.so",
        serves: &[Video],
        place: Place::Below("vdpau"),
        links: &["libvdpau_nvidia.so"],
        also: &[],
    },
    linked("libGLX_nvidia.so", &[Graphics], &["libGLX_indirect.so.0"]),
    library("libEGL_nvidia.so", &[Graphics]),
    library("libGLESv1_CM_nvidia.so", &[Graphics]),
    library("libGLESv2_nvidia.so", &[Graphics]),
    library("libnvidia-eglcore.so", &[Graphics]),
    library("libnvidia-glcore.so", &[Graphics]),
    library("libnvidia-glsi.so", &[Graphics]),
    library("libnvidia-tls.so", &[Graphics]),
    library("libnvidia-glvkspirv.so", &[Graphics]),
    library("libnvidia-gpucomp.so", &[Graphics, Compute]),
    library("libnvidia-rtcore.so", &[Graphics, Compute]),
    library("libnvoptix.so", &[Graphics, Compute]),
    library("libnvidia-cbl.so", &[Graphics]),
    library("libnvidia-api.so", &[Graphics]),
    library("libnvidia-vksc-core.so", &[Graphics]),
    library("libnvidia-vulkan-producer.so", &[Graphics]),
    library("libnvidia-egl-gbm.so", &[Graphics]),
    library("libnvidia-egl-wayland.so", &[Graphics]),
    library("libnvidia-egl-wayland2.so", &[Graphics]),
    library("libnvidia-egl-xcb.so", &[Graphics]),
    library("libnvidia-egl-xlib.so", &[Graphics]),
    LibraryRule {
        stem: "libnvidia-allocator.so",
        serves: &[Graphics, Compute],
        place: Place::Loader,
        links: &[],
        also: &["gbm/nvidia-drm_gbm.so"],
    },
    library("libnvidia-ngx.so", &[Ngx]),
    host_tool("libnvidia-gtk2.so", &[Display]),
    host_tool("libnvidia-gtk3.so", &[Display]),
    host_tool("libnvidia-wayland-client.so", &[Display]),
    host_tool("libnvidia-wfb.so", &[Display]),
    host_tool("libXNVCtrl.so", &[Display]),
    x_module("libglxserver_nvidia.so", "/usr/lib/xorg/modules/extensions"),
    x_module("nvidia_drv.so", "/usr/lib/xorg/modules/drivers"),
];

const PROGRAM_SOURCES: &[Source] = &[
    Source::Directory("/usr/bin"),
    Source::Directory("/usr/sbin"),
    Source::Directory("/bin"),
    Source::Directory("/sbin"),
    Source::Directory("/usr/local/bin"),
    Source::Directory("/usr/local/sbin"),
    Source::Private,
    Source::Directory("/run/current-system/sw/bin"),
    Source::Directory("/opt/bin"),
    Source::Directory("/opt/nvidia/current/usr/bin"),
    Source::Directory("/usr/local/nvidia/bin"),
    Source::Directory("/home/kubernetes/bin/nvidia/bin"),
    Source::Directory("/usr/libexec/nvidia/tesla/bin"),
    Source::Directory("/usr/lib/wsl/lib"),
];

const fn program(name: &'static str, serves: &'static [Capability]) -> FileRule {
    let (sources, destination) = (PROGRAM_SOURCES, Destination::Programs);
    FileRule { kind: FileKind::Program, name, sources, destination, serves, host_tool: false }
}

const fn host_program(name: &'static str) -> FileRule {
    let (sources, destination) = (PROGRAM_SOURCES, Destination::Programs);
    FileRule { kind: FileKind::Program, name, sources, destination, serves: &[Utility], host_tool: true }
}

const fn data(
    name: &'static str,
    sources: &'static [Source],
    directory: &'static str,
    serves: &'static [Capability],
) -> FileRule {
    let destination = Destination::Directory(directory);
    FileRule { kind: FileKind::Data, name, sources, destination, serves, host_tool: false }
}

const fn shared(kind: FileKind, name: &'static str, sources: &'static [Source]) -> FileRule {
    FileRule {
        kind,
        name,
        sources,
        destination: Destination::Same,
        serves: &[Utility, Compute],
        host_tool: false,
    }
}

static FILES: &[FileRule] = &[
    program("nvidia-smi", &[Utility]),
    program("nvidia-debugdump", &[Utility]),
    program("nvidia-persistenced", &[Utility]),
    program("nvidia-cuda-mps-control", &[Compute]),
    program("nvidia-cuda-mps-server", &[Compute]),
    program("nvidia-imex", &[Utility]),
    program("nvidia-imex-ctl", &[Utility]),
    host_program("nvidia-modprobe"),
    host_program("nvidia-powerd"),
    host_program("nvidia-settings"),
    host_program("nvidia-xconfig"),
    host_program("nv-control-dpy"),
    host_program("nvidia-bug-report.sh"),
    FileRule {
        kind: FileKind::Firmware,
        name: "*.bin*",
        sources: &[Source::Firmware("nvidia/{version}")],
        destination: Destination::Directory("/lib/firmware/nvidia/{version}"),
        serves: &[Compute, Utility],
        host_tool: false,
    },
    data(
        "nvoptix.bin",
        &[Source::Directory("/usr/share/nvidia"), Source::Libraries(""), Source::Libraries("nvidia")],
        "/usr/share/nvidia",
        &[Graphics, Compute],
    ),
    data(
        "nvidia-application-profiles-{version}-*",
        &[Source::Directory("/usr/share/nvidia"), Source::Directory("/run/opengl-driver/share/nvidia")],
        "/usr/share/nvidia",
        &[Graphics],
    ),
    FileRule {
        kind: FileKind::Data,
        name: "*.swidtag",
        sources: &[Source::Directory("/usr/share/nvidia/rim/{version}")],
        destination: Destination::Same,
        serves: &[Utility],
        host_tool: false,
    },
    data("nvidia-ngx-conf.json", &[Source::Directory("/usr/share/nvidia")], "/usr/share/nvidia", &[Ngx]),
    FileRule {
        kind: FileKind::Data,
        name: "*nvngx*.dll",
        sources: &[Source::Libraries("nvidia/wine"), Source::Libraries("wine")],
        destination: Destination::Libraries("nvidia/wine"),
        serves: &[Ngx],
        host_tool: false,
    },
    data(
        "nvidia_icd*.json",
        &[
            Source::Directory("/usr/share/vulkan/icd.d"),
            Source::Directory("/run/opengl-driver/share/vulkan/icd.d"),
        ],
        "/usr/share/vulkan/icd.d",
        &[Graphics],
    ),
    data("nvidia_icd*.json", &[Source::Directory("/etc/vulkan/icd.d")], "/etc/vulkan/icd.d", &[Graphics]),
    data(
        "nvidia_icd*.json",
        &[Source::Directory("/usr/share/vulkansc/icd.d")],
        "/usr/share/vulkansc/icd.d",
        &[Graphics],
    ),
    data(
        "nvidia_layers.json",
        &[
            Source::Directory("/usr/share/vulkan/implicit_layer.d"),
            Source::Directory("/run/opengl-driver/share/vulkan/implicit_layer.d"),
        ],
        "/usr/share/vulkan/implicit_layer.d",
        &[Graphics],
    ),
    data(
        "nvidia_layers.json",
        &[Source::Directory("/etc/vulkan/implicit_layer.d")],
        "/etc/vulkan/implicit_layer.d",
        &[Graphics],
    ),
    data(
        "*nvidia*.json",
        &[
            Source::Directory("/usr/share/glvnd/egl_vendor.d"),
            Source::Directory("/run/opengl-driver/share/glvnd/egl_vendor.d"),
        ],
        "/usr/share/glvnd/egl_vendor.d",
        &[Graphics],
    ),
    data(
        "*nvidia*.json",
        &[Source::Directory("/etc/glvnd/egl_vendor.d")],
        "/etc/glvnd/egl_vendor.d",
        &[Graphics],
    ),
    data(
        "*nvidia*.json",
        &[
            Source::Directory("/usr/share/egl/egl_external_platform.d"),
            Source::Directory("/run/opengl-driver/share/egl/egl_external_platform.d"),
        ],
        "/usr/share/egl/egl_external_platform.d",
        &[Graphics],
    ),
    data(
        "*nvidia*.json",
        &[Source::Directory("/etc/egl/egl_external_platform.d")],
        "/etc/egl/egl_external_platform.d",
        &[Graphics],
    ),
    data(
        "nvidia*.icd",
        &[
            Source::Directory("/etc/OpenCL/vendors"),
            Source::Directory("/run/opengl-driver/etc/OpenCL/vendors"),
        ],
        "/etc/OpenCL/vendors",
        &[Compute],
    ),
    FileRule {
        kind: FileKind::Data,
        name: "*nvidia*.conf",
        sources: &[
            Source::Directory("/usr/share/X11/xorg.conf.d"),
            Source::Directory("/etc/X11/xorg.conf.d"),
            Source::Directory("/etc/nvidia/current"),
        ],
        destination: Destination::Directory("/usr/share/X11/xorg.conf.d"),
        serves: &[Display],
        host_tool: true,
    },
    shared(FileKind::Socket, "socket", &[Source::Directory("/run/nvidia-persistenced")]),
    shared(FileKind::Socket, "socket", &[Source::Directory("/run/nvidia-fabricmanager")]),
    shared(FileKind::Directory, "nvidia-mps", &[Source::Directory("/tmp")]),
];

/// The largest file of /proc or /sys that is read here; the largest seen has 3 KiB.
const MAX_TEXT: u64 = 1 << 16;

const GPUS: &str = "/proc/driver/nvidia/gpus";

fn module_version(host: &Host) -> Result<Option<String>> {
    if let Some(text) = host.proc.read_text(Utf8Path::new("/proc/driver/nvidia/version"), MAX_TEXT)? {
        return Ok(parse_version(&text));
    }
    let text = host.sys.read_text(Utf8Path::new("/sys/module/nvidia/version"), MAX_TEXT)?;
    Ok(text.as_deref().and_then(parse_version))
}

/// The first word that is a version: the closed and the open module write different sentences.
fn parse_version(text: &str) -> Option<String> {
    text.split_whitespace().find(|word| is_version(word)).map(str::to_owned)
}

/// Whether a text is a driver version: `550.163.01`, `340.108`.
pub fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let [major, minor, ..] = parts.as_slice() else { return false };
    parts.len() <= 3 && parts.iter().all(digits) && major.len() >= 3 && minor.len() >= 2
}

fn gpus(host: &Host) -> Result<(Vec<Gpu>, Vec<Notice>)> {
    let mut notices = Vec::new();
    let mut addresses: Vec<String> =
        host.proc.list(Utf8Path::new(GPUS))?.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    addresses.sort_by_cached_key(|address| pci_key(address));
    let mut gpus = Vec::new();
    for (index, address) in addresses.into_iter().enumerate() {
        let path = Utf8PathBuf::from(format!("{GPUS}/{address}/information"));
        match host.proc.read_text(&path, MAX_TEXT) {
            Ok(Some(text)) => gpus.push(gpu(host, index, address, &text, &mut notices)),
            Ok(None) => {
                notices.push(Notice(format!("{}: missing; the GPU is left out", host.proc.outside(&path))))
            }
            Err(error) => notices.push(error.into()),
        }
    }
    Ok((gpus, notices))
}

/// Ordered as the bus is: by the numbers, not by the text, since a domain may have more digits.
fn pci_key(address: &str) -> Vec<u64> {
    address.split([':', '.']).map(|part| u64::from_str_radix(part, 16).unwrap_or(u64::MAX)).collect()
}

fn gpu(host: &Host, index: usize, address: String, information: &str, notices: &mut Vec<Notice>) -> Gpu {
    let field = |name: &str| {
        let line =
            information.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let mut gpu = Gpu {
        index,
        // Before the GPU is first initialised its UUID is question marks, or the line is missing.
        uuid: field("GPU UUID").filter(|uuid| uuid.starts_with("GPU-") && is_name(uuid)),
        model: field("Model"),
        device_minor: field("Device Minor").and_then(|minor| minor.parse().ok()),
        excluded: field("GPU Excluded").as_deref() == Some("Yes"),
        nodes: Vec::new(),
        links: Vec::new(),
        pci_address: address,
    };
    if !gpu.excluded
        && let Err(error) = add_nodes(host, &mut gpu, notices)
    {
        notices.push(error.into());
    }
    gpu
}

fn is_name(text: &str) -> bool {
    text.chars().all(|character| character.is_ascii_alphanumeric() || character == '-')
}

fn add_nodes(host: &Host, gpu: &mut Gpu, notices: &mut Vec<Notice>) -> Result<()> {
    let Some(minor) = gpu.device_minor else {
        let place = host.proc.outside(Utf8Path::new(GPUS)).join(&gpu.pci_address);
        notices.push(Notice(format!("{place}/information: no Device Minor; the GPU has no node")));
        return Ok(());
    };
    let path = Utf8PathBuf::from(format!("/dev/nvidia{minor}"));
    match node(host, &path)? {
        Some(node) => gpu.nodes.push(node),
        None => {
            notices.push(Notice(format!(
                "{}: no such device node, though the kernel knows GPU {} at {}; {}",
                host.dev.outside(&path),
                gpu.index,
                gpu.pci_address,
                NVIDIA.missing_gpu_remedy
            )));
            return Ok(());
        }
    }
    let directory = Utf8PathBuf::from(format!("/sys/bus/pci/devices/{}/drm", gpu.pci_address));
    for (name, _) in host.sys.list(&directory)?.unwrap_or_default() {
        gpu.nodes.extend(drm_node(host, &directory.join(name))?);
    }
    for part in ["card", "render"] {
        let path = Utf8PathBuf::from(format!("/dev/dri/by-path/pci-{}-{part}", gpu.pci_address));
        gpu.links.extend(host.dev.read_link(&path)?.map(|target| NodeLink { path, target }));
    }
    Ok(())
}

/// The node of a DRM device: its name from `uevent`, its number from `dev`, and it must be there.
fn drm_node(host: &Host, directory: &Utf8Path) -> Result<Option<Node>> {
    let (Some(uevent), Some(number)) =
        (text(&host.sys, directory, "uevent")?, text(&host.sys, directory, "dev")?)
    else {
        return Ok(None);
    };
    let Some(name) = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")) else { return Ok(None) };
    let node = node(host, &Utf8Path::new("/dev").join(name.trim_start_matches('/')))?;
    Ok(node.filter(|node| format!("{}:{}", node.major, node.minor) == number.trim()))
}

fn text(sys: &Root, directory: &Utf8Path, name: &str) -> Result<Option<String>> {
    sys.read_text(&directory.join(name), MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_both_modules_sentences() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.45.04  Release Build  (user@host)\n";
        for (text, expected) in [
            (closed, Some("550.163.01")),
            (open, Some("595.45.04")),
            ("340.108\n", Some("340.108")),
            ("gcc version 12.2.0\n", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn pci_addresses_are_ordered_as_numbers() {
        let mut addresses = ["10000:01:00.0", "0000:41:00.0", "0001:00:00.0", "0000:05:00.0"];
        addresses.sort_by_cached_key(|address| pci_key(address));
        assert_eq!(addresses, ["0000:05:00.0", "0000:41:00.0", "0001:00:00.0", "10000:01:00.0"]);
    }
}
