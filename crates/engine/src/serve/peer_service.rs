//! The service for other nodes: it answers their reads, and forwards their requests to leaders that
//! they can't reach.

use std::sync::Arc;

use quorate_transport::Transport;
use quorate_types::NodeId;

use crate::request::dispatch::Dispatch;
use crate::request::reads::Reads;
use crate::serve::peer_reads::{PeerRead, PeerReads};
use crate::serve::relay::{RELAYED_BYTES_MAX, RELAYED_MAX};
use crate::state::budget::Budget;

/// Serves requests of other nodes.
pub(crate) struct PeerService {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) reads: Arc<Reads>,
    pub(super) transport: Arc<Transport>,
    /// Memory for reads of other nodes.
    room: PeerReads,
    /// Memory for requests that this node executes, or forwards, for nodes that can't reach a
    /// leader.
    pub(super) relays: Arc<Budget>,
}

impl PeerService {
    pub(crate) fn new(reads: Arc<Reads>, transport: Arc<Transport>) -> PeerService {
        PeerService {
            dispatch: Arc::clone(&reads.dispatch),
            reads,
            transport,
            room: PeerReads::default(),
            relays: Budget::new(RELAYED_MAX, RELAYED_BYTES_MAX),
        }
    }

    /// Reserves a place for a read of `bytes` that has just come from `from`; `None` if too many
    /// requests of that node are under way.
    pub(super) fn admit(&self, from: NodeId, bytes: usize) -> Option<PeerRead> {
        self.room.admit(from, bytes)
    }
}
