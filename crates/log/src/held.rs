//! How much log is stored, from memory: what decides on purges and flushes asks here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_types::{Index, ShardId};

use crate::run_index::RunIndex;
use crate::store::{Living, LogStore};

/// The stored log of one living replica. What the log writer is about to make durable counts as
/// stored, and what it is about to delete as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLog {
    /// Encoded bytes of its runs.
    pub bytes: u64,
    /// Its runs. The first may begin at or below the base: a purge drops whole runs only.
    pub runs: u64,
    /// The entry before its first.
    pub base: Index,
    /// Its last entry, or the base.
    pub last: Index,
}

/// None of these blocks for the disk: each holds a lock of one log at a time, for moments.
impl LogStore {
    /// Encoded bytes of the stored runs of all living replicas.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// The stored log of one shard; `None` if it has no living replica here.
    #[must_use]
    pub fn held(&self, shard: ShardId) -> Option<HeldLog> {
        Some(held(&self.living(shard)?.log.lock()))
    }

    /// The logs of all shards that store any run, in no order.
    #[must_use]
    pub fn held_all(&self) -> Vec<(ShardId, HeldLog)> {
        let living = self.all_living();
        let logs = living.iter().map(|(shard, living)| (*shard, held(&living.log.lock())));
        logs.filter(|(_, held)| held.runs > 0).collect()
    }

    /// The first index such that the stored runs of `shard` from there on have at most `bytes_max`
    /// bytes: where a run begins, or the entry after the base, or the one after the last if even
    /// the last run has more. `None` if the shard has no living replica here.
    #[must_use]
    pub fn index_within(&self, shard: ShardId, bytes_max: u64) -> Option<Index> {
        Some(self.living(shard)?.log.lock().within(bytes_max))
    }

    /// Copied, so that a birth or an end does not wait for who looks at thousands of logs.
    fn all_living(&self) -> Vec<(ShardId, Arc<Living>)> {
        let shards = self.shards.read();
        shards.iter().map(|(shard, living)| (*shard, Arc::clone(living))).collect()
    }
}

fn held(log: &RunIndex) -> HeldLog {
    let runs = log.runs().len() as u64;
    HeldLog { bytes: log.bytes(), runs, base: log.base(), last: log.last() }
}
