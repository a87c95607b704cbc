//! The state that nearly every room of an engine uses.

use std::sync::Arc;

use crate::state::counters::Counters;
use crate::state::disk_floor::DiskFloor;
use crate::state::fatal::Fatal;
use crate::state::shards::Shards;
use crate::state::shutdown::Shutdown;
use crate::state::spent_peers::SpentPeers;
use crate::state::stall::Stalls;
use crate::state::transfers::Transfers;

/// Shared by all threads of one engine, and by no two engines. Holds no store and no socket.
pub(crate) struct EngineState {
    /// The shards that live here.
    pub(crate) shards: Shards,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) counters: Counters,
    pub(crate) stalls: Stalls,
    /// Whether the disk has room for writes.
    pub(crate) disk: DiskFloor,
    /// The other nodes whose disks have none even for entries.
    pub(crate) spent_peers: SpentPeers,
    /// The snapshots under way.
    pub(crate) transfers: Transfers,
}

impl EngineState {
    /// The state of an engine with these `shards` and this `disk`, which `fatal` ends.
    pub(crate) fn new(shards: Shards, fatal: Arc<Fatal>, disk: DiskFloor) -> EngineState {
        EngineState {
            shards,
            shutdown: Arc::new(Shutdown::new(Arc::clone(&fatal))),
            fatal,
            counters: Counters::default(),
            stalls: Stalls::default(),
            disk,
            spent_peers: SpentPeers::default(),
            transfers: Transfers::default(),
        }
    }
}
