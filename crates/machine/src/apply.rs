//! Applies committed entries, by the same code under the engine and under the simulator.

use bytes::Bytes;
use quorate_raft::{Committed, EntryKind, Membership};
use quorate_types::{LogId, ShardId};

use crate::applied_record::AppliedRecord;
use crate::envelope::Envelope;
use crate::state_machine::{ApplyContext, ApplyTarget, StateMachine};

/// The outcome of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The machine's reply.
    Reply(Bytes),
    /// The command was routed by another version of the descriptor: it did not happen (RULE 11).
    StaleVersion {
        /// Version the command was routed by.
        routed: u64,
        /// Version in force.
        current: u64,
    },
    /// The envelope is not known to this version: it did not happen, on any replica.
    Malformed,
}

/// Applies `committed` to `target` and updates `record`. `replied` is called once per command
/// entry, in order; blank and membership entries have no reply.
///
/// # Panics
/// If `committed` does not begin right after `record.applied`: an entry would be lost or doubled.
pub fn apply_committed(
    shard: ShardId,
    machine: &mut dyn StateMachine,
    record: &mut AppliedRecord,
    committed: &Committed,
    target: &mut dyn ApplyTarget,
    replied: &mut dyn FnMut(LogId, ApplyOutcome),
) {
    let mut next = committed.range.start;
    assert_eq!(next, record.applied.index.next(), "shard {shard}: apply must continue its record");
    for run in &committed.runs {
        assert_eq!(run.first(), next, "shard {shard}: committed runs must be contiguous");
        next = run.range().end;
        for entry in run.entries() {
            if let Some(outcome) = apply_entry(shard, machine, record, entry, target) {
                replied(entry.id, outcome);
            }
            target.finish_entry(record);
        }
    }
    assert_eq!(next, committed.range.end, "shard {shard}: committed runs must fill their range");
}

fn apply_entry(
    shard: ShardId,
    machine: &mut dyn StateMachine,
    record: &mut AppliedRecord,
    entry: quorate_raft::Entry<'_>,
    target: &mut dyn ApplyTarget,
) -> Option<ApplyOutcome> {
    record.applied = entry.id;
    match entry.kind {
        EntryKind::Blank => None,
        EntryKind::Membership => {
            // The kernel proposes memberships itself; one that it can't read is a broken invariant.
            record.membership =
                Membership::decode(entry.payload).expect("a logged membership is sound");
            record.epoch.membership += 1;
            None
        }
        EntryKind::Command => {
            Some(apply_command(shard, machine, record, entry.id, entry.payload, target))
        }
    }
}

fn apply_command(
    shard: ShardId,
    machine: &mut dyn StateMachine,
    record: &mut AppliedRecord,
    id: LogId,
    payload: &[u8],
    target: &mut dyn ApplyTarget,
) -> ApplyOutcome {
    let Ok((envelope, command)) = Envelope::decode(payload) else {
        return ApplyOutcome::Malformed;
    };
    // Sessions are looked up here, before the version check (RULE 11), once they exist.
    if envelope.descriptor_version != record.epoch.version {
        let (routed, current) = (envelope.descriptor_version, record.epoch.version);
        return ApplyOutcome::StaleVersion { routed, current };
    }
    record.clock = record.clock.max(envelope.leader_time);
    let context = ApplyContext { shard, id, time: record.clock };
    ApplyOutcome::Reply(machine.apply(context, command, target))
}
