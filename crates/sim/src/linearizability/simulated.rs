//! Histories that are linearizable by construction: clients of atomic registers, every operation
//! with the instant at which it took effect.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ClientId, History, Operation, Reply, Value, apply};
use quorate_types::SplitMix64;

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) operations: u64,
    pub(super) keys: u64,
    pub(super) clients: u64,
    pub(super) mix: Mix,
    /// Operations that end as unknown outcome: half of them take effect, at once or late.
    pub(super) unknown_per_mille: u64,
    /// Operations that are known not to have taken effect.
    pub(super) failed_per_mille: u64,
}

/// The kinds of operations that the clients send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mix {
    /// Reads and writes, every value written once.
    Register,
    /// Reads, and increments by one.
    Counter,
    /// All kinds, integers from a small domain.
    Everything,
}

/// One operation of a simulated history.
#[derive(Clone, Debug)]
pub(super) struct Simulated {
    pub(super) client: ClientId,
    pub(super) key: Bytes,
    pub(super) operation: Operation,
    pub(super) invoked_at: u64,
    /// `None`: it never took effect.
    pub(super) takes_effect_at: Option<u64>,
    pub(super) end: End,
}

#[derive(Clone, Debug)]
pub(super) enum End {
    /// The reply is computed when the operation takes effect.
    Completed {
        at: u64,
        reply: Option<Reply>,
    },
    Unknown,
    Discarded,
}

/// Runs the clients of `workload`; the operations are in the order in which they took effect.
pub(super) fn simulate(seed: u64, workload: &Workload) -> Vec<Simulated> {
    let mut random = SplitMix64::new(seed);
    let mut idle_since = vec![0; usize::try_from(workload.clients).expect("few clients")];
    let mut operations: Vec<Simulated> = (0..workload.operations)
        .map(|number| {
            let client = number % workload.clients;
            let idle_since = &mut idle_since[usize::try_from(client).expect("few clients")];
            let invoked_at = *idle_since + random.below(4);
            let takes_effect_at = invoked_at + random.below(20);
            let completed_at = takes_effect_at + random.below(20);
            *idle_since = completed_at;
            let mut simulated = Simulated {
                client: ClientId(client),
                key: Bytes::from(format!("key {}", random.below(workload.keys))),
                operation: operation(&mut random, workload.mix, number),
                invoked_at,
                takes_effect_at: Some(takes_effect_at),
                end: End::Completed { at: completed_at, reply: None },
            };
            if random.chance(workload.failed_per_mille) {
                simulated.takes_effect_at = None;
                simulated.end = End::Discarded;
            } else if random.chance(workload.unknown_per_mille) {
                let late = takes_effect_at + random.below(2_000);
                simulated.takes_effect_at = random.chance(500).then_some(late);
                simulated.end = End::Unknown;
            }
            simulated
        })
        .collect();
    // Operations of one instant may be in any order: all their intervals contain it.
    operations.sort_by_key(|simulated| simulated.takes_effect_at);
    let mut values: BTreeMap<Bytes, Value> = BTreeMap::new();
    for simulated in operations.iter_mut().filter(|one| one.takes_effect_at.is_some()) {
        let value = values.entry(simulated.key.clone()).or_default();
        let (after, explained) = apply(value, &simulated.operation);
        *value = after;
        if let End::Completed { reply, .. } = &mut simulated.end {
            *reply = Some(explained);
        }
    }
    operations
}

fn operation(random: &mut SplitMix64, mix: Mix, number: u64) -> Operation {
    let small = |random: &mut SplitMix64| Bytes::from(random.below(4).to_string());
    match (mix, random.below(10)) {
        (_, 0..5) => Operation::Get,
        (Mix::Register, _) => Operation::Set(Bytes::from(number.to_string())),
        (Mix::Counter, _) => Operation::Increment(1),
        (_, 5) => Operation::Set(small(random)),
        (_, 6) => Operation::Delete,
        (_, 7 | 8) => Operation::Increment(1 + random.below(2).cast_signed()),
        _ => {
            let expected = random.chance(800).then(|| small(random));
            Operation::CompareAndSet { expected, new: Some(small(random)) }
        }
    }
}

/// Records a simulated history in the order of invocation.
pub(super) fn record(operations: &[Simulated]) -> History {
    let mut by_invocation: Vec<&Simulated> = operations.iter().collect();
    by_invocation.sort_by_key(|simulated| simulated.invoked_at);
    let mut history = History::new();
    for one in by_invocation {
        let (key, operation) = (one.key.clone(), one.operation.clone());
        let id = history.invoke(one.client, one.invoked_at, key, operation);
        match &one.end {
            End::Completed { at, reply } => {
                let reply = reply.clone().expect("a completed operation took effect");
                history.complete(id, *at, reply);
            }
            End::Unknown => {}
            End::Discarded => history.discard(id),
        }
    }
    history
}

/// Makes one read stale: the last possible read of `[0, position)` gets the reply of a read of its
/// key that another read contradicts. Returns the stale read's client and when it was invoked;
/// `None`: no read can be made stale.
///
/// Only for [`Mix::Register`], where a value is written once: of three completed reads, each begun
/// after the end of the one before, the first and second with different values, the third can't
/// have the value of the first.
pub(super) fn make_stale(operations: &mut [Simulated], position: usize) -> Option<(ClientId, u64)> {
    let read = |one: &Simulated| match (&one.operation, &one.end) {
        (Operation::Get, End::Completed { at, reply: Some(Reply::Value(Some(value))) }) => {
            Some((*at, value.clone()))
        }
        _ => None,
    };
    for third in (0..position).rev() {
        let key = operations[third].key.clone();
        let before = |limit: u64, other: Option<Bytes>| {
            operations[..third].iter().rev().find_map(|one| {
                let (at, value) = read(one).filter(|_| one.key == key)?;
                let fits = at < limit && other.as_ref() != Some(&value);
                fits.then_some((one.invoked_at, value))
            })
        };
        let Some((completed_at, _)) = read(&operations[third]) else { continue };
        let Some((second_at, second)) = before(operations[third].invoked_at, None) else {
            continue;
        };
        let Some((_, first)) = before(second_at, Some(second)) else { continue };
        operations[third].end =
            End::Completed { at: completed_at, reply: Some(Reply::Value(Some(first))) };
        return Some((operations[third].client, operations[third].invoked_at));
    }
    None
}
