//! Where in the tree a path of a container goes, by the directories that programs search.

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

/// A directory of data that programs find by a variable.
#[derive(Debug)]
pub(super) struct Searched {
    /// Where containers have it.
    from: &'static [&'static str],
    /// Where the tree has it.
    pub(super) to: &'static str,
    /// The variable.
    pub(super) variable: &'static str,
    /// Its value; what programs search without it stands in it too, so that nothing of the machine's own is hidden.
    pub(super) value: &'static str,
}

/// Vulkan's loader searches XDG_DATA_DIRS in every version; its own variables hide other drivers, or are too new.
pub(super) static SEARCHED: [Searched; 4] = [
    Searched {
        from: &["/usr/share/vulkan", "/usr/local/share/vulkan", "/etc/vulkan"],
        to: "share/vulkan",
        variable: "XDG_DATA_DIRS",
        value: "/usr/local/share:/usr/share:/run/gpuspec/share",
    },
    Searched {
        from: &["/usr/share/glvnd/egl_vendor.d", "/etc/glvnd/egl_vendor.d"],
        to: "share/glvnd/egl_vendor.d",
        variable: "__EGL_VENDOR_LIBRARY_DIRS",
        value: "/run/gpuspec/share/glvnd/egl_vendor.d:/etc/glvnd/egl_vendor.d:/usr/share/glvnd/egl_vendor.d",
    },
    Searched {
        from: &["/usr/share/egl/egl_external_platform.d", "/etc/egl/egl_external_platform.d"],
        to: "share/egl/egl_external_platform.d",
        variable: "__EGL_EXTERNAL_PLATFORM_CONFIG_DIRS",
        value: "/run/gpuspec/share/egl/egl_external_platform.d:/etc/egl/egl_external_platform.d:/usr/share/egl/egl_external_platform.d",
    },
    // The one that cannot hold two directories: the machine's own drivers are linked into the tree's.
    Searched {
        from: &["/etc/OpenCL/vendors"],
        to: "share/OpenCL/vendors",
        variable: "OCL_ICD_VENDORS",
        value: "/run/gpuspec/share/OpenCL/vendors",
    },
];

/// Subdirectories of a library directory whose modules programs find by a variable.
pub(super) static MODULES: [(&str, &str); 2] = [("gbm", "GBM_BACKENDS_PATH"), ("dri", "LIBVA_DRIVERS_PATH")];

/// File systems that nspawn makes anew with every start: a bind there leaves nothing in the machine's tree.
const VOLATILE: [&str; 3] = ["/run", "/tmp", "/dev"];

/// What nothing of a spec is bound over.
const KERNEL: [&str; 2] = ["/proc", "/sys"];

const FIRMWARE: [&str; 2] = ["/lib/firmware", "/usr/lib/firmware"];

/// The place of data that programs find by a variable.
pub(super) fn searched(path: &Utf8Path) -> Option<Utf8PathBuf> {
    SEARCHED.iter().find_map(|one| {
        let below = one.from.iter().find_map(|from| path.strip_prefix(from).ok())?;
        // Joining nothing would leave a slash at the end.
        Some(if below.as_str().is_empty() { one.to.into() } else { Utf8Path::new(one.to).join(below) })
    })
}

/// The directory of modules that a path lies in.
pub(super) fn module(path: &Utf8Path) -> Option<&'static str> {
    let parent = path.parent()?.file_name()?;
    MODULES.iter().find(|(directory, _)| *directory == parent).map(|(directory, _)| *directory)
}

/// The place of what nothing finds by itself: the tree read as a /usr.
pub(super) fn prefixed(path: &Utf8Path) -> Utf8PathBuf {
    let below = |prefix: &&str| path.strip_prefix(prefix).ok().filter(|below| !below.as_str().is_empty());
    ["/usr/local", "/usr", "/"].iter().find_map(below).unwrap_or(path).to_owned()
}

/// Where a bind leaves nothing; /var/run is everywhere a link to /run.
pub(super) fn volatile(path: &Utf8Path) -> Option<Utf8PathBuf> {
    let path =
        path.strip_prefix("/var/run").map_or(path.to_owned(), |below| Utf8Path::new("/run").join(below));
    VOLATILE.iter().any(|top| path.starts_with(top) && path != *top).then_some(path)
}

