//! A loader cache of any bytes: read without panic, and if it is extended, nothing of it is lost.
//!
//! The input is a list of changes to a whole cache (three bytes each: where, where, what), since bytes
//! at random would hardly ever get past the first line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use libgpuspec::ldcache::{self, Abi, Library};

fn library(directory: &'static str, name: &'static str) -> Library<'static> {
    Library { abi: Abi::X86_64, directory: directory.into(), name }
}

/// Two entries, and an extension block that names one hwcaps directory by a tail of one of the paths.
fn whole() -> Vec<u8> {
    let image = [library("/lib", "libcuda.so.1"), library("/lib", "libz.so.1")];
    let mut file = ldcache::insert(None, &image).unwrap().unwrap();
    let name = file.len() - 3;
    file.resize(file.len().next_multiple_of(4), 0);
    let block = file.len();
    file[32..36].copy_from_slice(&(block as u32).to_ne_bytes());
    let list = block + 8 + 2 * 16;
    let words = [0xeaa4_2174, 2, 0, 0, list + 4, 4, 1, 0, list, 4, name, 0x6574_7365];
    words.iter().for_each(|word| file.extend((*word as u32).to_ne_bytes()));
    file
}

fuzz_target!(|input: &[u8]| {
    let mut file = whole();
    for change in input.as_chunks::<3>().0 {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[at] = change[2];
    }
    let before = ldcache::entries(&file);
    let ours = ["libcuda.so.1", "libcuda.so", "libnvidia-ml.so.1"].map(|name| library("/usr/lib64", name));
    let Ok(new) = ldcache::insert(Some(&file), &ours) else { return };
    let Some(new) = new else { return };
    assert!(new.len() <= file.len() + 1000, "bounded by its input");
    // A cache may be extended and yet not be listed: names that repeat the strings without end.
    let (Ok(before), Ok(after)) = (before, ldcache::entries(&new)) else { return };
    assert!(after.len() <= before.len() + ours.len());
    let mut kept = before.iter().filter(|entry| !entry.path.starts_with("/usr/lib64"));
    assert!(kept.all(|entry| after.contains(entry)), "the image's entries stay");
});
