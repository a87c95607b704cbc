//! The messages of one shard that wait for a sync (RULE 2), without those that later ones replace.
//!
//! While a disk hangs, peers keep asking: each leader sends ten heartbeats a second. Of the answers
//! to the same question of the same peer only the newest is kept per write, and none of an older
//! term. Dropping the rest is a loss of messages, which every part of the protocol expects, and the
//! newest says all that matters. Messages that wait for different writes are kept apart: an answer
//! to an earlier write leaves earlier, and on a slow disk with a long queue one is always on its
//! way.

use quorate_raft::{Body, Message};
use quorate_types::{NodeId, limits};

/// A message, and the turn whose write it waits for.
struct Held {
    turn: u64,
    node: NodeId,
    message: Message,
}

/// The messages that wait, in the order in which they were said.
#[derive(Default)]
pub(super) struct HeldMessages(Vec<Held>);

impl HeldMessages {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Keeps `message` until the write of `turn` is durable, unless a message that is kept makes it
    /// superfluous.
    pub(super) fn push(&mut self, turn: u64, node: NodeId, message: Message) {
        // A pre-vote grant names a term that is not the sender's, and waits for nothing.
        self.0.retain(|held| held.message.term >= message.term);
        let same = |held: &Held| held.turn == turn && held.message.to == message.to;
        if self.0.iter().any(|held| same(held) && outweighs(&held.message.body, &message.body)) {
            return;
        }
        self.0.retain(|held| !same(held) || !outweighs(&message.body, &held.message.body));
        if matches!(message.body, Body::ReadIndexReply { .. }) {
            let is_reply = |held: &Held| matches!(held.message.body, Body::ReadIndexReply { .. });
            let replies = |held: &Held| same(held) && is_reply(held);
            if self.0.iter().filter(|held| replies(held)).count() == limits::HELD_READ_REPLIES_MAX {
                let oldest = self.0.iter().position(replies).expect("counted just now");
                self.0.remove(oldest);
            }
        }
        self.0.push(Held { turn, node, message });
    }

    /// The messages that waited for the writes through `turn`, in order.
    pub(super) fn release(&mut self, turn: u64) -> impl Iterator<Item = (NodeId, Message)> {
        let released = self.0.extract_if(.., move |held| held.turn <= turn);
        released.map(|held| (held.node, held.message))
    }
}

/// True if a receiver of `newer` does not need `older`, which the same sender sent in the same term
/// or an earlier one.
fn outweighs(newer: &Body, older: &Body) -> bool {
    match (newer, older) {
        (Body::HeartbeatReply { round: newer }, Body::HeartbeatReply { round: older }) => {
            newer >= older
        }
        (Body::Accepted { matched: newer }, Body::Accepted { matched: older }) => newer >= older,
        // A leader acts on the refusal of what it has asked last.
        (Body::Rejected { .. }, Body::Rejected { .. }) => true,
        // Of pre-votes only refusals wait.
        (Body::VoteReply { pre: true, .. }, Body::VoteReply { pre: true, .. }) => true,
        (newer, older) => newer == older,
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::{Index, ReplicaId, Term};

    use super::*;

    fn say(term: u64, to: u64, body: Body) -> Message {
        Message { from: ReplicaId(1), to: ReplicaId(to), term: Term(term), body }
    }

    fn beat(round: u64) -> Body {
        Body::HeartbeatReply { round }
    }

    fn accepted(matched: u64) -> Body {
        Body::Accepted { matched: Index(matched) }
    }

    /// Goal: what is kept is the newest of each kind for each peer and write, and leaves in order.
    #[test]
    fn the_newest_of_each_kind_is_kept() {
        let mut held = HeldMessages::default();
        for round in [1, 3, 2] {
            held.push(1, NodeId(2), say(5, 2, beat(round)));
        }
        held.push(1, NodeId(3), say(5, 3, beat(1)));
        held.push(1, NodeId(2), say(5, 2, accepted(7)));
        held.push(1, NodeId(2), say(5, 2, accepted(6)));
        // Another write: on a slow disk the earlier answer leaves first.
        held.push(2, NodeId(2), say(5, 2, accepted(9)));
        let released: Vec<_> =
            held.release(1).map(|(_, message)| (message.to.0, message.body)).collect();
        assert_eq!(released, [(2, beat(3)), (3, beat(1)), (2, accepted(7))]);
        assert_eq!(held.len(), 1);
        assert_eq!(held.release(2).count(), 1);
    }

    #[test]
    fn of_an_older_term_nothing_is_kept() {
        let mut held = HeldMessages::default();
        let grant = Body::VoteReply { pre: false, granted: true, leader_alive: false };
        held.push(1, NodeId(2), say(5, 2, grant.clone()));
        held.push(2, NodeId(3), say(6, 3, grant));
        let released: Vec<_> = held.release(9).map(|(_, message)| message.term).collect();
        assert_eq!(released, [Term(6)]);
    }

    #[test]
    fn answers_to_readers_are_bounded() {
        let mut held = HeldMessages::default();
        let reply = |context| Body::ReadIndexReply { context, index: None };
        let count = limits::HELD_READ_REPLIES_MAX as u64;
        for context in 0..count + 5 {
            held.push(1, NodeId(2), say(5, 2, reply(context)));
        }
        let contexts: Vec<_> = held.release(1).map(|(_, message)| message.body).collect();
        assert_eq!(contexts, (5..count + 5).map(reply).collect::<Vec<_>>());
    }
}
