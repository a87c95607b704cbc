//! The engine's latch: the first fatal error ends its service for good (RULE 8).

use quorate_log::FirstFault;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::Notify;

use crate::error::FatalError;

/// The latch: set once, read everywhere.
pub(crate) struct Fatal {
    first: FirstFault<FatalError>,
    changed: Notify,
    /// Wakes the workers: an idle one would continue to lead.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Default for Fatal {
    /// A latch that wakes no worker.
    fn default() -> Fatal {
        Fatal::new(|| {})
    }
}

impl Fatal {
    /// A latch that calls `wake` once, when it is set. It must not block.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Fatal {
        Fatal { first: FirstFault::new(), changed: Notify::new(), wake: Box::new(wake) }
    }

    /// Keeps the first error, and wakes the workers, which then end; later errors are its consequences.
    /// Never blocks.
    pub(crate) fn latch(&self, error: FatalError) {
        let mut is_first = false;
        let error = self.first.close(|| {
            is_first = true;
            error
        });
        if !is_first {
            return;
        }
        (self.wake)();
        self.changed.notify_waiters();
        // Last, and guarded: the error that latches may come from a logger that panics.
        let say = || tracing::error!(%error, "fatal: the engine stops serving");
        drop(catch_unwind(AssertUnwindSafe(say)));
    }

    pub(crate) fn is_set(&self) -> bool {
        self.first.get().is_some()
    }

    pub(crate) fn get(&self) -> Option<FatalError> {
        self.first.get().cloned()
    }

    /// Completes when the latch is set.
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
