//! The index of shards to wake when a node is lost or returns: by the node of the leader they are
//! bound to, and by the peers at which they are not bound. The cost of a loss or a return depends
//! on the shards it concerns, not on all that the node hosts.
//!
//! Wakes are spread at random, so that the candidates of one shard on two nodes seldom meet, and
//! rate limited, so that ten thousand shards do not fill one turn.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{Duration, Monotonic, NodeId, ShardId, SplitMix64, limits};

/// Why a shard is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// Support of the leader's node was withdrawn, or that node restarted: the replica may campaign.
    Lost,
    /// A peer supports this node again: the leader may bind the replica there.
    Returned,
    /// The audit found a difference: ask the leader's node, or bind again.
    Differs,
}

/// The index and the queue of wakes of one worker.
#[derive(Debug)]
pub struct WakeIndex {
    bound_to: BTreeMap<NodeId, BTreeSet<ShardId>>,
    bound_at: BTreeMap<NodeId, BTreeSet<ShardId>>,
    not_bound_at: BTreeMap<NodeId, BTreeSet<ShardId>>,
    queue: BTreeSet<(Monotonic, ShardId, Wake)>,
    random: SplitMix64,
    /// The rate limit: the next wake is not taken before this time.
    next_at: Monotonic,
}

impl WakeIndex {
    /// An empty index, whose jitter comes from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> WakeIndex {
        WakeIndex {
            bound_to: BTreeMap::new(),
            bound_at: BTreeMap::new(),
            not_bound_at: BTreeMap::new(),
            queue: BTreeSet::new(),
            random: SplitMix64::new(seed),
            next_at: Monotonic(0),
        }
    }

    /// The replica of `shard` here is bound to a leader at `leader`.
    pub fn bind(&mut self, shard: ShardId, leader: NodeId) {
        self.bound_to.entry(leader).or_default().insert(shard);
    }

    /// It is no longer bound there.
    pub fn unbind(&mut self, shard: ShardId, leader: NodeId) {
        remove(&mut self.bound_to, leader, shard);
    }

    /// `shard` is led here and has a replica at `peer`, which is bound or not.
    pub fn lead(&mut self, shard: ShardId, peer: NodeId, is_bound: bool) {
        self.lead_no_more(shard, peer);
        let side = if is_bound { &mut self.bound_at } else { &mut self.not_bound_at };
        side.entry(peer).or_default().insert(shard);
    }

    /// `shard` is no longer led here, or has no replica at `peer`.
    pub fn lead_no_more(&mut self, shard: ShardId, peer: NodeId) {
        remove(&mut self.bound_at, peer, shard);
        remove(&mut self.not_bound_at, peer, shard);
    }

    /// `shard` is no longer led here. Yields the peers at which it has replicas, bound or not: a
    /// peer whose support this node lost may still be bound.
    pub fn lead_no_more_anywhere(&mut self, shard: ShardId) -> Vec<NodeId> {
        let holds = |(peer, shards): (&NodeId, &BTreeSet<ShardId>)| {
            shards.contains(&shard).then_some(*peer)
        };
        let sides = self.bound_at.iter().chain(&self.not_bound_at);
        let peers: BTreeSet<NodeId> = sides.filter_map(holds).collect();
        peers.iter().for_each(|peer| self.lead_no_more(shard, *peer));
        peers.into_iter().collect()
    }

    /// The support of `peer` ended, or it restarted: no shard led here is bound there any more.
    pub fn handle_peer_lost(&mut self, peer: NodeId) {
        let mut shards = self.bound_at.remove(&peer).unwrap_or_default();
        if !shards.is_empty() {
            self.not_bound_at.entry(peer).or_default().append(&mut shards);
        }
    }

    /// The shards led here that have a replica at `peer`, bound or not.
    pub fn led_with(&self, peer: NodeId) -> impl Iterator<Item = ShardId> + '_ {
        let sides = [&self.bound_at, &self.not_bound_at];
        sides.into_iter().filter_map(move |side| side.get(&peer)).flatten().copied()
    }

    /// The shards bound to leaders at `leader`.
    pub fn bound_to(&self, leader: NodeId) -> impl Iterator<Item = ShardId> + '_ {
        self.bound_to.get(&leader).into_iter().flatten().copied()
    }

    /// Bindings to leaders at `leader` are void: wakes their shards, those of low `rank` first, one
    /// [`limits::WAKE_SPREAD`] per rank. A rank is how many other replicas are preferred as leader.
    pub fn handle_lost(&mut self, now: Monotonic, leader: NodeId, rank: impl Fn(ShardId) -> u32) {
        let shards = self.bound_to.remove(&leader).unwrap_or_default();
        let spread = spread(shards.len());
        for shard in shards {
            let at = now + limits::WAKE_SPREAD * rank(shard) + self.jitter(spread);
            self.queue.insert((at, shard, Wake::Lost));
        }
    }

    /// `peer` supports this node again: wakes the shards that are not bound there. They stay in the
    /// index until they are.
    pub fn handle_returned(&mut self, now: Monotonic, peer: NodeId) {
        let shards = self.not_bound_at.get(&peer).cloned().unwrap_or_default();
        let spread = spread(shards.len());
        for shard in shards {
            let at = now + self.jitter(spread);
            self.queue.insert((at, shard, Wake::Returned));
        }
    }

    /// The audit found a difference in these shards.
    pub fn handle_differing(&mut self, now: Monotonic, shards: impl IntoIterator<Item = ShardId>) {
        self.queue.extend(shards.into_iter().map(|shard| (now, shard, Wake::Differs)));
    }

    /// The next shard to be woken, at most one per [`limits::WAKE_INTERVAL`]; `None` when none is due
    /// or the rate is reached.
    pub fn take_wake(&mut self, now: Monotonic) -> Option<(ShardId, Wake)> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        let (_, shard, wake) = self.queue.pop_first().expect("looked at just now");
        // A worker asks every few milliseconds: it may take the wakes that were possible since
        // then, but not those of an idle second.
        let burst_from = Monotonic(now.0.saturating_sub(nanos(BURST)));
        self.next_at = self.next_at.max(burst_from) + limits::WAKE_INTERVAL;
        Some((shard, wake))
    }

    /// When [`WakeIndex::take_wake`] will have something.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        self.queue.first().map(|(at, _, _)| (*at).max(self.next_at))
    }

    fn jitter(&mut self, spread: Duration) -> Duration {
        Duration::from_nanos(self.random.below(nanos(spread)))
    }
}

