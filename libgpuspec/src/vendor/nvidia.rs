//! NVIDIA: what the driver is made of. Adding a library is adding a line.

mod kernel;
pub mod requirements;

use super::{Destination, FileRule, LibraryRule, OptionalRule, Place, Source, Vendor};
use crate::inventory::Capability::{Compute, Display, Graphics, Ngx, Utility, Video};
use crate::inventory::{Capability, FileKind};
use crate::root::Kind;

/// The vendor as a value.
pub static NVIDIA: Vendor = Vendor {
    name: "NVIDIA",
    kind: "nvidia.com/gpu",
    anchors: &["libcuda.so", "libnvidia-ml.so"],
    libraries: LIBRARIES,
    prefixes: &[
        "libnvidia-",
        "libcuda.so",
        "libcudadebugger.so",
        "libnvcuvid.so",
        "libnvoptix.so",
        "libnvsdm.so",
        "libGLX_nvidia.so",
        "libEGL_nvidia.so",
        "libGLESv1_CM_nvidia.so",
        "libGLESv2_nvidia.so",
        "libvdpau_nvidia.so",
    ],
    library_directories: &[
        "/run/opengl-driver/lib",
        "/run/opengl-driver-32/lib",
        "/usr/local/nvidia/lib64",
        "/usr/local/nvidia/lib",
        "/opt/nvidia/current/usr/lib64",
        "/home/kubernetes/bin/nvidia/lib64",
        "/usr/lib/nvidia/tesla",
        "/x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
        "/aarch64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
        // Talos
        "/usr/local/glibc/usr/lib",
        "/usr/lib/xorg/modules/drivers",
        "/usr/lib/xorg/modules/extensions",
        "/usr/lib64/xorg/modules/drivers",
        "/usr/lib64/xorg/modules/extensions",
    ],
    library_subdirectories: &["nvidia", "vdpau", "tls"],
    private_directories: &["/usr/lib/nvidia", "/usr/lib64/nvidia", "/usr/libexec/nvidia"],
    files: FILES,
    optional: OPTIONAL,
    control_nodes: &["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"],
    environment: &["NVIDIA_VISIBLE_DEVICES=void"],
    hook_flags: &["--cuda-compat", "{version}", "--hide-device-files", "--application-profile"],
    is_version: kernel::is_version,
    module_version: kernel::module_version,
    gpus: kernel::gpus,
    gpu_directory: kernel::GPUS,
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
    LibraryRule { stem, serves, place: Place::HostTool, links: &[], also: &[] }
}

const fn x_module(stem: &'static str, sort: &'static str) -> LibraryRule {
    LibraryRule { stem, serves: &[Display], place: Place::XModule(sort), links: &[], also: &[] }
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
    x_module("libglxserver_nvidia.so", "extensions"),
    x_module("nvidia_drv.so", "drivers"),
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
        &[
            Source::Directory("/usr/share/nvidia"),
            Source::Directory("/run/opengl-driver/share/nvidia"),
            Source::Libraries(""),
            Source::Libraries("nvidia"),
        ],
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
    data(
        "nvidia-ngx-conf.json",
        &[Source::Directory("/usr/share/nvidia"), Source::Directory("/run/opengl-driver/share/nvidia")],
        "/usr/share/nvidia",
        &[Ngx],
    ),
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
];

const fn optional(kind: Kind, path: &'static str) -> OptionalRule {
    OptionalRule { kind, path, serves: &[Utility, Compute] }
}

static OPTIONAL: &[OptionalRule] = &[
    optional(Kind::Socket, "/run/nvidia-persistenced/socket"),
    optional(Kind::Socket, "/run/nvidia-fabricmanager/socket"),
    optional(Kind::Directory, "/tmp/nvidia-mps"),
];
