//! The host: many shards, one turn.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use quorate_raft::{
    Config, Kernel, Membership, Message, Ready, Restored, RoleState, SnapshotOutcome, TransferError,
};
use quorate_types::{
    Duration, Incarnation, Index, LogId, Monotonic, NodeId, ReplicaId, ShardId, WallMillis,
    WriteNumber, limits,
};
use rustc_hash::FxHashMap;

use crate::shard::{NewWrite, Shard};
use crate::stall::DiskWatch;
use crate::turn::{Answer, Event, Refusal, ShardFetch, ShardRole, Ticket, Turn};

/// Read contexts of one incarnation; the incarnation fills the bits above.
const READ_CONTEXT_BITS: u32 = 40;

/// Fixed for the life of a host.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// This node.
    pub node: NodeId,
    /// How often the node has started; keeps read contexts from being reused.
    pub incarnation: Incarnation,
    /// Seed of every kernel's election jitter.
    pub seed: u64,
    /// Deadlines are rounded up to this grid, so that the heartbeats of many shards fall into one
    /// turn and one frame per peer.
    pub timer_grain: Duration,
    /// Bytes of runs that the shards of this host keep in memory together.
    pub entry_cache_bytes_max: usize,
}

impl HostConfig {
    /// The usual grain and bounds.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, seed: u64) -> HostConfig {
        HostConfig {
            node,
            incarnation,
            seed,
            timer_grain: Duration::from_millis(10),
            entry_cache_bytes_max: limits::ENTRY_CACHE_BYTES_MAX,
        }
    }
}

/// A replica to be hosted, as log and data store left it.
#[derive(Clone, Debug)]
pub struct ReplicaInit {
    /// The shard.
    pub shard: ShardId,
    /// The replica's id in the group.
    pub replica: ReplicaId,
    /// Version of the descriptor in force.
    pub descriptor_version: u64,
    /// The durable state; `applied` is the data store's.
    pub restored: Restored,
}

/// What a host can tell of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardView {
    /// Role, term and leader.
    pub role: RoleState,
    /// Commit index.
    pub commit: Index,
    /// Applied index.
    pub applied: Index,
    /// Last entry of the log.
    pub last: LogId,
    /// Membership in force.
    pub membership: Membership,
    /// Bytes of runs in memory.
    pub cached_bytes: usize,
}

/// A turn's write on its way to the disk.
struct InFlight {
    turn: u64,
    taken: Monotonic,
    writes: Vec<(usize, WriteNumber)>,
    /// What leaves when this write is durable.
    held: Vec<(NodeId, ShardId, Message)>,
}

/// All shards of one worker. See the crate's documentation.
pub struct Host {
    config: HostConfig,
    shards: Vec<Shard>,
    /// Looked up, never iterated: hash order must not reach any output.
    by_id: FxHashMap<ShardId, usize>,
    dirty: Vec<usize>,
    timers: BinaryHeap<Reverse<(Monotonic, usize)>>,
    in_flight: VecDeque<InFlight>,
    turn_last: u64,
    pub(crate) disk: DiskWatch,
    cached_bytes: usize,
    evict_next: usize,
    /// Gathers what events bring about until the turn is taken.
    turn: Turn,
}

impl Host {
    /// A host without shards.
    #[must_use]
    pub fn new(config: HostConfig) -> Host {
        Host {
            config,
            shards: Vec::new(),
            by_id: FxHashMap::default(),
            dirty: Vec::new(),
            timers: BinaryHeap::new(),
            in_flight: VecDeque::new(),
            turn_last: 0,
            disk: DiskWatch::default(),
            cached_bytes: 0,
            evict_next: 0,
            turn: Turn::default(),
        }
    }

