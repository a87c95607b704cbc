//! Bounds the memory that all peers of a node hold together (RULE 18): the sum of the bounds per
//! lane and per frame grows with the number of peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quorate_types::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::frame::FRAME_BYTES_TARGET;

/// Bytes that all lanes of a node share, beyond the bytes that each lane has for itself.
#[derive(Debug, Default)]
pub(crate) struct LaneRoom {
    taken: AtomicUsize,
}

impl LaneRoom {
    /// Takes `bytes`, unless that would pass the bound.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        let raise = |taken: usize| {
            let raised = taken + bytes;
            (raised <= limits::LANES_BYTES_MAX).then_some(raised)
        };
        // Relaxed: the number orders nothing.
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise).is_ok()
    }

    /// Releases what was taken.
    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.taken.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "{bytes} bytes given back of {before} that were taken");
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Room for the bytes of large frames that are being received. Frames of a usual size need none: a
/// lane closes them at 256 KiB, and a peer has seven lanes. Those of snapshots have their own, because
/// they wait for disks.
#[derive(Clone, Debug)]
pub(crate) struct FrameRoom {
    bytes: Arc<Semaphore>,
}

/// A reservation, held until a frame was handed to the receiver, which has other bounds.
#[derive(Debug)]
pub(crate) struct FramePlace {
    _bytes: Option<OwnedSemaphorePermit>,
}

impl FrameRoom {
    pub(crate) fn new(bytes_max: usize) -> FrameRoom {
        FrameRoom { bytes: Arc::new(Semaphore::new(bytes_max)) }
    }

    /// Waits for room for a frame of `bytes`, first come, first served. A peer that fell silent
    /// within a large frame keeps its room until its connection has timed out.
    pub(crate) async fn place(&self, bytes: usize) -> FramePlace {
        if bytes <= FRAME_BYTES_TARGET {
            return FramePlace { _bytes: None };
        }
        let permits = u32::try_from(bytes).expect("a frame is within its bound");
        let taken = Arc::clone(&self.bytes).acquire_many_owned(permits).await;
        FramePlace { _bytes: Some(taken.expect("never closed")) }
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.bytes.available_permits()
    }
}
