//! The thread that receives snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_log::LogStore;
use quorate_transport::Transport;
use quorate_types::{Monotonic, NodeId, ReplicaId, ShardId, SpaceId, limits};

use crate::snapshot::incoming::{Incoming, Stage};
use crate::snapshot::part::{Part, PartAnswer, TransferId, Verdict};
use crate::state::clock;
use crate::state::disk_floor::DiskLevel;
use crate::state::engine_state::EngineState;
use crate::state::transfers::TransferProgress;
use crate::status::resources::Resources;
use crate::store::data_store::{DataError, DataStore};
use crate::store::identity::StoreIdentity;
use crate::store::own_record::OwnRecord;
use crate::worker::apply::ApplyTask;
use crate::worker::queue::Queue;
use crate::worker::shared::WorkerShared;
use crate::worker::snapshots::{OwnInstall, ReceiveTask};

/// How often the senders hear of this node while it works on one part for long.
const NEWS: Duration = Duration::from_secs(1);
/// How long the wait for the next part may be before another transfer may take the place.
const IDLE: Duration = Duration::from_secs(5);

/// Everything the thread works with.
pub(crate) struct SnapshotReceiver {
    queue: Arc<Queue<ReceiveTask>>,
    applies: Arc<Queue<ApplyTask>>,
    data: Arc<DataStore>,
    log: Arc<LogStore>,
    transport: Arc<Transport>,
    state: Arc<EngineState>,
    resources: Arc<Resources>,
}

impl SnapshotReceiver {
    pub(crate) fn new(
        shared: &WorkerShared,
        data: Arc<DataStore>,
        resources: Arc<Resources>,
    ) -> SnapshotReceiver {
        SnapshotReceiver {
            queue: Arc::clone(&shared.queues.received),
            applies: Arc::clone(&shared.queues.applies),
            data,
            log: Arc::clone(&shared.log),
            transport: Arc::clone(&shared.transport),
            state: Arc::clone(&shared.state),
            resources,
        }
    }

    fn answer(&self, node: NodeId, transfer: TransferId, verdict: Verdict) {
        let answer = PartAnswer { transfer, verdict }.encode();
        if let Err(error) = self.transport.send_snapshot_part(node, answer) {
            // The sender asks again.
            tracing::debug!(%node, %error, "an answer to a part of a snapshot is lost");
        }
    }

    /// Receives until the queue is closed.
    pub(crate) fn run(self) {
        let mut receiving = Receiving {
            parts: &self,
            incoming: BTreeMap::new(),
            installed: BTreeMap::new(),
            without_room: BTreeMap::new(),
        };
        let mut tasks = Vec::new();
        while self.queue.take_within(&mut tasks, receiving.wait(clock::now())) {
            for task in tasks.drain(..) {
                receiving.take_in(clock::now(), task);
            }
            receiving.give_up_silent(clock::now());
        }
    }
}

/// Tells the senders of all transfers, now and then, that this node works.
struct News<'a> {
    parts: &'a SnapshotReceiver,
    told: Monotonic,
    /// The number of the part that each comes to.
    transfers: Vec<(NodeId, TransferId, u32)>,
}

impl News<'_> {
    fn add(&mut self, node: NodeId, transfer: TransferId, next: u32) {
        self.transfers.retain(|(_, known, _)| *known != transfer);
        self.transfers.push((node, transfer, next));
    }

    /// False once the engine stops.
    fn tell(&mut self) -> bool {
        let now = clock::now();
        if now.since(self.told) >= NEWS {
            self.told = now;
            for (node, transfer, next) in &self.transfers {
                self.parts.answer(*node, *transfer, Verdict::Next(*next));
            }
        }
        !self.parts.state.shutdown.has_begun()
    }
}

struct Receiving<'a> {
    parts: &'a SnapshotReceiver,
    incoming: BTreeMap<ShardId, Incoming<'a>>,
    /// The newest transfer of each shard that was put in force, for a sender that missed the answer.
    installed: BTreeMap<ShardId, TransferId>,
    /// The newest transfer of each shard that waits for room on the disk: noted once.
    without_room: BTreeMap<ShardId, TransferId>,
}

impl<'a> Receiving<'a> {
    fn wait(&self, now: Monotonic) -> Option<Duration> {
        let arriving = self.incoming.values().filter(|it| matches!(it.stage, Stage::Arriving(_)));
        let end = |it: &Incoming<'_>| (it.heard + limits::SNAPSHOT_PATIENCE).since(now);
        arriving.map(end).min()
    }

