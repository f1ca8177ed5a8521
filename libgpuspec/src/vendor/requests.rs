//! The variables by which an image or its user asks for a vendor's GPUs, as the vendors' own runtimes read them.

/// One vendor's variables.
#[derive(Debug)]
pub struct Variables {
    /// The vendor half of its CDI kinds.
    pub vendor: &'static str,
    /// Which GPUs: `all`, `none`, `void`, or a list of indices and UUIDs.
    pub visible: &'static str,
    /// Whether `0-3` in that list means four of them.
    pub ranges: bool,
    /// What the driver shall be able to do, where the vendor has such a variable.
    pub capabilities: Option<&'static str>,
    /// What that means where it is not set, or empty.
    pub default_capabilities: &'static str,
    /// How the names of conditions on the host begin, where the vendor has them.
    pub require: Option<&'static str>,
    /// The variable that turns these conditions off.
    pub disable_require: &'static str,
    /// The variable with a CUDA version, and the one whose condition counts instead.
    pub version: Option<(&'static str, &'static str)>,
    /// Variables that ask for more than GPUs.
    pub more: &'static [More],
}

/// A variable that asks for something that no spec of cdi-gen has.
#[derive(Debug)]
pub struct More {
    /// The variable.
    pub name: &'static str,
    /// The one value that asks for it; `None` where every value does.
    pub word: Option<&'static str>,
    /// What it asks for.
    pub what: &'static str,
}

const fn enabled(name: &'static str, what: &'static str) -> More {
    More { name, word: Some("enabled"), what }
}

const fn any(name: &'static str, what: &'static str) -> More {
    More { name, word: None, what }
}

/// All vendors that have such variables.
pub static VARIABLES: &[Variables] = &[
    Variables {
        vendor: "nvidia.com",
        visible: "NVIDIA_VISIBLE_DEVICES",
        ranges: false,
        capabilities: Some("NVIDIA_DRIVER_CAPABILITIES"),
        default_capabilities: "utility,compute",
        require: Some("NVIDIA_REQUIRE_"),
        disable_require: "NVIDIA_DISABLE_REQUIRE",
        version: Some(("CUDA_VERSION", "NVIDIA_REQUIRE_CUDA")),
        more: &[
            any("NVIDIA_MIG_CONFIG_DEVICES", "the right to configure MIG"),
            any("NVIDIA_MIG_MONITOR_DEVICES", "the right to monitor MIG"),
            any("NVIDIA_IMEX_CHANNELS", "nodes of IMEX channels"),
            enabled("NVIDIA_GDS", "nodes of GPUDirect Storage"),
            enabled("NVIDIA_GDRCOPY", "the node of GDRCopy"),
            enabled("NVIDIA_MOFED", "nodes of InfiniBand"),
            enabled("NVIDIA_NVSWITCH", "nodes of NVSwitches"),
        ],
    },
    Variables {
        vendor: "amd.com",
        visible: "AMD_VISIBLE_DEVICES",
        ranges: true,
        capabilities: None,
        default_capabilities: "",
        require: None,
        disable_require: "",
        version: None,
        more: &[],
    },
];
