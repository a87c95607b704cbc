//! Serves reads for other nodes, with bounds on their number, memory and time.
//!
//! A read that waits for a leader, for its replica to catch up, or for another node reserves no
//! memory, so that a shard without a quorum does not hold up others. Memory is reserved just before
//! the store is read: first for a short answer, from the asker's account; only if the values are
//! longer, memory of their size from what all nodes share. No node gets more of that than the
//! largest page, so a node that does not take its answers does not hold up others either. The
//! memory is released when the lane has the answer. A read is dropped once its asker has given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_host::HostRefusal;
use quorate_transport::{Forward, ForwardKind, SendError};
use quorate_types::{NodeId, ShardId, limits};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::calls::call::Outcome;
use crate::calls::read::ReadLevel;
use crate::calls::read::{ReadRequest, ReadResponse};
use crate::peer::codec;
use crate::peer::read_codec;
use crate::peer::replies::send_replies;
use crate::serve::peer_service::PeerService;

/// Pause before an answer is offered to a full lane again: a fraction of the time in which a lane
/// of 64 MiB drains.
const FULL_LANE_PAUSE: Duration = Duration::from_millis(5);
/// Memory that a read under way takes besides its own bytes: its task, and its place with the
/// worker.
const TASK_BYTES: usize = 1 << 10;

const BUSY: Outcome = Outcome::Refused(HostRefusal::Busy);

/// The memory that one other node may use here.
#[derive(Debug)]
struct Account {
    /// For requests under way.
    requests: Arc<Semaphore>,
    /// For short answers.
    short: Arc<Semaphore>,
    /// Its part of what all nodes share for longer answers.
    long: Arc<Semaphore>,
}

/// The memory for reads of all other nodes, in bytes.
#[derive(Debug)]
pub(crate) struct PeerReads {
    long: Arc<Semaphore>,
    accounts: Mutex<BTreeMap<NodeId, Arc<Account>>>,
}

/// Another node's read under way. Dropping it releases its place.
#[derive(Debug)]
pub(crate) struct PeerRead {
    from: NodeId,
    /// When its asker, which began earlier, has given up.
    deadline: Instant,
    account: Arc<Account>,
    long: Arc<Semaphore>,
    /// Its part of the account's `requests`.
    _place: OwnedSemaphorePermit,
}

/// Memory reserved for an answer. Dropping it releases the memory.
#[derive(Debug)]
pub(crate) struct AnswerRoom {
    _own: OwnedSemaphorePermit,
    _shared: Option<OwnedSemaphorePermit>,
}

impl Default for PeerReads {
    fn default() -> PeerReads {
        PeerReads {
            long: Arc::new(Semaphore::new(limits::PEER_READ_BYTES_MAX)),
            accounts: Mutex::default(),
        }
    }
}

impl PeerReads {
    /// Reserves a place for a request of `bytes` that has just come from `from`; `None` if too many
    /// requests of that node are under way.
    pub(crate) fn admit(&self, from: NodeId, bytes: usize) -> Option<PeerRead> {
        let account = Arc::clone(self.accounts.lock().entry(from).or_insert_with(|| {
            let room = |bytes| Arc::new(Semaphore::new(bytes));
            Arc::new(Account {
                requests: room(limits::PEER_REQUESTS_BYTES_MAX),
                short: room(limits::PEER_SHORT_READS_BYTES_MAX),
                long: room(limits::PEER_LONG_READS_BYTES_MAX),
            })
        }));
        // Even the longest frame fits, if nothing else of that node is under way.
        let bytes = (bytes + TASK_BYTES).min(limits::PEER_REQUESTS_BYTES_MAX);
        let bytes = u32::try_from(bytes).expect("it was cut to what fits");
        let place = Arc::clone(&account.requests).try_acquire_many_owned(bytes).ok()?;
        let deadline = Instant::now() + limits::REQUEST_TIMEOUT;
        Some(PeerRead { from, deadline, account, long: Arc::clone(&self.long), _place: place })
    }
}

impl PeerRead {
    /// The node that asks.
    pub(crate) fn from(&self) -> NodeId {
        self.from
    }

    /// Waits for memory for an answer of `bytes`; `None` once the asker has given up.
    async fn room(&self, bytes: usize) -> Option<AnswerRoom> {
        let bytes_u32 = u32::try_from(bytes).ok()?;
        let take = async {
            if bytes <= limits::PEER_SHORT_READ_BYTES_MAX {
                let own =
                    Arc::clone(&self.account.short).acquire_many_owned(bytes_u32).await.ok()?;
                return Some(AnswerRoom { _own: own, _shared: None });
            }
            // The shared memory last: a read that waits for its node's part holds none of it.
            let own = Arc::clone(&self.account.long).acquire_many_owned(bytes_u32).await.ok()?;
            let shared = Arc::clone(&self.long).acquire_many_owned(bytes_u32).await.ok()?;
            Some(AnswerRoom { _own: own, _shared: Some(shared) })
        };
        if self.is_over() {
            return None;
        }
        let taken = tokio::time::timeout_at(self.deadline, take).await.ok()?;
        taken.filter(|_| !self.is_over())
    }

