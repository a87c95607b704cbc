//! The engine's shutdown, for tasks that wait for it: requested, or caused by a fatal error.
//!
//! Apart from the stores, so that a watch can learn of it without keeping the stores open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::error::Refusal;
use crate::state::fatal::Fatal;

/// The engine's shutdown signal.
pub(crate) struct Shutdown {
    fatal: Arc<Fatal>,
    stopping: AtomicBool,
    begun: Notify,
}

impl Shutdown {
    pub(crate) fn new(fatal: Arc<Fatal>) -> Shutdown {
        Shutdown { fatal, stopping: AtomicBool::new(false), begun: Notify::new() }
    }

    /// The engine's latch.
    pub(crate) fn fatal(&self) -> Arc<Fatal> {
        Arc::clone(&self.fatal)
    }

    /// The owner asks the engine to stop. This can't be undone.
    pub(crate) fn begin(&self) {
        self.stopping.store(true, Ordering::Release);
        self.begun.notify_waiters();
    }

    /// True from the first sign of shutdown on.
    pub(crate) fn has_begun(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.fatal.is_set()
    }

    /// Why the engine is stopped, as an error for the caller.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::Stopped(match self.fatal.get() {
            Some(error) => error.to_string(),
            None => "it is shutting down".to_owned(),
        })
    }

    /// Completes when the engine stops.
    pub(crate) async fn wait(&self) -> Refusal {
        loop {
            // Created before the check, because it misses nothing from its creation on.
            let begun = self.begun.notified();
            if self.has_begun() {
                return self.refusal();
            }
            tokio::select! {
                () = begun => {}
                _ = self.fatal.wait() => {}
            }
        }
    }

    /// Waits for `event`, unless the engine stops first.
    pub(crate) async fn or<T>(&self, event: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            refusal = self.wait() => Err(refusal),
            value = event => Ok(value),
        }
    }
}