    fn take_in(&mut self, now: Monotonic, task: ReceiveTask) {
        match task {
            ReceiveTask::Part { from, part } => match Part::decode(&part) {
                Ok(part) => {
                    let transfer = part.transfer;
                    if let Some(verdict) = self.take_part(now, from, &part) {
                        self.answer(from, transfer, verdict);
                    }
                }
                // Its sender sends it again.
                Err(error) => tracing::warn!(node = %from, %error, "dropped"),
            },
            ReceiveTask::InstallOwn(install) => self.install_own(now, install),
            ReceiveTask::Installed { shard, to, former } => self.end_installed(shard, to, former),
            ReceiveTask::Refused { shard, to, why } => {
                let Some(refused) = self.remove(shard, to) else { return };
                tracing::info!(%shard, why, "a snapshot is not installed");
                self.delete_unread(refused.space);
                self.answer(refused.sender, refused.transfer, Verdict::Refused(why));
            }
            ReceiveTask::Ended { shard, to } => {
                // One that is being installed may already be what the log names.
                if self
                    .incoming
                    .get(&shard)
                    .is_some_and(|it| matches!(it.stage, Stage::Arriving(_)))
                {
                    self.discard(shard, to, "the replica was given up");
                } else {
                    self.remove(shard, to);
                }
            }
        }
    }

    /// The answer to a part, unless it comes later.
    fn take_part(&mut self, now: Monotonic, from: NodeId, part: &Part) -> Option<Verdict> {
        let Part { transfer, shard, to, number, .. } = *part;
        if self.installed.get(&shard) == Some(&transfer) {
            return Some(Verdict::Installed);
        }
        let state = self.parts.state.shards.get(shard).filter(|state| state.replica == to);
        let Some(state) = state else {
            return Some(Verdict::Refused(format!("no replica {to} of shard {shard} lives here")));
        };
        if self.incoming.get(&shard).is_none_or(|it| it.transfer != transfer) {
            if number > 0 {
                return Some(Verdict::Refused("its beginning was lost by a restart".to_owned()));
            }
            let applied = part.record.as_ref().map(|record| record.applied.index);
            if applied.is_none_or(|applied| applied <= state.position.get().commit) {
                return Some(Verdict::Refused("the replica has all of it".to_owned()));
            }
            if let Some(verdict) = self.make_place(now, part) {
                return Some(verdict);
            }
            if let Err(why) = self.begin(now, from, part) {
                return Some(Verdict::Refused(why));
            }
        }
        let mut news = self.news(now);
        let incoming = self.incoming.get_mut(&shard).expect("it is there, or was begun just now");
        incoming.heard = now;
        if number != incoming.next || matches!(incoming.stage, Stage::Installing) {
            return Some(Verdict::Next(incoming.next));
        }
        // There was room when it began. What has arrived is given back: entries need what is left more.
        if self.parts.state.disk.is_spent() {
            let why = "the disk is spent".to_owned();
            self.discard(shard, to, &why);
            return Some(Verdict::Refused(why));
        }
        let bytes = part.pairs.len() as u64;
        // Its sender hears of this node while it reads a large snapshot back.
        news.add(from, transfer, number + 1);
        let mut taken = incoming.take(&self.parts.data, part, &mut || news.tell());
        if matches!(taken, Ok(true)) && state.keeps_own_store() {
            taken = incoming.check_chunks(&self.parts.data).map(|()| true);
        }
        self.forgive(now);
        let incoming = self.incoming.get_mut(&shard).expect("it is still there");
        match taken {
            Ok(is_last) => {
                let next = incoming.next;
                self.parts.state.counters.snapshot_bytes_received.add(bytes);
                let mut receiving = self.parts.state.transfers.receiving.lock();
                if let Some(progress) = receiving.get_mut(&(shard, to)) {
                    progress.advance(now, bytes);
                    progress.has_arrived = is_last;
                }
                drop(receiving);
                if is_last {
                    let arrived = Box::new(incoming.arrived(shard));
                    self.parts.applies.push_all([ApplyTask::Pause(arrived)]);
                }
                Some(Verdict::Next(next))
            }
            Err(error) => {
                let why = error.to_string();
                tracing::error!(%shard, %from, error = why, "a snapshot is dropped");
                self.discard(shard, to, &why);
                Some(Verdict::Refused(why))
            }
        }
    }

    /// Puts a snapshot into the own store of its replica's machine, which goes back to the apply thread.
    fn install_own(&mut self, now: Monotonic, mut install: Box<OwnInstall>) {
        let OwnInstall { arrived, machine } = &mut *install;
        let (shard, space) = (arrived.shard, arrived.space);
        let SnapshotReceiver { data, log, applies, .. } = self.parts;
        let identity = StoreIdentity::of(log.identity());
        let record = OwnRecord { identity, shard, record: arrived.record.clone() }.encode();
        let store = machine.own_store().expect("its shard keeps one");
        let mut news = self.news(now);
        let outcome = data.install_chunks(space, store, &record, &mut || news.tell());
        // Durable there; otherwise the next start installs them again.
        if outcome.is_ok()
            && let Err(error) = data.delete_chunks(space)
        {
            tracing::error!(%space, %error, "the chunks of an installed snapshot are left behind");
        }
        self.forgive(now);
        applies.push_all([ApplyTask::OwnInstalled { install, outcome }]);
    }

