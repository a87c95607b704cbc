//! Goal: histories of the size that tests record are decided, with steps to spare.
//! Method: simulated ones, as they are and with one stale read; work is bounded in steps of the
//! model, so no clock is read.

use super::simulated::{End, Mix, Simulated, Workload, make_stale, record, simulate};
use super::{Limits, RecordedOperation, Reply, Verdict};

const MANY_KEYS: Workload = Workload {
    operations: 100_000,
    keys: 100,
    clients: 30,
    mix: Mix::Everything,
    unknown_per_mille: 10,
    failed_per_mille: 10,
};

/// 2,000 operations, about 100 of them of unknown outcome.
const ONE_KEY: Workload = Workload {
    operations: 2_000,
    keys: 1,
    clients: 15,
    mix: Mix::Register,
    unknown_per_mille: 50,
    failed_per_mille: 10,
};

fn check(operations: &[Simulated]) -> Verdict {
    record(operations).check(&Limits::default())
}

#[test]
fn many_keys_of_all_kinds() {
    assert_eq!(check(&simulate(1, &MANY_KEYS)), Verdict::Linearizable);
}

#[test]
fn many_keys_with_one_stale_read() {
    let workload = Workload { mix: Mix::Register, ..MANY_KEYS };
    let mut operations = simulate(2, &workload);
    assert_eq!(check(&operations), Verdict::Linearizable);
    make_stale(&mut operations, 90_000).expect("there are many reads");
    let verdict = check(&operations);
    assert!(matches!(verdict, Verdict::Violation { .. }), "{verdict}");
}

#[test]
fn one_key_with_unknown_writes() {
    for seed in 0..10 {
        assert_eq!(check(&simulate(seed, &ONE_KEY)), Verdict::Linearizable, "seed {seed}");
    }
}

/// Usually the explanation ends at the stale read. It may end earlier: its search is cut short.
#[test]
fn one_key_with_unknown_writes_and_one_stale_read() {
    let mut found = 0;
    for seed in 0..20 {
        let mut operations = simulate(seed, &ONE_KEY);
        let stale = make_stale(&mut operations, 1_900).expect("there are many reads");
        let verdict = check(&operations);
        let Verdict::Violation { explanation, .. } = verdict else { panic!("{seed}: {verdict}") };
        let is_stale = |one: &RecordedOperation| (one.client, one.invoked_at) == stale;
        found += u32::from(explanation.blocked.iter().any(is_stale));
    }
    assert!(found > 10, "the stale read is named in {found} of 20 explanations");
}

#[test]
fn one_counter_with_unknown_increments() {
    for seed in 0..10 {
        let workload = Workload { mix: Mix::Counter, ..ONE_KEY };
        assert_eq!(check(&simulate(seed, &workload)), Verdict::Linearizable, "seed {seed}");
    }
}

/// A lost update: one increment in the middle has the result of the one before it.
#[test]
fn one_counter_with_a_lost_update() {
    for seed in 0..10 {
        let workload = Workload { mix: Mix::Counter, ..ONE_KEY };
        let mut operations = simulate(seed, &workload);
        let mut previous = None;
        let lost = operations[1_000..].iter_mut().find_map(|one| match &mut one.end {
            End::Completed { reply: Some(Reply::Integer(sum)), .. } => {
                previous.replace(*sum).map(|previous| *sum = previous)
            }
            _ => None,
        });
        lost.expect("there are many increments");
        let verdict = check(&operations);
        assert!(matches!(verdict, Verdict::Violation { .. }), "seed {seed}: {verdict}");
    }
}

/// Recurring values distinguish little: this is the most concurrency that is surely decided.
#[test]
fn one_key_of_all_kinds_with_unknown_outcomes() {
    for seed in 0..10 {
        let workload = Workload { mix: Mix::Everything, clients: 5, ..ONE_KEY };
        assert_eq!(check(&simulate(seed, &workload)), Verdict::Linearizable, "seed {seed}");
    }
}
