//! The latch of the log: it keeps the first fault for the life of the store (RULE 8).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crate::error::LogFault;
use crate::first_fault::FirstFault;

/// Open until the first fault; then closed for the life of the store.
#[derive(Debug)]
pub(crate) struct Latch {
    dir: PathBuf,
    first: FirstFault<LogFault>,
}

impl Latch {
    pub(crate) fn new(dir: &Path) -> Latch {
        Latch { dir: dir.to_owned(), first: FirstFault::new() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Closes with `fault` and returns the fault that closed it first.
    pub(crate) fn close(&self, fault: LogFault) -> LogFault {
        let mut is_first = false;
        let first = self.first.close(|| {
            is_first = true;
            fault
        });
        if is_first {
            // Last, and with panics caught: a subscriber's panic must not keep the latch open or
            // end the process from one of the storage engine's threads.
            let say =
                || tracing::error!(fault = %first, "the log has failed and accepts nothing more");
            drop(catch_unwind(AssertUnwindSafe(say)));
        }
        first.clone()
    }

    pub(crate) fn first(&self) -> &FirstFault<LogFault> {
        &self.first
    }

    pub(crate) fn fault(&self) -> Option<&LogFault> {
        self.first.get()
    }

    /// Closes the latch if the holder unwinds: its change is half done in memory, so no other
    /// thread may continue from it.
    pub(crate) fn guard(self: &Arc<Self>) -> PanicGuard {
        PanicGuard { latch: Arc::clone(self) }
    }

    /// Returns the first fault as `Err`, once there was one.
    pub(crate) fn check(&self) -> Result<(), LogFault> {
        self.fault().map_or(Ok(()), |fault| Err(fault.clone()))
    }
}

/// Closes the latch when it is dropped by a panic; see [`Latch::guard`].
pub(crate) struct PanicGuard {
    latch: Arc<Latch>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            let dir = self.latch.dir.clone();
            self.latch.close(LogFault::Panicked { dir });
        }
    }
}
