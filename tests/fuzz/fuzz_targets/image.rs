//! What an image can put into the files that the hook reads, as any bytes: never a panic, and a second
//! run over what the first has left changes nothing.
#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use libgpuspec::Root;
use libgpuspec::apply::{CudaCompat, Request, apply};

#[allow(dead_code)]
#[path = "../../support/elf.rs"]
mod elf;
#[path = "../../support/note.rs"]
mod note;

const FILES: [&str; 6] = [
    "etc/ld.so.conf",
    "etc/ld.so.cache",
    "etc/ld.so.conf.d/00-gpuspec-cuda-compat.conf",
    "etc/ld-musl-x86_64.path",
    "usr/local/cuda/compat/libcuda.so.575.1",
    "usr/lib/x/libone.so.1.2",
];
const LOADER: &str = "lib/ld-musl-x86_64.so.1";

fn request() -> Request {
    Request {
        libraries: vec!["x86-64:/usr/lib/x:libcuda.so.1".parse().expect("libraries")],
        folders: vec!["/usr/lib/x".into()],
        cuda_compat: Some(CudaCompat {
            host_driver: Some("550.1".to_owned()),
            host_cuda: Some("12.4".to_owned()),
            directory: "/usr/local/cuda/compat".into(),
        }),
        ..Request::default()
    }
}

/// Every byte below a directory, with the names.
fn tree(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries
        .flat_map(|path| match path.symlink_metadata().expect("metadata") {
            kind if kind.is_dir() => tree(&path),
            kind if kind.is_symlink() => vec![(path.display().to_string(), Vec::new())],
            _ => vec![(path.display().to_string(), fs::read(&path).expect("a file"))],
        })
        .collect();
    files.sort();
    files
}

fuzz_target!(|bytes: &[u8]| {
    // Which file the bytes are, and whether they are a library's note, is the first one's choice.
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let place = tempfile::tempdir_in("/dev/shm").expect("a directory");
    for name in FILES.iter().chain([&LOADER]) {
        fs::create_dir_all(place.path().join(name).parent().expect("a parent")).expect("a directory");
    }
    let file = FILES[usize::from(*choice) % FILES.len()];
    let bytes = match choice & 0x40 {
        0 => bytes.to_vec(),
        _ => note::added(elf::Stub::x86_64("libcuda.so.1").bytes(), "NVIDIA Corporation", bytes),
    };
    fs::write(place.path().join(file), bytes).expect("the file");
    if choice & 0x80 != 0 {
        fs::write(place.path().join(LOADER), "").expect("the loader");
    }
    let root = Root::open(place.path().to_str().expect("a name").into()).expect("a root");
    apply(&root, &request());
    let first = tree(place.path());
    apply(&root, &request());
    assert!(first == tree(place.path()), "a second run changes nothing");
});
