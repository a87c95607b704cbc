//! A thread that merges the log's small tables: after a start, which creates some, and once a
//! minute.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_log::LogStore;
use quorate_types::limits;

use crate::error::OpenFault;
use crate::lifecycle::threads::spawn;
use crate::state::fatal::Fatal;
use crate::status::resources::Resources;

/// Pause between two rounds. A family that is flushed because it holds the oldest part of the
/// write-ahead log makes a table in minutes at the soonest.
const LOOK: Duration = Duration::from_secs(60);

/// The running thread.
pub(crate) struct Tidy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Tidy {
    pub(super) fn start(
        fatal: &Arc<Fatal>,
        name: String,
        log: Arc<LogStore>,
        resources: Arc<Resources>,
    ) -> Result<Tidy, OpenFault> {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let has_room = move || resources.has_room_to_spare(limits::LOG_MERGE_BYTES_MAX);
        let thread = spawn(fatal, name, move || run(&log, &seen, &has_room))?;
        Ok(Tidy { stop, thread })
    }

    /// Ends the thread after the merge that is running.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        // A panic of the body was caught and latched.
        drop(self.thread.join());
    }
}

/// A merge that fills the disk fails as any write does, and ends the node (RULE 8): none is begun
/// without room to spare.
fn run(log: &LogStore, stop: &AtomicBool, has_room: &dyn Fn() -> bool) {
    while !stop.load(Ordering::Relaxed) {
        match log.merge_tables(stop, has_room) {
            Ok(0) => {}
            Ok(tables) => tracing::debug!(tables, "small tables of the log were merged"),
            // The store has told the engine of its first fault.
            Err(fault) => return tracing::debug!(%fault, "no more tables are merged"),
        }
        std::thread::park_timeout(LOOK);
    }
}
