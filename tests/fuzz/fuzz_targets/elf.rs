//! An ELF object of any bytes: inspected within bounds, or refused.
//!
//! The input is a list of changes to a whole object (three bytes each: where, where, what), since bytes
//! at random would hardly ever get past the header; a first byte of 255 means the bytes themselves.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use libgpuspec::elf::{inspect, mentioned_libraries, notes};
use libgpuspec::root::Opened;

#[allow(dead_code)]
#[path = "../../support/elf.rs"]
mod stub;

fuzz_target!(|input: &[u8]| {
    let bytes = match input.split_first() {
        Some((255, bytes)) => bytes.to_vec(),
        _ => changed(input),
    };
    let mut file = tempfile::tempfile_in("/dev/shm").or_else(|_| tempfile::tempfile()).unwrap();
    file.write_all(&bytes).unwrap();
    let opened = Opened { file, size: bytes.len() as u64 };
    if let Ok(object) = inspect(&opened) {
        let strings = object.needed.iter().chain(&object.soname);
        assert!(strings.into_iter().all(|name| name.len() <= bytes.len()));
        let _ = object.glibc_floor();
    }
    let _ = mentioned_libraries(&opened);
    if let Ok(notes) = notes(&opened, "GNU") {
        assert!(notes.iter().all(|note| note.len() <= bytes.len()));
    }
});

fn changed(input: &[u8]) -> Vec<u8> {
    let mut object = stub::Stub::x86_64("libcuda.so.1");
    object.needed = &["libc.so.6", "libdl.so.2"];
    let mut bytes = object.bytes();
    for change in input.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}
