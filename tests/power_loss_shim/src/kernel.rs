//! The system calls behind the interposed functions.

use std::ffi::{c_char, c_int, c_long};

use libc::{mode_t, off_t, size_t, ssize_t};

/// Makes a system call and reports failure like the C library: -1 and `errno`.
///
/// # Safety
///
/// The arguments must be what the kernel expects of the call, as for `libc::syscall`.
macro_rules! system_call {
    ($number:expr $(, $argument:expr)* $(,)?) => {
        libc::syscall($number $(, $argument as libc::c_long)*)
    };
}
pub(crate) use system_call;

/// `openat(2)`.
///
/// # Safety
///
/// `path` is a C string.
pub(crate) unsafe fn open(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: the caller vouches for the path; the kernel ignores a mode it does not need.
    unsafe { system_call!(libc::SYS_openat, directory, path, flags, mode) as c_int }
}

/// Where the descriptor's next sequential write goes.
pub(crate) fn position(descriptor: c_int) -> u64 {
    // SAFETY: lseek touches no memory of this process.
    let at = unsafe { system_call!(libc::SYS_lseek, descriptor, 0 as off_t, libc::SEEK_CUR) };
    u64::try_from(at).unwrap_or_else(|_| refuse("a recorded file has no position", b""))
}

/// The file's length.
pub(crate) fn length(descriptor: c_int) -> u64 {
    // SAFETY: all zeroes is a valid `stat`, and fstat fills nothing else.
    let (result, status) = unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        (libc::fstat(descriptor, &mut status), status)
    };
    if result != 0 {
        refuse("a recorded file has no length", b"");
    }
    u64::try_from(status.st_size).expect("a file length is not negative")
}

/// The path of a descriptor, as the kernel reports it, without a closing zero.
pub(crate) fn path_of(descriptor: c_int) -> Option<Vec<u8>> {
    let link = format!("/proc/self/fd/{descriptor}\0");
    let mut path = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the link is closed by a zero and the buffer is as long as stated.
    let length =
        unsafe { libc::readlink(link.as_ptr().cast(), path.as_mut_ptr().cast(), path.len()) };
    path.truncate(usize::try_from(length).ok()?);
    Some(path)
}

/// Appends all parts in one call.
pub(crate) fn append(descriptor: c_int, parts: &[&[u8]; 2]) -> ssize_t {
    let vector = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len() as size_t,
    });
    // SAFETY: the vector points at two live slices, which writev only reads.
    unsafe {
        system_call!(libc::SYS_writev, descriptor, vector.as_ptr(), vector.len() as c_long)
            as ssize_t
    }
}

/// Sets `errno` and returns the C library's failure value.
pub(crate) fn fail(error: c_int) -> c_int {
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// Ends the process: what it just did cannot be recorded.
pub(crate) fn refuse(what: &str, path: &[u8]) -> ! {
    let message = format!("quorate power-loss shim: {what}: {}\n", String::from_utf8_lossy(path));
    // SAFETY: the message outlives the call; abort does not return.
    unsafe {
        system_call!(libc::SYS_write, 2, message.as_ptr(), message.len());
        libc::abort()
    }
}
