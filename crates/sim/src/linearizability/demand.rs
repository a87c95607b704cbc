//! The demand for values: which values are still needed, and which operations can still produce
//! them.

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::operation::{Operation, Reply, Value, parse_integer};
use super::prepare::Prepared;

/// The values that one operation needs and produces, as positions in [`Demand`]'s counts. `None`:
/// not a single value.
#[derive(Clone, Copy, Default)]
struct Use {
    needs: Option<usize>,
    supplies: Option<usize>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    /// Remaining completed operations that only this value explains.
    needs: usize,
    /// Remaining operations, completed or open, that could produce the value.
    supplies: usize,
}

/// Counts over the operations that are not linearized yet.
pub(super) struct Demand {
    values: FxHashMap<Value, usize>,
    counts: Vec<Count>,
    completed: Vec<Use>,
    open: Vec<Use>,
    /// There are only reads and increments by more than 0, starting from absent: every change makes
    /// the value greater, so no value comes back.
    is_counter: bool,
    /// There are open increments, each of which could produce any integer.
    integers_are_free: bool,
}

impl Demand {
    pub(super) fn new(prepared: &Prepared) -> Demand {
        let completed = prepared.completed.iter().map(|completed| &completed.operation);
        let mut operations = completed.chain(prepared.open.iter().map(|open| &open.operation));
        let is_counter = operations
            .all(|operation| matches!(operation, Operation::Get | Operation::Increment(1..)));
        let is_increment = |operation: &Operation| matches!(operation, Operation::Increment(_));
        let mut open_operations = prepared.open.iter().map(|open| &open.operation);
        let mut demand = Demand {
            values: FxHashMap::default(),
            counts: Vec::new(),
            completed: Vec::new(),
            open: Vec::new(),
            is_counter,
            integers_are_free: !is_counter && open_operations.any(is_increment),
        };
        for completed in &prepared.completed {
            let needs = needed(&completed.operation, &completed.reply, is_counter)
                .filter(|value| !demand.is_free(value))
                .map(|value| demand.number(value));
            let supplies = supplied(&completed.operation, Some(&completed.reply));
            let supplies = supplies.map(|value| demand.number(value));
            demand.completed.push(Use { needs, supplies });
        }
        for open in &prepared.open {
            let supplies = supplied(&open.operation, None).map(|value| demand.number(value));
            demand.open.push(Use { needs: None, supplies });
        }
        for number in 0..prepared.completed.len() {
            demand.put_back_completed(number);
        }
        for number in 0..prepared.open.len() {
            demand.put_back_open(number);
        }
        demand
    }

    fn is_free(&self, value: &Value) -> bool {
        self.integers_are_free && value.as_ref().is_some_and(|bytes| parse_integer(bytes).is_some())
    }

    fn number(&mut self, value: Value) -> usize {
        let unused = self.counts.len();
        let number = *self.values.entry(value).or_insert(unused);
        if number == unused {
            self.counts.push(Count::default());
        }
        number
    }

    /// A completed operation is linearized.
    pub(super) fn take_completed(&mut self, number: usize) {
        let Use { needs, supplies } = self.completed[number];
        needs.into_iter().for_each(|value| self.counts[value].needs -= 1);
        supplies.into_iter().for_each(|value| self.counts[value].supplies -= 1);
    }

    pub(super) fn put_back_completed(&mut self, number: usize) {
        let Use { needs, supplies } = self.completed[number];
        needs.into_iter().for_each(|value| self.counts[value].needs += 1);
        supplies.into_iter().for_each(|value| self.counts[value].supplies += 1);
    }

    /// An open operation is linearized.
    pub(super) fn take_open(&mut self, number: usize) {
        self.open[number].supplies.into_iter().for_each(|value| self.counts[value].supplies -= 1);
    }

    pub(super) fn put_back_open(&mut self, number: usize) {
        self.open[number].supplies.into_iter().for_each(|value| self.counts[value].supplies += 1);
    }

    /// Whether no remaining operation needs `value`.
    pub(super) fn is_unneeded(&self, value: &Value) -> bool {
        self.values.get(value).is_none_or(|number| self.counts[*number].needs == 0)
    }

    /// Whether no remaining operation needs the value that a completed operation produces.
    pub(super) fn is_useless(&self, completed: usize) -> bool {
        self.completed[completed].supplies.is_some_and(|value| self.counts[value].needs == 0)
    }

    /// Whether an operation other than `by` (a completed one, if any) needs `value`, and no
    /// remaining operation could produce it again.
    pub(super) fn is_last(&self, value: &Value, by: Option<usize>) -> bool {
        let Some(number) = self.values.get(value) else { return false };
        let Count { needs, supplies } = self.counts[*number];
        let own = by.is_some_and(|by| self.completed[by].needs == Some(*number));
        (supplies == 0 || self.is_counter) && needs > usize::from(own)
    }
}

/// The value that explains the reply, if there is exactly one.
fn needed(operation: &Operation, reply: &Reply, is_counter: bool) -> Option<Value> {
    match (operation, reply) {
        (Operation::Get, Reply::Value(value)) => Some(value.clone()),
        (Operation::Delete, Reply::Deleted(false)) => Some(None),
        (Operation::CompareAndSet { expected, .. }, Reply::Swapped(true)) => Some(expected.clone()),
        (Operation::Increment(by), Reply::Integer(sum)) => match sum.checked_sub(*by)? {
            // To an increment, absent and 0 are the same, but a counter is never 0.
            0 => is_counter.then_some(None),
            before => Some(Some(Bytes::from(before.to_string()))),
        },
        _ => None,
    }
}

/// The value that the operation produces if it changes anything, if there is exactly one.
fn supplied(operation: &Operation, reply: Option<&Reply>) -> Option<Value> {
    match (operation, reply) {
        (_, Some(reply)) if reply.changed_nothing() => None,
        (Operation::Set(value), _) => Some(Some(value.clone())),
        (Operation::Delete, _) => Some(None),
        (Operation::CompareAndSet { new, .. }, _) => Some(new.clone()),
        (Operation::Increment(_), Some(Reply::Integer(sum))) => {
            Some(Some(Bytes::from(sum.to_string())))
        }
        (Operation::Get | Operation::Increment(_), _) => None,
    }
}
