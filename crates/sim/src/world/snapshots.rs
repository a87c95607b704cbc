//! Transfers snapshots: a leader's node cuts a view of its data into chunks and sends them one by
//! one; the receiver says which it wants next, so a transfer continues where it was interrupted.
//! Chunks that arrived are lost with the receiver's process.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use quorate_host::{Event, ShardInstall, ShardSnapshot, Turn};
use quorate_machine::AppliedRecord;
use quorate_raft::SnapshotOutcome;
use quorate_types::{LogId, Mutant, ReplicaId, ShardId, Term};

use super::data_store::{Space, SpaceId};
use super::network::LANE_SNAPSHOT;
use super::node::{Node, node_id, number_of};
use super::schedule::{Freight, Happening};
use super::{MILLI, SECOND, World};
use crate::observation::{FaultKind, Observation};

/// A chunk that is not answered in this time is sent again.
const RESEND: u64 = SECOND;
/// After this many tries the transfer fails.
const TRIES_MAX: u32 = 4;

/// A consistent view of a replica.
pub(crate) struct View {
    map: BTreeMap<Bytes, Bytes>,
    record: AppliedRecord,
}

/// A transfer at its sender.
pub(crate) struct SnapshotTransfer {
    pub(crate) shard: ShardId,
    from: ReplicaId,
    term: Term,
    to: ReplicaId,
    node: usize,
    view: Rc<View>,
    chunks: u32,
    next: u32,
    tries: u32,
}

/// A piece of a snapshot. Each carries the whole view, of which one copy is used: what matters is
/// when the pieces arrive, not what each holds.
#[derive(Clone)]
pub(crate) struct Chunk {
    transfer: u64,
    shard: ShardId,
    from: ReplicaId,
    term: Term,
    to: ReplicaId,
    number: u32,
    chunks: u32,
    view: Rc<View>,
}

/// The receiver's answer to a chunk.
#[derive(Clone)]
pub(crate) struct ChunkAnswer {
    transfer: u64,
    verdict: Verdict,
}

#[derive(Clone, Copy)]
enum Verdict {
    /// The chunk wanted next.
    Next(u32),
    /// The state through this entry is in force, durably.
    Installed(LogId),
    /// The snapshot can't be used.
    Refused,
}

/// A transfer at its receiver.
pub(crate) struct Receiving {
    transfer: u64,
    sender: usize,
    from: ReplicaId,
    term: Term,
    next: u32,
    chunks: u32,
    view: Rc<View>,
    /// The fresh space, once everything has arrived.
    space: Option<SpaceId>,
    /// The last entry of the log as it was just before the install.
    log_held_last: LogId,
    /// The snapshot is in force, and waits for its sync.
    is_installed: bool,
}

impl Receiving {
    /// The fresh space that no log names yet.
    pub(crate) fn space(&self) -> Option<SpaceId> {
        self.space
    }
}

impl World {
    /// Starts sending a snapshot that a leader here wants a follower to get.
    pub(crate) fn begin_snapshot(&mut self, node: usize, asked: &ShardSnapshot) {
        let Node { process, data, .. } = &mut self.nodes[node];
        let process = process.as_mut().expect("it took a turn");
        let Some(live) = process.replicas.get(&asked.shard) else { return };
        let (map, record) = data.space(live.space).view();
        let shard = asked.shard;
        if record.applied.index < asked.at_least {
            // The data is not applied that far yet: the kernel asks again.
            self.post_snapshot_end(node, shard, asked.to, SnapshotOutcome::Failed);
            return;
        }
        let base = record.applied;
        let transfer = SnapshotTransfer {
            shard,
            from: asked.from,
            term: asked.term,
            to: asked.to,
            node: number_of(asked.node),
            view: Rc::new(View { map, record }),
            chunks: u32::try_from(self.random.between(1, 6)).expect("few"),
            next: 0,
            tries: 0,
        };
        self.transfers_last += 1;
        let number = self.transfers_last;
        process.transfers.insert(number, transfer);
        let (from, to) = (self.nodes[node].id, asked.node);
        self.observe(Observation::SnapshotSent { from, to, shard, base });
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
        let process = self.nodes[node].process.as_ref().expect("only the living send");
        let transfer = &process.transfers[&number];
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
        let to = transfer.node;
        let at = self.now + RESEND;
        self.schedule.at(at, Happening::SnapshotTimer { node, life, transfer: number });
        if self.snapshot_cut.take_if(|cut| *cut == node).is_some() {
            self.show_fault(FaultKind::SnapshotCut, Some(node));
        } else {
            self.send(node, to, LANE_SNAPSHOT, Freight::Chunk(chunk));
        }
    }

