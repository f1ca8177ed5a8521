//! Extended attributes: a file's label, its access list and what its users gave it, for the file that takes its place.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, XattrFlags};

use super::descriptor_link;

/// The most that the kernel has of one file's names, and of one value (xattr(7)).
const LARGEST: usize = 64 << 10;
/// The values of one file together; labels and lists have some hundred bytes.
const MOST: usize = 256 << 10;

/// Gives `to` what `from` has, as far as this thread may and the file system can: none of them is worth an error.
///
/// `from` may be a descriptor that only stands for a file (`O_PATH`).
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    let link = descriptor_link(from);
    let (mut names, mut value) = (vec![0; LARGEST], vec![0; LARGEST]);
    let length = fs::listxattr(&link, &mut names).unwrap_or(0);
    names.truncate(length);
    let mut room = MOST;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let size = fs::getxattr(&link, name, &mut value).unwrap_or(0);
        let Some(value) = value.get(..size.min(room)).filter(|value| value.len() == size) else { return };
        room -= size;
        let _ = fs::fsetxattr(to, name, value, XattrFlags::empty());
    }
}
