//! System calls that no crate makes without unsafe code: close_range(2), signal(2), alarm(2), fork(2), and bpf(2) for
//! device programs.
//!
//! The one room of unsafe code. A descriptor that nobody here opened has no safe owner to close it, signals have no
//! safe interface, and bpf(2) takes pointers inside structures: here always to slices that outlive the call, with their
//! true lengths beside them.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Closes all but the standard ones, before anything else is done; without close_range(2) (Linux before 5.9) they stay.
pub fn close_inherited() {
    let (first, last, flags): (libc::c_uint, libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX, 0);
    // SAFETY: the call takes three numbers and no pointer. It is the first thing that both mains do, when there
    // is one thread and nothing in this process owns a descriptor above 2, so none is closed behind an owner.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// A write beyond the limit of a file's size (RLIMIT_FSIZE, of ours or of whoever started us) fails with EFBIG.
pub fn ignore_file_size_signal() {
    // SAFETY: a disposition that runs no code of ours is set for a signal that nothing else here handles.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Has the kernel end this process by SIGALRM after this time, in whole seconds and at least one.
///
/// It ends a process that waits for a file system too, as long as the wait can be killed.
pub fn end_after(limit: Duration) {
    alarm(u32::try_from(limit.as_secs()).unwrap_or(u32::MAX).max(1));
}

/// Cancels [`end_after`].
pub fn cancel_end() {
    alarm(0);
}

fn alarm(seconds: u32) {
    // SAFETY: the set is initialised before it is read, and lives until after the calls. A signal's default action
    // runs no code of this process.
    unsafe {
        let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGALRM);
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::alarm(seconds);
    }
}

/// Which of the two processes goes on after [`fork`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The new one.
    Child,
    /// The one that was there, and the other's number.
    Parent(i32),
}

/// A second process like this one, which must have one thread (fork(2)).
pub fn fork() -> io::Result<Forked> {
    // SAFETY: the caller has one thread, so no lock of another one stays held in the child.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        pid if pid > 0 => Ok(Forked::Parent(pid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One instruction of a program (struct bpf_insn of linux/bpf.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u8,
    /// Two halves, each a register.
    pub registers: u8,
    /// How far a jump goes, or where in memory a value lies.
    pub offset: i16,
    /// A constant.
    pub immediate: i32,
}

/// Which programs of a cgroup are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// Those attached to it.
    Own = 0,
    /// Those that decide, outer cgroups' among them (BPF_F_QUERY_EFFECTIVE).
    Effective = 1,
}

/// A program's kind and instructions, as the kernel tells them.
#[derive(Debug)]
pub struct Told {
    /// BPF_PROG_TYPE_….
    pub kind: u32,
    /// How many maps it uses.
    pub maps: u32,
    /// All of them; `None` where they are more than were asked for, or not told.
    pub instructions: Option<Vec<Instruction>>,
}

/// BPF_PROG_TYPE_CGROUP_DEVICE.
pub const DEVICE_PROGRAM: u32 = 15;
/// BPF_CGROUP_DEVICE.
const DEVICE_ATTACHMENT: u32 = 6;
/// Shown by `bpftool prog`; letters, digits and `_` only, and a zero at the end.
const NAME: [u8; 16] = *b"gpuspec_devices\0";

/// The identifiers of a cgroup's device programs, at most `most` of them, and the flags they are attached with.
pub fn attached(cgroup: BorrowedFd<'_>, which: Programs, most: usize) -> io::Result<(Vec<u32>, u32)> {
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        cgroup: RawFd,
        attachment: u32,
        flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        // Newer kernels write on up to here, whatever size they are told.
        rest: [u32; 25],
    }
    let mut ids = vec![0_u32; most];
    let mut query = Query {
        cgroup: cgroup.as_raw_fd(),
        attachment: DEVICE_ATTACHMENT,
        flags: which as u32,
        ids: ids.as_mut_ptr() as u64,
        count: u32::try_from(most).unwrap_or(0),
        ..Query::default()
    };
    // SAFETY: `ids` has room for `count` numbers, and lives until after the call.
    unsafe { bpf(16, &mut query) }?;
    ids.truncate(usize::try_from(query.count).unwrap_or(0));
    Ok((ids, query.attach_flags))
}

