//! Counts the totals of one world or many, for people, and hashes a world's history.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, AddAssign};

use quorate_types::{ShardId, Term};

use crate::observation::{FaultKind, Observation, OperationEnd, SimTime, scramble};

const FAULT_KINDS: usize = FaultKind::ALL.len();
/// The least that a seed must do to be worth its time.
const SIMULATED_SECONDS_MIN: u64 = 60;
const ACKNOWLEDGED_MIN: u64 = 1_000;
const FAULTS_MIN: u64 = 10;

/// The totals of one world or many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Worlds.
    pub seeds: u64,
    /// Simulated time in nanoseconds.
    pub simulated_nanos: u64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Operations that did not happen.
    pub failed: u64,
    /// Operations whose outcome is unknown.
    pub unknown: u64,
    /// Linearizable reads answered by a lease.
    pub reads_by_lease: u64,
    /// Linearizable reads answered after a confirmation.
    pub reads_by_index: u64,
    /// Leaders that began to serve.
    pub elections: u64,
    /// Transfers of leadership begun.
    pub transfers: u64,
    /// Changes of members begun.
    pub changes: u64,
    /// Memberships that came into force and were applied.
    pub changes_done: u64,
    /// Snapshots sent.
    pub snapshots_sent: u64,
    /// Snapshots installed.
    pub snapshots_installed: u64,
    /// Messages between replicas sent.
    pub messages_sent: u64,
    /// Messages between replicas lost.
    pub messages_lost: u64,
    /// Processes that ended.
    pub stops: u64,
    /// Replicas found damaged or destroyed.
    pub replicas_removed: u64,
    /// Observations.
    pub observations: u64,
    /// Hash of the history: the same seed must give the same hash. That of many worlds does not
    /// depend on their order.
    pub history: u64,
    faults: [u64; FAULT_KINDS],
}

impl Report {
    /// Faults of one kind.
    #[must_use]
    pub fn faults_of(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize]
    }

    /// Faults of all kinds.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.iter().sum()
    }

    /// Linearizable reads.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads_by_lease + self.reads_by_index
    }

    /// True if a single world did enough to prove anything: a minute, a thousand acknowledged
    /// operations (writes and reads) and ten faults.
    #[must_use]
    pub fn is_worth_its_time(&self) -> bool {
        self.simulated_nanos >= SIMULATED_SECONDS_MIN * 1_000_000_000
            && self.acknowledged + self.reads() >= ACKNOWLEDGED_MIN
            && self.faults() >= FAULTS_MIN
    }
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Report) {
        let Report { seeds, simulated_nanos, acknowledged, failed, unknown, .. } = other;
        self.seeds += seeds;
        self.simulated_nanos += simulated_nanos;
        self.acknowledged += acknowledged;
        self.failed += failed;
        self.unknown += unknown;
        self.reads_by_lease += other.reads_by_lease;
        self.reads_by_index += other.reads_by_index;
        self.elections += other.elections;
        self.transfers += other.transfers;
        self.changes += other.changes;
        self.changes_done += other.changes_done;
        self.snapshots_sent += other.snapshots_sent;
        self.snapshots_installed += other.snapshots_installed;
        self.messages_sent += other.messages_sent;
        self.messages_lost += other.messages_lost;
        self.stops += other.stops;
        self.replicas_removed += other.replicas_removed;
        self.observations += other.observations;
        self.history ^= other.history;
        for (count, more) in self.faults.iter_mut().zip(other.faults) {
            *count += more;
        }
    }
}

impl Add for Report {
    type Output = Report;

    fn add(mut self, other: Report) -> Report {
        self += other;
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.simulated_nanos / 1_000_000_000;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        writeln!(
            f,
            "{} seeds, {hours} h {minutes:02} min {:02} s simulated",
            self.seeds,
            seconds % 60
        )?;
        let rows = [
            ("writes acknowledged", self.acknowledged),
            ("reads by a lease", self.reads_by_lease),
            ("reads by a read index", self.reads_by_index),
            ("operations that failed", self.failed),
            ("operations of unknown outcome", self.unknown),
            ("elections", self.elections),
            ("transfers begun", self.transfers),
            ("changes of members begun", self.changes),
            ("memberships that came into force", self.changes_done),
            ("snapshots sent", self.snapshots_sent),
            ("snapshots installed", self.snapshots_installed),
            ("messages sent", self.messages_sent),
            ("messages lost", self.messages_lost),
            ("processes that ended", self.stops),
            ("replicas removed or damaged", self.replicas_removed),
            ("observations checked", self.observations),
        ];
        for (noun, count) in rows {
            writeln!(f, "  {noun:<36}{:>16}", Grouped(count))?;
        }
        writeln!(f, "  {:<36}{:>16}", "faults", Grouped(self.faults()))?;
        for kind in FaultKind::ALL.into_iter().filter(|kind| self.faults_of(*kind) > 0) {
            writeln!(f, "    {:<34}{:>16}", kind.name(), Grouped(self.faults_of(kind)))?;
        }
        writeln!(f, "  {:<36}{:016x}", "history", self.history)
    }
}

/// A number with separated thousands.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (position, digit) in digits.chars().enumerate() {
            if position > 0 && (digits.len() - position).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// Counts what one world shows, and hashes its history.
