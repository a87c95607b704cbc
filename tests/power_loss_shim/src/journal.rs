//! The library's settings, its lock and the journal file.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::descriptors;
use crate::format::{Header, Kind};
use crate::kernel::{self, refuse};
use crate::paths;

/// Set once the settings are read; cleared in a forked child, whose lock may be held forever by a
/// thread that did not survive the fork.
static ACTIVE: AtomicBool = AtomicBool::new(false);

static SETTINGS: OnceLock<Settings> = OnceLock::new();

static LOCK: Mutex<u32> = Mutex::new(0);

struct Settings {
    /// The root as given and as resolved: a program may use either.
    roots: [Vec<u8>; 2],
    /// The path, relative to the root, whose syncs are not recorded.
    lie: Option<Vec<u8>>,
    journal: c_int,
    process: u64,
}

/// Runs [`start`] when the library is loaded, before `main` and before any thread.
#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = start;

extern "C" fn start() {
    let Some(root) = std::env::var_os("QUORATE_POWER_ROOT") else { return };
    let Some(journal) = std::env::var_os("QUORATE_POWER_JOURNAL") else {
        refuse("QUORATE_POWER_ROOT is set without", b"QUORATE_POWER_JOURNAL");
    };
    let Ok(resolved) = std::fs::canonicalize(&root) else {
        refuse("the root is not a directory that can be read", root.as_bytes());
    };
    let roots =
        [paths::normalise(root.as_bytes()), paths::normalise(resolved.as_os_str().as_bytes())];
    let parent = Path::new(&journal).parent().and_then(|parent| parent.canonicalize().ok());
    if parent.is_none_or(|parent| parent.starts_with(&resolved)) {
        refuse("the journal must be in a directory outside the root", journal.as_bytes());
    }
    let lie = std::env::var_os("QUORATE_POWER_LIE").map(|lie| relative_lie(&lie, &roots));
    let journal = open_journal(&journal);
    let process = u64::from(std::process::id());
    if SETTINGS.set(Settings { roots, lie, journal, process }).is_ok() {
        // SAFETY: the handler touches one atomic.
        unsafe { libc::pthread_atfork(None, None, Some(stop)) };
        ACTIVE.store(true, Ordering::Release);
    }
}

extern "C" fn stop() {
    ACTIVE.store(false, Ordering::Release);
}

fn relative_lie(lie: &OsStr, roots: &[Vec<u8>; 2]) -> Vec<u8> {
    let lie = paths::normalise(lie.as_bytes());
    match roots.iter().find_map(|root| paths::below(&lie, root)) {
        Some(relative) => relative.to_vec(),
        None => refuse("QUORATE_POWER_LIE is not below the root", &lie),
    }
}

fn open_journal(path: &OsStr) -> c_int {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
    let Ok(text) = CString::new(path.as_bytes()) else {
        refuse("the journal's path holds a zero", path.as_bytes());
    };
    // SAFETY: the path is a live C string.
    let descriptor = unsafe { kernel::open(libc::AT_FDCWD, text.as_ptr(), flags, 0o644) };
    if descriptor < 0 {
        refuse("the journal cannot be opened", path.as_bytes());
    }
    descriptor
}

/// The right to act on recorded files. Its holder makes a call and the record of it as one step.
pub(crate) struct Journal {
    settings: &'static Settings,
    numbers: MutexGuard<'static, u32>,
}

impl Journal {
    /// Waits for the lock; `None` when nothing is recorded in this process.
    pub(crate) fn lock() -> Option<Journal> {
        if !ACTIVE.load(Ordering::Acquire) {
            return None;
        }
        let Ok(numbers) = LOCK.lock() else { refuse("a panic while recording", b"") };
        SETTINGS.get().map(|settings| Journal { settings, numbers })
    }

    /// A number used by no other open file or sync of any process.
    pub(crate) fn number(&mut self) -> u64 {
        *self.numbers = self.numbers.checked_add(1).expect("fewer than 2^32 opens and syncs");
        self.settings.process << 32 | u64::from(*self.numbers)
    }

    /// Appends one record.
    pub(crate) fn record(&mut self, header: Header, payload: &[u8]) {
        let bytes = header.encode(payload);
        let written = kernel::append(self.settings.journal, &[&bytes, payload]);
        if usize::try_from(written).ok() != Some(bytes.len() + payload.len()) {
            refuse("the journal could not be appended to (is its disk full?)", b"");
        }
    }

    /// Appends a record that needs no flags.
    pub(crate) fn note(&mut self, kind: Kind, handle: u64, offset: u64, payload: &[u8]) {
        self.record(Header { kind, flags: 0, handle, offset }, payload);
    }

    /// Stops recording a descriptor that is about to be closed or replaced.
    pub(crate) fn release(&mut self, descriptor: c_int) {
        if let Some(handle) = descriptors::remove(descriptor) {
            self.note(Kind::Close, handle, 0, b"");
        }
    }
}

/// The path to record for an absolute path, if it is below the root.
pub(crate) fn recorded_path(path: &[u8]) -> Option<Vec<u8>> {
    if !ACTIVE.load(Ordering::Acquire) {
        return None;
    }
    let roots = &SETTINGS.get()?.roots;
    roots.iter().find_map(|root| paths::below(path, root)).map(<[u8]>::to_vec)
}

/// The path to record for the path of a call.
///
/// # Safety
///
/// `path` is a C string or null.
pub(crate) unsafe fn recorded_path_of(directory: c_int, path: *const c_char) -> Option<Vec<u8>> {
    if !ACTIVE.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: as promised by the caller.
    recorded_path(&unsafe { paths::absolute(directory, path) }?)
}

/// Whether syncs of this path are to be kept out of the journal.
pub(crate) fn lies_about(path: &[u8]) -> bool {
    let lie = SETTINGS.get().and_then(|settings| settings.lie.as_ref());
    lie.is_some_and(|lie| lie.is_empty() || paths::below(path, lie).is_some())
}