    /// No answer has arrived for a while: sends the chunk again, or gives up.
    pub(crate) fn handle_snapshot_timer(&mut self, node: usize, life: u64, number: u64) {
        if self.nodes[node].life != life {
            return;
        }
        let process = self.nodes[node].process.as_mut().expect("it lives");
        let Some(transfer) = process.transfers.get_mut(&number) else { return };
        transfer.tries += 1;
        if transfer.tries < TRIES_MAX {
            self.send_chunk(node, number);
        } else {
            self.end_transfer(node, number, SnapshotOutcome::Failed);
        }
    }

    fn end_transfer(&mut self, node: usize, number: u64, outcome: SnapshotOutcome) {
        let process = self.nodes[node].process.as_mut().expect("it lives");
        let Some(transfer) = process.transfers.remove(&number) else { return };
        let (shard, to) = (transfer.shard, transfer.to);
        if outcome == SnapshotOutcome::Failed {
            let (from, to) = (self.nodes[node].id, node_id(transfer.node));
            self.observe(Observation::SnapshotFailed { from, to, shard });
        }
        self.tell(node, Event::SnapshotEnded { shard, to, outcome });
        self.step(node);
    }

    /// The receiver answers a chunk.
    pub(crate) fn handle_chunk_answer(&mut self, node: usize, answer: &ChunkAnswer) {
        let process = self.nodes[node].process.as_mut().expect("only the living hear");
        let Some(transfer) = process.transfers.get_mut(&answer.transfer) else { return };
        match answer.verdict {
            Verdict::Installed(base) => {
                self.end_transfer(node, answer.transfer, SnapshotOutcome::Installed(base));
            }
            Verdict::Refused => self.end_transfer(node, answer.transfer, SnapshotOutcome::Failed),
            // All chunks arrived: the outcome follows.
            Verdict::Next(next) if next == transfer.chunks => transfer.tries = 0,
            Verdict::Next(next) if next != transfer.next => {
                (transfer.next, transfer.tries) = (next, 0);
                self.send_chunk(node, answer.transfer);
            }
            Verdict::Next(_) => {}
        }
    }

    /// A chunk arrives.
    pub(crate) fn handle_chunk(&mut self, from: usize, to: usize, chunk: Chunk) {
        let Chunk { transfer, shard, number, chunks, .. } = chunk;
        let process = self.nodes[to].process.as_mut().expect("only the living hear");
        if process.replicas.get(&shard).is_none_or(|live| live.replica != chunk.to) {
            self.answer_chunk(to, from, transfer, Verdict::Refused);
            return;
        }
        let current = process.receiving.get(&shard);
        if current.is_some_and(|current| current.space.is_some() && current.transfer != transfer) {
            // A snapshot that fully arrived is being installed.
            self.answer_chunk(to, from, transfer, Verdict::Refused);
            return;
        }
        if current.is_none_or(|current| current.transfer != transfer) {
            let receiving = Receiving {
                transfer,
                sender: from,
                from: chunk.from,
                term: chunk.term,
                next: 0,
                chunks,
                view: chunk.view,
                space: None,
                log_held_last: LogId::default(),
                is_installed: false,
            };
            process.receiving.insert(shard, receiving);
        }
        let receiving = process.receiving.get_mut(&shard).expect("made just now");
        let completes = receiving.next == number && number + 1 == chunks;
        if receiving.next == number {
            receiving.next += 1;
        }
        let next = receiving.next;
        self.answer_chunk(to, from, transfer, Verdict::Next(next));
        if completes {
            let (life, after) = (self.nodes[to].life, self.random.between(MILLI, 60 * MILLI));
            let ingested = Happening::Ingested { node: to, life, shard };
            self.schedule.at(self.now + after, ingested);
        }
    }

