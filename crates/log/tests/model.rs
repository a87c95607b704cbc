//! Goal: the store holds what a simple model holds, whatever the turns bring: on disk, in its index
//! in memory, and after a restart at any point. Method: random calls of several turns each, with
//! purges, installs of both kinds, truncations, ends and births, also for replicas that are gone.
//! After every step the raw bytes in RocksDB and the index are compared with the model's runs.

mod common;
#[path = "model/shard.rs"]
mod shard;

use common::*;
use proptest::prelude::*;
use quorate_log::{CreateError, EndReason, LogOptions, LogStore, NewReplica, Recovery};
use quorate_log::{ReplicaEnd, ShardPurge, ShardWrite, TurnWrite};
use quorate_raft::{HardState, Install, Run, Write};
use quorate_types::{Index, ReplicaId, ShardId, SpaceId, Term, WriteNumber};
use rocksdb::{DBWithThreadMode, Options, SingleThreaded};

use crate::shard::{Life, Model};

const SHARDS: u64 = 3;
/// The term of every hard state: beyond that of any run.
const TERM: Term = Term(9_999);

/// One part of a turn, for the shard that it names. What it can't do there is left out.
#[derive(Clone, Debug)]
enum Part {
    /// Raises the base by so many entries, at most to the log's end.
    Purge(u64),
    Write(Change),
    End {
        is_damaged: bool,
    },
}

#[derive(Clone, Debug)]
struct Change {
    /// How far beyond the base, and whether the log holds that entry.
    install: Option<(u64, bool)>,
    has_hard_state: bool,
    /// How many entries to cut.
    cut: Option<u64>,
    lengths: Vec<u64>,
    raises_term: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// One call; each turn is a list of parts with their shard, and whether they are for a replica
    /// that was here before.
    Turns(Vec<Vec<(u64, bool, Part)>>),
    /// Tries a replica with an id that is lower, the same, or higher.
    Create(u64, u64),
    Reopen,
}

