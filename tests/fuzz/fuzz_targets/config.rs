//! A bundle's config.json as any bytes: a root or an error, never a panic.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use libgpuspec::apply::container::State;

fuzz_target!(|bytes: &[u8]| {
    let bundle = tempfile::tempdir_in("/dev/shm").expect("a directory");
    fs::write(bundle.path().join("config.json"), bytes).expect("the file");
    let bundle = bundle.path().to_str().expect("a name");
    let state = State { bundle: bundle.into(), root: None };
    if let Ok(place) = state.place() {
        assert!(place.path().is_absolute() && place.path() != bundle);
    }
});
