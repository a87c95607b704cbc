//! Interposed functions that change names, which are entries of directories.

use std::ffi::{c_char, c_int, c_uint};

use libc::mode_t;

use crate::files::interpose;
use crate::format::Kind;
use crate::journal::{Journal, recorded_path_of};
use crate::kernel::{refuse, system_call};

const HERE: c_int = libc::AT_FDCWD;

interpose!(rename => rename_here(from: *const c_char, to: *const c_char) -> c_int);
interpose!(renameat => rename_at(
    from_directory: c_int, from: *const c_char, to_directory: c_int, to: *const c_char) -> c_int);
interpose!(renameat2 => rename_with(from_directory: c_int, from: *const c_char,
    to_directory: c_int, to: *const c_char, flags: c_uint) -> c_int);
interpose!(link => link_here(from: *const c_char, to: *const c_char) -> c_int);
interpose!(linkat => link_at(from_directory: c_int, from: *const c_char,
    to_directory: c_int, to: *const c_char, flags: c_int) -> c_int);
interpose!(unlink => unlink_here(path: *const c_char) -> c_int);
interpose!(unlinkat => unlink_at(directory: c_int, path: *const c_char, flags: c_int) -> c_int);
interpose!(rmdir => remove_directory(path: *const c_char) -> c_int);
interpose!(remove => remove_any(path: *const c_char) -> c_int);
interpose!(mkdir => make_directory(path: *const c_char, mode: mode_t) -> c_int);
interpose!(mkdirat =>
    make_directory_at(directory: c_int, path: *const c_char, mode: mode_t) -> c_int);

/// Runs a call on one name and records it on success.
fn change_one(kind: Kind, path: Option<Vec<u8>>, call: impl Fn() -> c_int) -> c_int {
    let Some(path) = path else { return call() };
    let Some(mut journal) = Journal::lock() else { return call() };
    let result = call();
    if result == 0 {
        journal.note(kind, 0, 0, &path);
    }
    result
}

/// Runs a call on two names and records it on success.
fn change_two(
    kind: Kind,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    call: impl Fn() -> c_int,
) -> c_int {
    let (mut paths, to) = match (from, to) {
        (Some(from), Some(to)) => (from, to),
        (None, None) => return call(),
        (Some(path), None) | (None, Some(path)) => {
            refuse("a rename or link across the edge of the root", &path)
        }
    };
    let Some(mut journal) = Journal::lock() else { return call() };
    let result = call();
    if result == 0 {
        let first_length = paths.len() as u64;
        paths.extend_from_slice(&to);
        journal.note(kind, 0, first_length, &paths);
    }
    result
}

unsafe fn rename_here(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: same contract.
    unsafe { rename_with(HERE, from, HERE, to, 0) }
}

unsafe fn rename_at(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: same contract.
    unsafe { rename_with(from_directory, from, to_directory, to, 0) }
}

unsafe fn rename_with(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: both are C strings by contract.
    let (old, new) =
        unsafe { (recorded_path_of(from_directory, from), recorded_path_of(to_directory, to)) };
    if let Some(old) = old.as_ref()
        && flags & !libc::RENAME_NOREPLACE != 0
    {
        refuse("a rename with flags", old);
    }
    // SAFETY: same contract.
    let call = || unsafe {
        system_call!(libc::SYS_renameat2, from_directory, from, to_directory, to, flags) as c_int
    };
    change_two(Kind::Rename, old, new, call)
}

unsafe fn link_here(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: same contract.
    unsafe { link_at(HERE, from, HERE, to, 0) }
}

unsafe fn link_at(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: both are C strings by contract.
    let (old, new) =
        unsafe { (recorded_path_of(from_directory, from), recorded_path_of(to_directory, to)) };
    // SAFETY: same contract.
    let call = || unsafe {
        system_call!(libc::SYS_linkat, from_directory, from, to_directory, to, flags) as c_int
    };
    change_two(Kind::Link, old, new, call)
}

unsafe fn unlink_here(path: *const c_char) -> c_int {
    // SAFETY: same contract.
    unsafe { unlink_at(HERE, path, 0) }
}

unsafe fn remove_directory(path: *const c_char) -> c_int {
    // SAFETY: same contract.
    unsafe { unlink_at(HERE, path, libc::AT_REMOVEDIR) }
}

unsafe fn remove_any(path: *const c_char) -> c_int {
    // SAFETY: same contract; errno is this thread's own.
    unsafe {
        match unlink_here(path) {
            -1 if *libc::__errno_location() == libc::EISDIR => remove_directory(path),
            result => result,
        }
    }
}

unsafe fn unlink_at(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    let kind = match flags & libc::AT_REMOVEDIR {
        0 => Kind::Unlink,
        _ => Kind::RemoveDirectory,
    };
    // SAFETY: same contract.
    let recorded = unsafe { recorded_path_of(directory, path) };
    // SAFETY: same contract.
    let call = || unsafe { system_call!(libc::SYS_unlinkat, directory, path, flags) as c_int };
    change_one(kind, recorded, call)
}

unsafe fn make_directory(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: same contract.
    unsafe { make_directory_at(HERE, path, mode) }
}

unsafe fn make_directory_at(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: same contract.
    let recorded = unsafe { recorded_path_of(directory, path) };
    // SAFETY: same contract.
    let call = || unsafe { system_call!(libc::SYS_mkdirat, directory, path, mode) as c_int };
    change_one(Kind::MakeDirectory, recorded, call)
}