fn part() -> impl Strategy<Value = Part> {
    let change = (
        prop::option::weighted(0.15, (1u64..30, any::<bool>())),
        any::<bool>(),
        prop::option::of(1u64..12),
        prop::collection::vec(1u64..7, 0..4),
        any::<bool>(),
    );
    let change = change.prop_map(|(install, has_hard_state, cut, lengths, raises_term)| {
        Part::Write(Change { install, has_hard_state, cut, lengths, raises_term })
    });
    prop_oneof![
        12 => change,
        4 => (0u64..14).prop_map(Part::Purge),
        1 => any::<bool>().prop_map(|is_damaged| Part::End { is_damaged }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let part = (0..SHARDS, prop::bool::weighted(0.05), part());
    let turn = prop::collection::vec(part, 0..5);
    prop_oneof![
        8 => prop::collection::vec(turn, 1..4).prop_map(Step::Turns),
        2 => (0..SHARDS, 0u64..4).prop_map(|(shard, id)| Step::Create(shard, id)),
        1 => Just(Step::Reopen),
    ]
}

/// What the store has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    writes: u64,
    purges: u64,
    installs: u64,
    skipped: u64,
    purged_runs: u64,
}

struct World {
    disk: Disk,
    log: LogStore,
    shards: Vec<Model>,
    counts: Counts,
}

fn reopen(disk: &Disk) -> (LogStore, Recovery) {
    // Two families for three shards, and memtables so small that runs reach tables.
    let options = LogOptions {
        families_dedicated_max: 1,
        families_pooled: 1,
        memtable_bytes: 64 << 10,
        ..options()
    };
    disk.try_open(options).expect("opens")
}

impl World {
    fn new() -> World {
        let disk = Disk::new();
        let (log, _) = reopen(&disk);
        let shards: Vec<Model> = (0..SHARDS).map(|shard| Model::new(shard, REPLICA)).collect();
        let new: Vec<NewReplica> = shards.iter().map(Model::birth).collect();
        log.create_replicas(&new).expect("new");
        World { disk, log, shards, counts: Counts::default() }
    }

    /// The turn in the store's order of parts, and its effect on the model in the same order.
    fn turn(&mut self, parts: &[(u64, bool, Part)]) -> TurnWrite {
        let mut turn = TurnWrite::default();
        for (shard, is_stale, part) in parts {
            if let Part::Purge(count) = part {
                turn.purges.extend(self.purge(*shard, *is_stale, *count));
            }
        }
        for (shard, is_stale, part) in parts {
            if let Part::Write(change) = part {
                turn.writes.push(self.write(*shard, *is_stale, change));
            }
        }
        for (shard, is_stale, part) in parts {
            if let Part::End { is_damaged } = part {
                turn.ends.push(self.end(*shard, *is_stale, *is_damaged));
            }
        }
        turn
    }

    /// The replica that a part is for, and the model if the part has an effect.
    fn target(&mut self, shard: u64, is_stale: bool) -> (ReplicaId, Option<&mut Model>) {
        let model = &mut self.shards[shard as usize];
        let replica = if is_stale { ReplicaId(model.replica.0 - 1) } else { model.replica };
        if is_stale || model.life != Life::Living {
            self.counts.skipped += 1;
            return (replica, None);
        }
        (replica, Some(model))
    }

    fn purge(&mut self, shard: u64, is_stale: bool, count: u64) -> Option<ShardPurge> {
        let (replica, model) = self.target(shard, is_stale);
        let Some(model) = model else {
            return Some(ShardPurge { replica, ..purging(shard, id(9, 99)) });
        };
        let to = (model.base.index.0 + count).min(model.last());
        let base = if to > model.base.index.0 { model.id_at(to) } else { model.base };
        let dropped = model.purge(base);
        self.counts.purges += u64::from(count > 0 && dropped.is_some());
        self.counts.purged_runs += dropped.unwrap_or(0);
        Some(ShardPurge { replica, ..purging(shard, base) })
    }

    fn write(&mut self, shard: u64, is_stale: bool, change: &Change) -> ShardWrite {
        let Change { install, has_hard_state, cut, lengths, raises_term } = change;
        let (replica, model) = self.target(shard, is_stale);
        let Some(model) = model else {
            // It would be broken for the living replica.
            let skipped = append(shard, run(7, 5_000, 1));
            return ShardWrite { replica, ..skipped };
        };
        let mut part = Write {
            number: WriteNumber(1),
            install: None,
            hard_state: None,
            truncate_from: None,
            runs: Vec::new(),
        };
        let (mut space, mut dropped, term) = (None, 0, model.term() + u64::from(*raises_term));
        if let Some((beyond, keeps_log)) = install {
            let at = model.base.index.0 + beyond;
            let is_held = *keeps_log && at <= model.last();
            let base = if is_held { model.id_at(at) } else { id(term, at) };
            space = Some(SpaceId(model.space.0 + 100));
            part.install = Some(Install { base, membership: membership(5), keeps_log: *keeps_log });
            dropped = model.install(base, space.expect("just set"), *keeps_log);
        }
        if *has_hard_state {
            let vote = raises_term.then_some(replica);
            model.hard_state = HardState { term: TERM, vote, committed: model.base.index };
            part.hard_state = Some(model.hard_state);
        }
        if let Some(cut) = cut {
            let from = (model.last() + 1).saturating_sub(*cut).max(model.base.index.0 + 1);
            part.truncate_from = Some(Index(from));
            model.truncate(from);
        }
        for length in lengths {
            let run = run(term.max(model.term()), model.last() + 1, *length);
            part.runs.push(run.clone());
            model.runs.push(run);
        }
        self.counts.writes += 1;
        self.counts.installs += u64::from(part.install.is_some());
        self.counts.purged_runs += dropped;
        ShardWrite { shard: ShardId(shard), replica, write: part, space }
    }

    fn end(&mut self, shard: u64, is_stale: bool, is_damaged: bool) -> ReplicaEnd {
        let model = &mut self.shards[shard as usize];
        let what = format!("found by {shard}");
        let why = if is_damaged { EndReason::Damaged(what.clone()) } else { EndReason::Removed };
        let replica = if is_stale { ReplicaId(model.replica.0 - 1) } else { model.replica };
        match (&model.life, is_damaged) {
            _ if is_stale => self.counts.skipped += 1,
            (Life::Removed, _) => self.counts.skipped += 1,
            (Life::Living, true) => model.life = Life::Damaged(what),
            (Life::Damaged(_), true) => {}
            (_, false) => {
                model.life = Life::Removed;
                model.runs.clear();
            }
        }
        ReplicaEnd { shard: ShardId(shard), replica, why }
    }

    /// Tries a birth with the id of the replica before, plus `id`, minus 1.
    fn create(&mut self, shard: u64, id: u64) {
        let model = &mut self.shards[shard as usize];
        let before = model.replica;
        let next = Model::new(shard, ReplicaId(before.0 + id - 1));
        let created = self.log.create_replicas(&[next.birth()]);
        let (shard, found) = (ShardId(shard), next.replica);
        let expected = match &model.life {
            Life::Living => Err(CreateError::Exists { shard, found: before }),
            Life::Removed if id < 2 => Err(CreateError::Removed { shard, found, removed: before }),
            Life::Damaged(_) if id < 2 => {
                Err(CreateError::Damaged { shard, found, damaged: before })
            }
            Life::Removed | Life::Damaged(_) => Ok(()),
        };
        assert_eq!(created, expected);
        if created.is_ok() {
            *model = next;
        }
    }

    /// Disk, index and counts are as in the model.
    fn check(&self) {
        let stored = stored(&self.disk);
        let expected: Vec<(u64, &Run)> = self
            .shards
            .iter()
            .enumerate()
            .flat_map(|(shard, model)| model.runs.iter().map(move |run| (shard as u64, run)))
            .collect();
        let found: Vec<(u64, &Run)> = stored.iter().map(|(shard, run)| (*shard, run)).collect();
        assert_eq!(found, expected, "as RocksDB has them");
        let mut held_all = Vec::new();
        for (shard, model) in self.shards.iter().enumerate() {
            let shard = ShardId(shard as u64);
            model.check_index(&self.log, shard);
            held_all.extend(model.held().filter(|held| held.runs > 0).map(|held| (shard, held)));
        }
        let mut found = self.log.held_all();
        found.sort_by_key(|(shard, _)| *shard);
        assert_eq!(found, held_all);
        assert_eq!(self.log.held_bytes(), held_all.iter().map(|(_, held)| held.bytes).sum::<u64>());
        let counted = self.log.statistics();
        let counts = Counts {
            writes: counted.writes,
            purges: counted.purges,
            installs: counted.installs,
            skipped: counted.skipped_parts,
            purged_runs: counted.purged_runs,
        };
        assert_eq!(counts, self.counts);
    }
}

/// Every stored run, as another reader of the directory finds it.
fn stored(disk: &Disk) -> Vec<(u64, Run)> {
    type Db = DBWithThreadMode<SingleThreaded>;
    let names = Db::list_cf(&Options::default(), disk.dir()).expect("families");
    let open = || Db::open_cf_for_read_only(&Options::default(), disk.dir(), &names, false);
    // The store's compactions may delete a table between the manifest's reading and its own.
    let db = (0..1_000).find_map(|_| open().ok()).expect("a second reader");
    let mut runs = Vec::new();
    for name in names.iter().filter(|name| *name != "default") {
        let family = db.cf_handle(name).expect("listed");
        for item in db.iterator_cf(family, rocksdb::IteratorMode::Start) {
            let (key, value) = item.expect("readable");
            let shard = u64::from_be_bytes(key[..8].try_into().expect("eight bytes"));
            let run = Run::decode(Vec::from(value).into()).expect("a run");
            assert_eq!(key[8..], run.first().0.to_be_bytes());
            runs.push((shard, run));
        }
    }
    runs.sort_by_key(|(shard, run)| (*shard, run.first()));
    runs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_the_model_holds(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Turns(turns) => {
                    let turns: Vec<TurnWrite> = turns.iter().map(|turn| world.turn(turn)).collect();
                    world.log.write(&turns).expect("written");
                }
                Step::Create(shard, id) => world.create(shard, id),
                Step::Reopen => {
                    let World { disk, log, shards, .. } = world;
                    drop(log);
                    let (log, recovery) = reopen(&disk);
                    for (shard, model) in shards.iter().enumerate() {
                        model.check_recovery(recovered(&recovery, shard as u64));
                    }
                    world = World { disk, log, shards, counts: Counts::default() };
                }
            }
            world.check();
        }
    }
}
