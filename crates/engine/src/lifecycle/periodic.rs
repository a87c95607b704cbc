//! Threads that do the same again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::OpenFault;
use crate::lifecycle::threads::spawn;
use crate::state::fatal::Fatal;

/// A running thread.
pub(crate) struct Periodic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Periodic {
    /// Calls `round` until it returns false, with a pause of `pause` after each call. What it is
    /// given becomes true once it should end early.
    pub(super) fn start(
        fatal: &Arc<Fatal>,
        name: String,
        pause: Duration,
        mut round: impl FnMut(&AtomicBool) -> bool + Send + 'static,
    ) -> Result<Periodic, OpenFault> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = spawn(fatal, name, move || {
            while !seen.load(Ordering::Relaxed) && round(&seen) {
                std::thread::park_timeout(pause);
            }
        })?;
        Ok(Periodic { stop, thread })
    }

    /// Ends the thread after the round that is running.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A panic of the body was caught and latched.
        drop(self.thread.join());
    }
}
