//! The script: rounds of changes to three shards each, and what must be there after each change.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use quorate_log::{
    EndReason, LogStore, NewReplica, Recovery, ReplicaEnd, ShardPurge, ShardWrite, TurnWrite,
};
use quorate_raft::{EntryKind, HardState, Install, Member, Membership, Run, RunDraft, Write};
use quorate_types::{Index, LogId, NodeId, ReplicaId, ShardId, SpaceId, Term, WriteNumber};

pub(crate) const ROUNDS: usize = 8;
/// Changes of one round, each of which is one batch.
pub(crate) const STEPS: usize = 9;
/// The shards of a round.
const A: u64 = 0;
const B: u64 = 1;
const C: u64 = 2;
const SHARDS_PER_ROUND: u64 = 3;
const ENTRY_BYTES: usize = 500;

/// What a start finds of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Removed {
        replica: u64,
    },
    Damaged {
        replica: u64,
        what: String,
    },
    /// Term and commit of its hard state, and the entries behind the base as `(term, index)`.
    Living {
        replica: u64,
        space: u64,
        base: LogId,
        state: (u64, u64),
        entries: Vec<(u64, u64)>,
    },
}

impl Seen {
    pub(crate) fn all(log: &LogStore, recovery: &Recovery) -> BTreeMap<u64, Seen> {
        let replicas = recovery.replicas.iter();
        replicas.map(|found| (found.shard.0, Seen::one(log, found))).collect()
    }

    fn one(log: &LogStore, found: &quorate_log::RecoveredReplica) -> Seen {
        let replica = found.replica.0;
        if found.tombstone {
            return Seen::Removed { replica };
        }
        if let Some(what) = found.damaged.clone() {
            return Seen::Damaged { replica, what };
        }
        let restored = &found.restored;
        let range = restored.base.index.next()..restored.last.index.next();
        let runs = if range.is_empty() {
            Vec::new()
        } else {
            log.read(found.shard, range, usize::MAX).expect("readable")
        };
        let entries = runs.iter().flat_map(Run::entries);
        let entries = entries.map(|entry| {
            assert_eq!(entry.payload, payload(entry.id.term.0, entry.id.index.0));
            (entry.id.term.0, entry.id.index.0)
        });
        Seen::Living {
            replica,
            space: found.space.0,
            base: restored.base,
            state: (restored.hard_state.term.0, restored.hard_state.committed.0),
            entries: entries.collect(),
        }
    }
}