#[derive(Default)]
pub struct Reporter {
    report: Report,
    /// The newest term that is known to be served.
    served: BTreeMap<ShardId, Term>,
}

impl Reporter {
    /// A reporter for one world, at its beginning.
    #[must_use]
    pub fn new() -> Reporter {
        Reporter { report: Report { seeds: 1, ..Report::default() }, served: BTreeMap::new() }
    }

    /// The totals so far.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Counts an observation; call it in the order of time.
    pub fn observe(&mut self, at: SimTime, observation: &Observation<'_>) {
        self.report.observations += 1;
        self.report.simulated_nanos = at.0;
        self.report.history = scramble(self.report.history ^ digest(at, observation));
        let report = &mut self.report;
        match *observation {
            Observation::Acknowledged { .. } => report.acknowledged += 1,
            Observation::ReadServed { by_lease: true, .. } => report.reads_by_lease += 1,
            Observation::ReadServed { .. } => report.reads_by_index += 1,
            Observation::OperationEnded { end: OperationEnd::Failed, .. } => report.failed += 1,
            Observation::OperationEnded { end: OperationEnd::Unknown, .. } => report.unknown += 1,
            Observation::Role { shard, role, .. } if role.serving => {
                let served = self.served.entry(shard).or_default();
                if *served < role.term {
                    *served = role.term;
                    report.elections += 1;
                }
            }
            Observation::TransferBegun { .. } => report.transfers += 1,
            Observation::ChangeBegun { .. } => report.changes += 1,
            Observation::ChangeDone { .. } => report.changes_done += 1,
            Observation::SnapshotSent { .. } => report.snapshots_sent += 1,
            Observation::Installed { .. } => report.snapshots_installed += 1,
            Observation::Sent { .. } => report.messages_sent += 1,
            Observation::Lost { .. } => report.messages_lost += 1,
            Observation::NodeStopped { .. } => report.stops += 1,
            Observation::ReplicaRemoved { .. } => report.replicas_removed += 1,
            Observation::Fault { kind, .. } => report.faults[kind as usize] += 1,
            _ => {}
        }
    }

    /// Adds to the history's hash a value that no observation shows.
    pub fn stir(&mut self, value: u64) {
        self.report.history = scramble(self.report.history ^ value);
    }
}

/// A hash of a few numbers of one observation: enough that the hashes of two different histories
/// soon differ.
fn digest(at: SimTime, observation: &Observation<'_>) -> u64 {
    let (kind, a, b, c) = match *observation {
        Observation::Role { node, shard, role, .. } => (
            1,
            node.0,
            shard.0,
            role.term.0 << 3 | (role.role as u64) << 1 | u64::from(role.serving),
        ),
        Observation::Sent { from, to, shard, message } => {
            (2, from.0 << 32 | to.0, shard.0, message.term.0)
        }
        Observation::Delivered { from, to, shard, message } => {
            (3, from.0 << 32 | to.0, shard.0, message.term.0)
        }
        Observation::Durable { node, shard, replica, write } => {
            (4, node.0, shard.0 << 32 | replica.0, write.number.0)
        }
        Observation::Applied { node, shard, committed, .. } => {
            (5, node.0, shard.0, committed.range.end.0)
        }
        Observation::Acknowledged { shard, id, payload_hash } => {
            (6, shard.0, id.index.0, payload_hash)
        }
        Observation::Fault { kind, node, .. } => (7, kind as u64, node.map_or(0, |node| node.0), 0),
        Observation::ReadServed { node, shard, by_lease } => {
            (8, node.0, shard.0, u64::from(by_lease))
        }
        Observation::NodeStarted { node, incarnation } => (9, node.0, incarnation.0, 0),
        _ => (0, 0, 0, 0),
    };
    scramble(scramble(scramble(scramble(at.0 ^ kind) ^ a) ^ b) ^ c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::NodeId;

    fn reported(kinds: &[FaultKind]) -> Report {
        let mut reporter = Reporter::new();
        for (second, kind) in (1..).zip(kinds) {
            let at = SimTime(second * 1_000_000_000);
            let fault = Observation::Fault { kind: *kind, node: Some(NodeId(1)), detail: "" };
            reporter.observe(at, &fault);
        }
        *reporter.report()
    }

    #[test]
    fn reports_add_up_and_read_well() {
        let one = reported(&[FaultKind::Crash, FaultKind::Loss]);
        let other = Report { acknowledged: 1_234_567, ..reported(&[FaultKind::Crash]) };
        let sum = one + other;
        assert_eq!((sum.seeds, sum.faults(), sum.faults_of(FaultKind::Crash)), (2, 3, 2));
        let text = sum.to_string();
        assert!(text.starts_with("2 seeds, 0 h 00 min 03 s simulated\n"), "{text}");
        assert!(text.contains("1,234,567") && !text.contains("torn write"), "{text}");
        assert!(!sum.is_worth_its_time());
    }

    #[test]
    fn the_hash_tells_histories_apart() {
        let one = reported(&[FaultKind::Crash, FaultKind::Loss]);
        assert_eq!(one.history, reported(&[FaultKind::Crash, FaultKind::Loss]).history);
        assert_ne!(one.history, reported(&[FaultKind::Loss, FaultKind::Crash]).history);
    }
}
