//! Receives snapshots: chunks in their order, then tables that are ingested into a fresh space. What
//! has arrived is lost with the process, and given up when nothing comes for a while. A node
//! receives a few at a time and refuses others, which are asked for again. A transfer of a later
//! leader replaces one that is not complete.

use std::rc::Rc;

use quorate_types::{LogId, Mutant, ReplicaId, ShardId, Term};

use super::World;
use super::apply::ApplyWork;
use super::data_store::{Space, SpaceId};
use super::network::LANE_SNAPSHOT;
use super::schedule::{Freight, Happening};
use super::transfers::{Chunk, View};
use super::units::{MILLI, SECOND};
use crate::observation::Observation;

/// A transfer of which nothing has arrived for this long is given up.
const PATIENCE: u64 = 5 * SECOND;

/// The receiver's answer to a chunk.
#[derive(Clone)]
pub(crate) struct ChunkAnswer {
    pub(crate) transfer: u64,
    pub(crate) verdict: ChunkVerdict,
}

#[derive(Clone, Copy)]
pub(crate) enum ChunkVerdict {
    /// The chunk wanted next.
    Next(u32),
    /// The state through this entry is in force, durably.
    Installed(LogId),
    /// The snapshot can't be used, or not now.
    Refused,
}

/// How far the install of a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InstallStage {
    /// Chunks are arriving, or being ingested.
    Arriving,
    /// Its tables are in the fresh space; what was queued before is being applied.
    Draining,
    /// Nothing older is being applied: the host decides.
    Deciding,
    /// The host took it; its log batch is under way.
    Taken,
    /// The log batch is durable: the apply thread is to adopt the space.
    Durable,
}

/// A transfer at its receiver.
pub(crate) struct Receiving {
    pub(crate) transfer: u64,
    pub(crate) sender: usize,
    pub(crate) from: ReplicaId,
    pub(crate) term: Term,
    pub(crate) to: ReplicaId,
    next: u32,
    chunks: u32,
    pub(crate) view: Rc<View>,
    /// When the last chunk arrived.
    heard_at: u64,
    /// The fresh space, once everything has been ingested.
    space: Option<SpaceId>,
    /// The last entry of the log as it was just before the install.
    pub(crate) log_held_last: LogId,
    pub(crate) stage: InstallStage,
}

impl Receiving {
    /// The fresh space that no log names yet.
    pub(crate) fn space(&self) -> Option<SpaceId> {
        self.space
    }

    /// The last entry that the snapshot holds.
    pub(crate) fn base(&self) -> LogId {
        self.view.record.applied
    }

    fn is_complete(&self) -> bool {
        self.next == self.chunks
    }
}

impl World {
    /// A chunk arrives.
    pub(crate) fn handle_chunk(&mut self, from: usize, to: usize, chunk: Chunk) {
        let Chunk { transfer, shard, number, chunks, .. } = chunk;
        if !self.takes(to, &chunk) {
            self.answer_chunk(to, from, transfer, ChunkVerdict::Refused);
            return;
        }
        let (life, now) = (self.nodes[to].life, self.now);
        let process = self.nodes[to].process.as_mut().expect("only the living hear");
        let current = process.receiving.get(&shard);
        if current.is_none_or(|current| current.transfer != transfer) {
            let receiving = Receiving {
                transfer,
                sender: from,
                from: chunk.from,
                term: chunk.term,
                to: chunk.to,
                next: 0,
                chunks,
                view: chunk.view,
                heard_at: now,
                space: None,
                log_held_last: LogId::default(),
                stage: InstallStage::Arriving,
            };
            let replaced = process.receiving.insert(shard, receiving);
            let timer = Happening::ReceivingTimer { node: to, life, shard, transfer };
            self.schedule.at(now + PATIENCE, timer);
            if replaced.is_some_and(|old| old.term < chunk.term) {
                let node = self.nodes[to].id;
                self.observe(Observation::SnapshotReplaced { node, shard });
            }
        }
        let process = self.nodes[to].process.as_mut().expect("it lives");
        let receiving = process.receiving.get_mut(&shard).expect("made just now");
        receiving.heard_at = now;
        let completes = receiving.next == number && number + 1 == chunks;
        if receiving.next == number {
            receiving.next += 1;
        }
        let next = receiving.next;
        self.answer_chunk(to, from, transfer, ChunkVerdict::Next(next));
        if completes {
            let after = self.random.between(MILLI, 60 * MILLI);
            let ingested = Happening::Ingested { node: to, life, shard, transfer };
            self.schedule.at(now + after, ingested);
        }
    }

    /// Whether a node takes a chunk.
    fn takes(&self, node: usize, chunk: &Chunk) -> bool {
        let process = self.nodes[node].process.as_ref().expect("only the living hear");
        let is_here = process.replicas.get(&chunk.shard).is_some_and(|r| r.replica == chunk.to);
        let has_room = process.receiving.len() < self.profile.transfers_max;
        let fits = match process.receiving.get(&chunk.shard) {
            None => has_room,
            Some(current) if current.transfer == chunk.transfer => true,
            // One that fully arrived is being installed.
            Some(current) if current.is_complete() => false,
            // A later leader's, or a later attempt of the same leader.
            Some(current) => {
                (chunk.term, chunk.transfer) > (current.term, current.transfer)
                    && chunk.term >= current.term
            }
        };
        is_here && fits
    }

    pub(crate) fn answer_chunk(
        &mut self,
        node: usize,
        to: usize,
        transfer: u64,
        verdict: ChunkVerdict,
    ) {
        let answer = ChunkAnswer { transfer, verdict };
        self.send(node, to, LANE_SNAPSHOT, Freight::ChunkAnswer(answer));
    }

    /// Gives a transfer up of which nothing arrives any more.
    pub(crate) fn handle_receiving_timer(
        &mut self,
        node: usize,
        life: u64,
        shard: ShardId,
        transfer: u64,
    ) {
        if self.nodes[node].life != life {
            return;
        }
        let process = self.nodes[node].process.as_mut().expect("it lives");
        let current = process.receiving.get(&shard);
        let Some(current) = current.filter(|c| c.transfer == transfer && !c.is_complete()) else {
            return;
        };
        let due = current.heard_at + PATIENCE;
        if due > self.now {
            let timer = Happening::ReceivingTimer { node, life, shard, transfer };
            self.schedule.at(due, timer);
            return;
        }
        process.receiving.remove(&shard);
        let node = self.nodes[node].id;
        self.observe(Observation::SnapshotGivenUp { node, shard });
    }

    /// The tables of a snapshot are durable in a fresh space, beside the one in force. The apply
    /// thread pauses behind everything that was queued before.
    pub(crate) fn handle_ingested(
        &mut self,
        node: usize,
        life: u64,
        shard: ShardId,
        transfer: u64,
    ) {
        if self.nodes[node].life != life {
            return;
        }
        let mutated = self.breaks(Mutant::InstallBeforeData);
        let this = &mut self.nodes[node];
        let process = this.process.as_mut().expect("it lives");
        let current = process.receiving.get_mut(&shard);
        let Some(receiving) = current.filter(|current| current.transfer == transfer) else {
            return;
        };
        let View { map, record } = &*receiving.view;
        let space = match mutated {
            false => Space::new(map.clone(), record.clone()),
            true => Space::unflushed(map, record),
        };
        receiving.space = Some(this.data.create(space));
        receiving.stage = InstallStage::Draining;
        let to = receiving.to;
        self.queue_apply(node, (shard, to), ApplyWork::Pause);
    }
}