    /// Takes a replica in; it begins as a follower at `now`.
    ///
    /// # Panics
    /// If the shard is hosted already.
    pub fn add(&mut self, now: Monotonic, init: ReplicaInit) {
        // The multiplier (of splitmix64) spreads neighbouring shards over the election window.
        let seed = (self.config.seed ^ init.shard.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ self.config.node.0;
        let context_first = self.config.incarnation.0 << READ_CONTEXT_BITS;
        let config = Config::new(init.replica, seed, context_first);
        let applied = init.restored.applied;
        let kernel = Kernel::new(config, init.restored, now);
        let slot = self.shards.len();
        let clash = self.by_id.insert(init.shard, slot);
        assert!(clash.is_none(), "shard {} is hosted already", init.shard);
        self.shards.push(Shard::new(init.shard, kernel, init.descriptor_version, applied));
        self.mark(slot);
    }

    /// Takes an event in. Its effects show in the next turn.
    pub fn handle(&mut self, now: Monotonic, wall: WallMillis, event: Event) {
        match event {
            Event::Message { from, shard, message } => {
                self.handle_message(now, from, shard, message)
            }
            Event::Write { shard, ticket, descriptor_version, session, command, progress } => {
                if let Some(slot) = self.slot_for(shard, ticket, descriptor_version) {
                    let write = NewWrite { ticket, session, command: &command, progress };
                    self.shards[slot].write(now, wall, write, &mut self.turn);
                    self.mark(slot);
                }
            }
            Event::Read { shard, ticket, descriptor_version } => {
                if let Some(slot) = self.slot_for(shard, ticket, descriptor_version) {
                    self.shards[slot].read(ticket);
                    self.mark(slot);
                }
            }
            Event::Persisted { turn } => self.handle_persisted(now, turn),
            Event::Applied { shard, index } => {
                let slot = self.slot(shard).expect("only hosted shards are applied");
                self.shards[slot].handle_applied(index, &mut self.turn.answers);
                self.mark(slot);
            }
            Event::Fetched { shard, reader, runs } => {
                let slot = self.slot(shard).expect("only hosted shards fetch");
                self.shards[slot].kernel.handle_fetched(reader, runs);
                self.mark(slot);
            }
            Event::TransferLeader { shard, ticket, to } => {
                self.transfer_leader(now, shard, ticket, to);
            }
        }
    }

    /// Time passed: runs every timer that is due.
    pub fn handle_timeouts(&mut self, now: Monotonic) {
        self.watch_disk(now);
        while let Some(Reverse((deadline, slot))) = self.timers.peek().copied() {
            if deadline > now {
                return;
            }
            self.timers.pop();
            // A later arming for an earlier time left this one behind.
            if self.shards[slot].armed == deadline {
                self.shards[slot].armed = Monotonic(u64::MAX);
                if self.shards[slot].kernel.poll_timeout() <= now {
                    self.shards[slot].kernel.handle_timeout(now);
                    self.mark(slot);
                }
                self.arm(slot);
            }
        }
    }

    /// When [`Host::handle_timeouts`] wants to be called next, on the timer grid.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let timer = self.timers.peek().map(|Reverse((deadline, _))| *deadline);
        timer.into_iter().chain(self.stall_deadline()).min()
    }

    /// Everything that the shards want done since the last turn.
    pub fn take_turn(&mut self, now: Monotonic) -> Turn {
        let number = self.turn_last + 1;
        let mut flight =
            InFlight { turn: number, taken: now, writes: Vec::new(), held: Vec::new() };
        let mut writes = Vec::new();
        for slot in std::mem::take(&mut self.dirty) {
            self.shards[slot].dirty = false;
            self.shards[slot].submit(now, &mut self.turn);
            let mut ready = self.shards[slot].kernel.take_ready();
            if let Some(write) = ready.write.take() {
                self.shards[slot].submitted_turn = number;
                flight.writes.push((slot, write.number));
                writes.push((self.shards[slot].id, write));
            }
            self.take_shard(slot, ready, &mut flight);
            self.arm(slot);
        }
        if !writes.is_empty() {
            self.turn_last = number;
            self.turn.write = Some((number, writes));
            self.in_flight.push_back(flight);
        }
        self.evict();
        std::mem::take(&mut self.turn)
    }

