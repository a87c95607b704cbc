//! Looks at the room on a node's disk, and has what follows from it done: see
//! [`DiskFloor`](crate::state::disk_floor::DiskFloor).

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::request::dispatch::Dispatch;
use crate::state::clock;
use crate::state::disk_floor::{DiskLevel, LevelChange};
use crate::state::disk_room::Room;
use crate::status::resources::Resources;
use crate::store::data_store::DataStore;

/// Watches the disk of one node.
pub(crate) struct DiskWatch {
    resources: Arc<Resources>,
    dispatch: Arc<Dispatch>,
    data: Arc<DataStore>,
    /// Drives the connections.
    runtime: Handle,
    /// Rounds in which leaderships were to be handed over.
    round: u64,
}

impl DiskWatch {
    pub(crate) fn new(
        resources: Arc<Resources>,
        dispatch: Arc<Dispatch>,
        data: Arc<DataStore>,
        runtime: Handle,
    ) -> DiskWatch {
        DiskWatch { resources, dispatch, data, runtime, round: 0 }
    }

    /// One look, and a round of handing over if there is no room. It asks other nodes then, and waits for
    /// them for half a second at most; not for threads of a runtime.
    pub(crate) fn round(&mut self) {
        if self.dispatch.is_stopped() {
            return;
        }
        let disk = &self.dispatch.state().disk;
        let was_spent = disk.is_spent();
        self.dispatch.state().spent_peers.forget_old(clock::now());
        self.look();
        if was_spent || disk.is_spent() {
            self.dispatch.tell_spent(disk.is_spent().then(|| disk.low()).flatten());
        }
        if disk.level() > DiskLevel::Roomy {
            self.runtime.block_on(self.dispatch.hand_to_roomy(self.round));
            self.round += 1;
        }
    }

    /// The first look, which lets the data store merge tables if there is room.
    pub(crate) fn begin(&self) {
        self.look();
        self.data.let_merge(self.dispatch.state().disk.level() == DiskLevel::Roomy);
    }

    /// Finds out how much room there is.
    fn look(&self) {
        match self.resources.room() {
            Ok(room) => self.judge(room),
            // What was found last still counts.
            Err(error) => tracing::debug!(%error, "room on the disk is not known"),
        }
    }

    fn judge(&self, room: Room) {
        let disk = &self.dispatch.state().disk;
        let Some(LevelChange { before, now }) = disk.judge(room) else {
            return;
        };
        if (before == DiskLevel::Roomy) != (now == DiskLevel::Roomy) {
            self.data.let_merge(now == DiskLevel::Roomy);
        }
        let free_mebibytes = room.free_bytes >> 20;
        let floor_mebibytes = disk.floor_bytes(room) >> 20;
        let node = self.dispatch.node();
        match now {
            DiskLevel::Spent => tracing::error!(
                %node, free_mebibytes, floor_mebibytes,
                "the disk is below half of its floor: no writes are taken, nor entries of other leaders"
            ),
            DiskLevel::Low => tracing::warn!(
                %node, free_mebibytes, floor_mebibytes,
                "the disk is below its floor: no writes are taken, and leaderships are handed over"
            ),
            DiskLevel::Roomy => {
                tracing::warn!(%node, free_mebibytes, "the disk has room again: writes are taken");
            }
        }
    }
}

#[cfg(test)]
#[path = "disk_watch_tests.rs"]
mod tests;
