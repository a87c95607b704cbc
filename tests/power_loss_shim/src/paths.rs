//! Converts the path of a call to the path of a record.

use std::ffi::{CStr, c_char, c_int};

use crate::kernel;

/// Resolves `.`, `..` and repeated slashes of an absolute path by its text alone. Symbolic links
/// need no handling: making one below the root is refused, and the root is known by both its names.
pub(crate) fn normalise(path: &[u8]) -> Vec<u8> {
    let mut clean: Vec<u8> = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|byte| *byte == b'/').unwrap_or(0)),
            name => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
    clean
}

/// The part of `path` after `root`, without a leading slash; `None` outside of `root`.
pub(crate) fn below<'path>(path: &'path [u8], root: &[u8]) -> Option<&'path [u8]> {
    match path.strip_prefix(root)? {
        b"" => Some(b""),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// The absolute form of a call's path, or `None` when the call will fail anyway.
///
/// # Safety
///
/// `path` is a C string or null.
pub(crate) unsafe fn absolute(directory: c_int, path: *const c_char) -> Option<Vec<u8>> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for the closing zero, and the string is not kept.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    if path.first() == Some(&b'/') {
        return Some(normalise(path));
    }
    let mut whole = match directory {
        libc::AT_FDCWD => std::env::current_dir().ok()?.into_os_string().into_encoded_bytes(),
        descriptor => kernel::path_of(descriptor)?,
    };
    whole.push(b'/');
    whole.extend_from_slice(path);
    Some(normalise(&whole))
}
