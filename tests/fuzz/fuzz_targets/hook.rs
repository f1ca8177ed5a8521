//! What a runtime and a spec tell the hook, as any bytes: refused or understood, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libgpuspec::apply::container::State;
use libgpuspec::apply::{Libraries, Link};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(state) = State::parse(bytes) {
        assert!(state.bundle.is_absolute());
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(link) = text.parse::<Link>() {
        assert!(link.directory.starts_with('/') && !link.name.is_empty() && !link.name.contains('/'));
    }
    if let Ok(libraries) = text.parse::<Libraries>() {
        assert!(libraries.directory.is_absolute() && !libraries.names.is_empty());
    }
});
