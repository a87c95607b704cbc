//! The outbox of a kernel: messages to be sent, each with what it has to wait for.

use quorate_types::NodeId;

use crate::message::Message;

/// What a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendAfter {
    /// Nothing: it promises nothing that a crash could take back.
    Nothing,
    /// The hard state: it tells a term, and nothing of the log.
    HardState,
    /// Every write so far (RULE 2): it tells of a vote or of entries.
    AllWrites,
}

/// Gathers messages until the next `Ready`, in order.
#[derive(Default)]
pub(crate) struct Outbox {
    messages: Vec<(SendAfter, NodeId, Message)>,
}

/// Messages with the node that each is meant for.
pub(crate) type Envelopes = Vec<(NodeId, Message)>;

impl Outbox {
    pub(crate) fn push(&mut self, after: SendAfter, node: NodeId, message: Message) {
        self.messages.push((after, node, message));
    }

    /// Drops every message that was gathered.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
    }

    /// Splits what was gathered into what leaves now and what leaves after the sync.
    pub(crate) fn take(&mut self, hard_state_is_durable: bool) -> (Envelopes, Envelopes) {
        let mut now = Vec::with_capacity(self.messages.len());
        let mut after_sync = Vec::new();
        for (after, node, message) in self.messages.drain(..) {
            let leaves_now = match after {
                SendAfter::Nothing => true,
                SendAfter::HardState => hard_state_is_durable,
                SendAfter::AllWrites => false,
            };
            if leaves_now { &mut now } else { &mut after_sync }.push((node, message));
        }
        (now, after_sync)
    }
}
