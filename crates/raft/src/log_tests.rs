//! Tests of the log view: what is durable, what matches, what a truncation takes back.

use quorate_types::NodeId;

use super::*;
use crate::membership::Member;
use crate::ready::HardState;
use crate::run::RunDraft;

fn log() -> Log {
    let base = LogId::new(Term(1), Index(1));
    Log::new(Restored {
        hard_state: HardState::default(),
        base,
        base_membership: Membership::default(),
        terms: Vec::new(),
        memberships: Vec::new(),
        last: base,
        applied: base.index,
    })
}

fn run(term: u64, first: u64, count: u64) -> Run {
    let mut draft = RunDraft::new();
    (0..count).for_each(|_| draft.push(EntryKind::Command, &[b"x"]));
    draft.seal(Term(term), Index(first))
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

/// Goal: a completion counts only for what it wrote last. Method: an overwrite while the first
/// write is under way, in the three orders that matter.
#[test]
fn an_overwritten_write_does_not_vouch_for_its_successor() {
    let mut log = log();
    log.append(run(1, 2, 4));
    log.take_write(WriteNumber(1));
    log.truncate(Index(4));
    log.append(run(2, 4, 3));
    let write = log.take_write(WriteNumber(2));
    assert_eq!(write.truncate_from, Some(Index(4)));
    assert_eq!(write.runs, [run(2, 4, 3)]);
    log.handle_persisted(WriteNumber(1));
    assert_eq!(log.durable(), Index(3));
    log.handle_persisted(WriteNumber(2));
    assert_eq!(log.durable(), Index(6));
}

#[test]
fn what_was_never_written_needs_no_truncation() {
    let mut log = log();
    log.append(run(1, 2, 4));
    log.truncate(Index(3));
    log.append(run(2, 3, 1));
    let write = log.take_write(WriteNumber(1));
    assert_eq!(write.truncate_from, None);
    assert_eq!(write.runs, [run(1, 2, 1), run(2, 3, 1)]);
}

#[test]
fn the_closest_entry_skips_whole_terms() {
    let mut log = log();
    for run in [run(2, 2, 3), run(4, 5, 3), run(6, 8, 3)] {
        log.append(run);
    }
    let table = [
        (id(9, 99), id(6, 10)),
        (id(5, 10), id(4, 7)),
        (id(5, 6), id(4, 6)),
        (id(3, 9), id(2, 4)),
        (id(1, 9), id(1, 1)),
        (id(0, 0), id(1, 1)),
    ];
    for (asked, found) in table {
        assert_eq!(log.closest(asked), found, "closest to {asked}");
    }
}

#[test]
fn a_run_is_missing_from_its_first_unmatched_entry() {
    let mut log = log();
    log.append(run(2, 2, 3));
    log.append(run(3, 5, 2));
    let first_missing = |run: &Run| log.first_missing(run, Index(2));
    assert_eq!(first_missing(&run(2, 2, 3)), Index(5));
    assert_eq!(first_missing(&run(2, 3, 5)), Index(5));
    assert_eq!(first_missing(&run(3, 5, 4)), Index(7));
    assert_eq!(first_missing(&run(4, 5, 1)), Index(5));
    assert_eq!(first_missing(&run(4, 7, 1)), Index(7));
    assert_eq!(log.first_missing(&run(2, 1, 2), Index(4)), Index(4), "the run is older");
    assert_eq!(log.first_missing(&run(2, 1, 4), Index(3)), Index(5), "it reaches below the base");
}

/// A membership is in force from append, and a truncation brings the one before it back.
#[test]
fn memberships_come_and_go_with_their_entries() {
    let mut log = log();
    let member = |id| Member { replica: ReplicaId(id), node: NodeId(id) };
    let joint =
        Membership { outgoing: vec![member(1)], ..Membership::of_voters([member(1), member(2)]) };
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Command, &[b"x"]);
    draft.push(EntryKind::Membership, &[&joint.encode()]);
    draft.push(EntryKind::Command, &[b"y"]);
    log.append(draft.seal(Term(2), Index(2)));
    assert_eq!(*log.membership(), joint);
    log.truncate(Index(4));
    assert_eq!(*log.membership(), joint);
    log.truncate(Index(3));
    assert_eq!(*log.membership(), Membership::default());
    assert_eq!(log.last(), id(2, 2));
}

#[test]
fn eviction_keeps_what_is_not_durable() {
    let mut log = log();
    log.append(run(2, 2, 3));
    log.take_write(WriteNumber(1));
    log.append(run(2, 5, 3));
    log.handle_persisted(WriteNumber(1));
    log.evict_below(Index(100));
    assert_eq!(log.first_cached(), Index(5));
    assert_eq!(log.term_at(Index(3)), Some(Term(2)));
    assert_eq!(log.cached_bytes(), run(2, 5, 3).len_bytes());
}

/// The base moves into a run, past a term and a membership: what lies beyond is as it was.
#[test]
fn a_purge_keeps_what_lies_beyond() {
    let mut log = log();
    let membership =
        |id| Membership::of_voters([Member { replica: ReplicaId(id), node: NodeId(id) }]);
    let logged = |term, first, id| {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Membership, &[&membership(id).encode()]);
        draft.seal(Term(term), Index(first))
    };
    for run in [run(2, 2, 1), logged(2, 3, 7), logged(2, 4, 5), run(3, 5, 4), logged(4, 9, 2)] {
        log.append(run);
    }
    log.take_write(WriteNumber(1));
    log.purge(Index(6));
    assert_eq!((log.base(), log.last()), (id(3, 6), id(4, 9)));
    assert_eq!([6, 7, 9].map(|at| log.term_at(Index(at))), [3, 3, 4].map(|t| Some(Term(t))));
    assert_eq!(log.term_at(Index(5)), None);
    assert_eq!(log.runs(Index(7), Index(9), 1_000), [run(3, 7, 2)]);
    assert_eq!(log.newest_replica(), ReplicaId(7), "ids that were purged are not given out again");
    log.truncate(Index(9));
    assert_eq!(*log.membership(), membership(5));
    log.purge(Index(8));
    assert_eq!((log.base(), log.last(), log.first_cached()), (id(3, 8), id(3, 8), Index(9)));
    log.append(run(5, 9, 1));
    assert_eq!(log.term_at(Index(9)), Some(Term(5)));
}

/// A write under way when the log began anew says nothing about what comes behind the new base.
#[test]
fn a_reset_forgets_the_writes_under_way() {
    let mut log = log();
    log.append(run(2, 2, 8));
    log.take_write(WriteNumber(1));
    log.reset(id(3, 5), Membership::default());
    log.append(run(3, 6, 3));
    let write = log.take_write(WriteNumber(2));
    assert_eq!((write.truncate_from, write.runs), (None, vec![run(3, 6, 3)]));
    log.handle_persisted(WriteNumber(1));
    assert!(log.durable() <= Index(5));
    log.handle_persisted(WriteNumber(2));
    assert_eq!(log.durable(), Index(8));
}
