//! Extended attributes: a file's label, its access list and what its users gave it, for the file that takes its place.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, Mode, XattrFlags};
use rustix::io::Errno;

use super::descriptor_link;

/// The most that the kernel has of one file's names, and of one value (xattr(7)).
const LARGEST: usize = 64 << 10;
/// The values of one file together; labels and lists have some hundred bytes.
const MOST: usize = 256 << 10;

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// The same for a file of this mode, whose group gets nothing where the access list cannot be had: with one, the
/// mode's bits of the group are the most that any user of the list gets (acl(5)).
pub(super) fn keep(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mode: u32) -> rustix::io::Result<()> {
    if !has_any(from) {
        return Ok(());
    }
    copy(from, to);
    // A buffer that is too small is an answer, too.
    let has_list = |fd| {
        matches!(fs::getxattr(descriptor_link(fd), ACCESS_LIST, &mut [0_u8; 64]), Ok(_) | Err(Errno::RANGE))
    };
    if has_list(from) && !has_list(to) {
        fs::fchmod(to, Mode::from_raw_mode(mode & !0o070))?;
    }
    Ok(())
}

/// Most files have none.
fn has_any(fd: BorrowedFd<'_>) -> bool {
    matches!(fs::listxattr(descriptor_link(fd), &mut [0_u8; 64]), Ok(1..) | Err(Errno::RANGE))
}

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
