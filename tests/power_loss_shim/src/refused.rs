//! Interposed functions whose effect on a recorded file could not be recorded: if callers have a
//! fallback, they get the error that leads to it; otherwise the process is aborted.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libc::{FILE, dev_t, iovec, mode_t, off_t, size_t, ssize_t};

use crate::descriptors;
use crate::files::interpose;
use crate::journal::recorded_path_of;
use crate::kernel::{fail, refuse, system_call};

const HERE: c_int = libc::AT_FDCWD;

interpose!(mmap, mmap64 => map(address: *mut c_void, length: size_t, protection: c_int,
    flags: c_int, descriptor: c_int, offset: off_t) -> *mut c_void);
interpose!(truncate, truncate64 => truncate_path(path: *const c_char, length: off_t) -> c_int);
interpose!(symlink => symbolic_link(target: *const c_char, path: *const c_char) -> c_int);
interpose!(symlinkat => symbolic_link_at(
    target: *const c_char, directory: c_int, path: *const c_char) -> c_int);
interpose!(mknod => make_node(path: *const c_char, mode: mode_t, device: dev_t) -> c_int);
interpose!(copy_file_range => copy_range(from: c_int, from_offset: *mut off_t, to: c_int,
    to_offset: *mut off_t, length: size_t, flags: c_uint) -> ssize_t);
interpose!(sendfile, sendfile64 =>
    send_file(to: c_int, from: c_int, offset: *mut off_t, length: size_t) -> ssize_t);
interpose!(splice => splice_into(from: c_int, from_offset: *mut off_t, to: c_int,
    to_offset: *mut off_t, length: size_t, flags: c_uint) -> ssize_t);
interpose!(pwritev2, pwritev64v2 => write_with_flags(descriptor: c_int, parts: *const iovec,
    count: c_int, offset: off_t, flags: c_int) -> ssize_t);
interpose!(fopen, fopen64 => open_stream(path: *const c_char, mode: *const c_char) -> *mut FILE);
interpose!(fdopen => stream_of(descriptor: c_int, mode: *const c_char) -> *mut FILE);

unsafe fn map(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: off_t,
) -> *mut c_void {
    let shared = flags & libc::MAP_SHARED != 0 && flags & libc::MAP_ANONYMOUS == 0;
    if shared && protection & libc::PROT_WRITE != 0 && descriptors::find(descriptor).is_some() {
        refuse("a shared writable mapping of a recorded file", b"");
    }
    // SAFETY: same contract.
    unsafe {
        system_call!(libc::SYS_mmap, address, length, protection, flags, descriptor, offset)
            as *mut c_void
    }
}

/// Aborts when the path is below the root.
///
/// # Safety
///
/// `path` is a C string or null.
unsafe fn refuse_below(what: &str, directory: c_int, path: *const c_char) {
    // SAFETY: as promised by the caller.
    if let Some(path) = unsafe { recorded_path_of(directory, path) } {
        refuse(what, &path);
    }
}

unsafe fn truncate_path(path: *const c_char, length: off_t) -> c_int {
    // SAFETY: same contract.
    unsafe {
        refuse_below("truncation by path", HERE, path);
        system_call!(libc::SYS_truncate, path, length) as c_int
    }
}

unsafe fn symbolic_link(target: *const c_char, path: *const c_char) -> c_int {
    // SAFETY: same contract.
    unsafe { symbolic_link_at(target, HERE, path) }
}

unsafe fn symbolic_link_at(target: *const c_char, directory: c_int, path: *const c_char) -> c_int {
    // SAFETY: same contract.
    unsafe {
        refuse_below("a symbolic link", directory, path);
        system_call!(libc::SYS_symlinkat, target, directory, path) as c_int
    }
}

unsafe fn make_node(path: *const c_char, mode: mode_t, device: dev_t) -> c_int {
    // SAFETY: same contract.
    unsafe {
        refuse_below("a special file", HERE, path);
        system_call!(libc::SYS_mknodat, HERE, path, mode, device) as c_int
    }
}

unsafe fn copy_range(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    if descriptors::find(to).is_some() {
        // The error of an old kernel: callers fall back to reading and writing.
        return fail(libc::ENOSYS) as ssize_t;
    }
    // SAFETY: same contract.
    unsafe {
        system_call!(libc::SYS_copy_file_range, from, from_offset, to, to_offset, length, flags)
            as ssize_t
    }
}

unsafe fn send_file(to: c_int, from: c_int, offset: *mut off_t, length: size_t) -> ssize_t {
    if descriptors::find(to).is_some() {
        return fail(libc::EINVAL) as ssize_t;
    }
    // SAFETY: same contract.
    unsafe { system_call!(libc::SYS_sendfile, to, from, offset, length) as ssize_t }
}

unsafe fn splice_into(
    from: c_int,
    from_offset: *mut off_t,
    to: c_int,
    to_offset: *mut off_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    if descriptors::find(to).is_some() {
        return fail(libc::EINVAL) as ssize_t;
    }
    // SAFETY: same contract.
    unsafe {
        system_call!(libc::SYS_splice, from, from_offset, to, to_offset, length, flags) as ssize_t
    }
}

unsafe fn write_with_flags(
    descriptor: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off_t,
    flags: c_int,
) -> ssize_t {
    if descriptors::find(descriptor).is_some() {
        return fail(libc::EOPNOTSUPP) as ssize_t;
    }
    // SAFETY: same contract; the second half of the offset is empty with 64-bit registers.
    unsafe {
        system_call!(libc::SYS_pwritev2, descriptor, parts, count, offset, 0, flags) as ssize_t
    }
}

/// Whether a stream's mode can write.
///
/// # Safety
///
/// `mode` is a C string.
unsafe fn writes(mode: *const c_char) -> bool {
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(mode) }.to_bytes().iter().any(|byte| b"wa+".contains(byte))
}

/// The C library's own function behind an interposed one.
///
/// # Safety
///
/// `Function` is the type of the function called `name`.
unsafe fn next<Function: Copy>(name: &CStr) -> Function {
    // SAFETY: the name is a C string.
    let address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if address.is_null() {
        refuse("the C library lacks", name.to_bytes());
    }
    // SAFETY: a function pointer has the size of an address, and the caller vouches for the type.
    unsafe { std::mem::transmute_copy(&address) }
}

unsafe fn open_stream(path: *const c_char, mode: *const c_char) -> *mut FILE {
    type Open = unsafe extern "C" fn(*const c_char, *const c_char) -> *mut FILE;
    // SAFETY: same contract, and `Open` is the type of fopen.
    unsafe {
        if writes(mode) {
            refuse_below("a stdio stream for writing", HERE, path);
        }
        next::<Open>(c"fopen")(path, mode)
    }
}

unsafe fn stream_of(descriptor: c_int, mode: *const c_char) -> *mut FILE {
    type Open = unsafe extern "C" fn(c_int, *const c_char) -> *mut FILE;
    if descriptors::find(descriptor).is_some() {
        refuse("a stdio stream on a recorded file", b"");
    }
    // SAFETY: same contract, and `Open` is the type of fdopen.
    unsafe { next::<Open>(c"fdopen")(descriptor, mode) }
}
