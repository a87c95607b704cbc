//! The engine's latch: the first fatal error ends its service for ever (RULE 8).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quorate_log::{FirstFault, LogStore};
use tokio::sync::Notify;

use crate::data::DataStore;
use crate::error::FatalError;
use crate::inbox::{Inbox, Input};

/// Set once, read everywhere.
#[derive(Default)]
pub(crate) struct Fatal {
    first: FirstFault<FatalError>,
    changed: Notify,
    /// Of the workers, who have to be woken: an idle one would go on leading.
    inboxes: Vec<Arc<Inbox>>,
}

impl Fatal {
    /// A latch that ends the workers of `inboxes`.
    pub(crate) fn new(inboxes: Vec<Arc<Inbox>>) -> Fatal {
        Fatal { inboxes, ..Fatal::default() }
    }

    /// Latches at the first fault of either store, whichever thread meets it: a flush or compaction
    /// that fails has no caller.
    pub(crate) fn listen(self: &Arc<Self>, log: &LogStore, data: &DataStore) {
        let fatal = Arc::clone(self);
        log.listen_fault(move |fault| fatal.latch(FatalError::Log(fault.to_string())));
        let fatal = Arc::clone(self);
        data.listen_fault(move |what| fatal.latch(FatalError::Data(what.to_owned())));
    }

    /// Keeps the first error, and ends the workers; later errors are its consequences. Never blocks.
    pub(crate) fn latch(&self, error: FatalError) {
        let mut is_first = false;
        let error = self.first.close(|| {
            is_first = true;
            error
        });
        if !is_first {
            return;
        }
        self.inboxes.iter().for_each(|inbox| inbox.push(Input::Stop));
        self.changed.notify_waiters();
        // Last, and without harm: what latches may be a log that panics.
        let say = || tracing::error!(%error, "fatal: the engine stops serving");
        drop(catch_unwind(AssertUnwindSafe(say)));
    }

    pub(crate) fn is_set(&self) -> bool {
        self.first.get().is_some()
    }

    pub(crate) fn get(&self) -> Option<FatalError> {
        self.first.get().cloned()
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
