//! An ELF object of any bytes: inspected within bounds, or refused.
//!
//! The input is a list of changes to a whole object (three bytes each: where, where, what), since bytes
//! at random would hardly ever get past the header; a first byte of 255 means the bytes themselves.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use libgpuspec::elf::{defined_versions, inspect, interpreter, mentioned_libraries, notes};
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
    for name in defined_versions(&opened).into_iter().flatten().chain(interpreter(&opened).ok().flatten()) {
        assert!(name.len() <= bytes.len());
    }
    if let Ok(notes) = notes(&opened, "GNU") {
        assert!(notes.iter().all(|note| note.len() <= bytes.len()));
    }
});

fn changed(input: &[u8]) -> Vec<u8> {
    let mut object = stub::Stub::x86_64("libcuda.so.1");
    object.needed = &["libc.so.6", "libdl.so.2"];
    object.interpreter = "/lib64/ld-linux-x86-64.so.2";
    object.defines = &["GLIBC_2.2.5", "GLIBC_2.36"];
    object.wants = &["GLIBC_2.34", "GLIBC_ABI_DT_RELR"];
    let mut bytes = object.bytes();
    for change in input.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}
