//! Sends snapshots: a leader's node cuts a view of its data into chunks and sends them one by one, each
//! after the answer to the one before. The receiver says which chunk it wants next, so a transfer
//! continues where it was interrupted: when no answer came for a while, and when the connection is
//! back.
//!
//! A node sends a few at a time; further ones wait. A transfer ends at once when its leader does not
//! lead any more or is gone: the next leader begins its own.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use quorate_host::{Event, ShardRole, ShardSnapshot};
use quorate_machine::AppliedRecord;
use quorate_raft::{Role, SnapshotOutcome};
use quorate_types::{ReplicaId, ShardId, Term};

use super::World;
use super::network::LANE_SNAPSHOT;
use super::node::{Node, node_id, number_of};
use super::receiving::{ChunkAnswer, ChunkVerdict};
use super::schedule::{Freight, Happening};
use super::units::SECOND;
use crate::observation::{FaultKind, Observation};

/// A chunk that is not answered in this time is sent again.
const RESEND: u64 = SECOND;
/// After this many tries the transfer fails.
const TRIES_MAX: u32 = 4;

/// A consistent view of a replica.
pub(crate) struct View {
    pub(crate) map: BTreeMap<Bytes, Bytes>,
    pub(crate) record: AppliedRecord,
}

/// A transfer at its sender.
pub(crate) struct SnapshotTransfer {
    shard: ShardId,
    from: ReplicaId,
    term: Term,
    to: ReplicaId,
    node: usize,
    view: Rc<View>,
    chunks: u32,
    /// The chunk under way.
    next: u32,
    /// How often it was sent in vain.
    tries: u32,
    /// Counts what was sent: a timer for an earlier chunk means nothing.
    sent: u64,
}

/// A piece of a snapshot. Each carries the whole view, of which one copy is used: what matters is
/// when the pieces arrive, not what each holds.
#[derive(Clone)]
pub(crate) struct Chunk {
    pub(crate) transfer: u64,
    pub(crate) shard: ShardId,
    pub(crate) from: ReplicaId,
    pub(crate) term: Term,
    pub(crate) to: ReplicaId,
    pub(crate) number: u32,
    pub(crate) chunks: u32,
    pub(crate) view: Rc<View>,
}

impl World {
    /// A leader here wants a follower to get a snapshot.
    pub(crate) fn ask_for_snapshot(&mut self, node: usize, asked: ShardSnapshot) {
        let process = self.nodes[node].process.as_mut().expect("it took a turn");
        if process.transfers.len() < self.profile.transfers_max {
            self.begin_snapshot(node, &asked);
            return;
        }
        process.transfers_waiting.push_back(asked);
        let (from, to, shard) = (self.nodes[node].id, asked.node, asked.shard);
        self.observe(Observation::SnapshotWaits { from, to, shard });
    }

    fn begin_snapshot(&mut self, node: usize, asked: &ShardSnapshot) {
        let Node { process, data, .. } = &mut self.nodes[node];
        let process = process.as_mut().expect("it took a turn");
        let Some(live) = process.replicas.get(&asked.shard) else { return };
        let (map, record) = data.space(live.space).view();
        let (shard, replica, at_least) = (asked.shard, asked.to, asked.at_least);
        if record.applied.index < at_least {
            // The data is not applied that far yet: the kernel asks again.
            self.post_snapshot_end(node, shard, replica, SnapshotOutcome::Failed);
            return;
        }
        let base = record.applied;
        let transfer = SnapshotTransfer {
            shard,
            from: asked.from,
            term: asked.term,
            to: replica,
            node: number_of(asked.node),
            view: Rc::new(View { map, record }),
            chunks: u32::try_from(self.random.between(1, 6)).expect("few"),
            next: 0,
            tries: 0,
            sent: 0,
        };
        self.transfers_last += 1;
        let number = self.transfers_last;
        process.transfers.insert(number, transfer);
        let (from, to) = (self.nodes[node].id, asked.node);
        self.observe(Observation::SnapshotSent { from, to, shard, replica, base, at_least });
        self.send_chunk(node, number);
    }

    fn post_snapshot_end(
        &mut self,
        node: usize,
        shard: ShardId,
        to: ReplicaId,
        outcome: SnapshotOutcome,
    ) {
        self.post(node, Event::SnapshotEnded { shard, to, outcome });
        // Not within the turn that is being carried out.
        self.wake(node);
    }

    fn send_chunk(&mut self, node: usize, number: u64) {
        let life = self.nodes[node].life;
        let process = self.nodes[node].process.as_mut().expect("only the living send");
        let transfer = process.transfers.get_mut(&number).expect("it is under way");
        transfer.sent += 1;
        let (sent, to) = (transfer.sent, transfer.node);
        let chunk = Chunk {
            transfer: number,
            shard: transfer.shard,
            from: transfer.from,
            term: transfer.term,
            to: transfer.to,
            number: transfer.next,
            chunks: transfer.chunks,
            view: Rc::clone(&transfer.view),
        };
        let timer = Happening::SnapshotTimer { node, life, transfer: number, sent };
        self.schedule.at(self.now + RESEND, timer);
        if self.snapshot_cut.take_if(|cut| *cut == node).is_some() {
            self.show_fault(FaultKind::SnapshotCut, Some(node));
        } else {
            self.send(node, to, LANE_SNAPSHOT, Freight::Chunk(chunk));
        }
    }

