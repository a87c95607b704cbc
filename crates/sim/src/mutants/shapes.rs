//! Worlds in which the situation of a mutant is likely: a shape changes only what the seed drew.

use crate::observation::FaultKind;
use crate::world::{Clocks, Profile};

/// Changes nothing that the seed drew.
pub(super) fn any(_: &mut Profile) {}

/// Faults that a shape wants, at these mean intervals in milliseconds.
fn with<const N: usize>(profile: &mut Profile, wanted: [(FaultKind, u64); N]) {
    profile.faults.retain(|(kind, _)| wanted.iter().all(|(other, _)| other != kind));
    profile.faults.extend(wanted);
}

/// Syncs fail.
pub(super) fn failing(profile: &mut Profile) {
    with(profile, [(FaultKind::SyncFailed, 5_000)]);
}

/// Bits flip, and processes crash, so that the flips are found.
pub(super) fn flipping(profile: &mut Profile) {
    with(profile, [(FaultKind::BitFlip, 2_000), (FaultKind::Crash, 4_000)]);
}

/// Leaders are cut off and do not know that others were elected.
pub(super) fn cut_off(profile: &mut Profile) {
    profile.has_liveness = false;
    profile.is_unruly = true;
    with(profile, [(FaultKind::Partition, 3_000), (FaultKind::PartialPartition, 2_000)]);
    with(profile, [(FaultKind::Crash, 3_000)]);
}

/// Leaders are cut off, and clocks jump beyond the margin: a leader that hears nobody stays for
/// longer than others wait, and many clients ask it.
pub(super) fn astray(profile: &mut Profile) {
    (profile.nodes, profile.voters, profile.clients) = (3, 3, 24);
    (profile.clocks, profile.has_liveness) = (Clocks::BeyondMargin, false);
    profile.is_unruly = false;
    profile.faults = vec![(FaultKind::Partition, 2_500), (FaultKind::ClockJumpBeyond, 800)];
    with(profile, [(FaultKind::ClockDrift, 1_000), (FaultKind::Cut, 2_500)]);
}

/// Processes crash often, and messages arrive late or twice.
pub(super) fn restless(profile: &mut Profile) {
    profile.has_liveness = false;
    profile.is_unruly = true;
    with(profile, [(FaultKind::Crash, 1_500), (FaultKind::SlowPeer, 3_000)]);
}

/// Members change.
pub(super) fn changing(profile: &mut Profile) {
    profile.nodes = profile.nodes.max(5);
    profile.changes_members = true;
    with(profile, [(FaultKind::Partition, 5_000)]);
}

/// As `changing`, and logs are purged as soon as they may be: who was away needs a snapshot.
pub(super) fn purging(profile: &mut Profile) {
    changing(profile);
    (profile.log_bytes_asked, profile.log_bytes_kept) = (0, u64::MAX);
    profile.lag_per_mille = 0;
}

/// As `changing`, and messages of a node's previous replica reach a leader late, or twice.
pub(super) fn succeeding(profile: &mut Profile) {
    changing(profile);
    profile.is_unruly = true;
    with(profile, [(FaultKind::SlowPeer, 2_000), (FaultKind::BitFlip, 2_000)]);
}

/// Node liveness is on, and clocks stay within its margin.
pub(super) fn leased(profile: &mut Profile) {
    (profile.clocks, profile.has_liveness) = (Clocks::WithinMargin, true);
    profile.faults.retain(|(kind, _)| *kind != FaultKind::ClockJumpBeyond);
    with(profile, [(FaultKind::ClockDrift, 4_000), (FaultKind::ClockJump, 4_000)]);
    with(profile, [(FaultKind::PartialPartition, 4_000), (FaultKind::Pause, 4_000)]);
}

/// As `leased`, and vote requests arrive twice, the second time late.
pub(super) fn doubled(profile: &mut Profile) {
    leased(profile);
    profile.is_unruly = true;
    with(profile, [(FaultKind::Cut, 1_500), (FaultKind::PartialPartition, 1_500)]);
}

/// As `leased`, and single messages are lost or late.
pub(super) fn lossy(profile: &mut Profile) {
    leased(profile);
    profile.is_unruly = true;
    with(profile, [(FaultKind::SlowPeer, 2_000)]);
}

/// As `leased`, and control messages are lost while leaders are removed; nothing else fails. Some
/// shards are idle: a caller's request would find the difference too.
pub(super) fn deaf(profile: &mut Profile) {
    leased(profile);
    changing(profile);
    profile.faults = vec![(FaultKind::ReleaseLost, 2_000)];
    profile.has_idle_shards = true;
}

/// Replicas that end are replaced on the same node at once, while entries of theirs are still being
/// applied.
pub(super) fn inherited(profile: &mut Profile) {
    (profile.nodes, profile.voters) = (3, 3);
    profile.changes_members = true;
    (profile.lag_per_mille, profile.apply_lag) = (100, 8_000_000_000);
    // A flipped bit is found when entries are read back.
    (profile.fetch_lag, profile.entry_cache_bytes_max) = (20_000_000, 4 << 10);
    profile.faults = vec![(FaultKind::BitFlip, 300), (FaultKind::SnapshotCut, 100)];
    with(profile, [(FaultKind::Cut, 2_000), (FaultKind::PartialPartition, 4_000)]);
}

/// Followers are away and come back with a backlog of entries to be applied, a few at a time, while
/// their leader has purged what they lack.
pub(super) fn backlogged(profile: &mut Profile) {
    (profile.nodes, profile.voters, profile.is_tight) = (3, 3, true);
    (profile.log_bytes_asked, profile.log_bytes_kept) = (0, 0);
    (profile.lag_per_mille, profile.apply_lag) = (700, 800_000_000);
    profile.transfers_max = 4;
    with(profile, [(FaultKind::Crash, 1_500), (FaultKind::Cut, 3_000)]);
}
