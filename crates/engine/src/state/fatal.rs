//! The engine's latch: the first fatal error ends its service for ever (RULE 8).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::FatalError;

/// Set once, read everywhere.
pub(crate) struct Fatal {
    set: AtomicBool,
    error: Mutex<Option<FatalError>>,
    changed: Notify,
    /// Wakes the workers: an idle one would go on leading.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Default for Fatal {
    /// A latch that wakes nobody.
    fn default() -> Fatal {
        Fatal::new(|| {})
    }
}

impl Fatal {
    /// A latch that calls `wake` once, when it is set. It must not block.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Fatal {
        let (set, error, changed) = (AtomicBool::new(false), Mutex::default(), Notify::new());
        Fatal { set, error, changed, wake: Box::new(wake) }
    }

    /// Keeps the first error, and wakes the workers, who end; later errors are its consequences. Never blocks.
    pub(crate) fn latch(&self, error: FatalError) {
        let mut first = self.error.lock();
        if first.is_some() {
            return;
        }
        *first = Some(error.clone());
        self.set.store(true, Ordering::Release);
        drop(first);
        (self.wake)();
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

#[cfg(test)]
#[path = "fatal_tests.rs"]
mod tests;
