//! Interposed functions on the contents of files.
//!
//! `open` and `fcntl` are variadic in C. Rust cannot define such a function; on the supported
//! processors (x86-64, AArch64 on Linux) the first optional argument travels in the register of the
//! next fixed one, so a function with that argument fixed receives it. If the caller leaves it out,
//! the register holds an arbitrary value, which is passed on to a kernel that ignores it.

use std::ffi::{c_char, c_int, c_uint, c_void};

use libc::{iovec, mode_t, off_t, size_t, ssize_t};

use crate::descriptors::{self, APPENDS, LIES, Recorded};
use crate::format::{FLAG_CREATE, FLAG_TRUNCATE, Header, Kind};
use crate::journal::{Journal, lies_about, recorded_path, recorded_path_of};
use crate::kernel::{self, fail, refuse, system_call};

/// Defines functions that the C library exports under several names.
macro_rules! interpose {
    ($name:ident, $second:ident => $($rest:tt)+) => {
        interpose!($name => $($rest)+);
        interpose!($second => $($rest)+);
    };
    ($name:ident => $body:ident($($argument:ident: $kind:ty),* $(,)?) -> $result:ty) => {
        /// Replaces the C library's function of this name.
        ///
        /// # Safety
        ///
        /// The contract is that of the C library's function.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            // SAFETY: the caller keeps the C library's contract, which is the body's.
            unsafe { $body($($argument),*) }
        }
    };
}
pub(crate) use interpose;

interpose!(open, open64 => open_here(path: *const c_char, flags: c_int, mode: mode_t) -> c_int);
interpose!(openat, openat64 =>
    open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int);
interpose!(creat, creat64 => create(path: *const c_char, mode: mode_t) -> c_int);
interpose!(__open_2, __open64_2 => open_checked(path: *const c_char, flags: c_int) -> c_int);
interpose!(close => close_one(descriptor: c_int) -> c_int);
interpose!(close_range => close_many(first: c_uint, last: c_uint, flags: c_int) -> c_int);
interpose!(dup => duplicate(descriptor: c_int) -> c_int);
interpose!(dup2 => duplicate_onto(descriptor: c_int, target: c_int) -> c_int);
interpose!(dup3 => duplicate_with(descriptor: c_int, target: c_int, flags: c_int) -> c_int);
interpose!(fcntl, fcntl64 => control(descriptor: c_int, command: c_int, argument: usize) -> c_int);
interpose!(write =>
    write_next(descriptor: c_int, bytes: *const c_void, length: size_t) -> ssize_t);
interpose!(pwrite, pwrite64 =>
    write_at(descriptor: c_int, bytes: *const c_void, length: size_t, offset: off_t) -> ssize_t);
interpose!(writev =>
    write_parts(descriptor: c_int, parts: *const iovec, count: c_int) -> ssize_t);
interpose!(pwritev, pwritev64 =>
    write_parts_at(descriptor: c_int, parts: *const iovec, count: c_int, offset: off_t) -> ssize_t);
