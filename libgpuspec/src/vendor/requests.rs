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
    },
    Variables {
        vendor: "amd.com",
        visible: "AMD_VISIBLE_DEVICES",
        ranges: true,
        capabilities: None,
        default_capabilities: "",
        require: None,
        disable_require: "",
    },
];
