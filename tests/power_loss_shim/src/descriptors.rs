//! Which descriptors of this process stand for recorded files.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::kernel::refuse;

/// Descriptors that can be followed. A process with more open files is refused, not misrecorded.
const DESCRIPTORS_MAX: usize = 1 << 16;

/// Writes go to the end of the file, whatever their offset.
pub(crate) const APPENDS: u8 = 1;

/// Syncs of this file are not recorded.
pub(crate) const LIES: u8 = 2;

/// One descriptor. The handle is 0 while the descriptor stands for nothing recorded.
struct Slot {
    handle: AtomicU64,
    traits: AtomicU8,
}

/// Read without the lock, so that calls on foreign descriptors (mostly sockets) cost nothing;
/// changed only under the journal's lock.
static SLOTS: [Slot; DESCRIPTORS_MAX] =
    [const { Slot { handle: AtomicU64::new(0), traits: AtomicU8::new(0) } }; DESCRIPTORS_MAX];

/// One past the highest descriptor ever recorded.
static HIGHEST: AtomicU64 = AtomicU64::new(0);

/// A recorded descriptor.
#[derive(Clone, Copy)]
pub(crate) struct Recorded {
    /// The open file in the journal.
    pub(crate) handle: u64,
    /// [`APPENDS`], [`LIES`].
    pub(crate) traits: u8,
}

impl Recorded {
    /// Whether writes ignore their offset.
    pub(crate) fn appends(self) -> bool {
        self.traits & APPENDS != 0
    }

    /// Whether syncs are kept out of the journal.
    pub(crate) fn lies(self) -> bool {
        self.traits & LIES != 0
    }
}

fn slot(descriptor: c_int) -> Option<&'static Slot> {
    SLOTS.get(usize::try_from(descriptor).ok()?)
}

/// What the descriptor stands for.
#[inline]
pub(crate) fn find(descriptor: c_int) -> Option<Recorded> {
    let slot = slot(descriptor)?;
    match slot.handle.load(Ordering::Acquire) {
        0 => None,
        handle => Some(Recorded { handle, traits: slot.traits.load(Ordering::Relaxed) }),
    }
}

/// Starts to record the descriptor.
pub(crate) fn insert(descriptor: c_int, recorded: Recorded) {
    let Some(slot) = slot(descriptor) else {
        refuse("more open files than can be recorded", b"");
    };
    if descriptor <= libc::STDERR_FILENO {
        refuse("a recorded file as a standard stream, which the C library writes by itself", b"");
    }
    slot.traits.store(recorded.traits, Ordering::Relaxed);
    slot.handle.store(recorded.handle, Ordering::Release);
    HIGHEST.fetch_max(descriptor as u64 + 1, Ordering::Relaxed);
}

/// Stops recording the descriptor; returns the handle when no other descriptor shares it.
pub(crate) fn remove(descriptor: c_int) -> Option<u64> {
    let handle = slot(descriptor)?.handle.swap(0, Ordering::AcqRel);
    let used = &SLOTS[..HIGHEST.load(Ordering::Relaxed) as usize];
    let shared = used.iter().any(|slot| slot.handle.load(Ordering::Relaxed) == handle);
    (handle != 0 && !shared).then_some(handle)
}

/// The highest descriptor that may be recorded.
pub(crate) fn highest() -> c_int {
    HIGHEST.load(Ordering::Relaxed) as c_int - 1
}
