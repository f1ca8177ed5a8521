//! The note of a CUDA compatibility library as any bytes: the library is chosen or not, never a panic, and
//! a second look at it changes nothing.
//!
//! The input is a list of changes to an object with a whole note (three bytes each: where, where, what),
//! in its headers or in the note; a first byte of 255 means the note's own bytes.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use libgpuspec::Root;
use libgpuspec::apply::{CUDA_COMPAT_DIRECTORY, CudaCompat, Request, apply};

#[allow(dead_code)]
#[path = "../../support/elf.rs"]
mod elf;
#[path = "../../support/note.rs"]
mod note;

const OWNER: &str = "NVIDIA Corporation";
const NOTE: &[u8] = br#"{"Format": 1, "CUDA Version": "12.9", "Driver": [535, 550, 565], "Device": []}"#;
const LIBRARY: &str = "libcuda.so.575.1";

fn request(driver: Option<&str>) -> Request {
    let compat = CudaCompat {
        host_driver: driver.map(str::to_owned),
        host_cuda: Some("12.4".to_owned()),
        directory: CUDA_COMPAT_DIRECTORY.into(),
    };
    Request { cuda_compat: Some(compat), ..Request::default() }
}

fuzz_target!(|input: &[u8]| {
    let plain = elf::Stub::x86_64("libcuda.so.1").bytes();
    let bytes = match input.split_first() {
        Some((255, bytes)) => note::added(plain, OWNER, bytes),
        _ => changed(note::added(plain, OWNER, NOTE), input),
    };
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let directory = place.path().join(&CUDA_COMPAT_DIRECTORY[1..]);
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join(LIBRARY), bytes).expect("the library");
    let root = Root::open(place.path().to_str().expect("a name").into()).expect("a root");
    let lists = || fs::read_dir(place.path().join("etc/ld.so.conf.d")).map_or(0, Iterator::count);
    for driver in [Some("550.1"), None] {
        apply(&root, &request(driver));
        let first = lists();
        apply(&root, &request(driver));
        assert_eq!(first, lists(), "the same library, the same choice");
    }
});

fn changed(mut bytes: Vec<u8>, input: &[u8]) -> Vec<u8> {
    for change in input.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    bytes
}
