//! A spec of any bytes: refused with a reason, or read and written back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libgpuspec::cdi::{self, Reader, Version, minimum_version, validate};

fuzz_target!(|bytes: &[u8]| {
    let spec = match cdi::read(bytes) {
        Ok(spec) => spec,
        Err(violations) => {
            assert!(!violations.is_empty());
            return violations.iter().for_each(|violation| drop(violation.to_string()));
        }
    };
    assert!(validate(&spec).is_empty());
    assert!(spec.version.parse::<Version>().is_ok_and(|version| version >= minimum_version(&spec)));
    for text in [cdi::yaml::to_string(&spec).unwrap(), cdi::json::to_string(&spec).unwrap()] {
        match cdi::read(text.as_bytes()) {
            Ok(again) => assert_eq!(again, spec),
            // What aliases made small may be too large when written out.
            Err(violations) => assert!(text.len() > cdi::MAX_BYTES || violations.len() == 1, "{violations:?}"),
        }
    }
    assert!(cdi::compare(&spec, &spec).is_empty());
    for version in Version::ALL {
        if let Ok((fitted, _)) = cdi::downlevel(&spec, Reader::from(version)) {
            assert!(validate(&fitted).is_empty(), "{version}");
        }
    }
});
