//! The host of all shards of one worker: it takes events in and gives one turn out.
//!
//! This file has the events, the timers and the turn. The files below add the other work of a host
//! for its shards, each on its own part of the state.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use quorate_raft::{
    Body, Config, Kernel, Loss, Message, Ready, Role, SnapshotOutcome, SnapshotRequest,
    TransferError,
};
use quorate_types::{
    Index, Monotonic, Mutant, NodeId, ReplicaId, SPREAD, ShardId, WallMillis, WriteNumber,
};
use rustc_hash::FxHashMap;

use crate::config::{HostConfig, ReplicaInit};
use crate::shard::{NewWrite, Shard, ShardLiveness};
use crate::turn::{
    Answer, Apply, Arrived, Event, HostRefusal, ShardFetch, ShardLoss, ShardRole, ShardSnapshot,
    ShardWrite, Ticket, Turn,
};

mod bindings;
mod leases;
mod liveness;
mod slots;
mod stalls;
mod totals;
mod upkeep;
mod view;

use liveness::HostLiveness;
use slots::{Slot, Slots};
use stalls::Stalls;
use totals::Totals;
pub use view::ShardView;

/// Read contexts of one incarnation; the incarnation fills the bits above.
const READ_CONTEXT_BITS: u32 = 40;

/// A turn's write on its way to the disk.
struct InFlight {
    turn: u64,
    taken: Monotonic,
    writes: Vec<(Slot, WriteNumber)>,
}

/// All shards of one worker. See the crate's documentation.
pub struct Host {
    config: HostConfig,
    shards: Slots,
    /// The newest replica of each shard that was given up in this life.
    removed: FxHashMap<ShardId, ReplicaId>,
    liveness: Option<HostLiveness>,
    dirty: Vec<Slot>,
    timers: BinaryHeap<Reverse<(Monotonic, Slot)>>,
    in_flight: VecDeque<InFlight>,
    turn_last: u64,
    stalls: Stalls,
    totals: Totals,
    /// Gathers the effects of events until the turn is taken.
    turn: Turn,
}

impl Host {
    /// A host without shards.
    #[must_use]
    pub fn new(mut config: HostConfig) -> Host {
        let standings = config.standings.take();
        // Nodes with the same seed must not wake shards at the same time.
        let seed = config.seed.wrapping_mul(SPREAD) ^ config.node.0;
        let totals = Totals::new(&config);
        Host {
            config,
            shards: Slots::default(),
            removed: FxHashMap::default(),
            liveness: standings.map(|standings| HostLiveness::new(standings, seed)),
            dirty: Vec::new(),
            timers: BinaryHeap::new(),
            in_flight: VecDeque::new(),
            turn_last: 0,
            stalls: Stalls::default(),
            totals,
            turn: Turn::default(),
        }
    }

    /// Takes a replica in; it begins as a follower at `now`.
    ///
    /// # Panics
    /// If the shard is hosted already, or the replica was given up in this life: what it promised is
    /// forgotten (RULES 3 and 5).
    pub fn add(&mut self, now: Monotonic, init: ReplicaInit) {
        let seed = (self.config.seed ^ init.shard.0).wrapping_mul(SPREAD) ^ self.config.node.0;
        let mutated = self.config.mutation.is(Mutant::ReadContextReused);
        let life = if mutated { 0 } else { self.config.incarnation.0 };
        let mut config = Config::new(init.replica, seed, life << READ_CONTEXT_BITS);
        config.mutation = self.config.mutation;
        (self.config.shape)(&mut config);
        let applied = init.restored.applied;
        let is_fresh = self.removed.get(&init.shard).is_none_or(|removed| *removed < init.replica);
        assert!(is_fresh, "replica {} of shard {} was given up", init.replica, init.shard);
        let mut kernel = Kernel::new(config, init.restored, now);
        if let Some(liveness) = &self.liveness {
            kernel.handle_silence(liveness.standings.silent_until());
        }
        let (version, replica) = (init.descriptor_version, init.replica);
        let mut shard = Shard::new(init.shard, replica, kernel, version, applied);
        shard.liveness = self.liveness.as_ref().map(|_| Box::new(ShardLiveness::new(replica)));
        let slot = self.shards.insert(shard);
        self.mark_dirty(slot);
    }

