//! What this node does for others: it answers their reads, and sends their requests on to leaders that
//! they can't reach.

use std::sync::Arc;

use quorate_transport::Transport;
use quorate_types::NodeId;

use crate::request::dispatch::Dispatch;
use crate::request::reads::Reads;
use crate::serve::peer_reads::{PeerRead, PeerReads};
use crate::serve::relay::{RELAYED_BYTES_MAX, RELAYED_MAX};
use crate::state::budget::Budget;

/// See the module's documentation.
pub(crate) struct PeerService {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) reads: Arc<Reads>,
    pub(super) transport: Arc<Transport>,
    /// Room for reads of other nodes.
    room: PeerReads,
    /// Room for requests that this node does, or sends on, for nodes that can't reach a leader.
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

    /// A place for a read of `bytes` that has just come from `from`; `None` if too many of its are
    /// under way.
    pub(super) fn admit(&self, from: NodeId, bytes: usize) -> Option<PeerRead> {
        self.room.admit(from, bytes)
    }
}
