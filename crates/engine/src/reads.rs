//! Reads on the caller's own thread: confirm, wait until applied, look, check the descriptor.

use std::sync::Arc;

use quorate_host::{MetaMap, Refusal as HostRefusal};
use quorate_types::{ShardId, limits};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::call::{Call, CallKind, Completion, Outcome};
use crate::cluster_map::META_SHARD;
use crate::core::Core;
use crate::guarded::run_blocking;
use crate::shard_read::{Facts, Question, SCAN_BYTES_MAX};

/// How fresh a read has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ReadLevel {
    /// Sees every write that was answered before the read began (ReadIndex, thesis 6.4). Works on
    /// any replica; costs one round between leader and quorum, shared by all waiting reads.
    #[default]
    Linearizable,
    /// What the replica here has applied, without asking anybody: may lag by any time.
    Stale,
}

impl Core {
    /// Answers from the replica that lives here.
    ///
    /// Errors are outcomes, so that the caller may be on another node.
    pub(crate) async fn read_here(
        &self,
        shard: ShardId,
        descriptor_version: u64,
        question: &Question,
        level: ReadLevel,
    ) -> Result<Facts, Outcome> {
        if level == ReadLevel::Linearizable {
            self.confirm(shard, descriptor_version).await?;
        }
        self.look_checked(shard, descriptor_version, question)
    }

    /// As [`Core::read_here`], but the look itself is on a thread that may block.
    pub(crate) async fn read_for_peer(
        self: &Arc<Self>,
        shard: ShardId,
        descriptor_version: u64,
        question: Question,
        level: ReadLevel,
    ) -> Result<Facts, Outcome> {
        if level == ReadLevel::Linearizable {
            self.confirm(shard, descriptor_version).await?;
        }
        let core = Arc::clone(self);
        let fatal = Arc::clone(&self.fatal);
        let look = move || core.look_checked(shard, descriptor_version, &question);
        run_blocking(fatal, "read", look).await.unwrap_or(Err(Outcome::Stopping))
    }

    fn look_checked(
        &self,
        shard: ShardId,
        descriptor_version: u64,
        question: &Question,
    ) -> Result<Facts, Outcome> {
        let state = self.shards.get(shard).ok_or(Outcome::Refused(HostRefusal::NoReplica))?;
        if matches!(question, Question::Map { .. }) && shard != META_SHARD {
            return Err(Outcome::Malformed);
        }
        if self.fatal.is_set() {
            return Err(Outcome::Stopping);
        }
        let facts = self.look(state.space, question).map_err(|error| {
            self.fatal.latch(crate::error::FatalError::Data(error.to_string()));
            Outcome::Stopping
        })?;
        // RULE 1: data that moved away while it was read may have been read half.
        if state.version() != descriptor_version {
            return Err(Outcome::Stale(Box::new(state.descriptor())));
        }
        Ok(facts)
    }

    /// Ends when everything answered before now is applied here.
    async fn confirm(&self, shard: ShardId, descriptor_version: u64) -> Result<(), Outcome> {
        let (sender, receiver) = oneshot::channel();
        let completion = Completion::Local(sender);
        self.submit(Call { shard, descriptor_version, kind: CallKind::Read, completion })?;
        match tokio::time::timeout(limits::REQUEST_TIMEOUT, receiver).await {
            Ok(Ok(Outcome::ReadAt(_))) => Ok(()),
            Ok(Ok(outcome)) => Err(outcome),
            Ok(Err(_)) => Err(Outcome::Stopping),
            Err(_) => Err(Outcome::LeaderChanged { leader: None }),
        }
    }

    /// The meta shard's revision, by one look at its head; 0 before it is founded.
    fn map_revision_at(&self, space: quorate_types::SpaceId) -> Result<u64, rocksdb::Error> {
        let head = self.data.get(space, MetaMap::HEAD_KEY)?;
        let head = head.iter().map(|head| (MetaMap::HEAD_KEY, &head[..]));
        Ok(MetaMap::from_pairs(head).map_or(0, |map| map.revision))
    }

    fn look(
        &self,
        space: quorate_types::SpaceId,
        question: &Question,
    ) -> Result<Facts, rocksdb::Error> {
        match question {
            Question::Get(keys) => Ok(Facts::Values(self.data.get_many(space, keys)?)),
            Question::Scan { start, end, limit } => {
                let mut pairs = Vec::new();
                if *limit == 0 {
                    return Ok(Facts::Pairs(pairs));
                }
                let mut bytes = 0;
                self.data.scan(space, start, end.as_deref(), &mut |key, value| {
                    let copy = bytes::Bytes::copy_from_slice;
                    bytes += key.len() + value.len();
                    pairs.push((copy(key), copy(value)));
                    pairs.len() < *limit && bytes < SCAN_BYTES_MAX
                })?;
                Ok(Facts::Pairs(pairs))
            }
            Question::Map { known } if self.map_revision_at(space)? == *known => {
                Ok(Facts::Map(None))
            }
            Question::Map { .. } => {
                let mut pairs = Vec::new();
                self.data.scan(space, &[], None, &mut |key, value| {
                    pairs.push((key.to_vec(), value.to_vec()));
                    true
                })?;
                let pairs = pairs.iter().map(|(key, value)| (&key[..], &value[..]));
                // A map that can't be read here is answered like one that has no news; the
                // machine that wrote it has latched or will.
                Ok(Facts::Map(match MetaMap::from_pairs(pairs) {
                    Ok(map) => Some(map.encode().into()),
                    Err(error) => {
                        tracing::error!(%error, "the meta shard's data can't be read");
                        None
                    }
                }))
            }
            Question::Count { start, end } => {
                let mut count = 0;
                self.data.scan(space, start, end.as_deref(), &mut |_, _| {
                    count += 1;
                    true
                })?;
                Ok(Facts::Count(count))
            }
        }
    }
}