    fn answer_chunk(&mut self, node: usize, to: usize, transfer: u64, verdict: Verdict) {
        let answer = ChunkAnswer { transfer, verdict };
        self.send(node, to, LANE_SNAPSHOT, Freight::ChunkAnswer(answer));
    }

    /// The tables of a snapshot are durable in a fresh space.
    pub(crate) fn handle_ingested(&mut self, node: usize, life: u64, shard: ShardId) {
        if self.nodes[node].life != life {
            return;
        }
        let mutated = self.breaks(Mutant::InstallBeforeData);
        let Node { process, data, .. } = &mut self.nodes[node];
        let process = process.as_mut().expect("it lives");
        let Some(receiving) = process.receiving.get_mut(&shard) else { return };
        if receiving.space.is_some() || receiving.next != receiving.chunks {
            return;
        }
        let View { map, record } = &*receiving.view;
        let space = match mutated {
            false => Space::new(map.clone(), record.clone()),
            true => Space::unflushed(map, record),
        };
        receiving.space = Some(data.create(space));
        self.try_install(node, shard);
    }

    /// Puts a snapshot in force once nothing older is being applied (RULE 13).
    pub(crate) fn try_install(&mut self, node: usize, shard: ShardId) {
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some(receiving) = process.receiving.get_mut(&shard) else { return };
        let Some(live) = process.replicas.get(&shard) else { return };
        if receiving.space.is_none() || receiving.is_installed || !live.applying.is_empty() {
            return;
        }
        let Some(view) = process.host.view(shard) else { return };
        receiving.log_held_last = view.last;
        receiving.is_installed = true;
        let (from, term, record) = (receiving.from, receiving.term, &receiving.view.record);
        let (base, membership) = (record.applied, record.membership.clone());
        let descriptor_version = record.epoch.version;
        let to = live.replica;
        let install =
            Event::Install { shard, to, from, term, base, membership, descriptor_version };
        self.tell(node, install);
        self.step(node);
    }

    /// Carries out what the host decided about the snapshots that arrived.
    pub(crate) fn carry_out_installs(&mut self, node: usize, turn: &Turn) {
        for ShardInstall { shard, outcome, .. } in &turn.installs {
            let shard = *shard;
            let machine = self.workload.machine();
            let Node { id, process, data, .. } = &mut self.nodes[node];
            let (id, process) = (*id, process.as_mut().expect("it took a turn"));
            let Ok(base) = outcome else {
                let refused = process.receiving.remove(&shard).expect("it was told to install");
                data.remove(refused.space.expect("it had arrived"));
                self.answer_chunk(node, refused.sender, refused.transfer, Verdict::Refused);
                continue;
            };
            let receiving = &process.receiving[&shard];
            let live = process.replicas.get_mut(&shard).expect("a replica was installed");
            live.space = receiving.space.expect("it had arrived");
            live.machine = machine;
            let (base, log_held_last, replica) = (*base, receiving.log_held_last, live.replica);
            let write = turn.write.iter().flat_map(|(_, writes)| writes);
            let keeps_log = write
                .filter(|written| written.shard == shard)
                .find_map(|written| Some(written.write.install.as_ref()?.keeps_log))
                .expect("an install is in its turn's write");
            self.observe(Observation::Installed {
                node: id,
                shard,
                replica,
                base,
                keeps_log,
                log_held_last,
            });
            self.touch(shard);
            // The new data is in force: readers may continue.
            self.tell(node, Event::Applied { shard, replica, index: base.index });
            self.wake(node);
        }
    }

    /// The log of an install is durable: tells the snapshot's sender.
    pub(crate) fn answer_installed(&mut self, node: usize, shard: ShardId) {
        let process = self.nodes[node].process.as_mut().expect("only the living sync");
        let done = process.receiving.get(&shard).is_some_and(|receiving| receiving.is_installed);
        if done {
            let receiving = process.receiving.remove(&shard).expect("looked at just now");
            let base = receiving.view.record.applied;
            let verdict = Verdict::Installed(base);
            self.answer_chunk(node, receiving.sender, receiving.transfer, verdict);
        }
    }
}