    /// Reserves memory for an answer of `bytes`, if it is free now.
    fn try_room(&self, bytes: usize) -> Option<AnswerRoom> {
        let bytes = u32::try_from(bytes).ok()?;
        let own = Arc::clone(&self.account.long).try_acquire_many_owned(bytes).ok()?;
        let shared = Arc::clone(&self.long).try_acquire_many_owned(bytes).ok()?;
        Some(AnswerRoom { _own: own, _shared: Some(shared) })
    }

    /// True once its asker has given up.
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

impl PeerService {
    /// As [`Reads::read_here`](crate::request::reads::Reads::read_here), but never on the caller's
    /// thread, and only as much as one answer to another node may hold; also returns the memory
    /// reserved for the answer.
    pub(crate) async fn read_for_peer(
        self: &Arc<Self>,
        read: &PeerRead,
        (shard, descriptor_version): (ShardId, u64),
        request: &ReadRequest,
        level: ReadLevel,
    ) -> Result<(ReadResponse, AnswerRoom), Outcome> {
        if level == ReadLevel::Linearizable {
            self.reads.confirm(shard, descriptor_version).await?;
        }
        let mut asked = request.clone().within(limits::PEER_SHORT_READ_BYTES_MAX);
        loop {
            let room = read.room(asked.answer_bytes_max()).await.ok_or(BUSY)?;
            let response =
                self.reads.read_local_bounded(shard, descriptor_version, asked.clone()).await?;
            match longer(request, &response) {
                // Each round asks for more bytes, so this ends.
                Some(longer) => asked = longer,
                None => return Ok((response, room)),
            }
        }
    }

    /// Answers the read `id` of another node, and sends the answer.
    pub(crate) async fn serve_read(
        self: &Arc<Self>,
        read: PeerRead,
        (id, request): (u64, codec::PeerRequest),
        (asked, level): (ReadRequest, ReadLevel),
    ) {
        let answer = match request.kind {
            codec::RequestKind::RelayedRead => self.relay_read(&read, request, &asked, level).await,
            _ => {
                let shard = (request.shard, request.descriptor_version);
                let answer = self.read_for_peer(&read, shard, &asked, level).await;
                answer.map(|(response, room)| (read_codec::encode_response(&response), Some(room)))
            }
        };
        let (outcome, room) = match answer {
            Ok((response, room)) => (Outcome::Reply(response), room),
            Err(outcome) => (outcome, None),
        };
        let payload = codec::encode_outcome(&outcome);
        drop(outcome);
        self.send_answer(&read, id, payload, room).await;
    }

    /// Sends the answer to a read. While the lane is full it waits, so that the caller need not
    /// retry, but only with memory reserved; a peer that is gone has answered its callers already.
    async fn send_answer(
        &self,
        read: &PeerRead,
        id: u64,
        payload: Bytes,
        mut room: Option<AnswerRoom>,
    ) {
        let mut reply = Forward { id, kind: ForwardKind::Reply, payload };
        while !read.is_over() {
            match self.transport.send_forwards(read.from, vec![reply]) {
                Err((SendError::Full, mut replies)) => {
                    let Some(unsent) = replies.pop() else { return };
                    reply = unsent;
                    if room.is_none() && reply.payload.len() > TASK_BYTES {
                        room = read.try_room(reply.payload.len());
                        if room.is_none() {
                            reply.payload = codec::encode_outcome(&BUSY);
                        }
                    }
                    tokio::time::sleep(FULL_LANE_PAUSE).await;
                }
                Err((SendError::TooLarge { .. }, replies)) => {
                    return send_replies(&self.transport, read.from, replies);
                }
                Ok(()) | Err(_) => return,
            }
        }
    }
}

/// The next request, if `response` gives only the lengths of the values and `request` allows that
/// many bytes.
fn longer(request: &ReadRequest, response: &ReadResponse) -> Option<ReadRequest> {
    let (ReadRequest::Get { bytes_max, .. }, ReadResponse::Lengths(lengths)) = (request, response)
    else {
        return None;
    };
    let bytes = lengths.iter().flatten().fold(0u64, |sum, length| sum.saturating_add(*length));
    let bytes = usize::try_from(bytes).ok().filter(|bytes| bytes <= bytes_max)?;
    Some(request.clone().within(bytes))
}

#[cfg(test)]
#[path = "peer_reads_tests.rs"]
mod tests;
