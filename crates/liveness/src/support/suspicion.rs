//! The suspicion of peers that are late, by the phi-accrual detector over their heartbeats
//! (Hayashibara and others, "The phi accrual failure detector", 2004).
//!
//! Suspicion only prepares: stop sending shard messages, prefer other replicas. Nothing that needs
//! the peer to be dead may rest on it; that needs the lapse and withdrawal of support.
//!
//! The paper compares phi, minus the decimal logarithm of the probability that a heartbeat is later
//! than this one is already, with a threshold. For a normal distribution that is the same as
//! counting standard deviations, which needs no function that differs between machines.

use std::collections::{BTreeMap, VecDeque};

use quorate_types::{Duration, Monotonic, NodeId, limits};

/// Intervals that are remembered: 10 s of heartbeats.
const INTERVALS_MAX: usize = 100;
/// Least standard deviation that is assumed: a peer as regular as a clock would otherwise be
/// suspected over one lost datagram. With it, three in a row have to be lost.
const DEVIATION_MIN: Duration = Duration::from_millis(50);
/// A delay of so many standard deviations has a probability of 10^-8, which is phi 8: the default
/// of Cassandra and of Akka.
const SUSPECT_DEVIATIONS: f64 = 5.612;
/// A timer of the own node that is late by more was stalled, not merely scheduled.
const OWN_LATENESS: Duration = Duration::from_millis(20);

struct Arrivals {
    intervals_ns: VecDeque<u64>,
    last_at: Monotonic,
    stalled_at_last: Duration,
}

/// The estimates of all peers of a node.
#[derive(Default)]
pub struct Suspicion {
    peers: BTreeMap<NodeId, Arrivals>,
    /// For how long this node has been stalled in total.
    stalled: Duration,
}

impl Suspicion {
    /// An empty state: no peer was heard yet.
    #[must_use]
    pub fn new() -> Suspicion {
        Suspicion::default()
    }

    /// The own timer that was due at `due` ran at `now`: if it was late, this node was stalled, and
    /// that time counts against no peer.
    pub fn handle_timer(&mut self, due: Monotonic, now: Monotonic) {
        let late = now.since(due);
        if late > OWN_LATENESS {
            self.stalled += late;
        }
    }

    /// A new heartbeat of `node` arrived.
    pub fn handle_heartbeat(&mut self, now: Monotonic, node: NodeId) {
        let stalled = self.stalled;
        let arrivals = self.peers.entry(node).or_insert_with(|| Arrivals {
            intervals_ns: VecDeque::new(),
            last_at: now,
            stalled_at_last: stalled,
        });
        if now > arrivals.last_at {
            let interval = elapsed(arrivals, stalled, now);
            arrivals.intervals_ns.push_back(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
            if arrivals.intervals_ns.len() > INTERVALS_MAX {
                arrivals.intervals_ns.pop_front();
            }
        }
        (arrivals.last_at, arrivals.stalled_at_last) = (now, stalled);
    }

    /// `node` restarted or left: its estimate starts again.
    pub fn forget(&mut self, node: NodeId) {
        self.peers.remove(&node);
    }

    /// True if `node` was heard and its next heartbeat is later than chance explains.
    #[must_use]
    pub fn is_suspected(&self, now: Monotonic, node: NodeId) -> bool {
        self.deviations(now, node) >= SUSPECT_DEVIATIONS
    }

    /// Phi, for people and metrics to look at: 0 for a peer in time or never heard. Never decide by
    /// it: its last bits differ between machines.
    #[must_use]
    pub fn phi(&self, now: Monotonic, node: NodeId) -> f64 {
        let deviations = self.deviations(now, node);
        if deviations <= 0.0 {
            return 0.0;
        }
        // The logistic approximation of the normal distribution (Bowling and others, 2009), whose
        // error is below 0.00014; its tail is kept as a logarithm, which does not underflow.
        let exponent = deviations * (1.5976 + 0.070_566 * deviations * deviations);
        (exponent + (-exponent).exp().ln_1p()) / std::f64::consts::LN_10
    }

    /// By how many standard deviations the next heartbeat of `node` is later than the mean.
    fn deviations(&self, now: Monotonic, node: NodeId) -> f64 {
        let Some(arrivals) = self.peers.get(&node) else { return 0.0 };
        let nanos = |duration: Duration| duration.as_nanos() as f64;
        let count = arrivals.intervals_ns.len() as f64;
        // A mean from few intervals leans to the agreed interval.
        let mean = (arrivals.intervals_ns.iter().map(|ns| *ns as f64).sum::<f64>()
            + nanos(limits::HEARTBEAT))
            / (count + 1.0);
        let squares = arrivals.intervals_ns.iter().map(|ns| (*ns as f64 - mean).powi(2));
        let variance = squares.sum::<f64>() / (count + 1.0);
        let deviation = variance.sqrt().max(nanos(DEVIATION_MIN));
        (nanos(elapsed(arrivals, self.stalled, now)) - mean) / deviation
    }
}

/// Time since the last arrival, less the time that this node was stalled since.
fn elapsed(arrivals: &Arrivals, stalled: Duration, now: Monotonic) -> Duration {
    now.since(arrivals.last_at).saturating_sub(stalled - arrivals.stalled_at_last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    fn ms(millis: u64) -> Monotonic {
        Monotonic::from_millis(millis)
    }

    fn heard(intervals_ms: impl IntoIterator<Item = u64>) -> (Suspicion, u64) {
        let (mut suspicion, mut at) = (Suspicion::new(), 1_000);
        suspicion.handle_heartbeat(ms(at), PEER);
        for interval in intervals_ms {
            at += interval;
            suspicion.handle_heartbeat(ms(at), PEER);
        }
        (suspicion, at)
    }

    #[test]
    fn two_losses_are_no_suspicion_four_are() {
        let (suspicion, at) = heard([100; 50]);
        assert!(!suspicion.is_suspected(ms(at + 300), PEER));
        assert!(suspicion.is_suspected(ms(at + 400), PEER));
        assert!(!suspicion.is_suspected(ms(at + 400), NodeId(3)), "never heard");
    }

    #[test]
    fn an_irregular_peer_is_given_more_time() {
        let (suspicion, at) = heard((0..100).map(|k| if k % 2 == 0 { 20 } else { 300 }));
        assert!(!suspicion.is_suspected(ms(at + 800), PEER));
        assert!(suspicion.is_suspected(ms(at + 1_000), PEER));
    }

    #[test]
    fn own_stalls_are_discounted() {
        let (mut suspicion, at) = heard([100; 50]);
        suspicion.handle_timer(ms(at + 10), ms(at + 2_010));
        assert!(!suspicion.is_suspected(ms(at + 2_100), PEER));
        suspicion.handle_heartbeat(ms(at + 2_100), PEER);
        assert!(suspicion.is_suspected(ms(at + 2_500), PEER), "the stall left no long interval");
    }

    #[test]
    fn phi_is_eight_where_suspicion_begins() {
        let (suspicion, at) = heard([100; 50]);
        let phi = |after| suspicion.phi(ms(at + after), PEER);
        assert!(phi(50) == 0.0 && (phi(150) - 0.8).abs() < 0.01);
        assert!((7.0..10.0).contains(&phi(381)), "{}", phi(381));
        assert!(phi(60_000) > 1e6, "the tail does not underflow");
    }
}