    /// Routes one shard's wishes into the turn.
    fn take_shard(&mut self, slot: usize, ready: Ready, flight: &mut InFlight) {
        let id = self.shards[slot].id;
        for (node, message) in ready.send_now {
            self.turn.push_message(node, id, message);
        }
        for (node, message) in ready.send_after_sync {
            self.hold(slot, node, message, flight);
        }
        if let Some(committed) = ready.committed {
            let tickets = self.shards[slot].take_tickets(&committed, &mut self.turn.answers);
            self.turn.applies.push(crate::turn::Apply { shard: id, committed, tickets });
        }
        for read in ready.reads {
            self.shards[slot].end_read(read.context, read.index, &mut self.turn.answers);
        }
        self.turn.fetches.extend(ready.fetches.into_iter().map(|fetch| ShardFetch {
            shard: id,
            reader: fetch.reader,
            range: fetch.range,
            bytes_max: fetch.bytes_max,
        }));
        // Nobody makes snapshots yet. Said so, the kernel tries the log again after a while; left
        // unanswered, it would wait for ever.
        for snapshot in ready.snapshots {
            self.shards[slot].kernel.handle_snapshot_report(snapshot.to, SnapshotOutcome::Failed);
            self.mark(slot);
        }
        if let Some(role) = ready.role {
            self.turn.roles.push(ShardRole { shard: id, role });
        }
        let cached_bytes = self.shards[slot].kernel.cached_bytes();
        self.cached_bytes += cached_bytes;
        self.cached_bytes -= std::mem::replace(&mut self.shards[slot].cached_bytes, cached_bytes);
    }

    /// RULE 2: what waits for a sync leaves with the newest write of its shard, and at once only
    /// where the shard has none under way.
    fn hold(&mut self, slot: usize, node: NodeId, message: Message, flight: &mut InFlight) {
        let (id, submitted) = (self.shards[slot].id, self.shards[slot].submitted_turn);
        if submitted == flight.turn {
            flight.held.push((node, id, message));
            return;
        }
        match self.in_flight.iter_mut().find(|flight| flight.turn == submitted) {
            Some(flight) => flight.held.push((node, id, message)),
            None => self.turn.push_message(node, id, message),
        }
    }

    fn handle_message(&mut self, now: Monotonic, from: NodeId, shard: ShardId, message: Message) {
        // A peer may be ahead of us in what lives here; it will ask again.
        let Some(slot) = self.slot(shard) else {
            return;
        };
        let kernel = &mut self.shards[slot].kernel;
        match kernel.membership().node_of(message.from) {
            // A node speaks for its own replicas only (RULE 3).
            Some(node) if node != from => return,
            Some(_) => {}
            None => kernel.handle_address(message.from, from),
        }
        kernel.handle_message(now, message);
        self.mark(slot);
    }

    fn handle_persisted(&mut self, now: Monotonic, turn: u64) {
        assert!(turn <= self.turn_last, "turn {turn} was never taken");
        while self.in_flight.front().is_some_and(|flight| flight.turn <= turn) {
            let flight = self.in_flight.pop_front().expect("looked at just now");
            self.disk.handle_progress(now);
            for (slot, number) in flight.writes {
                self.shards[slot].handle_persisted(number);
                self.mark(slot);
            }
            for (node, shard, message) in flight.held {
                self.turn.push_message(node, shard, message);
            }
        }
    }

