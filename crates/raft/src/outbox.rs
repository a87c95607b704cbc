//! Messages on their way out, each with what it has to wait for.

use quorate_types::NodeId;

use crate::message::Message;

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Nothing: it promises nothing that a crash could take back.
    Now,
    /// The hard state: it tells a term, and nothing of the log.
    Settled,
    /// Every write so far (RULE 2): it tells of a vote or of entries.
    AfterSync,
}

/// Gathers messages until the next `Ready`, in order.
#[derive(Default)]
pub(crate) struct Outbox {
    messages: Vec<(Lane, NodeId, Message)>,
}

/// Messages with the node that each is meant for.
pub(crate) type Envelopes = Vec<(NodeId, Message)>;

impl Outbox {
    pub(crate) fn push(&mut self, lane: Lane, node: NodeId, message: Message) {
        self.messages.push((lane, node, message));
    }

    /// Nothing of it leaves any more.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
    }

    /// Splits what was gathered into what leaves now and what leaves after the sync.
    pub(crate) fn take(&mut self, hard_state_is_durable: bool) -> (Envelopes, Envelopes) {
        let mut now = Vec::with_capacity(self.messages.len());
        let mut after_sync = Vec::new();
        for (lane, node, message) in self.messages.drain(..) {
            let leaves_now = match lane {
                Lane::Now => true,
                Lane::Settled => hard_state_is_durable,
                Lane::AfterSync => false,
            };
            if leaves_now { &mut now } else { &mut after_sync }.push((node, message));
        }
        (now, after_sync)
    }
}
