//! What conditions of NVIDIA_REQUIRE_* ask about this host, out of /proc and /sys.

use camino::Utf8Path;

use super::require::{Fact, Facts};
use crate::error::chain;
use crate::host::Host;
use crate::inventory::Gpu;
use crate::vendor::Vendor;
use crate::vendor::nvidia::requirements::{Known, architecture, brand, cuda_version};

/// The facts of a host with this vendor's driver.
pub fn facts(vendor: &Vendor, host: &Host) -> Facts {
    let driver = (vendor.module_version)(host);
    let driver = driver.map_err(|error| chain(&error)).and_then(|version| {
        version.ok_or_else(|| format!("no kernel module of the {} driver is loaded", vendor.name))
    });
    let gpus = (vendor.gpus)(host).map(|(gpus, _)| gpus).map_err(|error| chain(&error));
    let cuda = match driver.as_deref().map(cuda_version) {
        Err(reason) => Fact::Unknown(reason.clone()),
        Ok(Some(Known::Exactly(version))) => Fact::Values(vec![version.to_owned()]),
        Ok(Some(Known::AtLeast(version))) => Fact::AtLeast(version.to_owned()),
        Ok(None) => Fact::Unknown("the driver is older than the table of its CUDA versions".to_owned()),
    };
    Facts {
        driver: driver.map_or_else(Fact::Unknown, |version| Fact::Values(vec![version])),
        cuda,
        arch: of_each(&gpus, |gpu| gpu_architecture(host, gpu)),
        brand: of_each(&gpus, |gpu| {
            let model = gpu.model.as_deref().unwrap_or_default();
            brand(model)
                .ok_or_else(|| format!("no brand is known for the model `{model}` of GPU {}", gpu.index))
        }),
    }
}

fn of_each(gpus: &Result<Vec<Gpu>, String>, fact: impl Fn(&Gpu) -> Result<&'static str, String>) -> Fact {
    match gpus {
        Err(reason) => Fact::Unknown(reason.clone()),
        Ok(gpus) if gpus.is_empty() => Fact::Unknown("no GPU is known to the kernel".to_owned()),
        Ok(gpus) => match gpus.iter().map(|gpu| fact(gpu).map(str::to_owned)).collect() {
            Ok(values) => Fact::Values(values),
            Err(reason) => Fact::Unknown(reason),
        },
    }
}

fn gpu_architecture(host: &Host, gpu: &Gpu) -> Result<&'static str, String> {
    let path = Utf8Path::new("/sys/bus/pci/devices").join(&gpu.pci_address).join("device");
    let text = host.sys.read_text(&path, 64).map_err(|error| chain(&error))?.unwrap_or_default();
    let id = text.trim().strip_prefix("0x").and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let id = id.ok_or_else(|| format!("{}: no PCI device id", host.sys.outside(&path)))?;
    architecture(id).ok_or_else(|| format!("the architecture of PCI device {id:#06x} is not known"))
}
