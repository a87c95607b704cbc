//! Merges the log's small tables: after a start, which makes some, and once a minute.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use quorate_log::LogStore;
use quorate_types::limits;

use crate::status::resources::Resources;

/// Pause between two rounds. A family that is flushed because it holds the oldest part of the
/// write-ahead log makes a table in minutes at the soonest.
pub(crate) const LOOK: Duration = Duration::from_secs(60);

/// One round; false once the log has failed. A merge that fills the disk fails as any write does, and
/// ends the node (RULE 8): none is begun without room to spare.
pub(crate) fn merge(log: &Arc<LogStore>, resources: &Resources, stop: &AtomicBool) -> bool {
    let has_room = || resources.has_room_to_spare(limits::LOG_MERGE_BYTES_MAX);
    match log.merge_tables(stop, &has_room) {
        Ok(0) => true,
        Ok(tables) => {
            tracing::debug!(tables, "small tables of the log were merged");
            true
        }
        // The store has told the engine of its first fault.
        Err(fault) => {
            tracing::debug!(%fault, "no more tables are merged");
            false
        }
    }
}
