//! The engine's latch: the first fatal error ends its service for ever (RULE 8).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::FatalError;

/// Set once, read everywhere.
#[derive(Default)]
pub(crate) struct Fatal {
    set: AtomicBool,
    error: Mutex<Option<FatalError>>,
    changed: Notify,
}

impl Fatal {
    /// Keeps the first error; later ones are its consequences.
    pub(crate) fn latch(&self, error: FatalError) {
        let mut first = self.error.lock();
        if first.is_some() {
            return;
        }
        *first = Some(error.clone());
        self.set.store(true, Ordering::Release);
        drop(first);
        self.changed.notify_waiters();
        // Last, and without harm: what latches may be a log that panics.
        let say = || tracing::error!(%error, "fatal: the engine stops serving");
        drop(catch_unwind(AssertUnwindSafe(say)));
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self) -> Option<FatalError> {
        if self.is_set() { self.error.lock().clone() } else { None }
    }

    /// Ends when the latch is set.
    pub(crate) async fn wait(&self) -> FatalError {
        loop {
            let changed = self.changed.notified();
            if let Some(error) = self.get() {
                return error;
            }
            changed.await;
        }
    }
}