interpose!(ftruncate, ftruncate64 => truncate(descriptor: c_int, length: off_t) -> c_int);
interpose!(fallocate, fallocate64 =>
    allocate(descriptor: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int);
interpose!(posix_fallocate, posix_fallocate64 =>
    allocate_posix(descriptor: c_int, offset: off_t, length: off_t) -> c_int);
interpose!(fsync => sync_all(descriptor: c_int) -> c_int);
interpose!(fdatasync => sync_data(descriptor: c_int) -> c_int);

unsafe fn open_here(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: same contract.
    unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
}

unsafe fn open_checked(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: same contract; this variant is for calls without a mode.
    unsafe { open_at(libc::AT_FDCWD, path, flags, 0) }
}

unsafe fn create(path: *const c_char, mode: mode_t) -> c_int {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    // SAFETY: same contract.
    unsafe { open_at(libc::AT_FDCWD, path, flags, mode) }
}

/// Descriptors that can only read are not followed: the C library closes some of them by itself
/// (`fclose`, `closedir`), which would leave stale entries. Their syncs are recorded by path.
unsafe fn open_at(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
    let changes = writes || flags & (libc::O_CREAT | libc::O_TRUNC) != 0;
    let follow = changes && flags & libc::O_PATH == 0;
    // SAFETY: the path is a C string by contract.
    let recorded = if follow { unsafe { recorded_path_of(directory, path) } } else { None };
    let Some(recorded) = recorded else {
        // SAFETY: same contract.
        return unsafe { kernel::open(directory, path, flags, mode) };
    };
    if flags & libc::O_TMPFILE == libc::O_TMPFILE || flags & libc::O_DSYNC != 0 {
        refuse("nameless or synchronous files cannot be recorded", &recorded);
    }
    let Some(mut journal) = Journal::lock() else {
        // SAFETY: same contract.
        return unsafe { kernel::open(directory, path, flags, mode) };
    };
    // SAFETY: same contract.
    let descriptor = unsafe { kernel::open(directory, path, flags, mode) };
    if descriptor < 0 {
        return descriptor;
    }
    journal.release(descriptor);
    let handle = journal.number();
    let mut record_flags = if flags & libc::O_CREAT != 0 { FLAG_CREATE } else { 0 };
    record_flags |= if flags & libc::O_TRUNC != 0 { FLAG_TRUNCATE } else { 0 };
    journal.record(Header { kind: Kind::Open, flags: record_flags, handle, offset: 0 }, &recorded);
    if writes {
        let mut traits = if flags & libc::O_APPEND != 0 { APPENDS } else { 0 };
        traits |= if lies_about(&recorded) { LIES } else { 0 };
        descriptors::insert(descriptor, Recorded { handle, traits });
    } else {
        journal.note(Kind::Close, handle, 0, b"");
    }
    descriptor
}

unsafe fn close_one(descriptor: c_int) -> c_int {
    if descriptors::find(descriptor).is_some()
        && let Some(mut journal) = Journal::lock()
    {
        journal.release(descriptor);
    }
    // SAFETY: closing touches no memory; the descriptor is the caller's.
    unsafe { system_call!(libc::SYS_close, descriptor) as c_int }
}

unsafe fn close_many(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags == 0
        && let Some(mut journal) = Journal::lock()
    {
        let last = c_int::try_from(last).unwrap_or(c_int::MAX);
        let mut descriptor = c_int::try_from(first).unwrap_or(c_int::MAX);
        while descriptor <= last.min(descriptors::highest()) {
            journal.release(descriptor);
            descriptor += 1;
        }
    }
    // SAFETY: as for close.
    unsafe { system_call!(libc::SYS_close_range, first, last, flags) as c_int }
}

/// Makes a second descriptor by `call`, which then stands for the same file as the first.
fn duplicate_by(descriptor: c_int, target: Option<c_int>, call: impl Fn() -> c_int) -> c_int {
    let foreign = descriptors::find(descriptor).is_none()
        && target.is_none_or(|target| descriptors::find(target).is_none());
    if foreign || target == Some(descriptor) {
        return call();
    }
    let Some(mut journal) = Journal::lock() else { return call() };
    let duplicate = call();
    if duplicate >= 0 {
        journal.release(duplicate);
        if let Some(recorded) = descriptors::find(descriptor) {
            descriptors::insert(duplicate, recorded);
        }
    }
    duplicate
}

unsafe fn duplicate(descriptor: c_int) -> c_int {
    // SAFETY: no memory is touched, here and in the next two.
    duplicate_by(descriptor, None, || unsafe { system_call!(libc::SYS_dup, descriptor) as c_int })
}

unsafe fn duplicate_onto(descriptor: c_int, target: c_int) -> c_int {
    if descriptor == target {
        // dup3 refuses what dup2 allows: a descriptor onto itself.
        // SAFETY: F_GETFD touches no memory.
        let valid = unsafe { system_call!(libc::SYS_fcntl, descriptor, libc::F_GETFD) };
        return if valid < 0 { -1 } else { target };
    }
    // SAFETY: no memory is touched.
    unsafe { duplicate_with(descriptor, target, 0) }
}

unsafe fn duplicate_with(descriptor: c_int, target: c_int, flags: c_int) -> c_int {
    // SAFETY: no memory is touched.
    let call = || unsafe { system_call!(libc::SYS_dup3, descriptor, target, flags) as c_int };
    duplicate_by(descriptor, Some(target), call)
}

unsafe fn control(descriptor: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the argument is what the command needs, by contract.
    let call = || unsafe { system_call!(libc::SYS_fcntl, descriptor, command, argument) as c_int };
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => duplicate_by(descriptor, None, call),
        libc::F_SETFL if argument & libc::O_APPEND as usize != 0 => {
            match descriptors::find(descriptor) {
                Some(_) => refuse("switching a recorded file to append", b""),
                None => call(),
            }
        }
        _ => call(),
    }
}

/// Runs a write and records what was written: as much of `parts` as `call` wrote, from `offset` on
/// (`None`: from the descriptor's position).
fn write_by(
    descriptor: c_int,
    offset: Option<off_t>,
    parts: &[iovec],
    call: impl Fn() -> ssize_t,
) -> ssize_t {
    let Some(recorded) = descriptors::find(descriptor) else { return call() };
    let Some(mut journal) = Journal::lock() else { return call() };
    let written = call();
    let Ok(mut rest) = usize::try_from(written) else { return written };
    let mut at = match offset {
        Some(_) if recorded.appends() => kernel::length(descriptor) - rest as u64,
        Some(offset) => offset as u64,
        None => kernel::position(descriptor) - rest as u64,
    };
    for part in parts {
        let length = part.iov_len.min(rest);
        if length > 0 {
            // SAFETY: the kernel has just read these bytes, so they are there.
            let bytes = unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), length) };
            journal.note(Kind::Write, recorded.handle, at, bytes);
        }
        at += length as u64;
        rest -= length;
    }
    written
}

fn one_part(bytes: *const c_void, length: size_t) -> [iovec; 1] {
    [iovec { iov_base: bytes.cast_mut(), iov_len: length }]
}