fn payload(term: u64, index: u64) -> Vec<u8> {
    let mut payload = format!("{term}/{index}").into_bytes();
    payload.resize(ENTRY_BYTES, index as u8);
    payload
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

fn run(term: u64, first: u64, last: u64) -> Run {
    let mut draft = RunDraft::new();
    for index in first..=last {
        draft.push(EntryKind::Command, &[&payload(term, index)]);
    }
    draft.seal(Term(term), Index(first))
}

fn membership() -> Membership {
    Membership::of_voters([Member { replica: ReplicaId(1), node: NodeId(1) }])
}

fn state(term: u64, committed: u64) -> HardState {
    HardState { term: Term(term), vote: None, committed: Index(committed) }
}

fn birth(shard: u64, replica: u64) -> NewReplica {
    NewReplica {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
        space: SpaceId(10),
        base: id(1, 10),
        base_membership: membership(),
        hard_state: state(5, 10),
    }
}

fn write(shard: u64, replica: u64, hard_state: Option<HardState>, runs: Vec<Run>) -> ShardWrite {
    let write =
        Write { number: WriteNumber(1), install: None, hard_state, truncate_from: None, runs };
    ShardWrite { shard: ShardId(shard), replica: ReplicaId(replica), write, space: None }
}

fn install(write: ShardWrite, base: LogId, space: u64, keeps_log: bool) -> ShardWrite {
    let install = Some(Install { base, membership: membership(), keeps_log });
    ShardWrite { write: Write { install, ..write.write }, space: Some(SpaceId(space)), ..write }
}

fn purge(shard: u64, base: LogId) -> ShardPurge {
    let (shard, replica) = (ShardId(shard), ReplicaId(1));
    ShardPurge { shard, replica, base, base_membership: membership() }
}

fn end(shard: u64, why: EndReason) -> ReplicaEnd {
    ReplicaEnd { shard: ShardId(shard), replica: ReplicaId(1), why }
}

/// Makes change number `step` of the round whose first shard is `first`.
fn change(log: &LogStore, first: u64, step: usize) {
    let [a, b, c] = [A, B, C].map(|shard| first + shard);
    let none = TurnWrite::default;
    let turns = match step {
        0 => {
            let new = [a, b, c].map(|shard| birth(shard, 1));
            return log.create_replicas(&new).expect("new replicas");
        }
        1 => {
            let two = || vec![run(2, 11, 15), run(2, 16, 20)];
            let writes = [a, b, c].map(|shard| write(shard, 1, Some(state(5, 15)), two()));
            vec![TurnWrite { writes: writes.into(), ..none() }]
        }
        // A purge inside a run, with an append of the same shard.
        2 => {
            let writes = vec![write(a, 1, Some(state(5, 20)), vec![run(2, 21, 25)])];
            vec![TurnWrite { purges: vec![purge(a, id(2, 17))], writes, ..none() }]
        }
        // An install into a log that holds its base, with a cut behind it.
        3 => {
            let keeping = write(b, 1, Some(state(6, 14)), vec![run(3, 18, 22)]);
            let mut keeping = install(keeping, id(2, 14), 11, true);
            keeping.write.truncate_from = Some(Index(18));
            vec![TurnWrite { writes: vec![keeping], ..none() }]
        }
        // An install that drops the log.
        4 => {
            let dropping = write(c, 1, Some(state(9, 40)), vec![run(9, 41, 43)]);
            vec![TurnWrite { writes: vec![install(dropping, id(9, 40), 12, false)], ..none() }]
        }
        // A damaged end, in one unit with a purge of another shard.
        5 => {
            let ends = vec![end(a, EndReason::Damaged("a lost vote".to_owned()))];
            vec![TurnWrite { purges: vec![purge(b, id(3, 20))], ends, ..none() }]
        }
        6 => vec![TurnWrite { ends: vec![end(c, EndReason::Removed)], ..none() }],
        // A birth over what damage left behind.
        7 => return log.create_replicas(&[birth(a, 2)]).expect("a higher id"),
        // Several turns in one batch; one is for a replica that has ended.
        8 => {
            let writes = [
                write(a, 1, None, vec![run(5, 26, 30)]),
                write(a, 2, None, vec![run(4, 11, 12)]),
                write(b, 1, Some(state(7, 22)), vec![run(7, 23, 24)]),
            ];
            writes.map(|write| TurnWrite { writes: vec![write], ..none() }).into()
        }
        _ => unreachable!("a round has {STEPS} changes"),
    };
    log.write(&turns).expect("a healthy disk");
}

/// What is there after the first `changes` changes of all rounds, by shard.
pub(crate) fn expected(changes: usize) -> BTreeMap<u64, Seen> {
    let mut all = BTreeMap::new();
    for round in 0..=changes / STEPS {
        let done = changes.min((round + 1) * STEPS) - round * STEPS;
        for shard in [A, B, C] {
            let seen = expected_of(shard, done);
            let shard = round as u64 * SHARDS_PER_ROUND + shard;
            all.extend(seen.map(|seen| (shard, seen)));
        }
    }
    all
}

/// What is there of a round's shard after the first `done` changes of the round.
fn expected_of(shard: u64, done: usize) -> Option<Seen> {
    let range = |term: u64, first: u64, last: u64| (first..=last).map(move |index| (term, index));
    let living = |replica, space, base, state, entries: Vec<(u64, u64)>| Seen::Living {
        replica,
        space,
        base,
        state,
        entries,
    };
    let born = |replica| living(replica, 10, id(1, 10), (5, 10), vec![]);
    let written = || living(1, 10, id(1, 10), (5, 15), range(2, 11, 20).collect());
    Some(match (shard, done) {
        (_, 0) => return None,
        (_, 1) => born(1),
        (A, 2) => written(),
        (A, 3..=5) => living(1, 10, id(2, 17), (5, 20), range(2, 18, 25).collect()),
        (A, 6 | 7) => Seen::Damaged { replica: 1, what: "a lost vote".to_owned() },
        (A, 8) => born(2),
        (A, _) => living(2, 10, id(1, 10), (5, 10), range(4, 11, 12).collect()),
        (B, 2 | 3) => written(),
        (B, 4 | 5) => {
            let kept = range(2, 15, 17).chain(range(3, 18, 22));
            living(1, 11, id(2, 14), (6, 14), kept.collect())
        }
        (B, 6..=8) => living(1, 11, id(3, 20), (6, 14), range(3, 21, 22).collect()),
        (B, _) => {
            let entries = range(3, 21, 22).chain(range(7, 23, 24));
            living(1, 11, id(3, 20), (7, 22), entries.collect())
        }
        (_, 2..=4) => written(),
        (_, 5 | 6) => living(1, 12, id(9, 40), (9, 40), range(9, 41, 43).collect()),
        _ => Seen::Removed { replica: 1 },
    })
}

/// Makes all changes, and marks each one once it is acknowledged. Every other round begins with a
/// start, so that it finds its log in tables.
pub(crate) fn run_all(log: &Path, marks: &Path) {
    let mut marks = File::create(marks).expect("a file for marks");
    let (mut store, _) = super::open(log).expect("a new directory");
    for round in 0..ROUNDS {
        if round % 2 == 1 {
            drop(store);
            let recovery;
            (store, recovery) = super::open(log).expect("the directory opens");
            assert_eq!(Seen::all(&store, &recovery), expected(round * STEPS), "without any loss");
        }
        for step in 0..STEPS {
            change(&store, round as u64 * SHARDS_PER_ROUND, step);
            marks.write_all(b".").expect("a mark");
        }
    }
}
