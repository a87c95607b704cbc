//! Reads a replica that lives here: confirm, wait until applied, read, check the descriptor.
//!
//! A few keys are read on the caller's own thread. All other reads run on threads that may block,
//! because the caller's runtime has other tasks; they end early once no caller waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_host::HostRefusal;
use quorate_types::{ShardId, limits};
use tokio::sync::{Semaphore, oneshot};

use crate::calls::call::{Call, CallKind, Completion, Outcome};
use crate::calls::read::{ReadLevel, ReadRequest, ReadResponse};
use crate::cluster::map::META_SHARD;
use crate::error::FatalError;
use crate::request::reads::Reads;
use crate::state::shards::LocalShard;
use crate::state::tasks::run_blocking;
use crate::store::data_store::DataError;
use crate::store::lookup::{self, Reach};

/// Most keys of a read on the caller's own thread: each costs some microseconds, or a few
/// milliseconds if its value is as long as values may be.
const KEYS_HERE_MAX: usize = 4;

/// Bounds the reads that run at once, so that they take neither threads nor memory without limit.
pub(crate) struct ReadRoom {
    looks: Arc<Semaphore>,
    walks: Arc<Semaphore>,
}

impl Default for ReadRoom {
    fn default() -> ReadRoom {
        ReadRoom {
            looks: Arc::new(Semaphore::new(limits::LOOKS_MAX)),
            walks: Arc::new(Semaphore::new(limits::WALKS_MAX)),
        }
    }
}

impl ReadRoom {
    /// Waits until no read is in progress, at most `patience`. Blocks.
    pub(crate) fn drain(&self, patience: Duration) {
        const PAUSE: Duration = Duration::from_millis(1);
        let is_idle = || {
            self.looks.available_permits() == limits::LOOKS_MAX
                && self.walks.available_permits() == limits::WALKS_MAX
        };
        let mut waited = Duration::ZERO;
        while !is_idle() && waited < patience {
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }
}

/// When dropped, tells a read that no caller waits for it.
#[derive(Default)]
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reads {
    /// Answers from the replica that lives here.
    ///
    /// Errors are outcomes, so that the caller may be on another node.
    pub(crate) async fn read_here(
        self: &Arc<Self>,
        shard: ShardId,
        descriptor_version: u64,
        request: &ReadRequest,
        level: ReadLevel,
    ) -> Result<ReadResponse, Outcome> {
        if level == ReadLevel::Linearizable {
            self.confirm(shard, descriptor_version).await?;
        }
        match request {
            ReadRequest::Get { keys, .. } if keys.len() <= KEYS_HERE_MAX => {
                self.read_local(shard, descriptor_version, request, &Reach::whole(&|| false))
            }
            _ => {
                self.read_on_blocking_thread(shard, descriptor_version, request.clone(), false)
                    .await
            }
        }
    }

    /// Reads what the replica here has applied, never on the caller's thread, and no more than an answer
    /// to another node may hold at once.
    pub(crate) async fn read_local_bounded(
        self: &Arc<Self>,
        shard: ShardId,
        descriptor_version: u64,
        request: ReadRequest,
    ) -> Result<ReadResponse, Outcome> {
        self.read_on_blocking_thread(shard, descriptor_version, request, true).await
    }

    /// Reads on a thread that may block. If this future is dropped, the read ends.
    async fn read_on_blocking_thread(
        self: &Arc<Self>,
        shard: ShardId,
        descriptor_version: u64,
        request: ReadRequest,
        for_peer: bool,
    ) -> Result<ReadResponse, Outcome> {
        let room = match request {
            ReadRequest::Count { .. } => &self.room.walks,
            _ => &self.room.looks,
        };
        let permit = Arc::clone(room).acquire_owned().await.map_err(|_| Outcome::Stopping)?;
        let reads = Arc::clone(self);
        let fatal = Arc::clone(&self.fatal);
        let waiting = Waiting::default();
        let left = Arc::clone(&waiting.0);
        let look = move || {
            let ended = || left.load(Ordering::Relaxed) || reads.dispatch.is_stopped();
            let reach = Reach { ended: &ended, is_bounded: for_peer };
            let response = reads.read_local(shard, descriptor_version, &request, &reach);
            drop(reads);
            drop(permit);
            response
        };
        let response = run_blocking(fatal, "read", look).await.unwrap_or(Err(Outcome::Stopping));
        drop(waiting);
        response
    }

    fn read_local(
        &self,
        shard: ShardId,
        descriptor_version: u64,
        request: &ReadRequest,
        reach: &Reach<'_>,
    ) -> Result<ReadResponse, Outcome> {
        let state =
            self.dispatch.shards().get(shard).ok_or(Outcome::Refused(HostRefusal::NoReplica))?;
        let is_of_meta = matches!(request, ReadRequest::Map { .. });
        // What lies in an own store is read there, by who has written it.
        if (is_of_meta && shard != META_SHARD) || state.keeps_own_store() {
            return Err(Outcome::Malformed);
        }
        if self.fatal.is_set() {
            return Err(Outcome::Stopping);
        }
        let mut space = state.space();
        let response = loop {
            let response = lookup::look(&self.data, space, request, reach)
                .map_err(|error| self.fail_read(state, &error))?;
            // The replica may have gone over to a snapshot during the read, and its former data may
            // be deleted in part.
            let now = state.space();
            if now == space {
                break response;
            }
            space = now;
        };
        // A read that ended early has seen only a part; it has no caller to tell.
        let response = response.ok_or(Outcome::Stopping)?;
        // RULE 1: data that moved away during the read may have been read in part.
        if state.version() != descriptor_version {
            return Err(Outcome::Stale(Box::new(state.descriptor())));
        }
        Ok(response)
    }

    /// What a caller is told whose read failed. Damaged bytes end the replica that they belong to, and
    /// other replicas answer instead.
    fn fail_read(&self, state: &LocalShard, error: &DataError) -> Outcome {
        if self.data.note_damage(error) {
            let what = format!("its data: {error}");
            self.dispatch.report_damage(state, what);
            return Outcome::Refused(HostRefusal::NoReplica);
        }
        self.fatal.latch(FatalError::Data(error.to_string()));
        Outcome::Stopping
    }

    /// Completes once everything that was answered before now is applied here.
    pub(crate) async fn confirm(
        &self,
        shard: ShardId,
        descriptor_version: u64,
    ) -> Result<(), Outcome> {
        let (sender, receiver) = oneshot::channel();
        let completion = Completion::Local(sender);
        self.dispatch.submit(Call {
            shard,
            descriptor_version,
            kind: CallKind::Read,
            completion,
        })?;
        match tokio::time::timeout(limits::REQUEST_TIMEOUT, receiver).await {
            Ok(Ok(Outcome::ReadAt(_))) => Ok(()),
            Ok(Ok(outcome)) => Err(outcome),
            Ok(Err(_)) => Err(Outcome::Stopping),
            Err(_) => Err(Outcome::LeaderChanged { leader: None }),
        }
    }
}