    /// Gives up a replica that has lost what it had acknowledged, with everything that it was about
    /// to send.
    fn end_replica(&mut self, now: Monotonic, slot: Slot, loss: Loss) {
        let (shard, replica) = (self.shards[slot].id, self.shards[slot].replica);
        self.remove(now, shard);
        self.turn.losses.push(ShardLoss { shard, replica, loss });
    }

    /// Frees the slot of a replica that was given up.
    fn vacate(&mut self, slot: Slot) {
        self.stalls.forget(&self.shards[slot]);
        self.totals.uncount(slot, &mut self.shards[slot]);
        self.shards.remove(slot);
        self.dirty.retain(|dirty| *dirty != slot);
        for flight in &mut self.in_flight {
            flight.writes.retain(|(written, _)| *written != slot);
        }
    }

    /// Takes an event in. Its effects show in the next turn.
    pub fn handle(&mut self, now: Monotonic, wall: WallMillis, event: Event) {
        match event {
            Event::Message { from, shard, message } => {
                self.handle_message(now, from, shard, message)
            }
            Event::Write { shard, ticket, descriptor_version, session, command, progress } => {
                if let Some(slot) = self.slot_for(shard, ticket, descriptor_version) {
                    self.handle_request(now, slot);
                    let write = NewWrite { ticket, session, command: &command, progress };
                    let shard = &mut self.shards[slot];
                    let room_bytes = self.totals.proposal_room_bytes(shard);
                    if shard.write((now, wall), write, room_bytes, &mut self.turn) {
                        self.totals.count(slot, shard);
                    }
                    self.mark_dirty(slot);
                }
            }
            Event::Read { shard, ticket, descriptor_version } => {
                if let Some(slot) = self.slot_for(shard, ticket, descriptor_version) {
                    self.handle_request(now, slot);
                    self.shards[slot].read(ticket);
                    self.mark_dirty(slot);
                }
            }
            Event::Persisted { turn } => self.handle_persisted(now, turn),
            Event::Applied { shard, replica, index } => {
                if let Some(slot) = self.find_replica(shard, replica) {
                    self.handle_applied(now, slot, index);
                }
            }
            Event::Fetched { shard, replica, reader, runs } => {
                if let Some(slot) = self.find_replica(shard, replica) {
                    self.shards[slot].kernel.handle_fetched(reader, runs);
                    self.mark_dirty(slot);
                }
            }
            Event::TransferLeader { shard, ticket, to } => {
                self.transfer_leader(now, shard, ticket, to);
            }
            Event::ChangeMembership { shard, ticket, expected, target } => {
                self.change_membership(now, shard, ticket, (&expected, &target));
            }
            Event::SnapshotEnded { shard, to, outcome } => {
                if let Some(slot) = self.shards.find(shard) {
                    self.shards[slot].kernel.handle_snapshot_report(to, outcome);
                    self.mark_dirty(slot);
                }
            }
            Event::Install { shard, to, from, term, base, membership, descriptor_version } => {
                let arrived = Arrived { to, from, term, base, membership, descriptor_version };
                self.install(now, shard, arrived);
            }
            Event::Purge { shard, replica, to, kept_from } => {
                if let Some(slot) = self.find_replica(shard, replica) {
                    self.purge(slot, to, kept_from);
                }
            }
            Event::Control { from, shard, control } => {
                self.handle_control(now, from, shard, control);
            }
            Event::Standing(change) => self.handle_standing(now, &change),
            Event::Support { node, held } => self.handle_support(now, node, held),
            Event::Differs { shard, peer } => self.handle_differs(now, shard, peer),
        }
    }

