//! Insertion held against a model that sorts, and against caches with all that glibc can put into one.

use proptest::prelude::*;

use super::super::tests::{behind_old_format, build, with_extension};
use super::super::{Entry, entries, number};
use super::*;

const X86_64: u32 = 0x0303;
const I386: u32 = 0x0003;

fn library(abi: Abi, directory: &'static str, name: &'static str) -> Library<'static> {
    Library { abi, directory: Utf8Path::new(directory), name }
}

fn lines(file: &[u8]) -> Vec<String> {
    let line = |entry: Entry| format!("{} {} {} {}", entry.name, entry.abi, entry.path, entry.hwcap);
    entries(file).unwrap().into_iter().map(line).collect()
}

/// Inserts twice: the second time must find nothing to do.
fn inserted(file: Option<&[u8]>, libraries: &[Library<'_>]) -> Vec<String> {
    let new = insert(file, libraries).unwrap().expect("something to do");
    assert_eq!(insert(Some(&new), libraries), Ok(None), "a second run");
    lines(&new)
}

const CUDA: &str = "libcuda.so.1";

#[test]
fn no_cache_becomes_a_cache_of_ours() {
    let ours = [library(Abi::X86_64, "/usr/lib64", CUDA), library(Abi::X86_64, "/usr/lib64", "libcuda.so")];
    let expected =
        ["libcuda.so.1 x86-64 /usr/lib64/libcuda.so.1 0", "libcuda.so x86-64 /usr/lib64/libcuda.so 0"];
    assert_eq!(inserted(None, &ours), expected);
    assert_eq!(insert(None, &[]), Ok(None));
}

#[test]
fn ours_stand_where_the_search_expects_them() {
    let image = build(&[
        ("libz.so.1", "/lib/libz.so.1", X86_64, 0),
        ("libx.so.10", "/lib/libx.so.10", X86_64, 0),
        ("libx.so.9", "/lib/libx.so.9", X86_64, 0),
        ("libc.so.6", "/lib/libc.so.6", X86_64, 0),
    ]);
    let names = ["libx.so.11", "libx.so.2", "libzz.so", "liba.so"];
    let ours = names.map(|name| library(Abi::X86_64, "/d", name));
    let found = inserted(Some(&image), &ours);
    let names: Vec<_> = found.iter().map(|line| line.split(' ').next().unwrap()).collect();
    let expected = [
        "libzz.so",
        "libz.so.1",
        "libx.so.11",
        "libx.so.10",
        "libx.so.9",
        "libx.so.2",
        "libc.so.6",
        "liba.so",
    ];
    assert_eq!(names, expected);
}

#[test]
fn ours_precede_the_images_of_their_abi_only() {
    let image = build(&[
        (CUDA, "/hwcaps/libcuda.so.1", X86_64, 1 << 62),
        (CUDA, "/image/libcuda.so.1", X86_64, 0),
        (CUDA, "/image32/libcuda.so.1", I386, 0),
    ]);
    let ours = [library(Abi::I386, "/ours32", CUDA), library(Abi::X86_64, "/ours", CUDA)];
    let expected = [
        "libcuda.so.1 x86-64 /ours/libcuda.so.1 0",
        "libcuda.so.1 x86-64 /hwcaps/libcuda.so.1 4611686018427387904",
        "libcuda.so.1 x86-64 /image/libcuda.so.1 0",
        "libcuda.so.1 i386 /ours32/libcuda.so.1 0",
        "libcuda.so.1 i386 /image32/libcuda.so.1 0",
    ];
    assert_eq!(inserted(Some(&image), &ours), expected);
}

#[test]
fn an_entry_of_ours_further_down_moves_to_the_front() {
    let image = build(&[(CUDA, "/image/libcuda.so.1", X86_64, 0), (CUDA, "/ours/libcuda.so.1", X86_64, 0)]);
    let expected = ["libcuda.so.1 x86-64 /ours/libcuda.so.1 0", "libcuda.so.1 x86-64 /image/libcuda.so.1 0"];
    assert_eq!(inserted(Some(&image), &[library(Abi::X86_64, "/ours", CUDA)]), expected);
}

#[test]
fn what_the_cache_says_already_is_left_alone() {
    let image = build(&[(CUDA, "/ours/libcuda.so.1", X86_64, 0), (CUDA, "/image/libcuda.so.1", X86_64, 0)]);
    let ours = [library(Abi::X86_64, "/ours", CUDA); 2];
    assert_eq!(insert(Some(&image), &ours), Ok(None));
    assert_eq!(insert(Some(&behind_old_format(&image, 3)), &ours), Ok(None));
}

#[test]
fn an_old_table_is_not_carried_over() {
    let image = behind_old_format(&build(&[("liba.so", "/a/liba.so", X86_64, 0)]), 3);
    let ours = [library(Abi::X86_64, "/ours", CUDA)];
    let new = insert(Some(&image), &ours).unwrap().unwrap();
    assert!(new.starts_with(MAGIC));
    assert_eq!(lines(&new).len(), 2);
}

#[test]
fn the_extension_block_moves_with_the_strings() {
    let image = [("liba.so", "/a/liba.so", X86_64, 0), ("libB.so", "/odd", X86_64, 1)];
    for old_entries in [None, Some(0), Some(3)] {
        let file = with_extension(&build(&image), &["x86-64-v3", "x86-64-v2"], old_entries);
        let new = insert(Some(&file), &[library(Abi::X86_64, "/ours", CUDA)]).unwrap().unwrap();
        let expected = with_extension_texts(&new);
        assert_eq!(
            expected,
            ("made by a test".to_owned(), vec!["x86-64-v3".to_owned(), "x86-64-v2".to_owned()])
        );
        assert_eq!(lines(&new).len(), 3);
        assert_eq!(number(&new, 32).unwrap() % 4, 0);
    }
}

/// The generator and the hwcaps names, read as the loader does: by absolute offsets.
fn with_extension_texts(file: &[u8]) -> (String, Vec<String>) {
    let block = number(file, 32).unwrap();
    let section = |index: usize| block + 8 + index * 16;
    let data = |index: usize| {
        let (offset, size) =
            (number(file, section(index) + 8).unwrap(), number(file, section(index) + 12).unwrap());
        &file[offset..offset + size]
    };
    let name = |offset: usize| {
        let rest = &file[offset..];
        String::from_utf8(rest[..rest.iter().position(|byte| *byte == 0).unwrap()].to_vec()).unwrap()
    };
    let names = (0..data(1).len()).step_by(4).map(|at| name(number(data(1), at).unwrap())).collect();
    (String::from_utf8(data(0).to_vec()).unwrap(), names)
}

#[test]
fn hostile_extension_blocks_are_errors() {
    let file = with_extension(&build(&[("liba.so", "/a/liba.so", X86_64, 0)]), &["v3"], None);
    let block = number(&file, 32).unwrap();
    // magic, count, a section's offset and size, a hwcaps name
    let name = number(&file, block + 8 + 16 + 8).unwrap();
    for at in [block, block + 4, block + 16, block + 20, block + 32, block + 36, name] {
        for hostile in [u32::MAX, 1 << 31, 4_000_000, 4_000] {
            let mut file = file.clone();
            file[at..at + 4].copy_from_slice(&hostile.to_ne_bytes());
            let result = insert(Some(&file), &[library(Abi::X86_64, "/ours", CUDA)]);
            assert!(result.is_err(), "{hostile:#x} at {at}");
        }
    }
}

#[test]
fn a_cache_cut_anywhere_is_an_error_or_whole() {
    let file = with_extension(&build(&[("liba.so", "/a/liba.so", X86_64, 0)]), &["v3"], None);
    let ours = [library(Abi::X86_64, "/ours", CUDA)];
    assert!(insert(Some(&file), &ours).is_ok());
    for length in 0..file.len() {
        assert!(insert(Some(&file[..length]), &ours).is_err(), "cut at {length}");
    }
}

const NAMES: [&str; 9] = [
    "liba.so",
    "liba.so.1",
    "liba.so.01",
    "liba.so.2",
    "liba.so.10",
    "libA.so",
    "libb.so.1",
    "lib1.so",
    "libé.so",
];
const DIRECTORIES: [&str; 3] = ["/usr/lib", "/usr/lib64", "/opt"];

fn libraries() -> impl Strategy<Value = Vec<Library<'static>>> {
    let one = (0..2_usize, 0..DIRECTORIES.len(), 0..NAMES.len());
    let one = one.prop_map(|(abi, directory, name)| {
        library([Abi::X86_64, Abi::I386][abi], DIRECTORIES[directory], NAMES[name])
    });
    proptest::collection::vec(one, 0..12)
}

