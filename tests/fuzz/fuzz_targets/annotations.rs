//! Annotations and names of any text: refused, or as the rules say.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use libgpuspec::cdi::{Consumer, QualifiedName, add_request, requested};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(name) = text.parse::<QualifiedName>() {
        assert_eq!(format!("{}/{}={}", name.vendor(), name.class(), name.device()), text);
        assert!(!text.contains(','), "it could not stand in an annotation");
    }
    let _ = text.parse::<Consumer>();
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let annotations: BTreeMap<String, String> =
        pairs.map(|(key, value)| (format!("cdi.k8s.io/{key}"), value.to_owned())).collect();
    if let Ok(devices) = requested(&annotations) {
        assert!(devices.iter().all(|device| device.parse::<QualifiedName>().is_ok()));
    }
    let (plugin, device) = text.split_once('\n').unwrap_or((text, text));
    let mut made = BTreeMap::new();
    if add_request(&mut made, plugin, device, &["v.com/c=0"]).is_ok() {
        let (key, _) = made.first_key_value().unwrap();
        assert!(key.len() <= 11 + 63 && key.is_ascii());
        assert_eq!(requested(&made).unwrap(), ["v.com/c=0"]);
    }
});