/// The timer grid of a host: so much unused rate is kept.
const BURST: Duration = Duration::from_millis(10);

/// Wide enough for that many wakes at their rate.
fn spread(count: usize) -> Duration {
    let count = u32::try_from(count).expect("fewer than 2^32 shards");
    limits::WAKE_SPREAD.max(limits::WAKE_INTERVAL * count)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a short time")
}

fn remove(map: &mut BTreeMap<NodeId, BTreeSet<ShardId>>, node: NodeId, shard: ShardId) {
    if let Some(shards) = map.get_mut(&node) {
        shards.remove(&shard);
        if shards.is_empty() {
            map.remove(&node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    fn wakes_until(index: &mut WakeIndex, end: Monotonic) -> Vec<(Monotonic, ShardId, Wake)> {
        let mut taken = Vec::new();
        while let Some(at) = index.poll_timeout().filter(|at| *at <= end) {
            while let Some((shard, wake)) = index.take_wake(at) {
                taken.push((at, shard, wake));
            }
        }
        taken
    }

    #[test]
    fn a_loss_wakes_what_was_bound_and_nothing_else() {
        let mut index = WakeIndex::new(1);
        for shard in 0..100 {
            index.bind(ShardId(shard), if shard < 60 { PEER } else { NodeId(3) });
        }
        index.unbind(ShardId(0), PEER);
        index.handle_lost(Monotonic(0), PEER, |shard| u32::from(shard.0 >= 30));
        let taken = wakes_until(&mut index, Monotonic::from_millis(10_000));
        let mut woken: Vec<u64> = taken.iter().map(|(_, shard, _)| shard.0).collect();
        let of_rank_0 = |shard: &u64| *shard < 30;
        assert!(
            woken.iter().skip_while(|shard| of_rank_0(shard)).all(|shard| !of_rank_0(shard))
                && !woken.is_sorted(),
            "by preference, spread"
        );
        woken.sort();
        assert_eq!(woken, (1..60).collect::<Vec<_>>());
        assert_eq!(index.bound_to(PEER).count(), 0);
        assert_eq!(index.bound_to(NodeId(3)).count(), 40);
    }

    /// Goal: no burst is longer than the grid allows, and all are awake in about a second.
    #[test]
    fn wakes_are_rate_limited() {
        let mut index = WakeIndex::new(1);
        for shard in 0..10_000 {
            index.lead(ShardId(shard), PEER, true);
        }
        index.handle_returned(Monotonic(0), PEER);
        assert_eq!(index.poll_timeout(), None, "all are bound there");
        index.handle_peer_lost(PEER);
        index.handle_returned(Monotonic(0), PEER);
        let taken = wakes_until(&mut index, Monotonic::from_millis(1_200));
        assert_eq!(taken.len(), 10_000);
        let burst = usize::try_from(BURST.as_micros() / limits::WAKE_INTERVAL.as_micros());
        let burst = burst.expect("a small number");
        for window in taken.windows(2 * burst + 2) {
            let length = window[2 * burst + 1].0.since(window[0].0);
            assert!(length >= BURST, "{} wakes within {length:?}", window.len());
        }
        for shard in 1..10_000 {
            index.lead(ShardId(shard), PEER, true);
        }
        let later = Monotonic::from_millis(1_200);
        index.handle_returned(later, PEER);
        assert_eq!(wakes_until(&mut index, Monotonic(u64::MAX)).len(), 1, "one is not bound yet");
        index.lead_no_more(ShardId(0), PEER);
        index.handle_returned(later, PEER);
        assert_eq!(index.poll_timeout(), None);
    }
}