/// The caller's vector. A count that the kernel would refuse becomes an empty one.
///
/// # Safety
///
/// `parts` points at `count` parts.
unsafe fn many_parts<'a>(parts: *const iovec, count: c_int) -> &'a [iovec] {
    match usize::try_from(count) {
        // SAFETY: as promised by the caller.
        Ok(count) if count > 0 && !parts.is_null() => unsafe {
            std::slice::from_raw_parts(parts, count)
        },
        _ => &[],
    }
}

unsafe fn write_next(descriptor: c_int, bytes: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: same contract.
    let call = || unsafe { system_call!(libc::SYS_write, descriptor, bytes, length) as ssize_t };
    write_by(descriptor, None, &one_part(bytes, length), call)
}

unsafe fn write_at(
    descriptor: c_int,
    bytes: *const c_void,
    length: size_t,
    offset: off_t,
) -> ssize_t {
    // SAFETY: same contract.
    let call = || unsafe {
        system_call!(libc::SYS_pwrite64, descriptor, bytes, length, offset) as ssize_t
    };
    write_by(descriptor, Some(offset), &one_part(bytes, length), call)
}

unsafe fn write_parts(descriptor: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: same contract.
    let call = || unsafe { system_call!(libc::SYS_writev, descriptor, parts, count) as ssize_t };
    // SAFETY: same contract.
    write_by(descriptor, None, unsafe { many_parts(parts, count) }, call)
}

unsafe fn write_parts_at(
    descriptor: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
) -> ssize_t {
    // The kernel takes the offset in two halves; with 64-bit registers the upper one is empty.
    // SAFETY: same contract.
    let call = || unsafe {
        system_call!(libc::SYS_pwritev, descriptor, parts, count, offset, 0) as ssize_t
    };
    // SAFETY: same contract.
    write_by(descriptor, Some(offset), unsafe { many_parts(parts, count) }, call)
}

/// Runs a call that changes a file's length and records it on success.
fn resize_by(descriptor: c_int, kind: Kind, length: off_t, call: impl Fn() -> c_int) -> c_int {
    let Some(recorded) = descriptors::find(descriptor) else { return call() };
    let Some(mut journal) = Journal::lock() else { return call() };
    let result = call();
    if result == 0 {
        journal.note(kind, recorded.handle, length as u64, b"");
    }
    result
}

unsafe fn truncate(descriptor: c_int, length: off_t) -> c_int {
    // SAFETY: no memory is touched.
    let call = || unsafe { system_call!(libc::SYS_ftruncate, descriptor, length) as c_int };
    resize_by(descriptor, Kind::Truncate, length, call)
}

unsafe fn allocate(descriptor: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: no memory is touched.
    let call =
        || unsafe { system_call!(libc::SYS_fallocate, descriptor, mode, offset, length) as c_int };
    match mode {
        0 => resize_by(descriptor, Kind::Extend, offset.saturating_add(length), call),
        // This reserves space, with no visible effect.
        libc::FALLOC_FL_KEEP_SIZE => call(),
        _ if descriptors::find(descriptor).is_some() => {
            // Callers have a fallback, because few file systems support these modes.
            fail(libc::EOPNOTSUPP)
        }
        _ => call(),
    }
}

unsafe fn allocate_posix(descriptor: c_int, offset: off_t, length: off_t) -> c_int {
    // SAFETY: no memory is touched but errno, which is this thread's own.
    unsafe {
        match allocate(descriptor, 0, offset, length) {
            0 => 0,
            _ => *libc::__errno_location(),
        }
    }
}

unsafe fn sync_all(descriptor: c_int) -> c_int {
    // SAFETY: no memory is touched.
    sync_by(descriptor, || unsafe { system_call!(libc::SYS_fsync, descriptor) as c_int })
}

unsafe fn sync_data(descriptor: c_int) -> c_int {
    // SAFETY: no memory is touched.
    sync_by(descriptor, || unsafe { system_call!(libc::SYS_fdatasync, descriptor) as c_int })
}

fn sync_by(descriptor: c_int, call: impl Fn() -> c_int) -> c_int {
    let Some(number) = begin_sync(descriptor) else { return call() };
    let result = call();
    if result == 0
        && let Some(mut journal) = Journal::lock()
    {
        journal.note(Kind::SyncDone, 0, number, b"");
    }
    result
}

/// Records the start of a sync and returns its number; `None` if the sync is not to count.
fn begin_sync(descriptor: c_int) -> Option<u64> {
    if let Some(recorded) = descriptors::find(descriptor) {
        if recorded.lies() {
            return None;
        }
        let mut journal = Journal::lock()?;
        let number = journal.number();
        journal.note(Kind::SyncHandle, recorded.handle, number, b"");
        return Some(number);
    }
    // The path is read under the lock: after a rename in between it would be another file's.
    let mut journal = Journal::lock()?;
    let path = recorded_path(&kernel::path_of(descriptor)?)?;
    if lies_about(&path) || path.ends_with(b" (deleted)") {
        return None;
    }
    let number = journal.number();
    journal.note(Kind::SyncPath, 0, number, &path);
    Some(number)
}
