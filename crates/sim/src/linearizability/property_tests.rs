//! Goal: the search accepts what is linearizable and nothing else.
//! Method: simulated histories, which are linearizable by construction; and small random histories,
//! most of them wrong, compared with a slow checker that tries every order by the definition alone.

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::simulated::{Mix, Workload, record, simulate};
use super::{
    ClientId, Completion, History, Limits, Operation, RecordedOperation, Reply, Value, Verdict,
    apply, step,
};

fn config(cases: u32, seed: u64) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(seed);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(2_000, 1))]

    #[test]
    fn linearizable_histories_are_accepted(
        seed in any::<u64>(),
        operations in 0..120_u64,
        keys in 1..4_u64,
        clients in 1..8_u64,
        is_register in any::<bool>(),
        unknown_per_mille in 0..300_u64,
    ) {
        let mix = if is_register { Mix::Register } else { Mix::Everything };
        let failed_per_mille = 50;
        let workload =
            Workload { operations, keys, clients, mix, unknown_per_mille, failed_per_mille };
        let verdict = record(&simulate(seed, &workload)).check(&Limits::default());
        prop_assert_eq!(verdict, Verdict::Linearizable);
    }
}

proptest! {
    #![proptest_config(config(60_000, 2))]

    #[test]
    fn verdicts_are_those_of_the_slow_twin(
        operations in any_operations(),
    ) {
        let verdict = history_of(&operations).check(&Limits::default());
        let is_linearizable = has_order(&operations, &mut vec![false; operations.len()], &None);
        prop_assert_eq!(verdict == Verdict::Linearizable, is_linearizable, "{}", verdict);
    }

    /// Most random replies are wrong at once. Here all replies but one come from some order.
    #[test]
    fn verdicts_on_nearly_right_histories_are_those_of_the_slow_twin(
        mut operations in any_operations(),
        instants in prop::collection::vec(0..12_u64, 7),
        wrong_at in 0..7_usize,
    ) {
        let wrong = operations.get(wrong_at).cloned();
        answer_in_order(&mut operations, &instants);
        if let Some(wrong) = wrong {
            operations[wrong_at] = wrong;
        }
        let verdict = history_of(&operations).check(&Limits::default());
        let is_linearizable = has_order(&operations, &mut vec![false; operations.len()], &None);
        prop_assert_eq!(verdict == Verdict::Linearizable, is_linearizable, "{}", verdict);
    }
}

/// Both verdicts have to be common, or the comparison proves little.
#[test]
fn the_small_histories_are_of_both_kinds() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::new(config(1, 3));
    let strategy = any_operations();
    let mut linearizable = 0;
    for _ in 0..10_000 {
        let operations = strategy.new_tree(&mut runner).expect("no filter").current();
        let verdict = history_of(&operations).check(&Limits::default());
        linearizable += u32::from(verdict == Verdict::Linearizable);
    }
    assert!((500..9_500).contains(&linearizable), "{linearizable} of 10,000");
}

/// Decides by the definition: some operation that no other remaining one precedes comes next, and
/// the rest has an order too. Operations of unknown outcome may be left out.
fn has_order(operations: &[RecordedOperation], taken: &mut Vec<bool>, value: &Value) -> bool {
    let is_left =
        |number: usize, taken: &[bool]| !taken[number] && operations[number].completion.is_some();
    if !(0..operations.len()).any(|number| is_left(number, taken)) {
        return true;
    }
    for (number, operation) in operations.iter().enumerate() {
        let precedes = |other: usize| {
            let completion = operations[other].completion.as_ref();
            completion.is_some_and(|completion| completion.at < operation.invoked_at)
        };
        if taken[number] || (0..operations.len()).any(|one| is_left(one, taken) && precedes(one)) {
            continue;
        }
        let reply = operation.completion.as_ref().map(|completion| &completion.reply);
        if let Some(after) = step(value, &operation.operation, reply) {
            taken[number] = true;
            let found = has_order(operations, taken, &after);
            taken[number] = false;
            if found {
                return true;
            }
        }
    }
    false
}