    /// Time passed: runs every timer that is due.
    pub fn handle_timeouts(&mut self, now: Monotonic) {
        if self.stalls.look(now, self.oldest_write()) {
            self.step_down_all(now);
        }
        self.take_wakes(now);
        while let Some(Reverse((deadline, slot))) = self.timers.peek().copied() {
            if deadline > now {
                return;
            }
            self.timers.pop();
            // This entry is stale: its shard was armed again for an earlier time, or is gone.
            let shard = self.shards.get_mut(slot).filter(|shard| shard.armed == deadline);
            if let Some(shard) = shard {
                shard.armed = Monotonic(u64::MAX);
                if shard.kernel.poll_timeout() <= now {
                    if self.is_unfit() {
                        self.shards[slot].kernel.step_down(now);
                    }
                    self.shards[slot].kernel.handle_timeout(now);
                    self.attend(now, slot);
                    self.mark_dirty(slot);
                }
                self.arm(slot);
            }
        }
    }

    /// When [`Host::handle_timeouts`] wants to be called next, on the timer grid.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Monotonic> {
        let timer = self.timers.peek().map(|Reverse((deadline, _))| *deadline);
        let wake = self.liveness.as_ref().and_then(|liveness| liveness.wakes.poll_timeout());
        timer.into_iter().chain(self.stalls.deadline(self.oldest_write())).chain(wake).min()
    }

    /// Everything that the shards want done since the last turn. `now` is read after the last event
    /// was taken in: reads are answered by leases that hold at that time.
    pub fn take_turn(&mut self, now: Monotonic) -> Turn {
        let number = self.turn_last + 1;
        let mut flight = InFlight { turn: number, taken: now, writes: Vec::new() };
        let mut writes = Vec::new();
        let mut dirty = std::mem::take(&mut self.dirty).into_iter();
        // Shards that wait for room come after all others, whose progress may have made room.
        while let Some(slot) = dirty.next().or_else(|| self.next_waiting()) {
            let shard = &mut self.shards[slot];
            shard.dirty = false;
            shard.submit(now, self.totals.proposal_room_bytes(shard), &mut self.turn);
            self.confirm_by_lease(now, slot);
            let room_bytes = self.totals.apply_room_bytes();
            let kernel = &mut self.shards[slot].kernel;
            let mut ready = kernel.take_ready_within(&mut self.totals.windows, room_bytes);
            if let Some(write) = ready.write.take() {
                self.shards[slot].handle_write_taken(number);
                flight.writes.push((slot, write.number));
                let Shard { id: shard, replica, .. } = self.shards[slot];
                writes.push(ShardWrite { shard, replica, write });
            }
            let loss = ready.loss;
            self.take_shard(now, slot, ready, number);
            if let Some(loss) = loss {
                self.end_replica(now, slot, loss);
            }
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

    /// Puts what one shard wants done into the turn.
    fn take_shard(&mut self, now: Monotonic, slot: Slot, ready: Ready, number: u64) {
        let Shard { id, replica, .. } = self.shards[slot];
        for (node, message) in ready.send_now {
            self.turn.push_message(node, id, message);
        }
        for (node, message) in ready.send_after_sync {
            self.hold(slot, node, message, number);
        }
        if let Some(committed) = ready.committed {
            let mutation = self.config.mutation;
            let answers = &mut self.turn.answers;
            let shard = &mut self.shards[slot];
            let tickets = shard.take_tickets(&committed, answers, mutation);
            self.stalls.expect_applied(now, shard, committed.range.end.previous());
            self.turn.applies.push(Apply { shard: id, replica, committed, tickets });
        }
        for read in ready.reads {
            self.shards[slot].end_read(read.context, read.index, &mut self.turn.answers);
        }
        self.turn.fetches.extend(ready.fetches.into_iter().map(|fetch| ShardFetch {
            shard: id,
            replica,
            reader: fetch.reader,
            range: fetch.range,
            bytes_max: fetch.bytes_max,
        }));
        for request in ready.snapshots {
            self.take_snapshot_request(slot, request);
        }
        if let Some(role) = ready.role {
            if self.config.mutation.is(Mutant::DemotedSaysNo) && role.role != Role::Leader {
                self.shards[slot].give_up(Answer::Overwritten, &mut self.turn.answers);
            }
            self.follow_role(now, slot, &role);
            self.turn.roles.push(ShardRole { shard: id, role });
        }
        self.totals.count(slot, &mut self.shards[slot]);
    }

    fn take_snapshot_request(&mut self, slot: Slot, request: SnapshotRequest) {
        let shard = &mut self.shards[slot];
        if self.config.sends_snapshots {
            let (id, from, term) = (shard.id, shard.replica, shard.kernel.role().term);
            let SnapshotRequest { to, node, at_least } = request;
            let snapshot = ShardSnapshot { shard: id, from, term, to, node, at_least };
            self.turn.snapshots.push(snapshot);
        } else {
            // Left unanswered, the kernel would wait forever.
            shard.kernel.handle_snapshot_report(request.to, SnapshotOutcome::Failed);
            self.mark_dirty(slot);
        }
    }

    /// RULE 2: a message that waits for a sync leaves with the newest write of its shard, or at
    /// once if the shard has no write under way. `number` is the turn's.
    fn hold(&mut self, slot: Slot, node: NodeId, message: Message, number: u64) {
        let shard = &mut self.shards[slot];
        // Turns complete in their order.
        let oldest = self.in_flight.front().map_or(number, |flight| flight.turn);
        if let Err(message) = shard.hold(oldest, node, message) {
            self.turn.push_message(node, shard.id, message);
        }
    }

    fn handle_message(
        &mut self,
        now: Monotonic,
        from: NodeId,
        shard: ShardId,
        mut message: Message,
    ) {
        // A peer may know before us which shards live here; it will ask again.
        let Some(slot) = self.shards.find(shard) else {
            return;
        };
        let kernel = &mut self.shards[slot].kernel;
        if self.config.mutation.is(Mutant::ForeignAcknowledgement) {
            let heir = kernel.membership().members().find(|member| member.node == from);
            message.from = heir.map_or(message.from, |heir| heir.replica);
        }
        match kernel.membership().node_of(message.from) {
            // A node speaks for its own replicas only (RULE 3).
            Some(node) if node != from => return,
            Some(_) => {}
            None => kernel.handle_address(message.from, from),
        }
        // A vote would wait for the disk, and a new term would be one more write that waits.
        let is_vain = self.is_stalled() && matches!(message.body, Body::VoteRequest { .. });
        if !is_vain && self.lets_pass(now, slot, &message) {
            self.shards[slot].kernel.handle_message(now, message);
            self.mark_dirty(slot);
        }
    }

    fn handle_persisted(&mut self, now: Monotonic, turn: u64) {
        assert!(turn <= self.turn_last, "turn {turn} was never taken");
        while self.in_flight.front().is_some_and(|flight| flight.turn <= turn) {
            let flight = self.in_flight.pop_front().expect("looked at just now");
            self.stalls.handle_write_done(now);
            for (slot, number) in flight.writes {
                let shard = &mut self.shards[slot];
                shard.handle_persisted(number);
                let id = shard.id;
                for (node, message) in shard.release_held(flight.turn) {
                    self.turn.push_message(node, id, message);
                }
                self.mark_dirty(slot);
            }
        }
    }

    fn transfer_leader(&mut self, now: Monotonic, shard: ShardId, ticket: Ticket, to: NodeId) {
        let Some(slot) = self.shards.find(shard) else {
            self.refuse(ticket, HostRefusal::NoReplica);
            return;
        };
        let kernel = &mut self.shards[slot].kernel;
        let target = kernel.membership().members().find(|member| member.node == to);
        let result = match target {
            None => Err(HostRefusal::NotAVoter),
            Some(member) => kernel.transfer_leader(now, member.replica).map_err(|e| match e {
                TransferError::NotLeader { leader } => {
                    HostRefusal::NotLeader { leader: leader.map(|(_, node)| node) }
                }
                TransferError::NotAVoter { .. } => HostRefusal::NotAVoter,
                TransferError::Transferring { .. } => HostRefusal::Busy,
            }),
        };
        match result {
            Ok(()) => self.turn.answers.push((ticket, Answer::TransferBegun)),
            Err(refusal) => self.refuse(ticket, refusal),
        }
        self.mark_dirty(slot);
    }

    /// A state machine has applied everything up to and with `index`.
    fn handle_applied(&mut self, now: Monotonic, slot: Slot, index: Index) {
        let shard = &mut self.shards[slot];
        self.stalls.handle_applied(now, shard, |shard| {
            shard.handle_applied(index, &mut self.turn.answers);
        });
        self.totals.count(slot, shard);
        self.mark_dirty(slot);
    }

    /// The next shard that has waited for room to be handed entries, if there is any.
    fn next_waiting(&mut self) -> Option<Slot> {
        let slot = self.totals.take_waiting()?;
        self.shards[slot].counted.waits = false;
        Some(slot)
    }

    /// When the oldest write that is under way was taken.
    fn oldest_write(&self) -> Option<Monotonic> {
        self.in_flight.front().map(|flight| flight.taken)
    }

    /// Every replica here stops leading and campaigning for a while: the disk hangs, or the node is
    /// to stop.
    pub fn step_down_all(&mut self, now: Monotonic) {
        for slot in self.shards.all() {
            self.shards[slot].kernel.step_down(now);
            self.mark_dirty(slot);
            self.arm(slot);
        }
    }

    /// Keeps the node's entry cache within its one budget: the shards give up applied runs in turn,
    /// and if that is not enough, runs that wait to be committed or applied, which are read back
    /// later.
    fn evict(&mut self) {
        if self.totals.cached_bytes > self.config.entry_cache_bytes_max {
            self.evict_below(|shard| shard.applied().next());
        }
        if self.totals.cached_bytes > self.config.entry_cache_bytes_max {
            self.evict_below(|_| Index(u64::MAX));
        }
    }

    /// Evicts durable runs below an index of each shard, until there is room to spare.
    fn evict_below(&mut self, index: impl Fn(&Shard) -> Index) {
        let low_water = self.config.entry_cache_bytes_max / 4 * 3;
        for _ in 0..self.shards.len() {
            let Some(slot) = self.shards.next_around() else { return };
            let shard = &mut self.shards[slot];
            shard.kernel.evict_below(index(shard));
            self.totals.count(slot, shard);
            if self.totals.cached_bytes <= low_water {
                return;
            }
        }
    }

    fn arm(&mut self, slot: Slot) {
        let Some(shard) = self.shards.get_mut(slot) else { return };
        let grain = u64::try_from(self.config.timer_grain.as_nanos()).expect("a short grain");
        let wanted = shard.kernel.poll_timeout().0;
        let deadline = Monotonic(wanted.checked_next_multiple_of(grain.max(1)).unwrap_or(wanted));
        if deadline < shard.armed {
            shard.armed = deadline;
            self.timers.push(Reverse((deadline, slot)));
        }
    }

    /// The slot of a request, unless it has to be refused.
    fn slot_for(&mut self, shard: ShardId, ticket: Ticket, version: u64) -> Option<Slot> {
        let Some(slot) = self.shards.find(shard) else {
            self.refuse(ticket, HostRefusal::NoReplica);
            return None;
        };
        let current = self.shards[slot].descriptor_version;
        if current != version {
            self.refuse(ticket, HostRefusal::StaleVersion { current });
            return None;
        }
        Some(slot)
    }

    /// The slot of a replica, if exactly this one lives here: what was under way for an earlier
    /// replica of the shard must not reach its successor.
    fn find_replica(&self, shard: ShardId, replica: ReplicaId) -> Option<Slot> {
        let mutated = self.config.mutation.is(Mutant::PredecessorsReports);
        self.shards.find(shard).filter(|slot| self.shards[*slot].replica == replica || mutated)
    }

    fn refuse(&mut self, ticket: Ticket, refusal: HostRefusal) {
        self.turn.answers.push((ticket, Answer::Refused(refusal)));
    }

    fn mark_dirty(&mut self, slot: Slot) {
        if let Some(shard) = self.shards.get_mut(slot).filter(|shard| !shard.dirty) {
            shard.dirty = true;
            self.dirty.push(slot);
        }
    }
}