pub(super) fn is_firmware(path: &Utf8Path) -> bool {
    FIRMWARE.iter().any(|top| path.starts_with(top))
}

pub(super) fn is_kernels(path: &Utf8Path) -> bool {
    KERNEL.iter().any(|top| path.starts_with(top))
}

/// Whether a path lies in a directory of programs.
pub(super) fn is_program(path: &Utf8Path) -> bool {
    path.parent().and_then(Utf8Path::file_name).is_some_and(|parent| matches!(parent, "bin" | "sbin"))
}

/// Where a link leads by its text alone.
pub(super) fn led_to(directory: &Utf8Path, text: &Utf8Path) -> Utf8PathBuf {
    let mut led = Utf8PathBuf::from("/");
    for component in directory.join(text).components() {
        match component {
            Utf8Component::ParentDir => drop(led.pop()),
            Utf8Component::Normal(name) => led.push(name),
            Utf8Component::Prefix(_) | Utf8Component::RootDir | Utf8Component::CurDir => {}
        }
    }
    led
}

/// The text of a link of the tree that leads to another name of it.
pub(super) fn relative(from: &Utf8Path, to: &Utf8Path) -> Utf8PathBuf {
    let directory = from.parent().unwrap_or(Utf8Path::new(""));
    let shared = directory.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = directory.components().skip(shared).map(|_| "..");
    up.chain(to.components().skip(shared).map(|component| component.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_their_texts_say() {
        let cases = [
            ("/usr/lib", "libcuda.so.1", "/usr/lib/libcuda.so.1"),
            ("/usr/lib", "vdpau/x", "/usr/lib/vdpau/x"),
            ("/usr/lib/gbm", "../x", "/usr/lib/x"),
            ("/usr/lib", "/opt/x", "/opt/x"),
            ("/a", "../../../x", "/x"),
            ("/a", "./x", "/a/x"),
        ];
        for (directory, text, expected) in cases {
            assert_eq!(led_to(directory.into(), text.into()), expected, "{directory} {text}");
        }
    }

    #[test]
    fn links_of_the_tree_are_relative() {
        let cases = [
            ("lib/a", "lib/b", "b"),
            ("lib/gbm/a", "lib/b", "../b"),
            ("lib/a", "lib/gbm/b", "gbm/b"),
            ("a", "lib/b", "lib/b"),
            ("etc/OpenCL/vendors", "share/OpenCL/vendors", "../../share/OpenCL/vendors"),
        ];
        for (from, to, expected) in cases {
            assert_eq!(relative(from.into(), to.into()), expected, "{from} {to}");
        }
    }

    #[test]
    fn every_path_has_its_place() {
        let cases = [
            ("/usr/share/vulkan/icd.d/nvidia_icd.json", Some("share/vulkan/icd.d/nvidia_icd.json")),
            ("/etc/vulkan/icd.d", Some("share/vulkan/icd.d")),
            ("/etc/OpenCL/vendors", Some("share/OpenCL/vendors")),
            ("/usr/share/vulkanx/a", None),
            ("/usr/share/nvidia/nvoptix.bin", None),
        ];
        for (path, expected) in cases {
            assert_eq!(searched(path.into()).as_deref().map(Utf8Path::as_str), expected, "{path}");
        }
        let cases = [
            ("/usr/share/nvidia/x", "share/nvidia/x"),
            ("/opt/x", "opt/x"),
            ("/usr/local/x", "x"),
            ("/usr", "usr"),
        ];
        for (path, expected) in cases {
            assert_eq!(prefixed(path.into()), expected, "{path}");
        }
        let cases = [
            ("/run/x/socket", Some("/run/x/socket")),
            ("/var/run/x", Some("/run/x")),
            ("/run", None),
            ("/runx/a", None),
        ];
        for (path, expected) in cases {
            assert_eq!(volatile(path.into()).as_deref().map(Utf8Path::as_str), expected, "{path}");
        }
    }
}