/// Gives replies as if every operation took effect at its instant, moved into its interval.
fn answer_in_order(operations: &mut [RecordedOperation], instants: &[u64]) {
    let effect = |operations: &[RecordedOperation], number: usize| {
        let recorded = &operations[number];
        let latest = recorded.completion.as_ref().map_or(u64::MAX, |completion| completion.at);
        instants[number].clamp(recorded.invoked_at, latest)
    };
    let mut order: Vec<usize> = (0..operations.len()).collect();
    order.sort_by_key(|number| effect(operations, *number));
    let mut value = None;
    for number in order {
        let (after, reply) = apply(&value, &operations[number].operation);
        value = after;
        if let Some(completion) = &mut operations[number].completion {
            completion.reply = reply;
        }
    }
}

fn history_of(operations: &[RecordedOperation]) -> History {
    let mut history = History::new();
    for recorded in operations {
        let (key, operation) = (Bytes::from("key"), recorded.operation.clone());
        let id = history.invoke(recorded.client, recorded.invoked_at, key, operation);
        if let Some(completion) = &recorded.completion {
            history.complete(id, completion.at, completion.reply.clone());
        }
    }
    history
}

/// A tiny domain, so that values coincide; "x" is no integer.
fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["1", "2", "x", "y"]).prop_map(Bytes::from)
}

fn any_value() -> impl Strategy<Value = Value> {
    prop::option::weighted(0.7, any_bytes())
}

fn any_get() -> impl Strategy<Value = (Operation, Reply)> {
    any_value().prop_map(|value| (Operation::Get, Reply::Value(value)))
}

fn any_set() -> impl Strategy<Value = (Operation, Reply)> {
    any_bytes().prop_map(|value| (Operation::Set(value), Reply::Done))
}

fn any_increment(by: std::ops::Range<i64>) -> impl Strategy<Value = (Operation, Reply)> {
    (by, prop::option::weighted(0.9, 1..5_i64)).prop_map(|(by, value)| {
        (Operation::Increment(by), value.map_or(Reply::NotAnInteger, Reply::Integer))
    })
}

fn any_other() -> impl Strategy<Value = (Operation, Reply)> {
    prop_oneof![
        any::<bool>().prop_map(|existed| (Operation::Delete, Reply::Deleted(existed))),
        (any_value(), any_value(), any::<bool>()).prop_map(|(expected, new, swapped)| {
            (Operation::CompareAndSet { expected, new }, Reply::Swapped(swapped))
        }),
    ]
}

fn any_recorded(
    question_and_reply: impl Strategy<Value = (Operation, Reply)>,
) -> impl Strategy<Value = RecordedOperation> {
    let ends = prop::option::weighted(0.7, 0..6_u64);
    (0..4_u64, 0..8_u64, ends, question_and_reply).prop_map(
        |(client, invoked_at, duration, (operation, reply))| RecordedOperation {
            client: ClientId(client),
            invoked_at,
            operation,
            completion: duration.map(|units| Completion { at: invoked_at + units, reply }),
        },
    )
}

/// The search has special rules for registers and for counters, so these come often.
fn any_operations() -> impl Strategy<Value = Vec<RecordedOperation>> {
    let register = prop_oneof![any_get(), any_set()];
    let counter = prop_oneof![any_get(), any_increment(1..3)];
    let no_increments = prop_oneof![any_get(), any_set(), any_other()];
    let all = prop_oneof![any_get(), any_set(), any_other(), any_increment(-2..3)];
    let up_to_seven = 0..=7;
    prop_oneof![
        prop::collection::vec(any_recorded(register), up_to_seven.clone()),
        prop::collection::vec(any_recorded(counter), up_to_seven.clone()),
        prop::collection::vec(any_recorded(no_increments), up_to_seven.clone()),
        prop::collection::vec(any_recorded(all), up_to_seven),
    ]
}
