//! The properties that are checked in every step, with access to all nodes at once.

use quorate_types::Monotonic;

use crate::node::{Node, SHARDS, member, node_id};
use crate::world::World;

impl World {
    /// Property: no two leases of one shard overlap in real time, not even those of processes that
    /// are paused and would continue with what they last knew.
    pub(crate) fn check_leases(&self) {
        for shard in 0..SHARDS {
            let holders = (0..self.nodes.len()).filter(|node| self.has_lease(*node, shard));
            let holders: Vec<usize> = holders.collect();
            assert!(holders.len() < 2, "two leases of shard {shard}: nodes {holders:?}");
            let committed = self.truth[shard].committed.len();
            for node in holders {
                let commit = self.nodes[node].replicas[shard].commit;
                assert!(commit >= committed, "stale read by node {node}");
            }
        }
    }

    /// Property: what a requester counts on ends before the supporter's promise does, in real time.
    pub(crate) fn check_support(&self) {
        for (supporter, requester) in
            (0..self.nodes.len()).flat_map(|g| self.others(g).map(move |a| (g, a)))
        {
            let (f, l) = (&self.nodes[supporter], &self.nodes[requester]);
            let Some(held) = self.held(requester, node_id(supporter)) else { continue };
            let is_same = held.incarnation == f.live.standings().incarnation();
            if f.is_up && l.is_up && is_same && held.until > self.clock(requester) {
                let given = f
                    .live
                    .supported_until(node_id(requester))
                    .map_or(0, |at| self.real_ns(supporter, at));
                let held = self.real_ns(requester, held.until);
                assert!(
                    held <= given,
                    "{requester} counts on {supporter} for longer than it was given"
                );
            }
        }
    }

    /// Property: nothing shortens a support. Called after everything that may change one.
    pub(crate) fn check_shortening(&mut self, node: usize, requester: usize) {
        let (now, peer) = (self.clock(node), node_id(requester));
        let this = &mut self.nodes[node];
        let until = this.live.supported_until(peer);
        let Some(standing) = this.live.standings().get(peer) else { return };
        if let Some((incarnation, lowest, before)) = this.supported.get(&peer) {
            let is_other = (standing.incarnation, standing.lowest.0) != (*incarnation, *lowest);
            let is_shorter = until.is_none_or(|until| until < *before);
            assert!(!is_shorter || is_other, "node {node} shortened a support");
            let is_withdrawn = until.is_none() && standing.incarnation == *incarnation;
            // A refusal of a duplicate may raise the epoch without a withdrawal; its requester has
            // moved on, so `until` is then that of the new epoch.
            assert!(!is_withdrawn || now > *before, "node {node} withdrew before its time");
        }
        match until {
            Some(until) => {
                this.supported.insert(peer, (standing.incarnation, standing.lowest.0, until));
            }
            None => {
                this.supported.remove(&peer);
            }
        }
    }

    /// Property: no replica votes, not even in a pre-vote, that a lease in force counts on.
    pub(crate) fn check_grant(&self, candidate: usize, voter: usize, shard: usize) {
        for leader in self.others(voter).filter(|leader| *leader != candidate) {
            let replica = &self.nodes[leader].replicas[shard];
            let Some(held) = self.held(leader, node_id(voter)) else { continue };
            let counts = replica.lease.as_ref().is_some_and(|lease| {
                held.until > self.clock(leader) && lease.is_bound(member(shard, voter), held)
            });
            assert!(
                !(counts && self.has_lease(leader, shard)),
                "node {voter} votes for {candidate} while the lease of {leader} counts it"
            );
        }
    }

    /// The real time, in nanoseconds, at which a node's clock shows `at`.
    fn real_ns(&self, node: usize, at: Monotonic) -> i128 {
        let Node { parts_per_million, offset_ms, .. } = &self.nodes[node];
        let elapsed = i128::from(at.0) - i128::from(*offset_ms) * 1_000_000;
        elapsed * 1_000_000 / i128::from(1_000_000 + parts_per_million)
    }
}
