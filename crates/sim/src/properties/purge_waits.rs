//! A purge never outruns a transfer: while a leader sends a snapshot, its log goes on behind what the
//! snapshot holds at least, within the bound of what is kept for followers. Whoever has lost the
//! leadership since waits for nothing: another leader's log goes on behind that snapshot, if it is taken.

use std::collections::BTreeMap;

use quorate_raft::{Body, Message, Role, RoleState};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, Term};

use super::known::Known;
use super::{Broken, broken};

const NAME: &str = "purge_waits";

/// Knows the snapshots under way: for which replica, from where, and behind which entry the log has
/// to go on.
#[derive(Default)]
pub(crate) struct PurgeWaits {
    under_way: BTreeMap<(ShardId, ReplicaId), (NodeId, Index)>,
    /// The terms in which nodes lead.
    led: BTreeMap<(ShardId, NodeId), Term>,
}

impl PurgeWaits {
    /// What a node was about to send while it led waits for it no longer in another term.
    pub(crate) fn role(&mut self, node: NodeId, shard: ShardId, role: RoleState) {
        let led = (role.role == Role::Leader).then_some(role.term);
        let before = match led {
            Some(term) => self.led.insert((shard, node), term),
            None => self.led.remove(&(shard, node)),
        };
        if before != led {
            self.under_way.retain(|(of, _), (from, _)| *of != shard || *from != node);
        }
    }

    pub(crate) fn sent(&mut self, from: NodeId, shard: ShardId, to: ReplicaId, at_least: Index) {
        if self.led.contains_key(&(shard, from)) {
            self.under_way.insert((shard, to), (from, at_least));
        }
    }

    pub(crate) fn ended(&mut self, from: NodeId, shard: ShardId, to: ReplicaId) {
        if self.under_way.get(&(shard, to)).is_some_and(|(node, _)| *node == from) {
            self.under_way.remove(&(shard, to));
        }
    }

    /// A sender that stopped sends nothing any more.
    pub(crate) fn stopped(&mut self, node: NodeId) {
        self.under_way.retain(|_, (from, _)| *from != node);
        self.led.retain(|(_, leader), _| *leader != node);
    }

    /// A follower that acknowledges enough needs the snapshot no more.
    pub(crate) fn delivered(&mut self, to: NodeId, shard: ShardId, message: &Message) {
        if let Body::Accepted { matched } = message.body {
            let of = (shard, message.from);
            let suffices = |(from, at_least): &(NodeId, Index)| *from == to && *at_least <= matched;
            if self.under_way.get(&of).is_some_and(suffices) {
                self.under_way.remove(&of);
            }
        }
    }

    pub(crate) fn purged(
        &self,
        known: &Known,
        node: NodeId,
        (shard, leader): (ShardId, ReplicaId),
        base: LogId,
        kept_from: Index,
    ) -> Result<(), Broken> {
        let membership = known.get(shard, leader).and_then(|leader| leader.memberships.last());
        let all = (shard, ReplicaId(0))..=(shard, ReplicaId(u64::MAX));
        for ((_, to), (from, at_least)) in self.under_way.range(all) {
            let is_member = membership.is_some_and(|(_, members)| members.node_of(*to).is_some());
            let is_within = base.index <= *at_least || base.index < kept_from;
            if *from == node && is_member && !is_within {
                let what = format!(
                    "the log of shard {shard} is given up through {base}, and the snapshot under \
                     way to replica {to} needs it to go on behind {at_least:?}"
                );
                return Err(broken(NAME, shard, [node], what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, SHARD, breaks, id, run};
    use super::*;
    use crate::observation::Observation;

    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("elected");
        bench.replicate(&[1, 2], 1, &run(2, 2, 5));
        bench.commit(1, 6).expect("told by a leader");
        bench.apply(1, run(2, 2, 5)).expect("committed");
        let (node, shard, replica, applied) = (NodeId(1), SHARD, ReplicaId(1), Index(6));
        bench.see(&Observation::Flushed { node, shard, replica, applied }).expect("noted");
        send(&mut bench);
        bench
    }

    fn send(bench: &mut Bench) {
        let (from, to, replica) = (NodeId(1), NodeId(3), ReplicaId(3));
        let shard = SHARD;
        let (base, at_least) = (id(2, 4), Index(3));
        let sent = Observation::SnapshotSent { from, to, shard, replica, base, at_least };
        bench.see(&sent).expect("noted");
    }

    fn purge(bench: &mut Bench, index: u64, kept_from: u64) -> Result<(), Broken> {
        let (node, replica, base) = (NodeId(1), ReplicaId(1), id(2, index));
        let kept_from = Index(kept_from);
        bench.see(&Observation::Purged { node, shard: SHARD, replica, base, kept_from })
    }

    #[test]
    fn a_purge_waits_within_the_bound() {
        purge(&mut bench(), 3, 0).expect("the log goes on behind the snapshot");
        breaks(purge(&mut bench(), 4, 0), NAME);
        breaks(purge(&mut bench(), 4, 4), NAME);
        purge(&mut bench(), 4, 5).expect("beyond the bound");
    }

    #[test]
    fn a_former_leader_waits_for_nothing() {
        let mut deposed = bench();
        deposed.role(1, Role::Follower, 3).expect("deposed");
        purge(&mut deposed, 6, 0).expect("another leads");
        // An order from before may be carried out late.
        send(&mut deposed);
        purge(&mut deposed, 6, 0).expect("another leads");
    }

    #[test]
    fn a_snapshot_that_ended_or_suffices_is_not_waited_for() {
        let (from, to, shard, replica) = (NodeId(1), NodeId(3), SHARD, ReplicaId(3));
        let mut ended = bench();
        let is_installed = false;
        let end = Observation::SnapshotEnded { from, to, shard, replica, is_installed };
        ended.see(&end).expect("noted");
        purge(&mut ended, 6, 0).expect("nobody waits");
        let mut accepted = bench();
        let body = Body::Accepted { matched: Index(3) };
        let message =
            &Message { from: replica, to: ReplicaId(1), term: quorate_types::Term(2), body };
        let (from, to) = (NodeId(3), NodeId(1));
        accepted.see(&Observation::Delivered { from, to, shard, message }).expect("noted");
        purge(&mut accepted, 6, 0).expect("it holds enough");
    }
}
