//! What NVIDIA_REQUIRE_* conditions ask about a host: CUDA by driver branch, architecture by PCI id, brand by model.

/// The newest CUDA version that a driver branch serves by itself (CUDA toolkit release notes, "CUDA Driver").
const CUDA: &[(u32, &str)] = &[
    (384, "9.0"),
    (390, "9.1"),
    (396, "9.2"),
    (410, "10.0"),
    (418, "10.1"),
    (440, "10.2"),
    (450, "11.0"),
    (455, "11.1"),
    (460, "11.2"),
    (465, "11.3"),
    (470, "11.4"),
    (495, "11.5"),
    (510, "11.6"),
    (515, "11.7"),
    (520, "11.8"),
    (525, "12.0"),
    (530, "12.1"),
    (535, "12.2"),
    (545, "12.3"),
    (550, "12.4"),
    (555, "12.5"),
    (560, "12.6"),
    (565, "12.7"),
    (570, "12.8"),
    (575, "12.9"),
    (580, "13.0"),
    (590, "13.1"),
];

/// A version that is known, or of which only the least is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// This one.
    Exactly(&'static str),
    /// This one or a newer.
    AtLeast(&'static str),
}

/// The CUDA version that a driver serves: that of the newest branch not newer than it.
pub fn cuda_version(driver: &str) -> Option<Known> {
    let branch: u32 = driver.split('.').next()?.parse().ok()?;
    let (of, cuda) = CUDA.iter().rev().find(|(least, _)| *least <= branch)?;
    let is_last = CUDA.last().is_some_and(|(last, _)| last == of);
    Some(if is_last && branch > *of { Known::AtLeast(cuda) } else { Known::Exactly(cuda) })
}

/// Compute capabilities by ranges of PCI device ids (pci.ids; CUDA's list of GPUs).
const ARCHITECTURES: &[(u16, u16, &str)] = &[
    (0x1340, 0x13bf, "5.0"),
    (0x13c0, 0x1436, "5.2"),
    (0x15f0, 0x15ff, "6.0"),
    (0x1617, 0x179c, "5.2"),
    (0x17c2, 0x17fd, "5.2"),
    (0x1b00, 0x1d7f, "6.1"),
    (0x1d80, 0x1dff, "7.0"),
    (0x1e00, 0x1fff, "7.5"),
    (0x20b0, 0x20ff, "8.0"),
    (0x2180, 0x21ff, "7.5"),
    (0x2200, 0x22ff, "8.6"),
    (0x2300, 0x23ff, "9.0"),
    (0x2400, 0x25ff, "8.6"),
    (0x2600, 0x28ff, "8.9"),
    (0x2900, 0x29ff, "10.0"),
    (0x2b80, 0x2dff, "12.0"),
    (0x2f00, 0x2fff, "12.0"),
];

/// The compute capability of the GPU with this PCI device id.
pub fn architecture(device: u16) -> Option<&'static str> {
    let within = |(first, last, _): &&(u16, u16, &str)| (*first..=*last).contains(&device);
    ARCHITECTURES.iter().find(within).map(|(_, _, architecture)| *architecture)
}

/// Product names whose brand is beyond doubt, the longer ones first.
const BRANDS: &[(&str, &str)] = &[
    ("GeForce RTX", "geforcertx"),
    ("GeForce", "geforce"),
    ("Quadro RTX", "quadrortx"),
    ("Quadro", "quadro"),
    ("TITAN RTX", "titanrtx"),
    ("TITAN", "titan"),
    ("Tesla", "tesla"),
    ("NVS", "nvs"),
    ("GRID", "grid"),
    ("RTX", "nvidiartx"),
];

/// Letters before the number of data centre products since 2020 (A100, L40S, GH200), whose brand is `nvidia`.
const DATA_CENTRE: &[&str] = &["A", "B", "GB", "GH", "H", "L"];

/// The brand of a model, in the words of conditions.
pub fn brand(model: &str) -> Option<&'static str> {
    let short = model.strip_prefix("NVIDIA ").unwrap_or(model);
    let known = BRANDS.iter().find(|(begin, _)| short.starts_with(begin)).map(|(_, brand)| *brand);
    known.or_else(|| (short != model && is_data_centre(short)).then_some("nvidia"))
}

fn is_data_centre(model: &str) -> bool {
    let start = model.find(|character: char| character.is_ascii_digit()).unwrap_or_default();
    model.split_at_checked(start).is_some_and(|(letters, _)| DATA_CENTRE.contains(&letters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_serves_its_branchs_cuda() {
        for (driver, expected) in [
            ("550.163.01", Some(Known::Exactly("12.4"))),
            ("551.1", Some(Known::Exactly("12.4"))),
            ("590.44.01", Some(Known::Exactly("13.1"))),
            ("700.1", Some(Known::AtLeast("13.1"))),
            ("340.108", None),
            ("", None),
        ] {
            assert_eq!(cuda_version(driver), expected, "{driver}");
        }
    }

    #[test]
    fn a_gpu_has_the_architecture_of_its_chip() {
        let cases = [
            (0x24b0, "8.6"),
            (0x2236, "8.6"),
            (0x2330, "9.0"),
            (0x1eb8, "7.5"),
            (0x1db6, "7.0"),
            (0x20b5, "8.0"),
        ];
        for (device, expected) in cases {
            assert_eq!(architecture(device), Some(expected), "{device:x}");
        }
        assert_eq!(architecture(0x0040), None);
        assert_eq!(architecture(0xffff), None);
    }

    #[test]
    fn ranges_do_not_overlap_and_branches_ascend() {
        assert!(ARCHITECTURES.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(CUDA.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_brand_is_told_only_where_the_model_tells_it() {
        for (model, expected) in [
            ("NVIDIA RTX A4000", Some("nvidiartx")),
            ("NVIDIA GeForce RTX 4090", Some("geforcertx")),
            ("GeForce GTX 1080", Some("geforce")),
            ("Tesla T4", Some("tesla")),
            ("NVIDIA A10", Some("nvidia")),
            ("NVIDIA A100-SXM4-80GB", Some("nvidia")),
            ("NVIDIA H100 80GB HBM3", Some("nvidia")),
            ("NVIDIA L40S", Some("nvidia")),
            ("NVIDIA GH200 480GB", Some("nvidia")),
            ("NVIDIA CMP 170HX", None),
            ("NVIDIA Graphics Device", None),
            ("A10", None),
            ("NVIDIA 9000", None),
            ("", None),
        ] {
            assert_eq!(brand(model), expected, "{model}");
        }
    }
}
