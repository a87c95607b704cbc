//! A worker's inbox: bounded, swapped out whole, and woken once per batch.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use quorate_host::ShardView;
use quorate_raft::{Message, Reader, Run, SnapshotOutcome};
use quorate_types::{Index, NodeId, ReplicaId, ShardId, limits};
use tokio::sync::oneshot;

use crate::calls::call::Call;
use crate::state::shards::DamagedReplica;
use crate::worker::snapshots::ArrivedSnapshot;

/// How far a replica has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppliedReplica {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    pub(crate) index: Index,
}

/// How far a replica's log may be purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PurgeBound {
    pub(crate) shard: ShardId,
    pub(crate) replica: ReplicaId,
    /// The applied state is durable through this index, and older entries are not wanted.
    pub(crate) to: Index,
    /// Entries below this are kept for no follower.
    pub(crate) kept_from: Index,
}

/// One input of a worker.
#[derive(Debug)]
pub(crate) enum Input {
    /// A caller's request. Bounded: refused when the inbox is full.
    Call(Call),
    /// Messages of one peer. Bounded: dropped when the inbox is full, as a network may drop them.
    Messages { from: NodeId, messages: Vec<(ShardId, Message)> },
    /// The log writer made this turn durable.
    Persisted(u64),
    /// An apply thread has applied entries of these replicas.
    Applied(Vec<AppliedReplica>),
    /// The log reader's answer.
    Fetched { shard: ShardId, replica: ReplicaId, reader: Reader, runs: Vec<Run> },
    /// Everything before a snapshot is applied, and what comes after it waits: install it.
    Install(Box<ArrivedSnapshot>),
    /// The outcome of a snapshot that was to be sent.
    SnapshotEnded { shard: ShardId, to: ReplicaId, outcome: SnapshotOutcome },
    /// Logs that may be purged.
    Purge(Vec<PurgeBound>),
    /// A replica that must never speak again, or not before the next start.
    Damaged(DamagedReplica),
    /// A request for a view of all shards.
    View(oneshot::Sender<Vec<(ShardId, ShardView)>>),
    /// The directory is founded: its replicas may send.
    Founded,
    /// Answer all callers and end.
    Stop,
}

#[derive(Default)]
struct State {
    inputs: Vec<Input>,
    calls: Load,
    messages: Load,
    waiting: bool,
    closed: bool,
}

/// How much of one kind waits. Calls and messages are counted apart, so that a flood of calls can't
/// push out the messages that would drain it; everything else is bounded by the work that these start.
#[derive(Default)]
struct Load {
    count: usize,
    bytes: usize,
}

impl Load {
    /// Adds, unless that would exceed a bound.
    fn admit(&mut self, count: usize, bytes: usize, count_max: usize) -> bool {
        let fits = self.count + count <= count_max
            && (self.bytes + bytes <= limits::INBOX_BYTES_MAX || self.bytes == 0);
        if fits {
            self.count += count;
            self.bytes += bytes;
        }
        fits
    }
}

/// The inbox of one worker; it has many senders.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    wake: Condvar,
}

impl Inbox {
    /// Hands a call over, or gives it back if the inbox is full.
    pub(crate) fn push_call(&self, call: Call) -> Result<(), Call> {
        let bytes = call.len_bytes();
        let mut state = self.state.lock();
        if state.closed || !state.calls.admit(1, bytes, limits::INBOX_EVENTS_MAX) {
            return Err(call);
        }
        self.finish(state, Input::Call(call));
        Ok(())
    }

    /// Hands messages over; false if they were dropped because the inbox is full.
    pub(crate) fn push_messages(&self, from: NodeId, messages: Vec<(ShardId, Message)>) -> bool {
        let bytes = messages.iter().map(|(_, message)| payload_bytes(message)).sum();
        let mut state = self.state.lock();
        if !state.messages.admit(messages.len(), bytes, limits::INBOX_MESSAGES_MAX) {
            return false;
        }
        self.finish(state, Input::Messages { from, messages });
        true
    }

    /// Hands over an input that this engine asked for; never refused.
    pub(crate) fn push(&self, input: Input) {
        self.finish(self.state.lock(), input);
    }