    /// What senders are told while this thread works on one thing for long.
    fn news(&self, now: Monotonic) -> News<'a> {
        let mut news = News { parts: self.parts, told: now, transfers: Vec::new() };
        self.incoming.values().for_each(|it| news.add(it.sender, it.transfer, it.next));
        news
    }

    /// Parts may have come while this thread has worked on one thing since `began`.
    fn forgive(&mut self, began: Monotonic) {
        let spent = clock::now().since(began);
        if spent >= NEWS {
            self.incoming.values_mut().for_each(|it| it.heard = it.heard + spent);
        }
    }

    /// Makes a place for a transfer that begins, or says why there is none.
    fn make_place(&mut self, now: Monotonic, part: &Part) -> Option<Verdict> {
        if let Some(current) = self.incoming.get(&part.shard) {
            let is_outdated = part.term > current.term
                || part.from == current.from
                || now.since(current.heard) >= IDLE;
            if matches!(current.stage, Stage::Installing) || !is_outdated {
                return Some(Verdict::Busy);
            }
            let to = current.to;
            self.discard(part.shard, to, "another one replaces it");
        }
        let is_full = self.incoming.len() >= limits::SNAPSHOTS_IN_FLIGHT_MAX;
        // Twice: as files, and as what a compaction makes of them. What others will still bring is not
        // free any more.
        let expected: u64 = self.parts.state.transfers.expected_bytes();
        let all = expected.saturating_add(part.bytes_total);
        let has_room = self.parts.state.disk.level() == DiskLevel::Roomy
            && self.parts.resources.has_room_to_spare(all.saturating_mul(2));
        let (shard, bytes) = (part.shard, part.bytes_total);
        if has_room {
            self.without_room.remove(&shard);
        } else if self.without_room.insert(shard, part.transfer) != Some(part.transfer) {
            tracing::warn!(%shard, bytes, "a snapshot waits for room on the disk");
        }
        (is_full || !has_room).then_some(Verdict::Busy)
    }

    fn begin(&mut self, now: Monotonic, from: NodeId, part: &Part) -> Result<(), String> {
        let space = self.parts.log.next_space().map_err(|fault| fault.to_string())?;
        let incoming = Incoming::begin(&self.parts.data, space, from, part, now)
            .map_err(|error| error.to_string())?;
        let base = incoming.record.applied;
        let (shard, bytes) = (part.shard, part.bytes_total);
        tracing::info!(%shard, %from, %base, bytes, "receiving a snapshot");
        let progress = TransferProgress::begin(now, from, base.index, bytes);
        self.parts.state.transfers.receiving.lock().insert((shard, part.to), progress);
        self.incoming.insert(shard, incoming);
        Ok(())
    }

    fn end_installed(&mut self, shard: ShardId, to: ReplicaId, former: SpaceId) {
        // Nothing reads it any more but what began before: that sees it to the end.
        report_left(former, self.parts.data.delete_space(former));
        let Some(done) = self.remove(shard, to) else { return };
        self.parts.state.counters.snapshots_received.add(1);
        tracing::info!(%shard, base = %done.record.applied, "a snapshot is in force");
        self.installed.insert(shard, done.transfer);
        self.answer(done.sender, done.transfer, Verdict::Installed);
    }

    /// Drops the transfers whose senders are silent.
    fn give_up_silent(&mut self, now: Monotonic) {
        let is_silent = |it: &Incoming<'_>| {
            matches!(it.stage, Stage::Arriving(_))
                && now.since(it.heard) >= limits::SNAPSHOT_PATIENCE
        };
        let silent: Vec<_> = self
            .incoming
            .iter()
            .filter(|(_, it)| is_silent(it))
            .map(|(id, it)| (*id, it.to))
            .collect();
        for (shard, to) in silent {
            self.discard(shard, to, "its sender is silent");
        }
    }

    /// Drops a transfer with everything that has arrived of it.
    fn discard(&mut self, shard: ShardId, to: ReplicaId, why: &str) {
        let Some(dropped) = self.remove(shard, to) else { return };
        tracing::info!(%shard, from = %dropped.sender, why, "a snapshot is no longer received");
        self.delete_unread(dropped.space);
    }

    fn remove(&mut self, shard: ShardId, to: ReplicaId) -> Option<Incoming<'a>> {
        self.incoming.get(&shard).filter(|it| it.to == to)?;
        self.parts.state.transfers.receiving.lock().remove(&(shard, to));
        self.incoming.remove(&shard)
    }

    /// Deletes what never was in force.
    fn delete_unread(&self, space: SpaceId) {
        report_left(space, self.parts.data.delete_unread_space(space));
    }

    fn answer(&self, node: NodeId, transfer: TransferId, verdict: Verdict) {
        self.parts.answer(node, transfer, verdict);
    }
}

/// The next start deletes what is left of a space.
fn report_left(space: SpaceId, deleted: Result<(), DataError>) {
    if let Err(error) = deleted {
        tracing::error!(%space, %error, "the data of a snapshot is left behind");
    }
}