    fn transfer_leader(&mut self, now: Monotonic, shard: ShardId, ticket: Ticket, to: NodeId) {
        let Some(slot) = self.slot(shard) else {
            self.refuse(ticket, Refusal::NoReplica);
            return;
        };
        let kernel = &mut self.shards[slot].kernel;
        let target = kernel.membership().members().find(|member| member.node == to);
        let result = match target {
            None => Err(Refusal::NotAVoter),
            Some(member) => kernel.transfer_leader(now, member.replica).map_err(|e| match e {
                TransferError::NotLeader { leader } => {
                    Refusal::NotLeader { leader: leader.map(|(_, node)| node) }
                }
                TransferError::NotAVoter { .. } => Refusal::NotAVoter,
                TransferError::Transferring { .. } => Refusal::Busy,
            }),
        };
        match result {
            Ok(()) => self.turn.answers.push((ticket, Answer::TransferBegun)),
            Err(refusal) => self.refuse(ticket, refusal),
        }
        self.mark(slot);
    }

    /// When the oldest write that is under way was taken.
    pub(crate) fn oldest_write(&self) -> Option<Monotonic> {
        self.in_flight.front().map(|flight| flight.taken)
    }

    /// Nothing here leads or campaigns for a while.
    pub(crate) fn resign_all(&mut self, now: Monotonic) {
        for slot in 0..self.shards.len() {
            self.shards[slot].kernel.resign(now);
            self.mark(slot);
            self.arm(slot);
        }
    }

    /// The node's entry cache has one budget: the shards give up applied runs in turn.
    fn evict(&mut self) {
        let low_water = self.config.entry_cache_bytes_max / 4 * 3;
        if self.cached_bytes <= self.config.entry_cache_bytes_max {
            return;
        }
        for _ in 0..self.shards.len() {
            let slot = self.evict_next % self.shards.len();
            self.evict_next = slot + 1;
            let shard = &mut self.shards[slot];
            shard.kernel.evict_below(shard.applied.next());
            let cached_bytes = shard.kernel.cached_bytes();
            self.cached_bytes -= std::mem::replace(&mut shard.cached_bytes, cached_bytes);
            self.cached_bytes += cached_bytes;
            if self.cached_bytes <= low_water {
                return;
            }
        }
    }

    fn arm(&mut self, slot: usize) {
        let grain = u64::try_from(self.config.timer_grain.as_nanos()).expect("a short grain");
        let wanted = self.shards[slot].kernel.poll_timeout().0;
        let deadline = Monotonic(wanted.checked_next_multiple_of(grain.max(1)).unwrap_or(wanted));
        if deadline < self.shards[slot].armed {
            self.shards[slot].armed = deadline;
            self.timers.push(Reverse((deadline, slot)));
        }
    }

    fn slot(&self, shard: ShardId) -> Option<usize> {
        self.by_id.get(&shard).copied()
    }

    /// The slot of a request, unless it has to be refused.
    fn slot_for(&mut self, shard: ShardId, ticket: Ticket, version: u64) -> Option<usize> {
        let Some(slot) = self.slot(shard) else {
            self.refuse(ticket, Refusal::NoReplica);
            return None;
        };
        let current = self.shards[slot].descriptor_version;
        if current != version {
            self.refuse(ticket, Refusal::StaleVersion { current });
            return None;
        }
        Some(slot)
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.turn.answers.push((ticket, Answer::Refused(refusal)));
    }

    fn mark(&mut self, slot: usize) {
        if !self.shards[slot].dirty {
            self.shards[slot].dirty = true;
            self.dirty.push(slot);
        }
    }

    /// What is known of `shard`, if it is hosted here.
    #[must_use]
    pub fn view(&self, shard: ShardId) -> Option<ShardView> {
        let shard = &self.shards[self.slot(shard)?];
        Some(ShardView {
            role: shard.kernel.role(),
            commit: shard.kernel.commit(),
            applied: shard.applied,
            last: shard.kernel.last(),
            membership: shard.kernel.membership().clone(),
            cached_bytes: shard.cached_bytes,
        })
    }

    /// The shards hosted here, in the order they were added.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shards.iter().map(|shard| shard.id)
    }
}
