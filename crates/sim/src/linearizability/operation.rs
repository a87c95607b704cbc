//! The model of one key: its value, and what every operation does to it.

use bytes::Bytes;

/// The value of a key; `None`: absent. Every key of a history begins absent.
pub type Value = Option<Bytes>;

/// What a client asked of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads the value: [`Reply::Value`].
    Get,
    /// Sets the value, whatever it was: [`Reply::Done`].
    Set(Bytes),
    /// Removes the value: [`Reply::Deleted`].
    Delete,
    /// Adds to the decimal integer under the key, absent counts as 0: [`Reply::Integer`] or
    /// [`Reply::NotAnInteger`].
    Increment(i64),
    /// Sets the value if it is the one expected: [`Reply::Swapped`].
    CompareAndSet {
        /// Value expected; `None`: expected to be absent.
        expected: Value,
        /// New value; `None`: remove.
        new: Value,
    },
}

/// The reply that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The value read.
    Value(Value),
    /// The value was set.
    Done,
    /// Whether there was a value to remove.
    Deleted(bool),
    /// The value after an increment.
    Integer(i64),
    /// The value is no 64-bit decimal integer, or would overflow: nothing was changed.
    NotAnInteger,
    /// Whether the value was the one expected, and so was changed.
    Swapped(bool),
}

impl Reply {
    /// Whether this kind of reply can answer `operation`, whatever the value was.
    pub(super) fn answers(&self, operation: &Operation) -> bool {
        matches!(
            (operation, self),
            (Operation::Get, Reply::Value(_))
                | (Operation::Set(_), Reply::Done)
                | (Operation::Delete, Reply::Deleted(_))
                | (Operation::Increment(_), Reply::Integer(_) | Reply::NotAnInteger)
                | (Operation::CompareAndSet { .. }, Reply::Swapped(_))
        )
    }

    /// Whether an operation with this reply changed nothing, whatever the value was.
    pub(super) fn changed_nothing(&self) -> bool {
        matches!(
            self,
            Reply::Value(_) | Reply::Deleted(false) | Reply::NotAnInteger | Reply::Swapped(false)
        )
    }
}

/// Applies `operation` to a key whose value is `value`: the value after it, and the reply.
#[must_use]
pub fn apply(value: &Value, operation: &Operation) -> (Value, Reply) {
    match operation {
        Operation::Get => (value.clone(), Reply::Value(value.clone())),
        Operation::Set(new) => (Some(new.clone()), Reply::Done),
        Operation::Delete => (None, Reply::Deleted(value.is_some())),
        Operation::Increment(by) => {
            let current = value.as_ref().map_or(Some(0), |value| parse_integer(value));
            match current.and_then(|current| current.checked_add(*by)) {
                Some(sum) => (Some(Bytes::from(sum.to_string())), Reply::Integer(sum)),
                None => (value.clone(), Reply::NotAnInteger),
            }
        }
        Operation::CompareAndSet { expected, new } if value == expected => {
            (new.clone(), Reply::Swapped(true))
        }
        Operation::CompareAndSet { .. } => (value.clone(), Reply::Swapped(false)),
    }
}

/// The value after `operation`, if `value` explains `reply`; without a reply anything is explained.
#[must_use]
pub fn step(value: &Value, operation: &Operation, reply: Option<&Reply>) -> Option<Value> {
    let (after, expected) = apply(value, operation);
    reply.is_none_or(|reply| *reply == expected).then_some(after)
}

/// Parses a decimal integer in its one canonical form, as the state machine does: no sign but `-`,
/// no leading zeros, no spaces. Implemented again here, so that the model does not share its
/// faults.
pub(super) fn parse_integer(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}
