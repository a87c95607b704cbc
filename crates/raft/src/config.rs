//! The configuration of a kernel.

use quorate_types::{Duration, Mutation, ReplicaId, limits};

/// Entries that a learner may lack when it becomes a voter. Under load it never has all of them; what
/// it lacks it has to fetch before it helps to commit, and this many are a fraction of one window.
const PROMOTION_LAG_ENTRIES_MAX: u64 = 1_024;

/// Entries kept for a follower that lacks them. One that lacks more gets a snapshot, which is cheaper
/// than reading that many back, and a follower may not make the log grow without bound.
const KEPT_ENTRIES_MAX: u64 = 1 << 20;

/// How eagerly a replica campaigns. All vote alike, and a group in which all are `Never` has no
/// leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// After one election timeout.
    #[default]
    Normal,
    /// After two: only where no normal replica has campaigned with success by then.
    Reluctant,
    /// Never, not even when told to by a leader: an observer that votes.
    Never,
}

/// The configuration of a kernel, fixed for its life. [`Config::new`] takes every bound from
/// `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica.
    pub replica: ReplicaId,
    /// How eagerly it campaigns.
    pub preference: Preference,
    /// Seed of the election jitter; the only randomness there is.
    pub seed: u64,
    /// Read contexts start here and grow; the host puts its incarnation into the upper bits, so
    /// that a context is not reused after a restart either.
    pub read_context_first: u64,
    /// A follower campaigns after a random time in `[election_timeout, 2 * election_timeout)`.
    pub election_timeout: Duration,
    /// A leader's heartbeat interval.
    pub heartbeat: Duration,
    /// Time after which a transfer of leadership is given up.
    pub transfer_timeout: Duration,
    /// Append messages in flight to one follower.
    pub window_messages_max: usize,
    /// Bytes in flight to one follower.
    pub window_bytes_max: usize,
    /// Bytes of one append message, unless one run is larger.
    pub append_bytes_max: usize,
    /// Bytes proposed and not committed.
    pub uncommitted_bytes_max: usize,
    /// Bytes handed out to be applied and not yet applied.
    pub apply_bytes_max: usize,
    /// Reads waiting for confirmation or for the leader's answer.
    pub reads_pending_max: usize,
    /// Entries of the leader's log that a learner may lack when it becomes a voter.
    pub promotion_lag_entries_max: u64,
    /// Entries below the log's end that are kept for followers that lack them.
    pub kept_entries_max: u64,
    /// A deliberate bug, for the simulator.
    pub mutation: Mutation,
}

impl Config {
    /// A configuration with the bounds and times of `limits`.
    #[must_use]
    pub fn new(replica: ReplicaId, seed: u64, read_context_first: u64) -> Config {
        Config {
            replica,
            preference: Preference::Normal,
            seed,
            read_context_first,
            election_timeout: limits::ELECTION_TIMEOUT,
            heartbeat: limits::HEARTBEAT,
            transfer_timeout: limits::TRANSFER_TIMEOUT,
            window_messages_max: limits::WINDOW_MESSAGES_MAX,
            window_bytes_max: limits::WINDOW_BYTES_MAX,
            append_bytes_max: limits::APPEND_BYTES_MAX,
            uncommitted_bytes_max: limits::UNCOMMITTED_BYTES_MAX,
            apply_bytes_max: limits::APPLY_BYTES_MAX,
            reads_pending_max: limits::READS_PENDING_MAX,
            promotion_lag_entries_max: PROMOTION_LAG_ENTRIES_MAX,
            kept_entries_max: KEPT_ENTRIES_MAX,
            mutation: Mutation::NONE,
        }
    }
}
