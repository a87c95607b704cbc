//! Histories by name, good and bad. Each is a script: client, interval, operation, reply; an
//! interval without an end is an unknown outcome.

use bytes::Bytes;

use super::Operation::{CompareAndSet, Delete, Get, Increment};
use super::Reply::{Deleted, Done, Integer, NotAnInteger, Swapped};
use super::{ClientId, History, Limits, Operation, Reply, Value, Verdict};

fn value(text: &str) -> Value {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

fn set(text: &str) -> Operation {
    Operation::Set(Bytes::copy_from_slice(text.as_bytes()))
}

fn read(text: &str) -> Reply {
    Reply::Value(value(text))
}

fn swap(expected: Value, new: &str) -> Operation {
    CompareAndSet { expected, new: value(new) }
}

const ABSENT: Reply = Reply::Value(None);

/// A history of one key under construction.
#[derive(Default)]
struct Script(History);

impl Script {
    fn done(self, client: u64, times: [u64; 2], operation: Operation, reply: Reply) -> Script {
        self.done_at("key", client, times, operation, reply)
    }

    fn done_at(
        mut self,
        key: &'static str,
        client: u64,
        [invoked_at, completed_at]: [u64; 2],
        operation: Operation,
        reply: Reply,
    ) -> Script {
        let id = self.0.invoke(ClientId(client), invoked_at, Bytes::from(key), operation);
        self.0.complete(id, completed_at, reply);
        self
    }

    fn unknown(mut self, client: u64, invoked_at: u64, operation: Operation) -> Script {
        let _ = self.0.invoke(ClientId(client), invoked_at, Bytes::from("key"), operation);
        self
    }

    fn failed(mut self, client: u64, invoked_at: u64, operation: Operation) -> Script {
        let id = self.0.invoke(ClientId(client), invoked_at, Bytes::from("key"), operation);
        self.0.discard(id);
        self
    }

    fn verdict(&self) -> Verdict {
        self.0.check(&Limits::default())
    }

    #[track_caller]
    fn good(self) {
        let verdict = self.verdict();
        assert_eq!(verdict, Verdict::Linearizable, "{verdict}");
    }

    #[track_caller]
    fn bad(self) -> String {
        let verdict = self.verdict();
        assert!(matches!(verdict, Verdict::Violation { .. }), "{verdict}");
        verdict.to_string()
    }
}

fn script() -> Script {
    Script::default()
}

// Goal: nothing is wrong where nothing happened, or nothing is known to have happened.
#[test]
fn empty_history() {
    script().good();
    script().unknown(1, 0, set("a")).unknown(2, 0, Get).failed(3, 0, Delete).good();
}

// Goal: every key begins absent, for every kind of operation.
#[test]
fn the_first_value_is_absent() {
    script().done(1, [0, 1], Get, ABSENT).good();
    script().done(1, [0, 1], Delete, Deleted(false)).good();
    script().done(1, [0, 1], Increment(5), Integer(5)).good();
    script().done(1, [0, 1], swap(None, "a"), Swapped(true)).good();
}

// Goal: a read that begins after a write completed can't have the value before it; one that
// overlaps with the write can.
#[test]
fn stale_read_after_a_completed_write() {
    let written = || script().done(1, [0, 10], set("a"), Done).done(1, [20, 30], set("b"), Done);
    written().done(2, [31, 40], Get, read("a")).bad();
    written().done(2, [31, 40], Get, read("b")).good();
    written().done(2, [25, 40], Get, read("a")).good();
}

// Goal: a value has to come from a write, and not from one that failed.
#[test]
fn read_of_a_value_never_written() {
    script().done(1, [0, 10], set("a"), Done).done(2, [5, 20], Get, read("b")).bad();
    script().failed(1, 0, set("b")).done(2, [5, 20], Get, read("b")).bad();
    // Nor from one that was not yet invoked.
    script().done(1, [0, 10], Get, read("a")).done(2, [11, 20], set("a"), Done).bad();
}

// Goal: two writes at once may come in either order, but all clients see the same one.
#[test]
fn concurrent_writes_in_different_orders() {
    let written = || script().done(1, [0, 100], set("a"), Done).done(2, [0, 100], set("b"), Done);
    let a_then_b = written().done(3, [10, 20], Get, read("a")).done(3, [30, 40], Get, read("b"));
    a_then_b.done(4, [10, 20], Get, read("b")).done(4, [30, 40], Get, read("a")).bad();
    let a_then_b = written().done(3, [10, 20], Get, read("a")).done(3, [30, 40], Get, read("b"));
    a_then_b.done(4, [10, 20], Get, read("a")).done(4, [30, 40], Get, read("b")).good();
}

// Goal: each increment sees all that completed before it; two at once have different results.
#[test]
fn lost_update_by_increments() {
    let first = || script().done(1, [0, 10], Increment(1), Integer(1));
    first().done(2, [0, 10], Increment(1), Integer(1)).bad();
    first().done(2, [0, 10], Increment(1), Integer(2)).good();
    first().done(2, [11, 20], Increment(1), Integer(1)).bad();
    first().done(2, [11, 20], Increment(1), Integer(2)).done(3, [21, 30], Get, read("1")).bad();
}

// Goal: an increment is refused exactly where the value is no integer, or would overflow.
#[test]
fn increments_of_what_is_no_integer() {
    for text in ["x", "01", "+1", " 1", "", "9223372036854775808"] {
        let written = || script().done(1, [0, 10], set(text), Done);
        written().done(1, [20, 30], Increment(1), NotAnInteger).good();
        written().done(1, [20, 30], Increment(1), Integer(2)).bad();
    }
    let full = script().done(1, [0, 10], set("9223372036854775807"), Done);
    full.done(1, [20, 30], Increment(1), NotAnInteger)
        .done(1, [40, 50], Increment(-1), Integer(i64::MAX - 1))
        .good();
    script().done(1, [0, 10], Increment(-1), NotAnInteger).bad();
}

// Goal: a write of unknown outcome may show at any time after it was invoked, or never.
#[test]
fn unknown_write_seen_late() {
    let begun = || script().unknown(1, 0, set("a")).done(2, [10, 20], set("b"), Done);
    begun().done(2, [30, 40], Get, read("b")).done(2, [1_000, 1_010], Get, read("a")).good();
    begun().done(2, [30, 40], Get, read("b")).good();
    // But not before.
    script().done(2, [0, 9], Get, read("a")).unknown(1, 10, set("a")).bad();
    script().done(2, [0, 10], Get, read("a")).unknown(1, 10, set("a")).good();
}

// Goal: a write of unknown outcome that was seen has happened, and only once.
#[test]
fn unknown_write_seen_then_unseen() {
    let seen = || {
        let begun = script().done(2, [0, 1], set("b"), Done).unknown(1, 5, set("a"));
        begun.done(2, [10, 20], Get, read("a"))
    };
    seen().done(3, [21, 30], Get, read("b")).bad();
    seen().done(3, [21, 30], set("b"), Done).done(3, [31, 40], Get, read("b")).good();
    seen().done(3, [21, 30], set("b"), Done).done(3, [31, 40], Get, read("a")).bad();
}

// Goal: each increment of unknown outcome counts at most once.
#[test]
fn unknown_increment_applied_twice() {
    let begun = || script().done(2, [0, 1], Increment(1), Integer(1)).unknown(1, 5, Increment(1));
    begun().done(2, [10, 20], Get, read("1")).done(2, [30, 40], Get, read("2")).good();
    begun().done(2, [10, 20], Increment(1), Integer(3)).good();
    begun().done(2, [10, 20], Get, read("3")).bad();
    begun().unknown(3, 5, Increment(1)).done(2, [10, 20], Get, read("3")).good();
    begun().unknown(3, 21, Increment(1)).done(2, [10, 20], Get, read("3")).bad();
    begun().unknown(3, 5, Increment(2)).done(2, [10, 20], Increment(1), Integer(5)).good();
    begun().unknown(3, 5, Increment(2)).done(2, [10, 20], Increment(1), Integer(6)).bad();
}

// Goal: operations of unknown outcome explain each other in a row, whatever their kinds.
#[test]
fn unknown_operations_in_a_row() {
    let begun = || {
        let begun = script().done(1, [0, 1], set("a"), Done);
        begun.unknown(2, 5, swap(value("b"), "c")).unknown(3, 5, swap(value("a"), "b"))
    };
    begun().done(1, [10, 20], Get, read("c")).good();
    begun().done(1, [10, 20], Get, read("c")).done(1, [30, 40], Get, read("b")).bad();
    begun().unknown(4, 5, Delete).done(1, [10, 20], swap(None, "d"), Swapped(true)).good();
}

// Goal: a delete's reply, which tells whether it found a value, is checked like any other.
#[test]
fn wrong_result_of_a_delete() {
    let written = || script().done(1, [0, 10], set("a"), Done);
    written().done(2, [11, 20], Delete, Deleted(false)).bad();
    let deleted = || written().done(2, [11, 20], Delete, Deleted(true));
    deleted().done(3, [21, 30], Delete, Deleted(true)).bad();
    deleted().done(3, [21, 30], Delete, Deleted(false)).done(3, [31, 40], Get, ABSENT).good();
    // Two at once: one of them finds it.
    deleted().done(3, [11, 20], Delete, Deleted(true)).bad();
    deleted().done(3, [11, 20], Delete, Deleted(false)).good();
    // A write of unknown outcome whose value nobody read explains it, once.
    deleted().unknown(4, 0, set("z")).done(3, [21, 30], Delete, Deleted(true)).good();
    let twice = deleted().unknown(4, 0, set("z")).done(3, [21, 30], Delete, Deleted(true));
    twice.done(3, [31, 40], Delete, Deleted(true)).bad();
}

// Goal: an operation that completed at t does not precede one invoked at t, in either order of
// recording; one invoked at t + 1 it precedes.
#[test]
fn equal_times_are_concurrent() {
    script().done(1, [0, 10], set("a"), Done).done(2, [10, 20], Get, ABSENT).good();
    script().done(2, [10, 20], Get, ABSENT).done(1, [0, 10], set("a"), Done).good();
    script().done(1, [0, 10], set("a"), Done).done(2, [11, 20], Get, ABSENT).bad();
    // No time at all, all at once.
    let instant = || script().done(1, [5, 5], Get, read("a")).done(2, [5, 5], set("a"), Done);
    instant().done(3, [5, 5], Get, ABSENT).good();
}

// Goal: each link of a chain of compare-and-sets is there once, in the one order that fits, and a
// refused one was refused for a reason.
#[test]
fn compare_and_set_chains() {
    let chain = || {
        let third = script().done(3, [0, 100], swap(value("b"), "c"), Swapped(true));
        let second = third.done(2, [0, 100], swap(value("a"), "b"), Swapped(true));
        second.done(1, [0, 100], swap(None, "a"), Swapped(true))
    };
    chain().done(4, [101, 110], Get, read("c")).good();
    chain().done(4, [101, 110], Get, read("b")).bad();
    chain().done(4, [0, 100], swap(value("a"), "x"), Swapped(false)).good();
    chain().done(4, [0, 100], swap(value("a"), "x"), Swapped(true)).bad();
    chain().done(4, [101, 110], swap(value("c"), "x"), Swapped(false)).bad();
    let removes = CompareAndSet { expected: value("c"), new: None };
    chain().done(4, [101, 110], removes, Swapped(true)).done(4, [111, 120], Get, ABSENT).good();
}

// Goal: keys do not touch each other, and the first bad one is named.
#[test]
fn keys_are_apart() {
    let good = || script().done_at("a", 1, [0, 1], set("1"), Done);
    good().done_at("b", 1, [2, 3], Get, ABSENT).good();
    let bad = good().done_at("b", 1, [2, 3], Get, read("1"));
    let bad = bad.done_at("c", 1, [2, 3], Get, read("1")).bad();
    assert!(bad.starts_with("key \"b\" is not linearizable"), "{bad}");
}

// Goal: a check ends at its bound, says so, and later keys are still checked.
#[test]
fn a_bound_of_steps_is_kept() {
    // Every subset of the increments has a sum of its own, and no sum is negative.
    let mut hard = script();
    for bit in 0..14 {
        hard = hard.unknown(bit, 0, Increment(1 << bit));
    }
    let hard = hard.done(100, [1, 2], Get, read("-1"));
    assert!(matches!(hard.verdict(), Verdict::Violation { .. }));
    let limits = Limits { key_steps_max: 500 };
    let verdict = hard.0.check(&limits);
    assert!(matches!(verdict, Verdict::Exhausted { steps: 501..600, .. }), "{verdict}");
    let verdict = hard.done_at("key 2", 1, [0, 1], Get, read("x")).0.check(&limits);
    assert!(matches!(verdict, Verdict::Violation { .. }), "{verdict}");
}

// Goal: the explanation can be read as it is, and the same history gives the same one.
#[test]
fn the_explanation_is_a_timeline() {
    let history = || {
        let written = script().done(1, [5, 10], set("a"), Done).done(2, [8, 20], set("b"), Done);
        let seen = written.done(3, [9, 15], Get, read("b")).unknown(14, 12, Increment(2));
        seen.done(3, [30, 42], Get, read("a")).done(4, [41, 50], Get, read("b"))
    };
    let expected = "\
key \"key\" is not linearizable: 4 of 5 operations fit, in this order
  client 2   | ├────┤    |  [8, 20]   Set \"b\" -> Done
  client 3   |  ├──┤     |  [9, 15]   Get -> \"b\"
  client 1   |├──┤       |  [5, 10]   Set \"a\" -> Done
  client 3   |       ├─┤ |  [30, 42]  Get -> \"a\"
then its value is \"a\", and none of these can come next
  client 4   |        ├─┤|  [41, 50]  Get -> \"b\"  (should be \"a\")
nor do these help, whose outcome is unknown
  client 14  |    ├╌╌╌╌╌╌|  [12, ...  Increment 2 -> unknown";
    assert_eq!(history().bad(), expected);
    assert_eq!(history().bad(), expected);
}

// Goal: the explanation ends where a reader sees the fault, not where the search foresaw it.
#[test]
fn the_explanation_of_a_stale_read_ends_at_the_read() {
    let written = script().done(1, [0, 10], set("a"), Done).done(1, [20, 30], set("b"), Done);
    let verdict = written.done(2, [31, 40], Get, read("a")).verdict();
    let Verdict::Violation { explanation, .. } = verdict else { panic!("{verdict}") };
    assert_eq!((explanation.completed, explanation.prefix.len()), (3, 2));
    assert_eq!(explanation.value, value("b"));
    let [blocked] = &explanation.blocked[..] else { panic!("{explanation}") };
    assert_eq!((blocked.client, &blocked.operation), (ClientId(2), &Get));
    assert!(explanation.open.is_empty(), "{explanation}");
}

#[test]
#[should_panic(expected = "is no reply to")]
fn a_reply_has_to_fit_its_operation() {
    let _ = script().done(1, [0, 1], Get, Done);
}

#[test]
#[should_panic(expected = "has ended already")]
fn an_operation_ends_once() {
    let mut history = History::new();
    let id = history.invoke(ClientId(1), 0, Bytes::from("key"), Get);
    history.discard(id);
    history.complete(id, 1, ABSENT);
}

#[test]
#[should_panic(expected = "invoked at 5, completed at 4")]
fn time_does_not_run_back() {
    let _ = script().done(1, [5, 4], Get, ABSENT);
}