    /// No answer has arrived for a while: sends the chunk again, or gives up.
    pub(crate) fn handle_snapshot_timer(&mut self, node: usize, life: u64, number: u64, sent: u64) {
        if self.nodes[node].life != life {
            return;
        }
        let process = self.nodes[node].process.as_mut().expect("it lives");
        let Some(transfer) = process.transfers.get_mut(&number).filter(|t| t.sent == sent) else {
            return;
        };
        transfer.tries += 1;
        if transfer.tries < TRIES_MAX {
            self.send_chunk(node, number);
        } else {
            self.end_transfer(node, number, SnapshotOutcome::Failed);
        }
    }

    /// Connections are back: what was under way on them is sent again.
    pub(crate) fn handle_reconnects(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(process) = &mut self.nodes[node].process else { continue };
            let under_way: Vec<u64> = process.transfers.keys().copied().collect();
            for number in under_way {
                self.send_chunk(node, number);
            }
        }
    }

    fn end_transfer(&mut self, node: usize, number: u64, outcome: SnapshotOutcome) {
        let process = self.nodes[node].process.as_mut().expect("it lives");
        let Some(transfer) = process.transfers.remove(&number) else { return };
        let (shard, to) = (transfer.shard, transfer.to);
        self.show_snapshot_end(node, transfer.node, shard, to, outcome);
        self.post_snapshot_end(node, shard, to, outcome);
        self.begin_waiting_snapshots(node);
    }

    fn show_snapshot_end(
        &mut self,
        node: usize,
        to: usize,
        shard: ShardId,
        replica: ReplicaId,
        outcome: SnapshotOutcome,
    ) {
        let is_installed = outcome != SnapshotOutcome::Failed;
        let (from, to) = (self.nodes[node].id, node_id(to));
        self.observe(Observation::SnapshotEnded { from, to, shard, replica, is_installed });
    }

    fn begin_waiting_snapshots(&mut self, node: usize) {
        loop {
            let process = self.nodes[node].process.as_mut().expect("it lives");
            if process.transfers.len() >= self.profile.transfers_max {
                return;
            }
            let Some(asked) = process.transfers_waiting.pop_front() else { return };
            self.begin_snapshot(node, &asked);
        }
    }

    /// Ends the transfers of replicas that do not lead any more, in the term that they began in.
    pub(crate) fn end_transfers_of_former_leaders(&mut self, node: usize, roles: &[ShardRole]) {
        for ShardRole { shard, role } in roles {
            let leads = (role.role == Role::Leader).then_some(role.term);
            self.end_transfers(node, *shard, leads);
        }
    }

    /// Ends the transfers of a shard, but for those that began in the term `leads`.
    pub(crate) fn end_transfers(&mut self, node: usize, shard: ShardId, leads: Option<Term>) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let is_over = |of: ShardId, term: Term| of == shard && Some(term) != leads;
        process.transfers_waiting.retain(|asked| !is_over(asked.shard, asked.term));
        let over = process.transfers.extract_if(.., |_, t| is_over(t.shard, t.term));
        let over: Vec<SnapshotTransfer> = over.map(|(_, transfer)| transfer).collect();
        if over.is_empty() {
            return;
        }
        for transfer in over {
            let (to, replica) = (transfer.node, transfer.to);
            self.show_snapshot_end(node, to, shard, replica, SnapshotOutcome::Failed);
        }
        self.begin_waiting_snapshots(node);
    }

    /// The receiver answers a chunk.
    pub(crate) fn handle_chunk_answer(&mut self, node: usize, answer: &ChunkAnswer) {
        let process = self.nodes[node].process.as_mut().expect("only the living hear");
        let Some(transfer) = process.transfers.get_mut(&answer.transfer) else { return };
        let number = answer.transfer;
        match answer.verdict {
            ChunkVerdict::Installed(base) => {
                self.end_transfer(node, number, SnapshotOutcome::Installed(base));
            }
            ChunkVerdict::Refused => self.end_transfer(node, number, SnapshotOutcome::Failed),
            // All chunks arrived: the outcome follows, and is asked for from time to time.
            ChunkVerdict::Next(next) if next == transfer.chunks => transfer.tries = 0,
            ChunkVerdict::Next(next) if next != transfer.next => {
                let is_resumed = transfer.tries > 0 && next > 1;
                let (shard, to) = (transfer.shard, transfer.node);
                (transfer.next, transfer.tries) = (next, 0);
                if is_resumed {
                    let (from, to) = (self.nodes[node].id, node_id(to));
                    self.observe(Observation::SnapshotResumed { from, to, shard });
                }
                self.send_chunk(node, number);
            }
            ChunkVerdict::Next(_) => {}
        }
    }
}
