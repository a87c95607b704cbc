//! The profile of a seed: how large its cluster is, which faults strike and how often. If all seeds
//! had every fault at a medium rate, they would all test the same.

use quorate_types::{SplitMix64, limits};

use super::units::MILLI;
use crate::observation::FaultKind;

/// How far clocks stray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// Any two stray by less than the drift margin within one support: reads may use leases.
    WithinMargin,
    /// They stray without a bound: reads use ReadIndex, and writes must still be safe.
    BeyondMargin,
}

/// What a seed's world is like, drawn from the seed once.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Nodes, 3 to 7.
    pub nodes: usize,
    /// Shards at the beginning; 8 or more.
    pub shards: u64,
    /// Voters of each shard at the beginning.
    pub voters: usize,
    /// How far clocks stray.
    pub clocks: Clocks,
    /// Whether node liveness and bindings are on, and leases if clocks stay within the margin.
    pub has_liveness: bool,
    /// Whether streams lose, double and reorder single messages.
    pub is_unruly: bool,
    /// Whether the operator changes memberships.
    pub changes_members: bool,
    /// The number of clients.
    pub clients: usize,
    /// Clients leave every other shard alone from some time before the heal, and the rest
    /// without any requests lasts longer: only the audit finds what is stuck there.
    pub has_idle_shards: bool,
    /// The kernels' bounds are so small that a few clients reach them.
    pub is_tight: bool,
    /// Bytes of entries that a node keeps in memory.
    pub entry_cache_bytes_max: usize,
    /// The log of a replica is purged when it holds more bytes than this.
    pub log_bytes_asked: u64,
    /// The bytes of a replica's log that are kept for followers at most.
    pub log_bytes_kept: u64,
    /// How many of a thousand applies and fetches take long.
    pub lag_per_mille: u64,
    /// The longest that one apply takes then, in nanoseconds.
    pub apply_lag: u64,
    /// The longest that one fetch takes then, in nanoseconds.
    pub fetch_lag: u64,
    /// Snapshots that a node sends, and those that it receives, at a time.
    pub transfers_max: usize,
    /// News of the heartbeat thread reaches the worker within this many nanoseconds.
    pub news_lag: u64,
    /// Each kind of fault that occurs, and its mean interval in milliseconds.
    pub faults: Vec<(FaultKind, u64)>,
}

/// Kinds of fault that a world injects as separate events, with their mean interval in milliseconds
/// at the usual pace.
const SCHEDULED: [(FaultKind, u64); 23] = [
    (FaultKind::Crash, 7_000),
    (FaultKind::CrashAll, 25_000),
    (FaultKind::ClockDrift, 10_000),
    (FaultKind::ClockJump, 8_000),
    (FaultKind::ClockJumpBeyond, 10_000),
    (FaultKind::Suspend, 15_000),
    (FaultKind::Pause, 12_000),
    (FaultKind::OneWayCut, 6_000),
    (FaultKind::Cut, 6_000),
    (FaultKind::PartialPartition, 10_000),
    (FaultKind::Partition, 12_000),
    (FaultKind::SlowPeer, 8_000),
    (FaultKind::Delay, 12_000),
    (FaultKind::DatagramsLost, 10_000),
    (FaultKind::StreamsHang, 8_000),
    (FaultKind::DiskSlow, 10_000),
    (FaultKind::DiskStall, 15_000),
    (FaultKind::SyncFailed, 20_000),
    (FaultKind::BitFlip, 12_000),
    (FaultKind::WalDamaged, 12_000),
    (FaultKind::WorkerHung, 15_000),
    (FaultKind::ReleaseLost, 8_000),
    (FaultKind::SnapshotCut, 5_000),
];

/// The bound of a replica's entries kept for followers in a tight world.
pub(crate) const TIGHT_KEPT_ENTRIES_MAX: u64 = 50;
/// The bound of bytes handed out and not applied of one replica in a tight world.
pub(crate) const TIGHT_APPLY_BYTES_MAX: usize = 500;
/// The bound of that for all replicas of a node.
pub(crate) const TIGHT_NODE_APPLY_BYTES_MAX: usize = 800;

impl Profile {
    /// Bytes handed out and not applied, of one replica and of a node, at most.
    pub(crate) fn apply_bytes_max(&self) -> (usize, usize) {
        match self.is_tight {
            true => (TIGHT_APPLY_BYTES_MAX, TIGHT_NODE_APPLY_BYTES_MAX),
            false => (limits::APPLY_BYTES_MAX, limits::APPLY_NODE_BYTES_MAX),
        }
    }

    /// The profile of a seed.
    #[must_use]
    pub fn of(random: &mut SplitMix64) -> Profile {
        let nodes = random.place(5) + 3;
        let clocks = if random.chance(600) { Clocks::WithinMargin } else { Clocks::BeyondMargin };
        let has_liveness = random.chance(850);
        // One seed in four is quick, one is slow, the others are in between.
        let pace = [500, 1_000, 1_000, 2_000][random.place(4)];
        // Many kinds at a quick pace would leave no time in which anything works.
        let share = random.between(300, 900) * pace.min(1_000) / 1_000;
        let mut faults = Vec::new();
        for (kind, interval) in SCHEDULED {
            let is_out = kind == FaultKind::ClockJumpBeyond && clocks == Clocks::WithinMargin;
            if !is_out && (kind == FaultKind::Crash || random.chance(share)) {
                faults.push((kind, interval * pace / 1_000));
            }
        }
        let lag = [20 * MILLI, 500 * MILLI, 3_000 * MILLI];
        let (rare, apply_lag) = ([0, 5, 20][random.place(3)], lag[random.place(3)]);
        // In some worlds every apply is sluggish, so that there is always a backlog.
        let (lag_per_mille, apply_lag) =
            if random.chance(125) { (700, 150 * MILLI) } else { (rare, apply_lag) };
        Profile {
            nodes,
            shards: random.between(8, 12),
            voters: [1, 2, 3, 3, 3, if nodes >= 5 { 5 } else { 3 }][random.place(6)],
            clocks,
            has_liveness,
            is_unruly: random.chance(250),
            changes_members: random.chance(700),
            clients: random.place(13) + 12,
            has_idle_shards: random.chance(250),
            is_tight: random.chance(250),
            entry_cache_bytes_max: [4 << 10, 64 << 10, limits::ENTRY_CACHE_BYTES_MAX]
                [random.place(3)],
            log_bytes_asked: [0, 2_000, 20_000][random.place(3)],
            log_bytes_kept: [3_000, 40_000, u64::MAX][random.place(3)],
            lag_per_mille,
            apply_lag,
            fetch_lag: lag[random.place(3)],
            transfers_max: [1, 2, 4][random.place(3)],
            news_lag: [MILLI / 2, 5 * MILLI, 100 * MILLI][random.place(3)],
            faults,
        }
    }
}
