//! Checks a whole history, key by key.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use super::explanation::{Explanation, Readable};
use super::history::{History, RecordedOperation};
use super::prepare::Prepared;
use super::search::{Found, search};

/// Bounds of a check: the problem is NP-complete (Gibbons and Korach, "Testing shared memories",
/// 1997), so a check without bounds may never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often the model may be applied for one key.
    pub key_steps_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { key_steps_max: KEY_STEPS_MAX }
    }
}

/// A thousand steps for each of 2,000 operations, where most histories take some ten. All of them
/// take about half a second. If each step left a visited configuration, of under 150 bytes in a
/// table that may be 7/16 full, that would be 500 MB; measured hard histories leave one for every
/// five steps.
const KEY_STEPS_MAX: u64 = 1 << 21;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every key is linearizable.
    Linearizable,
    /// A key is not linearizable: the first such key in byte order.
    Violation {
        /// The key.
        key: Bytes,
        /// How far its operations can be explained, and where the explanation ends.
        explanation: Explanation,
    },
    /// No key is known to be in violation, but a key passed its bound of steps: the first such key
    /// in byte order. Record less concurrency, or fewer unknown outcomes.
    Exhausted {
        /// The key.
        key: Bytes,
        /// Steps taken for it.
        steps: u64,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => write!(f, "linearizable"),
            Verdict::Violation { key, explanation } => {
                write!(f, "key {} is not linearizable: {explanation}", Readable(key))
            }
            Verdict::Exhausted { key, steps } => {
                write!(f, "key {} is undecided after {steps} steps", Readable(key))
            }
        }
    }
}

impl History {
    /// Looks for an order of the operations that explains all replies. Blocks while it computes, at
    /// most `limits` per key. A key over its bound does not hide a violation of a later one.
    #[must_use]
    pub fn check(&self, limits: &Limits) -> Verdict {
        let mut keys: BTreeMap<&Bytes, Vec<&RecordedOperation>> = BTreeMap::new();
        for (key, operation) in self.operations() {
            keys.entry(key).or_default().push(operation);
        }
        let mut verdict = Verdict::Linearizable;
        for (key, operations) in keys {
            let key = key.clone();
            match search(&Prepared::new(&operations), limits.key_steps_max) {
                Found::Order => {}
                Found::Stuck(stuck) => {
                    let explanation = Explanation::new(&operations, &stuck);
                    return Verdict::Violation { key, explanation };
                }
                Found::Exhausted { steps } => {
                    if verdict == Verdict::Linearizable {
                        verdict = Verdict::Exhausted { key, steps };
                    }
                }
            }
        }
        verdict
    }
}
