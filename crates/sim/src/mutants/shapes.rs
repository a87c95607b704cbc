//! Worlds in which the situation of a mutant is likely: what the seed drew is changed, and nothing else.

use crate::observation::FaultKind;
use crate::world::{Character, Clocks};

/// Whatever the seed drew.
pub(super) fn any(_: &mut Character) {}

/// Faults that a shape wants, at these mean intervals in milliseconds.
fn with<const N: usize>(character: &mut Character, wanted: [(FaultKind, u64); N]) {
    character.faults.retain(|(kind, _)| wanted.iter().all(|(other, _)| other != kind));
    character.faults.extend(wanted);
}

/// Syncs fail.
pub(super) fn failing(character: &mut Character) {
    with(character, [(FaultKind::SyncFailed, 5_000)]);
}

/// Bits flip, and processes crash, so that it is found.
pub(super) fn flipping(character: &mut Character) {
    with(character, [(FaultKind::BitFlip, 2_000), (FaultKind::Crash, 4_000)]);
}

/// Leaders are cut off and do not know that others were elected.
pub(super) fn cut_off(character: &mut Character) {
    character.has_liveness = false;
    character.is_unruly = true;
    with(character, [(FaultKind::Partition, 3_000), (FaultKind::PartialPartition, 2_000)]);
    with(character, [(FaultKind::Crash, 3_000)]);
}

/// The same with clocks that go astray: a leader that hears nobody stays for longer than others wait,
/// and many clients ask it.
pub(super) fn astray(character: &mut Character) {
    (character.nodes, character.voters, character.clients) = (3, 3, 24);
    (character.clocks, character.has_liveness) = (Clocks::BeyondMargin, false);
    character.is_unruly = false;
    character.faults = vec![(FaultKind::Partition, 2_500), (FaultKind::ClockJumpBeyond, 800)];
    with(character, [(FaultKind::ClockDrift, 1_000), (FaultKind::Cut, 2_500)]);
}

/// Processes crash often, and messages arrive late or twice.
pub(super) fn restless(character: &mut Character) {
    character.has_liveness = false;
    character.is_unruly = true;
    with(character, [(FaultKind::Crash, 1_500), (FaultKind::SlowPeer, 3_000)]);
}

/// Members change.
pub(super) fn changing(character: &mut Character) {
    character.nodes = character.nodes.max(5);
    character.changes_members = true;
    with(character, [(FaultKind::Partition, 5_000)]);
}

/// The same, and what the replica before it on its node said reaches a leader late, or twice.
pub(super) fn succeeding(character: &mut Character) {
    changing(character);
    character.is_unruly = true;
    with(character, [(FaultKind::SlowPeer, 2_000), (FaultKind::BitFlip, 2_000)]);
}

/// Node liveness is on, and clocks stay within its margin.
pub(super) fn leased(character: &mut Character) {
    (character.clocks, character.has_liveness) = (Clocks::WithinMargin, true);
    character.faults.retain(|(kind, _)| *kind != FaultKind::ClockJumpBeyond);
    with(character, [(FaultKind::ClockDrift, 4_000), (FaultKind::ClockJump, 4_000)]);
    with(character, [(FaultKind::PartialPartition, 4_000), (FaultKind::Pause, 4_000)]);
}

/// The same, and vote requests arrive twice, the second time late.
pub(super) fn doubled(character: &mut Character) {
    leased(character);
    character.is_unruly = true;
    with(character, [(FaultKind::Cut, 1_500), (FaultKind::PartialPartition, 1_500)]);
}

/// The same, and messages get lost or come late, one at a time.
pub(super) fn lossy(character: &mut Character) {
    leased(character);
    character.is_unruly = true;
    with(character, [(FaultKind::SlowPeer, 2_000)]);
}

/// The same; control messages get lost while leaders are removed, nothing else goes wrong, and some
/// shards are left alone: a caller's request would find the difference too.
pub(super) fn deaf(character: &mut Character) {
    leased(character);
    changing(character);
    character.faults = vec![(FaultKind::ReleaseLost, 2_000)];
    character.has_idle_shards = true;
}
