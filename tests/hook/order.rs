//! P: an image loads its own libraries from the same places with and without a device, before and after `ldconfig`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use libgpuspec::ldcache::{self, Abi};

use crate::container::{Container, is_root, skipped};
use crate::elf::Stub;
use crate::loader::{copy, found, loader_and_libc};

const MULTIARCH: &str = "usr/lib/x86_64-linux-gnu";
const DEBIAN: &str = "lib -> usr/lib\nusr/lib/\netc/ld.so.conf = include /etc/ld.so.conf.d/*.conf\\n\n\
    etc/ld.so.conf.d/libc.conf = /usr/local/lib\\n\n\
    etc/ld.so.conf.d/x86_64-linux-gnu.conf = /usr/local/lib/x86_64-linux-gnu\\n/lib/x86_64-linux-gnu\\n/usr/lib/x86_64-linux-gnu\\n";
const FEDORA: &str = "lib64 -> usr/lib64\nusr/lib64/\netc/ld.so.conf = include ld.so.conf.d/*.conf\\n/lib64\\n/usr/lib64\\n\n\
    etc/ld.so.conf.d/opt.conf = /opt/lib\\n";
const ARCH: &str = "lib -> usr/lib\nlib64 -> usr/lib\nusr/lib64 -> lib\nusr/lib/\n\
    etc/ld.so.conf = include /etc/ld.so.conf.d/*.conf\\n\netc/ld.so.conf.d/opt.conf = /opt/lib\\n";
const DRIVER: [&str; 2] = ["libcuda.so.1", "libnvidia-ml.so.1"];

/// An image: its configuration, its own libraries, and the directory in which it gets the driver's.
struct Image {
    name: &'static str,
    page: &'static str,
    libraries: &'static [(&'static str, &'static str)],
    driver: &'static str,
    has_cache: bool,
}

const FOO: [(&str, &str); 4] = [
    ("usr/local/lib", "libfoo.so.1"),
    (MULTIARCH, "libfoo.so.1"),
    (MULTIARCH, "libbar.so.2"),
    ("usr/local/lib", "libbar.so.2"),
];
const OPT: [(&str, &str); 4] = [
    ("opt/lib", "libfoo.so.1"),
    ("usr/lib64", "libfoo.so.1"),
    ("usr/lib64", "libbar.so.2"),
    ("opt/lib", "libcuda.so.1"),
];

const IMAGES: [Image; 12] = [
    Image { name: "debian", page: DEBIAN, libraries: &FOO, driver: MULTIARCH, has_cache: true },
    Image {
        name: "debian, the host is Fedora",
        page: DEBIAN,
        libraries: &FOO,
        driver: "usr/lib64",
        has_cache: true,
    },
    Image {
        name: "debian without a cache",
        page: DEBIAN,
        libraries: &FOO,
        driver: MULTIARCH,
        has_cache: false,
    },
    Image {
        name: "debian with a stub",
        page: DEBIAN,
        libraries: &[
            FOO[0],
            FOO[1],
            ("usr/local/lib", "libcuda.so.1"),
            ("usr/local/lib", "libnvidia-ml.so.1"),
        ],
        driver: MULTIARCH,
        has_cache: true,
    },
    Image {
        name: "debian with libraries for newer processors",
        page: DEBIAN,
        libraries: &[FOO[0], FOO[1], ("usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v2", "libfoo.so.1")],
        driver: MULTIARCH,
        has_cache: true,
    },
    Image {
        name: "debian with libraries of 32 bits",
        page: "lib -> usr/lib\nusr/lib/\netc/ld.so.conf = include /etc/ld.so.conf.d/*.conf\\n\n\
            etc/ld.so.conf.d/a.conf = /opt/i386\\n/usr/local/lib\\n/lib/i386-linux-gnu\\n/lib/x86_64-linux-gnu\\n",
        libraries: &[
            FOO[0],
            FOO[1],
            ("usr/lib/i386-linux-gnu", "libfoo.so.1"),
            ("opt/i386", "libfoo.so.1"),
            ("opt/i386", "libcuda.so.1"),
        ],
        driver: MULTIARCH,
        has_cache: true,
    },
    Image { name: "fedora", page: FEDORA, libraries: &OPT, driver: "usr/lib64", has_cache: true },
    Image {
        name: "fedora, the host is Debian",
        page: FEDORA,
        libraries: &OPT,
        driver: MULTIARCH,
        has_cache: true,
    },
    Image {
        name: "arch",
        page: ARCH,
        libraries: &[("opt/lib", "libfoo.so.1"), ("usr/lib", "libfoo.so.1"), ("usr/lib", "libbar.so.2")],
        driver: "usr/lib",
        has_cache: true,
    },
    Image {
        name: "lists that the configuration does not include",
        page: "etc/ld.so.conf = /opt/a\\n/opt/b\\n\netc/ld.so.conf.d/b.conf = /opt/b\\n/opt/c\\n",
        libraries: &[("opt/a", "libfoo.so.1"), ("opt/b", "libfoo.so.1"), ("opt/c", "libbar.so.2")],
        driver: "opt/b",
        has_cache: true,
    },
    Image {
        name: "directories ahead of the lists",
        page: "etc/ld.so.conf = /opt/a\\ninclude ld.so.conf.d/*.conf\\n\netc/ld.so.conf.d/b.conf = /opt/b\\n",
        libraries: &[("opt/a", "libfoo.so.1"), ("opt/b", "libfoo.so.1"), ("opt/a", "libcuda.so.1")],
        driver: "opt/b",
        has_cache: true,
    },
    Image {
        name: "a list that sorts before the hook's",
        page: "etc/ld.so.conf = include ld.so.conf.d/*.conf\\n\netc/ld.so.conf.d/00-cuda.conf = /opt/a\\n",
        libraries: &[("opt/a", "libfoo.so.1"), ("opt/a", "libcuda.so.1"), ("opt/b", "libfoo.so.1")],
        driver: "opt/b",
        has_cache: true,
    },
];

