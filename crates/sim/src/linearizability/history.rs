//! Records a history: what clients requested, when, and the replies they got.

use bytes::Bytes;

use super::operation::{Operation, Reply};

/// Names a client in explanations. The check does not use it: a client may have many operations
/// under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Names an operation within the history that gave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(usize);

/// The reply to an operation, and when it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// When the reply arrived, in the unit of the history's times.
    pub at: u64,
    /// The reply.
    pub reply: Reply,
}

/// An operation as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedOperation {
    /// The client that invoked it.
    pub client: ClientId,
    /// When it was invoked, in the unit of the history's times.
    pub invoked_at: u64,
    /// The operation itself.
    pub operation: Operation,
    /// `None`: the outcome is unknown. It took effect at any time after it was invoked, or never.
    pub completion: Option<Completion>,
}

#[derive(Clone, Debug)]
struct Record {
    key: Bytes,
    operation: RecordedOperation,
    is_discarded: bool,
}

/// Operations with their times. The unit of time is the caller's; it has to be monotonic over all
/// clients of the history. Operations may be recorded in any order.
///
/// An operation that completed at `t` precedes one invoked at `t + 1`, not one invoked at `t`:
/// within one unit the order is not known, so both orders are allowed.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
}

impl History {
    /// A history without operations.
    #[must_use]
    pub fn new() -> History {
        History::default()
    }

    /// Records that a client sends an operation. It is open, its outcome unknown, until it is
    /// completed or discarded.
    pub fn invoke(
        &mut self,
        client: ClientId,
        time: u64,
        key: Bytes,
        operation: Operation,
    ) -> OperationId {
        let operation = RecordedOperation { client, invoked_at: time, operation, completion: None };
        self.records.push(Record { key, operation, is_discarded: false });
        OperationId(self.records.len() - 1)
    }

    /// Records that the client has its reply.
    ///
    /// # Panics
    /// If the operation is not open or not of this history, began after `time`, or can't have this
    /// reply.
    pub fn complete(&mut self, id: OperationId, time: u64, reply: Reply) {
        let operation = &mut self.open(id).operation;
        let invoked_at = operation.invoked_at;
        assert!(invoked_at <= time, "invoked at {invoked_at}, completed at {time}");
        let question = &operation.operation;
        assert!(reply.answers(question), "{reply:?} is no reply to {question:?}");
        operation.completion = Some(Completion { at: time, reply });
    }

    /// Removes an operation that is known to have had no effect and never to have one.
    ///
    /// # Panics
    /// If the operation is not open or not of this history.
    pub fn discard(&mut self, id: OperationId) {
        self.open(id).is_discarded = true;
    }

    fn open(&mut self, id: OperationId) -> &mut Record {
        let record = &mut self.records[id.0];
        let is_open = record.operation.completion.is_none() && !record.is_discarded;
        assert!(is_open, "{id:?} has ended already");
        record
    }

    /// All operations that were not discarded, with their keys, in the order in which they were
    /// recorded.
    pub(super) fn operations(&self) -> impl Iterator<Item = (&Bytes, &RecordedOperation)> {
        let kept = self.records.iter().filter(|record| !record.is_discarded);
        kept.map(|record| (&record.key, &record.operation))
    }
}