/// As `ldconfig` would order a set of entries; `sort_by` is stable, so the first given come first.
fn model(ours: &[Library<'_>], image: &[Library<'_>]) -> Vec<(String, u32)> {
    let mut all: Vec<Library<'_>> = Vec::new();
    for library in ours.iter().chain(image) {
        if !all.contains(library) {
            all.push(*library);
        }
    }
    all.sort_by(|a, b| b.order(a.name.as_bytes(), a.abi.flags()));
    all.iter()
        .map(|library| (format!("{}/{}", library.directory, library.name), library.abi.flags()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn insertion_is_what_sorting_would_be(ours in libraries(), image in libraries()) {
        let image = model(&[], &image);
        let named: Vec<_> = image
            .iter()
            .map(|(path, flags)| (path.rsplit('/').next().unwrap(), path.as_str(), *flags, 0))
            .collect();
        let file = build(&named);
        let image: Vec<_> = image
            .iter()
            .map(|(path, flags)| {
                let (directory, name) = path.rsplit_once('/').unwrap();
                Library { abi: Abi::from_flags(*flags), directory: Utf8Path::new(directory), name }
            })
            .collect();
        let new = insert(Some(&file), &ours).unwrap();
        let found: Vec<_> = entries(new.as_ref().unwrap_or(&file))
            .unwrap()
            .into_iter()
            .map(|entry| (entry.path.into_string(), entry.abi.flags()))
            .collect();
        prop_assert_eq!(&found, &model(&ours, &image));
        let again = insert(Some(new.as_ref().unwrap_or(&file)), &ours).unwrap();
        prop_assert_eq!(again, None);
        prop_assert_eq!(new.is_none(), found == model(&[], &image));
    }

    #[test]
    fn bytes_at_random_do_no_harm(mut file in Just(with_extension(&build(&[("liba.so", "/a/liba.so", X86_64, 0), ("libA.so", "/a/libA.so", I386, 0)]), &["v3", "v2"], Some(1))),
        changes in proptest::collection::vec((0..400_usize, any::<u8>()), 1..6))
    {
        for (at, byte) in changes {
            let length = file.len();
            file[at % length] = byte;
        }
        let _ = entries(&file);
        if let Ok(Some(new)) = insert(Some(&file), &[library(Abi::X86_64, "/ours", CUDA)]) {
            prop_assert!(new.len() < file.len() + 200);
        }
    }
}
