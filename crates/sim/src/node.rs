//! One simulated node: a host between its disk and its data store.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_host::{
    AppliedRecord, Apply, ApplyOutcome, ApplyTarget, Host, HostConfig, KvMachine, OrderedMap,
    ReplicaInit, Ticket, apply_committed,
};
use quorate_types::{Epoch, Incarnation, Index, LogId, Monotonic, NodeId, ShardId, WallMillis};

use crate::disk::Disk;

/// Data and applied record of one shard.
#[derive(Clone)]
pub(crate) struct ShardData {
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) record: AppliedRecord,
}

impl OrderedMap for ShardData {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.map.get(key).map(|value| Bytes::copy_from_slice(value))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.map.insert(key.to_vec(), value.to_vec());
    }

    fn delete(&mut self, key: &[u8]) {
        self.map.remove(key);
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        self.map.retain(|key, _| !(start <= key.as_slice() && key.as_slice() < end));
    }

    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        for (key, value) in self.map.range(start.to_vec()..) {
            if end.is_some_and(|end| key.as_slice() >= end) || !visit(key, value) {
                return;
            }
        }
    }
}

impl ApplyTarget for ShardData {
    fn finish_entry(&mut self, _: &AppliedRecord) {}
}

/// A node; `host` is `None` while it is down.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// Counts starts: events of an earlier life are dropped.
    pub(crate) life: u64,
    pub(crate) host: Option<Host>,
    /// When the next timer event is due; the largest number if none is.
    pub(crate) timer_at: u64,
    pub(crate) disk: Disk,
    pub(crate) data: BTreeMap<ShardId, ShardData>,
    /// What a crash takes `data` back to.
    flushed: BTreeMap<ShardId, ShardData>,
    /// Who waits for an answer of this life.
    pub(crate) callers: BTreeMap<Ticket, crate::world::Caller>,
}

impl Node {
    pub(crate) fn new(
        id: NodeId,
        shards: &[ShardId],
        base: LogId,
        membership: &quorate_raft::Membership,
    ) -> Node {
        let record = AppliedRecord {
            applied: base,
            epoch: Epoch { membership: 1, version: 1 },
            start: Bytes::new(),
            end: None,
            membership: membership.clone(),
            clock: WallMillis(0),
        };
        let empty =
            |shard: &ShardId| (*shard, ShardData { map: BTreeMap::new(), record: record.clone() });
        let data: BTreeMap<ShardId, ShardData> = shards.iter().map(empty).collect();
        Node {
            id,
            life: 0,
            host: None,
            timer_at: u64::MAX,
            disk: Disk::new(shards.iter().copied(), base, membership),
            flushed: data.clone(),
            data,
            callers: BTreeMap::new(),
        }
    }

    /// Starts a host on what the stores hold.
    pub(crate) fn start(&mut self, now: Monotonic, seed: u64, replica: quorate_types::ReplicaId) {
        self.life += 1;
        let mut host = Host::new(HostConfig::new(self.id, Incarnation(self.life), seed));
        for (shard, data) in &self.data {
            let applied = data.record.applied.index;
            let restored = self.disk.restore(*shard, applied);
            assert!(applied <= restored.last.index, "data beyond the log's end (RULE 4)");
            host.add(now, ReplicaInit { shard: *shard, replica, descriptor_version: 1, restored });
        }
        self.host = Some(host);
    }

    pub(crate) fn crash(&mut self, random: &mut crate::random::Random) {
        self.host = None;
        self.disk.crash(random);
        self.data = self.flushed.clone();
    }

    /// Makes the data store's memtables durable.
    pub(crate) fn flush(&mut self) {
        self.flushed = self.data.clone();
    }

    /// Applies committed entries; gives each one's identity and hash, and the callers' replies.
    pub(crate) fn apply(&mut self, apply: &Apply) -> (Index, Vec<(Index, ApplyOutcome)>) {
        let data = self.data.get_mut(&apply.shard).expect("a shard of this node");
        let mut replies = Vec::new();
        let mut record = data.record.clone();
        apply_committed(
            apply.shard,
            &mut KvMachine,
            &mut record,
            &apply.committed,
            data,
            &mut |id, outcome| replies.push((id.index, outcome)),
        );
        data.record = record;
        (data.record.applied.index, replies)
    }
}
