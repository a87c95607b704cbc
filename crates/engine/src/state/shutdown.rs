//! The engine's end, for those who wait: asked to stop, or stopped by a fatal error.
//!
//! Apart from the stores, so that a watch can learn of the end without keeping the stores open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::error::Refusal;
use crate::state::fatal::Fatal;

/// See the module's documentation.
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

    /// The owner wants the engine to stop. For ever.
    pub(crate) fn begin(&self) {
        self.stopping.store(true, Ordering::Release);
        self.begun.notify_waiters();
    }

    /// True from the first sign of the end on.
    pub(crate) fn has_begun(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.fatal.is_set()
    }

    /// Why the engine is stopped, for the caller's eyes.
    pub(crate) fn refusal(&self) -> Refusal {
        Refusal::Stopped(match self.fatal.get() {
            Some(error) => error.to_string(),
            None => "it is shutting down".to_owned(),
        })
    }

    /// Ends when the engine does.
    pub(crate) async fn wait(&self) -> Refusal {
        loop {
            // Made before the look, from when on it misses nothing.
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

    /// Waits for `event`, unless the engine ends first.
    pub(crate) async fn or<T>(&self, event: impl Future<Output = T>) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            refusal = self.wait() => Err(refusal),
            value = event => Ok(value),
        }
    }
}
