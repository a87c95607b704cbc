//! A linearizability checker: is there one order of the recorded operations that explains every
//! reply and respects real time?
//!
//! It does not observe a running cluster: the driver of the clients (the simulator, or a test with
//! real processes) records their replies and runs the check afterwards. It reads no clock and knows
//! nothing of Raft.
//!
//! ```text
//!  invoke, complete, discard        one key at a time
//!  ────────────▶ History ──check──▶ Prepared ──▶ Search ──▶ Verdict
//!                                   (smaller)    (events, visited,   └─ Explanation: a timeline
//!                                                demand)
//! ```
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the
//! linked list of events and the memory of visited configurations of Lowe ("Testing for
//! linearizability", 2017). Keys are checked one by one: a history is linearizable exactly if its
//! part at every object is (locality; Herlihy and Wing, "Linearizability", 1990, theorem 1).
//!
//! ```
//! use bytes::Bytes;
//! use quorate_sim::linearizability::{ClientId, History, Limits, Operation, Reply, Verdict};
//!
//! let key = Bytes::from("account");
//! let mut history = History::new();
//! let set = history.invoke(ClientId(1), 10, key.clone(), Operation::Set(Bytes::from("full")));
//! history.complete(set, 20, Reply::Done);
//! assert_eq!(history.check(&Limits::default()), Verdict::Linearizable);
//!
//! // A read that began after the write had completed does not see it.
//! let get = history.invoke(ClientId(2), 30, key, Operation::Get);
//! history.complete(get, 40, Reply::Value(None));
//! let verdict = history.check(&Limits::default());
//! assert!(matches!(verdict, Verdict::Violation { .. }));
//! println!("{verdict}");
//! ```
//!
//! which prints
//!
//! ```text
//! key "account" is not linearizable: 1 of 2 operations fit, in this order
//!   client 1  |├─┤   |  [10, 20]  Set "full" -> Done
//! then its value is "full", and none of these can come next
//!   client 2  |   ├─┤|  [30, 40]  Get -> absent  (should be "full")
//! ```

mod check;
mod demand;
mod events;
mod explanation;
mod history;
mod operation;
mod prepare;
mod search;
mod stuck;
mod visited;

#[cfg(test)]
mod large_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

pub use check::{Limits, Verdict};
pub use explanation::Explanation;
pub use history::{ClientId, Completion, History, OperationId, RecordedOperation};
pub use operation::{Operation, Reply, Value, apply, step};
