//! What the transport brings in: messages for the workers, other nodes' requests, answers to ours.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quorate_host::Refusal as HostRefusal;
use quorate_transport::{Forward, ForwardKind, PeerHello, Receiver, Rejection, ShardMessage};
use quorate_types::{Incarnation, NodeId, ShardId};

use crate::call::{Call, CallKind, Completion, Outcome};
use crate::core::{Core, check_command};
use crate::error::FatalError;
use crate::forward::{self, Request, RequestKind};
use crate::guarded::spawn_guarded;
use crate::replies::send_replies;
use crate::shard_read;

const STARTING: &str = "this node is starting or stopping";

/// Runs on QUIC threads, so it only hands over. It is made before the core that it hands over to,
/// and refuses peers until that is set.
#[derive(Default)]
pub(crate) struct Inbound {
    core: RwLock<Option<Arc<Core>>>,
    /// A task of the transport that died before there was a core to end.
    died: Mutex<Option<FatalError>>,
}

impl Inbound {
    pub(crate) fn open(&self, core: Arc<Core>) {
        *self.core.write() = Some(Arc::clone(&core));
        if let Some(error) = self.died.lock().take() {
            core.end(error);
        }
    }

    /// Lets go of the core, so that it can be dropped.
    pub(crate) fn close(&self) {
        *self.core.write() = None;
    }

    fn core(&self) -> Option<Arc<Core>> {
        self.core.read().clone()
    }
}

impl Receiver for Inbound {
    fn admit(&self, hello: &PeerHello) -> Result<(), Rejection> {
        match self.core() {
            None => Err(Rejection::NotNow(STARTING.to_owned())),
            Some(core) => core.admit(hello),
        }
    }

    fn remembered(&self, peer: NodeId) -> Option<Incarnation> {
        self.core()?.lives.of(peer).map(|life| life.incarnation)
    }

    fn start_nonce(&self, start: Incarnation) -> Result<Option<u64>, Rejection> {
        let not_now = |what: String| Rejection::NotNow(what);
        let core = self.core().ok_or_else(|| not_now(STARTING.to_owned()))?;
        core.log.start_nonce(start).map_err(|error| not_now(format!("this node's log: {error}")))
    }

    fn handle_messages(&self, from: NodeId, messages: Vec<ShardMessage>) {
        let Some(core) = self.core() else {
            return;
        };
        let mut by_worker: Vec<Vec<(ShardId, quorate_raft::Message)>> =
            core.inboxes.iter().map(|_| Vec::new()).collect();
        for ShardMessage { shard, message } in messages {
            // A peer may know of shards that do not live here.
            if let Some(state) = core.shards.get(shard) {
                by_worker[state.worker].push((shard, message));
            }
        }
        for (inbox, messages) in core.inboxes.iter().zip(by_worker) {
            let count = messages.len() as u64;
            if count > 0 && !inbox.push_messages(from, messages) {
                core.counters.messages_dropped.add(count);
            }
        }
    }

    fn handle_forwards(&self, from: NodeId, forwards: Vec<Forward>) {
        let Some(core) = self.core() else {
            return;
        };
        let mut refused = Vec::new();
        for Forward { id, kind, payload } in forwards {
            match kind {
                ForwardKind::Reply => core.forwarder.handle_reply(from, id, &payload),
                ForwardKind::Request => {
                    if let Some(outcome) = take_request(&core, from, id, &payload) {
                        let payload = forward::encode_outcome(&outcome);
                        refused.push(Forward { id, kind: ForwardKind::Reply, payload });
                    }
                }
            }
        }
        if !refused.is_empty() {
            send_replies(&core.transport, from, refused);
        }
    }

    fn handle_connected(&self, peer: &PeerHello) {
        tracing::debug!(node = %peer.node, "peer connected");
        if let Some(core) = self.core() {
            core.handle_connected(peer);
        }
    }

    fn handle_disowned(&self, peer: NodeId, reason: &str) {
        if let Some(core) = self.core() {
            core.handle_disowned(peer, reason);
        }
    }

    fn handle_forked(&self, peer: NodeId, reason: &str) {
        if let Some(core) = self.core() {
            core.handle_forked(peer, reason);
        }
    }

    fn handle_disconnected(&self, peer: NodeId, reason: &str) {
        tracing::debug!(node = %peer, reason, "peer disconnected");
        if let Some(core) = self.core() {
            core.handle_disconnected(peer);
            core.forwarder.fail_all(peer);
        }
    }

    fn handle_task_died(&self, task: &str, reason: &str) {
        let (task, reason) = (format!("transport: {task}"), reason.to_owned());
        // Noted first: the core may be set between a look and the note.
        *self.died.lock() = Some(FatalError::Task { task, reason });
        if let Some(core) = self.core()
            && let Some(error) = self.died.lock().take()
        {
            core.end(error);
        }
    }
}

/// Starts a peer's request; `Some` if it ended at once.
fn take_request(core: &Arc<Core>, from: NodeId, id: u64, payload: &Bytes) -> Option<Outcome> {
    let request = match forward::decode_request(payload) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(node = %from, %error, "a forwarded request can't be read");
            return Some(Outcome::Malformed);
        }
    };
    let Request { kind, shard, descriptor_version, .. } = request;
    let submit = |kind: CallKind, progress: bool| {
        let completion = Completion::Remote { peer: from, id, progress };
        core.submit(Call { shard, descriptor_version, kind, completion }).err()
    };
    match kind {
        RequestKind::Status => {
            let status = Arc::clone(core);
            answer_later(core, "status for a peer", (from, id), async move {
                status.encoded_status().await.map_or(Outcome::Stopping, Outcome::Reply)
            });
            None
        }
        RequestKind::Write | RequestKind::WriteWithProgress => {
            if check_command(&request.body).is_err() {
                return Some(Outcome::Malformed);
            }
            submit(CallKind::Write(request.body), kind == RequestKind::WriteWithProgress)
        }
        RequestKind::TransferLeader => match request.body.as_ref().try_into() {
            Ok(node) => {
                let to = NodeId(u64::from_le_bytes(node));
                submit(CallKind::TransferLeader(to), false)
            }
            Err(_) => Some(Outcome::Malformed),
        },
        RequestKind::RelayedWrite => {
            let relay = Arc::clone(core);
            let writing = async move { relay.relay_write(from, request).await };
            answer_later(core, "write for a peer", (from, id), writing);
            None
        }
        RequestKind::Read | RequestKind::RelayedRead => {
            let (question, level) = match shard_read::decode_question(request.body.clone()) {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::warn!(node = %from, %error, "a forwarded read can't be read");
                    return Some(Outcome::Malformed);
                }
            };
            let Some(read) = core.read_room.peers.admit(from, payload.len()) else {
                return Some(Outcome::Refused(HostRefusal::Busy));
            };
            let (reader, asked) = (Arc::clone(core), (question.within_frame(), level));
            spawn_guarded(core, "read for a peer", async move {
                reader.serve_read(read, (id, request), asked).await;
            });
            None
        }
    }
}

/// Works the request `id` of `peer` out in a task of its own, and sends how it ended.
fn answer_later(
    core: &Arc<Core>,
    task: &'static str,
    (peer, id): (NodeId, u64),
    work: impl Future<Output = Outcome> + Send + 'static,
) {
    let transport = Arc::clone(&core.transport);
    spawn_guarded(core, task, async move {
        let payload = forward::encode_outcome(&work.await);
        send_replies(&transport, peer, vec![Forward { id, kind: ForwardKind::Reply, payload }]);
    });
}
