//! Closes the descriptors that a runtime left open: runc before 1.2 leaks its init socket, log and fifo to hooks.
//!
//! And takes a file grown too large for an error: the kernel's signal for it would end the process.
//!
//! The one room of unsafe code: a descriptor that nobody here opened has no safe owner to close it, and
//! signals have no safe interface.

#![allow(unsafe_code)]

/// Closes all but the standard ones; on a kernel without close_range(2) (before 5.9) they stay open.
pub(crate) fn close_inherited() {
    let (first, last, flags): (libc::c_uint, libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX, 0);
    // SAFETY: the call takes three numbers and no pointer. It is the first thing that main does, when there
    // is one thread and nothing in this process owns a descriptor above 2, so none is closed behind an owner.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// A write beyond the limit of a file's size (RLIMIT_FSIZE, of ours or of whoever started us) fails with EFBIG.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: a disposition that runs no code of ours is set for a signal that nothing else here handles.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