/// Who tells the hook of the driver: our spec; nvidia-ctk's, with files that are mounted, or that were copied.
#[derive(Debug, Clone, Copy)]
enum Spec {
    Ours,
    Mounted,
    Copied,
}

/// Writes a library whose first bytes after the ELF part say where it was put.
fn put(container: &Container, directory: &str, name: &str) {
    let stub = if directory.contains("i386") { Stub::i386(name) } else { Stub::x86_64(name) };
    let path = container.rootfs().join(directory).join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, stub.bytes()).unwrap();
}

fn ldconfig(container: &Container) {
    let program = ["/sbin/ldconfig", "/usr/sbin/ldconfig"].iter().find(|path| Path::new(path).is_file());
    let ran = Command::new(program.unwrap()).arg("-r").arg(container.rootfs()).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

/// The image with a loader, a C library and, where it has one, the cache that its `ldconfig` made.
fn image(image: &Image, loader: &Path, libc: &Path) -> Container {
    let container = Container::new(image.page);
    for (from, to) in [(loader, loader), (libc, libc), (Path::new("/bin/true"), Path::new("/bin/true"))] {
        copy(from, &container, to.to_str().unwrap());
    }
    for (directory, name) in image.libraries {
        put(&container, directory, name);
    }
    if image.has_cache {
        ldconfig(&container);
    }
    container
}

/// Adds the driver's files, and has the hook do what the spec says.
fn add_driver(image: &Image, spec: Spec, container: &Container) {
    for name in DRIVER {
        put(container, image.driver, name);
    }
    let folder = format!("/{}", image.driver);
    let libraries = format!("x86-64:{folder}:{}", DRIVER.join(":"));
    let ended = match spec {
        Spec::Ours => container.hook(&["--libraries", &libraries]),
        Spec::Copied => container.verb(&["update-ldcache", "--folder", &folder]),
        Spec::Mounted => {
            let root = container.rootfs().join(image.driver);
            let mounts: String = DRIVER
                .map(|name| format!("mount --bind '{0}/{name}' '{0}/{name}' && ", root.display()))
                .concat();
            let script = format!("{mounts} exec \"$0\" update-ldcache --allow-plain-root --folder {folder}");
            let mut command = Command::new("unshare");
            command.args([
                "-m",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
                env!("CARGO_BIN_EXE_oci-hook"),
            ]);
            crate::container::run(&mut command, container.state().as_bytes())
        }
    };
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{}: {spec:?}", image.name);
}

/// A path of the container with its links followed.
fn real(container: &Container, path: &str) -> PathBuf {
    let root = container.rootfs();
    let mut path = root.join(path.trim_start_matches('/'));
    while let Ok(target) = fs::read_link(&path) {
        path = match target.strip_prefix("/") {
            Ok(absolute) => root.join(absolute),
            Err(_) => path.parent().unwrap().join(target),
        };
    }
    path.canonicalize().unwrap().strip_prefix(&root).unwrap().to_owned()
}

/// For each name and ABI the files in the cache's order, each once.
fn order(container: &Container) -> BTreeMap<(String, Abi), Vec<PathBuf>> {
    let mut order: BTreeMap<(String, Abi), Vec<PathBuf>> = BTreeMap::new();
    let Ok(bytes) = fs::read(container.rootfs().join("etc/ld.so.cache")) else { return order };
    for entry in ldcache::entries(&bytes).unwrap() {
        let files = order.entry((entry.name, entry.abi)).or_default();
        let file = real(container, entry.path.as_str());
        if !files.contains(&file) {
            files.push(file);
        }
    }
    order
}

/// Which file the loader takes for a name.
fn loaded(container: &Container, loader: &Path, name: &str) -> Option<PathBuf> {
    let line = found(container, loader, name);
    line.split_once(" => ").map(|(_, path)| real(container, path))
}

/// The image's own libraries as the container has them, and the driver's ahead of all others of their names.
fn assert_same(title: &str, image: &Image, loader: &Path, without: &Container, with: &Container) {
    let (before, after) = (order(without), order(with));
    for (key, files) in before.iter().filter(|((name, _), _)| !DRIVER.contains(&name.as_str())) {
        assert_eq!(after.get(key), Some(files), "{title}: {key:?}");
    }
    let added = after.keys().find(|key| !before.contains_key(key) && !DRIVER.contains(&key.0.as_str()));
    assert_eq!(added, None, "{title}");
    for (_, name) in image.libraries.iter().filter(|(_, name)| !DRIVER.contains(name)) {
        let expected = loaded(without, loader, name);
        assert!(
            expected.is_some() || !before.contains_key(&((*name).to_owned(), Abi::X86_64)),
            "{title}: {name}"
        );
        assert_eq!(loaded(with, loader, name), expected, "{title}: {name}");
    }
    for name in DRIVER {
        let expected = real(with, &format!("{}/{name}", image.driver));
        assert_eq!(loaded(with, loader, name), Some(expected.clone()), "{title}: {name}");
        assert_eq!(after[&(name.to_owned(), Abi::X86_64)][0], expected, "{title}: {name}");
        // The driver came without libraries of 32 bits: those of the image stay.
        let key = (name.to_owned(), Abi::I386);
        assert_eq!(after.get(&key), before.get(&key), "{title}");
    }
}

#[test]
fn p_library_order_is_the_images_own() {
    if !is_root() {
        return;
    }
    let Some((loader, libc)) = loader_and_libc() else { return skipped("no glibc on this machine") };
    for layout in &IMAGES {
        for spec in [Spec::Ours, Spec::Mounted, Spec::Copied] {
            let title = format!("{}, {spec:?}", layout.name);
            let (without, with) = (image(layout, &loader, &libc), image(layout, &loader, &libc));
            add_driver(layout, spec, &with);
            assert_same(&title, layout, &loader, &without, &with);
            ldconfig(&without);
            ldconfig(&with);
            assert_same(&format!("{title}, after ldconfig"), layout, &loader, &without, &with);
            // A restart, and one more package.
            add_driver(layout, spec, &with);
            assert_same(&format!("{title}, restarted"), layout, &loader, &without, &with);
            ldconfig(&with);
            assert_same(&format!("{title}, restarted, after ldconfig"), layout, &loader, &without, &with);
        }
    }
}

/// The links to a driver that is gone do not keep the image's own library from being found.
#[test]
fn p_a_committed_image_without_a_device_finds_its_own_libraries() {
    if !is_root() {
        return;
    }
    let Some((loader, libc)) = loader_and_libc() else { return skipped("no glibc on this machine") };
    let layout = &IMAGES[3];
    let container = image(layout, &loader, &libc);
    add_driver(layout, Spec::Ours, &container);
    for name in DRIVER {
        fs::remove_file(container.rootfs().join(layout.driver).join(name)).unwrap();
    }
    ldconfig(&container);
    assert_eq!(loaded(&container, &loader, DRIVER[0]), Some("usr/local/lib/libcuda.so.1".into()));
}

/// A cache that spells a directory by a link, and a library of it that is not in the cache.
#[test]
fn p_a_library_that_the_cache_lacks_stays_out_of_it() {
    let container = Container::new("usr/lib/");
    symlink("usr/lib", container.rootfs().join("lib")).unwrap();
    for name in ["libimage.so.1", "libcuda.so.1"] {
        put(&container, "usr/lib", name);
    }
    let image = ["--libraries", "x86-64:/opt:libimage.so.1", "--libraries", "x86-64:/lib:libimage.so.1"];
    assert_eq!(container.hook(&image).status, Some(0));
    assert_eq!(container.verb(&["update-ldcache", "--folder", "/usr/lib"]).status, Some(0));
    let expected = [
        "libimage.so.1 /opt/libimage.so.1",
        "libimage.so.1 /lib/libimage.so.1",
        "libcuda.so.1 /usr/lib/libcuda.so.1",
    ];
    assert_eq!(container.cache(), expected);
}

/// Where nothing tells the driver's libraries, those that the cache has in another spelling keep their rank.
#[test]
fn p_a_directory_of_two_spellings_is_one() {
    let container = Container::new("usr/lib/");
    symlink("usr/lib", container.rootfs().join("lib")).unwrap();
    for name in ["libimage.so.1", "libother.so.1"] {
        put(&container, "usr/lib", name);
    }
    let image = ["--libraries", "x86-64:/opt:libimage.so.1", "--libraries", "x86-64:/lib:libimage.so.1"];
    assert_eq!(container.hook(&image).status, Some(0));
    assert_eq!(container.verb(&["update-ldcache", "--folder", "/usr/lib"]).status, Some(0));
    let expected = [
        "libother.so.1 /usr/lib/libother.so.1",
        "libimage.so.1 /opt/libimage.so.1",
        "libimage.so.1 /lib/libimage.so.1",
    ];
    assert_eq!(container.cache(), expected);
}
