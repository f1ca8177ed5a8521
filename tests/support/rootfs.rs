//! A container's tree from a page of text, and back: a directory is described by one line a file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

/// Makes what the lines say below `root`, parents included:
/// `a/b/` a directory, `a -> b` a link, `a |` a FIFO, `a = text` a file (`\n` is a newline), `a` an empty one.
pub(crate) fn make(root: &Path, page: &str) {
    fs::create_dir_all(root).unwrap();
    for line in page.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let path = root.join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if name.ends_with('/') {
            continue;
        }
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("->", target) => symlink(target, path).unwrap(),
            ("|", _) => {
                let made = std::process::Command::new("mkfifo").arg(&path).status();
                assert!(made.unwrap().success());
            }
            ("=", text) => fs::write(path, text.replace("\\n", "\n")).unwrap(),
            ("", _) => fs::write(path, "").unwrap(),
            other => panic!("no line of a tree: {line} ({other:?})"),
        }
    }
}

/// What lies below `root`, sorted, in words like those of [`make`]; files without their content.
pub(crate) fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    visit(root, "", &mut |name, path, metadata| {
        let kind = metadata.file_type();
        lines.push(match kind {
            kind if kind.is_symlink() => format!("{name} -> {}", fs::read_link(path).unwrap().display()),
            kind if kind.is_dir() => format!("{name}/"),
            kind if kind.is_fifo() => format!("{name} |"),
            _ => name.to_owned(),
        });
    });
    lines.sort();
    lines
}

/// All that can change below `root`: types, modes, owners, inodes, times, contents.
pub(crate) fn manifest(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    visit(root, "", &mut |name, path, metadata| {
        let content = match metadata.file_type() {
            kind if kind.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_encoded_bytes(),
            kind if kind.is_file() => fs::read(path).unwrap(),
            _ => Vec::new(),
        };
        lines.push(format!(
            "{name} {:o} {}:{} {} {}.{} {}.{} {content:?}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        ));
    });
    lines.sort();
    lines
}

fn visit(root: &Path, prefix: &str, seen: &mut impl FnMut(&str, &Path, &fs::Metadata)) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let metadata = entry.path().symlink_metadata().unwrap();
        seen(&name, &entry.path(), &metadata);
        if metadata.is_dir() {
            visit(&entry.path(), &format!("{name}/"), seen);
        }
    }
}
