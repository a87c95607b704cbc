//! Compares the store with a model: a vector of terms per shard.

mod common;

use common::*;
use proptest::prelude::*;
use quorate_log::{LogOptions, LogStore, NewReplica, Recovery};
use quorate_raft::{HardState, Run};
use quorate_types::{Index, ShardId, Term};

const SHARDS: u64 = 3;
const BASE: u64 = 10;

/// What one shard should hold: the term of each entry, from index 11 on.
#[derive(Clone, Debug, Default)]
struct Model {
    terms: Vec<u64>,
    purged: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// One call with these writes: shard, how many entries to cut (if any), run lengths, and
    /// whether the term grows.
    Write(Vec<(u64, Option<u64>, Vec<u64>, bool)>),
    Purge(u64, u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let runs = prop::collection::vec(1u64..7, 0..4);
    let write = (0..SHARDS, prop::option::of(1u64..12), runs, any::<bool>());
    prop_oneof![
        8 => prop::collection::vec(write, 1..5).prop_map(Step::Write),
        1 => (0..SHARDS, 0u64..10).prop_map(|(shard, count)| Step::Purge(shard, count)),
        1 => Just(Step::Reopen),
    ]
}

impl Model {
    fn last(&self) -> u64 {
        BASE + self.terms.len() as u64
    }

    fn term(&self) -> u64 {
        self.terms.last().copied().unwrap_or(1)
    }

    fn first(&self) -> u64 {
        BASE + self.purged + 1
    }

    fn check(&self, shard: u64, log: &LogStore) {
        if self.first() > self.last() {
            let empty = log.read(ShardId(shard), Index(self.first())..Index(u64::MAX), 1);
            assert!(empty.is_err());
            return;
        }
        let all: Vec<(u64, u64)> = (self.first()..=self.last())
            .map(|index| (self.terms[(index - BASE - 1) as usize], index))
            .collect();
        assert_eq!(entries(log, shard, self.first(), self.last() + 9), all);
    }

    fn check_recovery(&self, shard: u64, recovery: &Recovery) {
        let found = recovered(recovery, shard);
        assert_eq!(found.damaged, None);
        let restored = &found.restored;
        assert_eq!(restored.base.index, Index(BASE + self.purged));
        assert_eq!(restored.last.index, Index(self.last()));
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for index in self.first()..=self.last() {
            let term = Term(self.terms[(index - BASE - 1) as usize]);
            if terms.last().is_none_or(|(_, before)| *before != term) {
                terms.push((Index(index), term));
            }
        }
        assert_eq!(restored.terms, terms);
    }
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

fn plan(
    models: &mut [Model],
    writes: &[(u64, Option<u64>, Vec<u64>, bool)],
) -> Vec<quorate_log::ShardWrite> {
    let mut calls = Vec::new();
    for (shard, cut, lengths, raise) in writes {
        let model = &mut models[*shard as usize];
        let term = model.term() + u64::from(*raise);
        let kept = cut.map(|cut| model.terms.len().saturating_sub(cut as usize));
        let kept = kept.map(|kept| kept.max(model.purged as usize));
        let from = kept.map(|kept| BASE + 1 + kept as u64);
        model.terms.truncate(kept.unwrap_or(usize::MAX));
        let mut runs: Vec<Run> = Vec::new();
        for length in lengths {
            runs.push(run(term, model.last() + 1, *length));
            model.terms.extend(std::iter::repeat_n(term, *length as usize));
        }
        calls.push(write(*shard, from, runs));
    }
    calls
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_the_model_holds(steps in prop::collection::vec(step(), 1..40)) {
        let disk = Disk::new();
        let (mut log, _) = reopen(&disk);
        let hard_state = HardState { term: Term(999), ..HardState::default() };
        let new: Vec<NewReplica> =
            (0..SHARDS).map(|shard| NewReplica { hard_state, ..replica(shard) }).collect();
        log.create_replicas(&new).expect("new");
        let mut models = vec![Model::default(); SHARDS as usize];
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Write(writes) => {
                    let calls = plan(&mut models, &writes);
                    put(&log, &calls).expect("written");
                }
                Step::Purge(shard, count) => {
                    let model = &mut models[shard as usize];
                    let purged = (model.purged + count).min(model.terms.len() as u64);
                    if purged > model.purged {
                        model.purged = purged;
                        let term = model.terms[purged as usize - 1];
                        purge(&log, shard, id(term, BASE + purged))
                            .expect("purged");
                    }
                }
                Step::Reopen => {
                    drop(log);
                    let recovery;
                    (log, recovery) = reopen(&disk);
                    for (shard, model) in models.iter().enumerate() {
                        model.check_recovery(shard as u64, &recovery);
                    }
                }
            }
            for (shard, model) in models.iter().enumerate() {
                model.check(shard as u64, &log);
            }
        }
    }
}
