//! The schedule of the world: one queue of everything that will happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use quorate_host::{Event, ShardFetch};
use quorate_liveness::{AuditList, Control, Datagram};
use quorate_raft::Message;
use quorate_types::{ReplicaId, ShardId};

use super::clients::ClientNumber;
use super::faults::FaultEnd;
use super::receiving::ChunkAnswer;
use super::transfers::Chunk;
use crate::observation::FaultKind;

/// What a stream carries as one unit.
#[derive(Clone)]
pub(crate) enum Freight {
    Messages(Vec<(ShardId, Message)>),
    Control(ShardId, Control),
    /// An audit list; `true` if it comes from the leader's side.
    Audit(bool, AuditList),
    Chunk(Chunk),
    ChunkAnswer(ChunkAnswer),
}

/// Something that will happen. `life` is the number of the process that it is meant for: once that
/// process has ended, the happening is dropped.
pub(crate) enum Happening {
    Freight {
        from: usize,
        to: usize,
        generation: u32,
        freight: Box<Freight>,
    },
    Datagram {
        from: usize,
        to: usize,
        datagram: Box<Datagram>,
    },
    Synced {
        node: usize,
        sync: u64,
    },
    Apply {
        node: usize,
        life: u64,
        shard: ShardId,
        replica: ReplicaId,
    },
    /// The apply thread hears that an install is durable.
    Adopt {
        node: usize,
        life: u64,
        shard: ShardId,
        replica: ReplicaId,
    },
    Fetch {
        node: usize,
        life: u64,
        fetch: Box<ShardFetch>,
    },
    /// The worker hears that a replica is proven to be removed.
    Destroy {
        node: usize,
        life: u64,
        shard: ShardId,
        replica: ReplicaId,
    },
    /// A late order to make a replica.
    Birth {
        node: usize,
        shard: ShardId,
        replica: ReplicaId,
    },
    /// News of the heartbeat thread for the worker of the same process.
    News {
        node: usize,
        life: u64,
        event: Box<Event>,
    },
    /// The worker's timer.
    Timer {
        node: usize,
    },
    /// The heartbeat thread's timer.
    Heartbeat {
        node: usize,
    },
    SnapshotTimer {
        node: usize,
        life: u64,
        transfer: u64,
        sent: u64,
    },
    ReceivingTimer {
        node: usize,
        life: u64,
        shard: ShardId,
        transfer: u64,
    },
    Ingested {
        node: usize,
        life: u64,
        shard: ShardId,
        transfer: u64,
    },
    Restart {
        node: usize,
    },
    /// A flush begins.
    Flush {
        node: usize,
    },
    /// The flushes under way have completed.
    Flushed {
        node: usize,
        life: u64,
    },
    /// The crash that follows damage of the write-ahead log.
    CrashDamaged {
        node: usize,
        life: u64,
    },
    Client(ClientNumber),
    Request {
        client: ClientNumber,
        operation: u64,
        node: usize,
    },
    Timeout {
        client: ClientNumber,
        operation: u64,
    },
    Operator,
    Fault(FaultKind),
    FaultEnd(FaultEnd),
    Sample,
}

/// The queue. Happenings due at the same time happen in the order in which they were scheduled.
#[derive(Default)]
pub(crate) struct Schedule {
    /// Time, number, place in `waiting`.
    queue: BinaryHeap<Reverse<(u64, u64, u32)>>,
    /// The happenings, kept apart from the heap so that it moves small elements only.
    waiting: Vec<Option<Happening>>,
    free: Vec<u32>,
    last: u64,
}

impl Schedule {
    pub(crate) fn at(&mut self, at: u64, happening: Happening) {
        self.last += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.waiting.push(None);
            u32::try_from(self.waiting.len() - 1).expect("few things wait")
        });
        self.waiting[place as usize] = Some(happening);
        self.queue.push(Reverse((at, self.last, place)));
    }

    /// The next happening with its time and number, if it is due by `end`.
    pub(crate) fn next(&mut self, end: u64) -> Option<(u64, u64, Happening)> {
        let Reverse((at, number, place)) = *self.queue.peek()?;
        if at > end {
            return None;
        }
        self.queue.pop();
        self.free.push(place);
        let happening = self.waiting[place as usize].take().expect("scheduled once");
        Some((at, number, happening))
    }
}
