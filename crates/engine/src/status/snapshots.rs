//! The snapshots that a node sends and receives, as facts.

use quorate_types::{Index, Monotonic, NodeId, ReplicaId, ShardId};
use serde::{Deserialize, Serialize};

use crate::state::transfers::{TransferProgress, Transfers};

/// The snapshots of a node at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsStatus {
    /// Snapshots of this node that followers wait for, those included that are under way.
    pub wanted: u64,
    /// Those under way: first the ones that are sent, by shard and replica.
    pub under_way: Vec<SnapshotStatus>,
}

/// A snapshot on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStatus {
    /// Whether it leaves the node or comes to it.
    pub direction: SnapshotDirection,
    /// Its shard.
    pub shard: ShardId,
    /// The replica that it is for.
    pub replica: ReplicaId,
    /// The other node.
    pub peer: NodeId,
    /// How far it is.
    #[serde(flatten)]
    pub progress: SnapshotProgress,
}

/// The direction of a snapshot, as seen from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotDirection {
    /// The node sends it.
    Sending,
    /// The node receives it.
    Receiving,
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    /// The last entry that it holds.
    pub base: Index,
    /// Bytes that have arrived.
    pub bytes_done: u64,
    /// About how many it has. Estimated from table files, which are compressed: it may be more.
    pub bytes_total: u64,
    /// What is left of the estimate.
    pub bytes_left: u64,
    /// Bytes a second in the last five to ten seconds.
    pub bytes_per_second: u64,
    /// How long the rest takes at that rate; none if nothing arrives, or nothing is left of the
    /// estimate.
    pub seconds_left: Option<u64>,
    /// For how long it has been under way, in milliseconds.
    pub running_ms: u64,
    /// Everything has arrived, and is being put in force.
    pub has_arrived: bool,
}

/// The snapshots of a node, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotCounts {
    /// Those that it sends.
    pub sending: u64,
    /// Those that followers wait for, and that are not yet begun.
    pub waiting: u64,
    /// Those that it receives.
    pub receiving: u64,
}

/// A snapshot that a replica is about to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncomingSnapshot {
    /// The node that sends it.
    pub from: NodeId,
    /// How far it is.
    #[serde(flatten)]
    pub progress: SnapshotProgress,
}

impl SnapshotsStatus {
    pub(crate) fn of(transfers: &Transfers, now: Monotonic) -> SnapshotsStatus {
        let mut under_way = Vec::new();
        for (direction, progresses) in [
            (SnapshotDirection::Sending, &transfers.sending),
            (SnapshotDirection::Receiving, &transfers.receiving),
        ] {
            let progresses = progresses.lock();
            under_way.extend(progresses.iter().map(|((shard, replica), progress)| {
                let (shard, replica) = (*shard, *replica);
                let peer = progress.peer;
                let progress = SnapshotProgress::of(progress, now);
                SnapshotStatus { direction, shard, replica, peer, progress }
            }));
        }
        SnapshotsStatus { wanted: transfers.wanted() as u64, under_way }
    }

    /// How many there are.
    #[must_use]
    pub fn counts(&self) -> SnapshotCounts {
        let count = |direction| {
            self.under_way.iter().filter(|snapshot| snapshot.direction == direction).count() as u64
        };
        let sending = count(SnapshotDirection::Sending);
        SnapshotCounts {
            sending,
            // Read a moment before: one may have begun since.
            waiting: self.wanted.saturating_sub(sending),
            receiving: count(SnapshotDirection::Receiving),
        }
    }

    /// The one that goes in `direction` to a replica.
    pub(crate) fn find(
        &self,
        direction: SnapshotDirection,
        shard: ShardId,
        replica: ReplicaId,
    ) -> Option<&SnapshotStatus> {
        self.under_way
            .iter()
            .find(|it| it.direction == direction && it.shard == shard && it.replica == replica)
    }
}

impl SnapshotProgress {
    fn of(progress: &TransferProgress, now: Monotonic) -> SnapshotProgress {
        let TransferProgress { base, bytes_done, bytes_total, began, has_arrived, .. } = *progress;
        let bytes_left = match has_arrived {
            true => 0,
            false => bytes_total.saturating_sub(bytes_done),
        };
        let bytes_per_second = match has_arrived {
            true => 0,
            false => progress.bytes_per_second(now),
        };
        SnapshotProgress {
            base,
            bytes_done,
            bytes_total,
            bytes_left,
            bytes_per_second,
            seconds_left: seconds_left(bytes_left, bytes_per_second),
            running_ms: u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX),
            has_arrived,
        }
    }
}

/// How long `bytes_left` take; none if nothing arrives, or nothing is left.
pub(crate) fn seconds_left(bytes_left: u64, bytes_per_second: u64) -> Option<u64> {
    (bytes_left > 0 && bytes_per_second > 0).then(|| bytes_left.div_ceil(bytes_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Goal: what is left, and for how long, is told as long as it is known, and both directions are
    /// told apart. Method: one that stands at its half, one beyond its estimate, one that has
    /// arrived.
    #[test]
    fn what_is_left_is_told_while_it_is_known() {
        let (transfers, began) = (Transfers::default(), Monotonic(7 * SECOND));
        let now = Monotonic(began.0 + 4 * SECOND);
        let with = |bytes, has_arrived| {
            let mut progress = TransferProgress::begin(began, NodeId(3), Index(50), 1_000);
            progress.advance(now, bytes);
            progress.has_arrived = has_arrived;
            progress
        };
        let place = |shard| (ShardId(shard), ReplicaId(2));
        transfers.want(3);
        transfers.sending.lock().insert(place(1), with(400, false));
        transfers.receiving.lock().insert(place(2), with(1_200, false));
        transfers.receiving.lock().insert(place(3), with(900, true));
        let told = SnapshotsStatus::of(&transfers, now);
        assert_eq!(told.counts(), SnapshotCounts { sending: 1, waiting: 2, receiving: 2 });
        let find = |direction, shard| {
            told.find(direction, ShardId(shard), ReplicaId(2)).map(|found| found.progress)
        };
        assert_eq!(find(SnapshotDirection::Receiving, 1), None);
        let half = find(SnapshotDirection::Sending, 1).expect("it is sent");
        let expected = SnapshotProgress {
            base: Index(50),
            bytes_done: 400,
            bytes_total: 1_000,
            bytes_left: 600,
            bytes_per_second: 100,
            seconds_left: Some(6),
            running_ms: 4_000,
            has_arrived: false,
        };
        assert_eq!(half, expected);
        let beyond = find(SnapshotDirection::Receiving, 2).expect("it is received");
        assert_eq!((beyond.bytes_left, beyond.seconds_left), (0, None));
        let arrived = find(SnapshotDirection::Receiving, 3).expect("it is received");
        assert_eq!((arrived.bytes_left, arrived.seconds_left), (0, None));
    }
}
