//! Removal held against insertion, whose opposite it is, and against tables whose strings share their tails.

use proptest::prelude::*;

use super::super::tests::{behind_old_format, build, with_extension};
use super::super::{Abi, Library, entries, insert};
use super::*;

const X86_64: u32 = 0x0303;
const OURS: &str = "/run/gpuspec/lib";

fn is_ours(path: &Utf8Path) -> bool {
    path.starts_with("/run/gpuspec")
}

fn library(name: &str) -> Library<'_> {
    Library { abi: Abi::X86_64, directory: Utf8Path::new(OURS), name }
}

fn lines(file: &[u8]) -> Vec<String> {
    entries(file).unwrap().into_iter().map(|entry| format!("{} {}", entry.name, entry.path)).collect()
}

#[test]
fn what_was_inserted_leaves_the_cache_as_it_was() {
    let plain = build(&[
        ("libz.so.1", "/lib/libz.so.1", X86_64, 0),
        ("libcuda.so.1", "/lib/libcuda.so.1", X86_64, 1 << 62),
        ("libc.so.6", "/lib/libc.so.6", X86_64, 0),
    ]);
    let ours = [library("libcuda.so.1"), library("libcuda.so"), library("libzz.so.3")];
    for file in [plain.clone(), build(&[]), with_extension(&plain, &["x86-64-v3", "x86-64-v2"], None)] {
        let extended = insert(Some(&file), &ours).unwrap().unwrap();
        assert_eq!(remove(&extended, is_ours).unwrap().unwrap(), file);
        assert_eq!(remove(&file, is_ours), Ok(None), "none of ours in it");
    }
    // The old table is not carried over by an insertion either; the rest is.
    let old = behind_old_format(&plain, 3);
    let extended = insert(Some(&old), &ours).unwrap().unwrap();
    assert_eq!(remove(&extended, is_ours).unwrap().unwrap(), plain);
}

#[test]
fn strings_that_others_share_stay() {
    // As glibc since 2.33 writes them: the name is the tail of a path, whosever it is.
    let strings = "/run/gpuspec/lib/libcuda.so.1\0/usr/lib/liba.so.2\0/run/gpuspec/lib/libb.so\0";
    let at = |text: &str| (HEADER + 5 * ENTRY + strings.find(text).unwrap()) as u32;
    let records = [
        (at("libcuda.so.1"), at("/run/gpuspec/lib/libcuda")),
        // A library of the image under our name, and one whose path is the tail of ours.
        (at("libcuda.so.1"), at("/usr/lib/liba")),
        (at("libb.so"), at("/run/gpuspec/lib/libb")),
        (at("libb.so"), at("/libb.so")),
        (at("liba.so.2"), at("/usr/lib/liba")),
    ];
    let mut file = build(&[])[..HEADER].to_vec();
    put(&mut file, 20, 5);
    put(&mut file, 24, strings.len() as u32);
    for (key, value) in records {
        push(&mut file, &Record { flags: X86_64, key, value, hwcap: 0 });
    }
    file.extend(strings.as_bytes());
    let left = remove(&file, is_ours).unwrap().unwrap();
    let expected = ["libcuda.so.1 /usr/lib/liba.so.2", "libb.so /libb.so", "liba.so.2 /usr/lib/liba.so.2"];
    assert_eq!(lines(&left), expected);
    assert_eq!(&left[HEADER + 3 * ENTRY..], b"libcuda.so.1\0/usr/lib/liba.so.2\0/libb.so\0");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn insertion_is_undone_whatever_there_is(
        image in proptest::collection::btree_set("lib[a-c]{1,2}\\.so(\\.[0-9]{1,2})?", 0..12),
        ours in proptest::collection::btree_set("lib[a-c]{1,2}\\.so(\\.[0-9]{1,2})?", 1..12),
        hwcaps in any::<bool>(),
    ) {
        let libraries: Vec<Library<'_>> = image.iter()
            .map(|name| Library { abi: Abi::X86_64, directory: Utf8Path::new("/usr/lib"), name }).collect();
        let mut file = insert(None, &libraries).unwrap().unwrap_or_else(|| build(&[]));
        if hwcaps {
            file = with_extension(&file, &["x86-64-v3"], None);
        }
        let ours: Vec<Library<'_>> = ours.iter().map(|name| library(name)).collect();
        let extended = insert(Some(&file), &ours).unwrap().unwrap();
        prop_assert_eq!(remove(&extended, is_ours).unwrap().unwrap(), file);
    }

    #[test]
    fn bytes_of_any_kind_do_no_harm(mut file in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, byte: u8) {
        let _ = remove(&file, |_| true);
        file = with_extension(&build(&[("a", "/run/gpuspec/a", X86_64, 0), ("b", "/b", X86_64, 0)]), &["x"], None);
        if let Some(place) = file.get_mut(at) {
            *place = byte;
        }
        let _ = remove(&file, is_ours);
    }
}