    fn finish(&self, mut state: parking_lot::MutexGuard<'_, State>, input: Input) {
        if state.closed {
            return;
        }
        state.inputs.push(input);
        if std::mem::take(&mut state.waiting) {
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Swaps everything out for the last time; calls are refused from now on.
    pub(crate) fn close_and_take(&self, inputs: &mut Vec<Input>) {
        let mut state = self.state.lock();
        state.closed = true;
        inputs.append(&mut state.inputs);
    }

    /// Swaps everything out into the empty `inputs`; waits at most `wait` for something, or without
    /// limit if that is `None`.
    pub(crate) fn take(&self, inputs: &mut Vec<Input>, wait: Option<Duration>) {
        assert!(inputs.is_empty(), "inputs of the last turn were left behind");
        let deadline = wait.map(|wait| Instant::now() + wait);
        let mut state = self.state.lock();
        while state.inputs.is_empty() {
            state.waiting = true;
            let timed_out = match deadline {
                None => {
                    self.wake.wait(&mut state);
                    false
                }
                Some(deadline) => self.wake.wait_until(&mut state, deadline).timed_out(),
            };
            if timed_out {
                break;
            }
        }
        state.waiting = false;
        std::mem::swap(&mut state.inputs, inputs);
        state.calls = Load::default();
        state.messages = Load::default();
    }
}

fn payload_bytes(message: &Message) -> usize {
    match &message.body {
        quorate_raft::Body::Append { runs, .. } => runs.iter().map(Run::len_bytes).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::call::{CallKind, Completion};
    use quorate_raft::Body;
    use quorate_types::{ReplicaId, Term};

    fn call(command_bytes: usize) -> Call {
        Call {
            shard: ShardId(1),
            descriptor_version: 1,
            kind: CallKind::Write(vec![0; command_bytes].into()),
            completion: Completion::Local(oneshot::channel().0),
        }
    }

    fn messages(count: usize) -> Vec<(ShardId, Message)> {
        let (from, to) = (ReplicaId(2), ReplicaId(1));
        let message = || Message { from, to, term: Term(1), body: Body::TimeoutNow };
        (0..count).map(|_| (ShardId(1), message())).collect()
    }

    fn fill_with_calls(inbox: &Inbox, command_bytes: usize) -> usize {
        (0..).take_while(|_| inbox.push_call(call(command_bytes)).is_ok()).count()
    }

    /// Goal: a flood of calls does not keep out the messages that would drain it, nor the reverse.
    /// Method: one kind up to its bound, then the other; by count and by bytes.
    #[test]
    fn calls_and_messages_have_bounds_of_their_own() {
        for (command_bytes, calls_max) in
            [(1, limits::INBOX_EVENTS_MAX), (limits::INBOX_BYTES_MAX / 4, 4)]
        {
            let inbox = Inbox::default();
            assert_eq!(fill_with_calls(&inbox, command_bytes), calls_max);
            assert!(inbox.push_messages(NodeId(2), messages(limits::INBOX_MESSAGES_MAX)));
            assert!(!inbox.push_messages(NodeId(2), messages(1)), "messages are bounded, too");
            inbox.push(Input::Persisted(1));
            let mut inputs = Vec::new();
            inbox.take(&mut inputs, None);
            assert_eq!(inputs.len(), calls_max + 2);
            assert!(inbox.push_messages(NodeId(2), messages(1)), "what was taken makes room");
            assert_eq!(fill_with_calls(&inbox, command_bytes), calls_max);
        }
        let inbox = Inbox::default();
        assert!(inbox.push_messages(NodeId(2), messages(limits::INBOX_MESSAGES_MAX)));
        assert!(inbox.push_call(call(1)).is_ok());
    }

    /// Goal: a call that comes after the close is given back, so that its caller learns that it did not
    /// happen. Method: the same inbox before and after.
    #[test]
    fn a_closed_inbox_gives_calls_back() {
        let inbox = Inbox::default();
        assert!(inbox.push_call(call(1)).is_ok());
        let mut inputs = Vec::new();
        inbox.close_and_take(&mut inputs);
        assert_eq!(inputs.len(), 1);
        assert!(inbox.push_call(call(1)).is_err());
    }

    /// Goal: any input wakes a worker that sleeps. Method: each way in, once the worker waits
    /// without limit.
    #[test]
    fn everything_that_comes_wakes() {
        let ways: [fn(&Inbox); 3] = [
            |inbox| assert!(inbox.push_call(call(1)).is_ok()),
            |inbox| assert!(inbox.push_messages(NodeId(2), messages(1))),
            |inbox| inbox.push(Input::Founded),
        ];
        for push in ways {
            let inbox = std::sync::Arc::new(Inbox::default());
            let (woken, told) = std::sync::mpsc::channel();
            let worker = std::thread::spawn({
                let inbox = std::sync::Arc::clone(&inbox);
                move || {
                    let mut inputs = Vec::new();
                    inbox.take(&mut inputs, None);
                    woken.send(inputs.len()).expect("the test listens");
                }
            });
            while !inbox.state.lock().waiting {
                std::thread::yield_now();
            }
            push(&inbox);
            assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(1));
            worker.join().expect("no panic");
        }
    }
}
