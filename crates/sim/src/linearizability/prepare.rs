//! Prepares one key's operations for the search: leaves out those that change no verdict, and
//! merges values that no operation can tell apart.

use bytes::Bytes;
use rustc_hash::{FxHashMap, FxHashSet};

use super::history::RecordedOperation;
use super::operation::{Operation, Reply};

/// An operation with a reply.
pub(super) struct Completed {
    /// Position in the key's recorded operations.
    pub(super) source: usize,
    pub(super) operation: Operation,
    pub(super) reply: Reply,
    pub(super) invoked_at: u64,
    pub(super) completed_at: u64,
}

/// An operation of unknown outcome.
pub(super) struct Open {
    /// Position in the key's recorded operations.
    pub(super) source: usize,
    pub(super) operation: Operation,
    pub(super) invoked_at: u64,
    /// The last open operation before this one that is the same, as a position in
    /// [`Prepared::open`]. Both can be exchanged once both were invoked, so this one need not be
    /// tried ahead of its twin.
    pub(super) twin: Option<usize>,
}

/// Both lists are in the order of invocation.
pub(super) struct Prepared {
    pub(super) completed: Vec<Completed>,
    pub(super) open: Vec<Open>,
    /// There are only reads and writes.
    pub(super) is_register: bool,
}

impl Prepared {
    pub(super) fn new(operations: &[&RecordedOperation]) -> Prepared {
        let merge = Merge::new(operations);
        let (mut completed, mut open) = (Vec::new(), Vec::new());
        for (source, recorded) in operations.iter().enumerate() {
            let operation = merge.operation(&recorded.operation);
            let invoked_at = recorded.invoked_at;
            if let Some(completion) = &recorded.completion {
                let (completed_at, reply) = (completion.at, completion.reply.clone());
                completed.push(Completed { source, operation, reply, invoked_at, completed_at });
            } else if operation != Operation::Get {
                // A read without a reply explains nothing and changes nothing.
                open.push(Open { source, operation, invoked_at, twin: None });
            }
        }
        // The sort is stable: equal times stay in the order in which they were recorded.
        completed.sort_by_key(|operation| operation.invoked_at);
        open.sort_by_key(|operation| operation.invoked_at);
        let mut last = FxHashMap::default();
        for (position, operation) in open.iter_mut().enumerate() {
            operation.twin = last.insert(operation.operation.clone(), position);
        }
        let is_register = operations
            .iter()
            .all(|recorded| matches!(recorded.operation, Operation::Get | Operation::Set(_)));
        Prepared { completed, open, is_register }
    }
}

/// Values that no read returned and no compare-and-set expects are all alike to every operation but
/// an increment: those can tell only whether there is a value. They become one value, so that the
/// search sees the many orders of such writes as one, and open writes of them are twins.
struct Merge<'a> {
    observed: FxHashSet<&'a Bytes>,
    /// `None`: there are increments, to which every value may be a different number.
    unobserved: Option<Bytes>,
}

impl<'a> Merge<'a> {
    fn new(operations: &[&'a RecordedOperation]) -> Merge<'a> {
        let mut observed = FxHashSet::default();
        let mut written = Vec::new();
        let mut increments = false;
        for recorded in operations {
            match &recorded.operation {
                Operation::Set(value) => written.push(value),
                Operation::CompareAndSet { expected, new } => {
                    observed.extend(expected);
                    written.extend(new);
                }
                Operation::Increment(_) => increments = true,
                Operation::Get | Operation::Delete => {}
            }
            let reply = recorded.completion.as_ref().map(|completion| &completion.reply);
            if let Some(Reply::Value(Some(value))) = reply {
                observed.insert(value);
            }
        }
        let unobserved = written.into_iter().find(|value| !observed.contains(value)).cloned();
        Merge { observed, unobserved: unobserved.filter(|_| !increments) }
    }

    fn value(&self, value: &Bytes) -> Bytes {
        match &self.unobserved {
            Some(unobserved) if !self.observed.contains(value) => unobserved.clone(),
            _ => value.clone(),
        }
    }

    fn operation(&self, operation: &Operation) -> Operation {
        match operation {
            Operation::Set(value) => Operation::Set(self.value(value)),
            Operation::CompareAndSet { expected, new } => Operation::CompareAndSet {
                expected: expected.clone(),
                new: new.as_ref().map(|value| self.value(value)),
            },
            Operation::Get | Operation::Delete | Operation::Increment(_) => operation.clone(),
        }
    }
}