/// The program with this identifier.
pub fn program(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next: u32,
        flags: u32,
    }
    // SAFETY: no pointer is in the structure. What comes back is a descriptor of ours alone.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(13, &mut ById { id, next: 0, flags: 0 })?)) }
}

/// A program's instructions as the kernel runs them, if they are no more than `most`.
pub fn told(program: BorrowedFd<'_>, most: usize) -> io::Result<Told> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        native_size: u32,
        size: u32,
        native: u64,
        instructions: u64,
        loaded: u64,
        owner: u32,
        maps: u32,
        map_ids: u64,
        name: [u8; 16],
    }
    #[repr(C)]
    struct ByDescriptor {
        program: RawFd,
        size: u32,
        info: u64,
    }
    let mut instructions = vec![Instruction::default(); most];
    let room = u32::try_from(size_of_val(instructions.as_slice())).unwrap_or(0);
    let mut info = Info { size: room, instructions: instructions.as_mut_ptr() as u64, ..Info::default() };
    let size = u32::try_from(size_of::<Info>()).unwrap_or(0);
    let mut ask = ByDescriptor { program: program.as_raw_fd(), size, info: (&raw mut info) as u64 };
    // SAFETY: `info` has `size` bytes and `instructions` the `room` that is said, and both live until after the
    // call; no other length in `info` is above zero, so no other pointer in it is used. Any bytes are instructions.
    unsafe { bpf(15, &mut ask) }?;
    let count = usize::try_from(info.size).unwrap_or(usize::MAX) / size_of::<Instruction>();
    // The kernel clears the pointer, or the size, where the asker may not know.
    let is_told = info.instructions != 0 && count > 0 && count <= most;
    instructions.truncate(count);
    Ok(Told { kind: info.kind, maps: info.maps, instructions: is_told.then_some(instructions) })
}

/// A device program of these instructions; the kernel refuses what is none.
pub fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let mut load = Load {
        kind: DEVICE_PROGRAM,
        count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        name: NAME,
        ..Load::default()
    };
    // SAFETY: `instructions` has `count` of them and the license its zero at the end; both are only read, and
    // live until after the call. What comes back is a descriptor of ours alone.
    unsafe { Ok(OwnedFd::from_raw_fd(bpf(5, &mut load)?)) }
}

/// Attaches a program to a cgroup in place of another, which was attached with these flags, by one act.
pub fn replace(
    cgroup: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    flags: u32,
) -> io::Result<()> {
    #[repr(C)]
    struct Attach {
        cgroup: RawFd,
        program: RawFd,
        attachment: u32,
        flags: u32,
        replaced: RawFd,
    }
    const ALLOW_MULTI: u32 = 2;
    const REPLACE: u32 = 4;
    // Where only one can be, it is replaced without a word, and must not be named.
    let (flags, replaced) =
        if flags & ALLOW_MULTI == 0 { (flags, 0) } else { (flags | REPLACE, old.as_raw_fd()) };
    let (cgroup, program) = (cgroup.as_raw_fd(), new.as_raw_fd());
    // SAFETY: no pointer is in the structure.
    unsafe { bpf(8, &mut Attach { cgroup, program, attachment: DEVICE_ATTACHMENT, flags, replaced }) }
        .map(drop)
}

/// bpf(2).
///
/// # Safety
///
/// `attributes` is what this command takes, and each pointer in it leads to as much memory as is said beside it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the caller's promise; the structure is borrowed for the call and its size is its own.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    RawFd::try_from(answer).ok().filter(|answer| *answer >= 0).ok_or_else(io::Error::last_os_error)
}
