//! Hands on what the transport receives: messages for workers, requests of other nodes, responses.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quorate_host::HostRefusal;
use quorate_raft::{Body, EntryKind, Message};
use quorate_transport::{
    Forward, ForwardKind, PeerHello, Receiver, Rejection, ShardMessage, Transport,
};
use quorate_types::{Incarnation, NodeId, ShardId, limits};

use crate::calls::call::{Call, CallKind, Completion, Outcome};
use crate::control::admission::Admission;
use crate::error::FatalError;
use crate::peer::codec::{self, PeerRequest, RequestKind};
use crate::peer::forwarder::Forwarder;
use crate::peer::read_codec;
use crate::peer::replies::send_replies;
use crate::request::dispatch::{Dispatch, check_command_size};
use crate::serve::peer_service::PeerService;
use crate::snapshot::part::is_answer;
use crate::state::clock;
use crate::state::disk_floor::DiskLevel;
use crate::state::fatal::Fatal;
use crate::state::tasks::spawn_guarded;
use crate::status::node_status::StatusReporter;
use crate::worker::inbox::Inbox;
use crate::worker::shared::Queues;
use crate::worker::snapshots::{ReceiveTask, SendTask};

const STARTING: &str = "this node is starting or stopping";

/// The parts of the engine that take what is received.
pub(crate) struct Targets {
    pub(crate) admission: Arc<Admission>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) service: Arc<PeerService>,
    pub(crate) status: Arc<StatusReporter>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) queues: Queues,
    pub(crate) fatal: Arc<Fatal>,
}

/// Receives the transport's events. Runs on QUIC threads, so it only hands over. It is made before
/// its targets, and refuses peers until they are set.
#[derive(Default)]
pub(crate) struct Inbound {
    targets: RwLock<Option<Arc<Targets>>>,
    /// A task of the transport that died before there was an engine to end.
    died: Mutex<Option<FatalError>>,
}

impl Inbound {
    pub(crate) fn open(&self, targets: Targets) {
        let fatal = Arc::clone(&targets.fatal);
        *self.targets.write() = Some(Arc::new(targets));
        if let Some(error) = self.died.lock().take() {
            fatal.latch(error);
        }
    }

    /// Releases the engine's parts, so that they can be dropped.
    pub(crate) fn close(&self) {
        *self.targets.write() = None;
    }

    fn targets(&self) -> Option<Arc<Targets>> {
        self.targets.read().clone()
    }
}

impl Receiver for Inbound {
    fn admit(&self, hello: &PeerHello) -> Result<(), Rejection> {
        match self.targets() {
            None => Err(Rejection::NotNow(STARTING.to_owned())),
            Some(to) => to.admission.admit(hello),
        }
    }

    fn remembered(&self, peer: NodeId) -> Option<Incarnation> {
        self.targets()?.admission.remembered(peer)
    }

    fn start_nonce(&self, start: Incarnation) -> Result<Option<u64>, Rejection> {
        let not_now = |what: String| Rejection::NotNow(what);
        let to = self.targets().ok_or_else(|| not_now(STARTING.to_owned()))?;
        to.admission
            .start_nonce(start)
            .map_err(|error| not_now(format!("this node's log: {error}")))
    }

    fn handle_messages(&self, from: NodeId, messages: Vec<ShardMessage>) {
        let Some(to) = self.targets() else {
            return;
        };
        let mut by_worker: Vec<Vec<(ShardId, Message)>> =
            to.inboxes.iter().map(|_| Vec::new()).collect();
        let takes_commands = !to.dispatch.state().disk.is_spent();
        for ShardMessage { shard, message } in messages {
            if !takes_commands && carries_commands(&message) {
                to.dispatch.counters().appends_dropped.add(1);
                continue;
            }
            // A peer may know of shards that do not live here.
            if let Some(state) = to.dispatch.shards().get(shard) {
                by_worker[state.worker].push((shard, message));
            }
        }
        for (inbox, messages) in to.inboxes.iter().zip(by_worker) {
            let count = messages.len() as u64;
            if count > 0 && !inbox.push_messages(from, messages) {
                to.dispatch.counters().messages_dropped.add(count);
            }
        }
    }

    fn handle_forwards(&self, from: NodeId, forwards: Vec<Forward>) {
        let Some(to) = self.targets() else {
            return;
        };
        let mut refused = Vec::new();
        for Forward { id, kind, payload } in forwards {
            match kind {
                ForwardKind::Reply => to.forwarder.handle_reply(from, id, &payload),
                ForwardKind::Request => {
                    if let Some(outcome) = take_request(&to, from, id, &payload) {
                        let payload = codec::encode_outcome(&outcome);
                        refused.push(Forward { id, kind: ForwardKind::Reply, payload });
                    }
                }
            }
        }
        if !refused.is_empty() {
            send_replies(&to.transport, from, refused);
        }
    }

    fn handle_snapshot_parts(&self, from: NodeId, parts: Vec<Bytes>) {
        let Some(to) = self.targets() else {
            return;
        };
        let (answers, parts): (Vec<_>, Vec<_>) = parts.into_iter().partition(|it| is_answer(it));
        let answers = answers.into_iter().map(|part| SendTask::Answer { from, part });
        to.queues.sent.push_within(limits::SNAPSHOT_TASKS_MAX, answers);
        let parts = parts.into_iter().map(|part| ReceiveTask::Part { from, part });
        to.queues.received.push_within(limits::SNAPSHOT_PARTS_WAITING_MAX, parts);
    }

    fn handle_connected(&self, peer: &PeerHello) {
        tracing::debug!(node = %peer.node, "peer connected");
        if let Some(to) = self.targets() {
            to.admission.handle_connected(peer);
            if to.dispatch.state().transfers.is_wanted() {
                to.queues.sent.push_all([SendTask::Connected(peer.node)]);
            }
        }
    }

    fn handle_identity_rejected(&self, peer: NodeId, reason: &str) {
        if let Some(to) = self.targets() {
            to.admission.handle_identity_rejected(peer, reason);
        }
    }

    fn handle_forked(&self, peer: NodeId, reason: &str) {
        if let Some(to) = self.targets() {
            to.admission.handle_forked(peer, reason);
        }
    }

    fn handle_disconnected(&self, peer: NodeId, reason: &str) {
        tracing::debug!(node = %peer, reason, "peer disconnected");
        if let Some(to) = self.targets() {
            to.admission.handle_disconnected(peer);
            to.forwarder.fail_all(peer);
        }
    }

    fn handle_task_died(&self, task: &str, reason: &str) {
        let (task, reason) = (format!("transport: {task}"), reason.to_owned());
        // Noted first: the targets may be set between a check and the note.
        *self.died.lock() = Some(FatalError::Task { task, reason });
        if let Some(to) = self.targets()
            && let Some(error) = self.died.lock().take()
        {
            to.fatal.latch(error);
        }
    }
}

/// True of an append with anything that callers have written. The entries that open a leader's term or
/// change members are few and small, and elections and changes depend on them.
fn carries_commands(message: &Message) -> bool {
    let Body::Append { runs, .. } = &message.body else {
        return false;
    };
    runs.iter().any(|run| run.entries().any(|entry| entry.kind == EntryKind::Command))
}

/// Starts a peer's request; returns its outcome if it ended at once.
fn take_request(to: &Targets, from: NodeId, id: u64, payload: &Bytes) -> Option<Outcome> {
    let request = match codec::decode_request(payload) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(node = %from, %error, "a forwarded request can't be read");
            return Some(Outcome::Malformed);
        }
    };
    let PeerRequest { kind, shard, descriptor_version, .. } = request;
    let submit = |kind: CallKind, progress: bool| {
        let completion = Completion::Remote { peer: from, id, progress };
        to.dispatch.submit(Call { shard, descriptor_version, kind, completion }).err()
    };
    match kind {
        RequestKind::Status => {
            let status = Arc::clone(&to.status);
            answer_later(to, "status for a peer", (from, id), async move {
                status.encoded_status().await.map_or(Outcome::Stopping, Outcome::Reply)
            });
            None
        }
        RequestKind::DataBytes => {
            let status = Arc::clone(&to.status);
            answer_later(to, "size of a shard for a peer", (from, id), async move {
                match status.data_bytes(shard).await {
                    Some(bytes) => Outcome::Reply(Bytes::copy_from_slice(&bytes.to_le_bytes())),
                    None => Outcome::Refused(HostRefusal::NoReplica),
                }
            });
            None
        }
        RequestKind::DiskRoom => {
            let state = to.dispatch.state();
            // A node that can't lead has no room for leaderships either.
            let is_fit = !to.dispatch.is_stopped() && !state.stalls.disk() && !state.stalls.apply();
            Some(codec::room_outcome(is_fit && state.disk.level() == DiskLevel::Roomy))
        }
        RequestKind::DiskSpent => Some(match codec::decode_spent(&request.body) {
            Ok(low) => {
                to.dispatch.state().spent_peers.note(clock::now(), from, low);
                Outcome::Reply(Bytes::new())
            }
            Err(error) => {
                tracing::warn!(node = %from, %error, "what a node says of its disk can't be read");
                Outcome::Malformed
            }
        }),
        RequestKind::Write | RequestKind::WriteWithProgress => {
            if check_command_size(&request.body).is_err() {
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
            let service = Arc::clone(&to.service);
            let writing = async move { service.relay_write(from, request).await };
            answer_later(to, "write for a peer", (from, id), writing);
            None
        }
        RequestKind::Read | RequestKind::RelayedRead => {
            let (asked, level) = match read_codec::decode_request(request.body.clone()) {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::warn!(node = %from, %error, "a forwarded read can't be read");
                    return Some(Outcome::Malformed);
                }
            };
            let Some(read) = to.service.admit(from, payload.len()) else {
                return Some(Outcome::Refused(HostRefusal::Busy));
            };
            let service = Arc::clone(&to.service);
            spawn_guarded(&to.fatal, "read for a peer", async move {
                service.serve_read(read, (id, request), (asked.within_frame(), level)).await;
            });
            None
        }
    }
}

/// Runs the request `id` of `peer` in a separate task, and sends its outcome.
fn answer_later(
    to: &Targets,
    task: &'static str,
    (peer, id): (NodeId, u64),
    work: impl Future<Output = Outcome> + Send + 'static,
) {
    let transport = Arc::clone(&to.transport);
    spawn_guarded(&to.fatal, task, async move {
        let payload = codec::encode_outcome(&work.await);
        send_replies(&transport, peer, vec![Forward { id, kind: ForwardKind::Reply, payload }]);
    });
}

#[cfg(test)]
mod tests {
    use quorate_raft::RunDraft;
    use quorate_types::{Index, LogId, ReplicaId, Term};

    use super::*;

    fn append(kinds: &[EntryKind]) -> Message {
        let runs = kinds.iter().zip(2..).map(|(kind, first)| {
            let mut draft = RunDraft::new();
            draft.push(*kind, &[b"payload"]);
            draft.seal(Term(1), Index(first))
        });
        let (previous, commit) = (LogId::new(Term(1), Index(1)), Index(1));
        let body = Body::Append { previous, runs: runs.collect(), commit };
        Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(1), body }
    }

    /// Goal: without room, a node still takes what elections and changes of members need, and nothing
    /// that callers write. Method: an append of each kind of entry.
    #[test]
    fn only_commands_take_room() {
        for (kinds, carries) in [
            (&[][..], false),
            (&[EntryKind::Blank], false),
            (&[EntryKind::Membership, EntryKind::Blank], false),
            (&[EntryKind::Command], true),
            (&[EntryKind::Blank, EntryKind::Command], true),
        ] {
            assert_eq!(carries_commands(&append(kinds)), carries, "{kinds:?}");
        }
        let heartbeat = Body::Heartbeat { commit: Index(1), round: 0 };
        assert!(!carries_commands(&Message { body: heartbeat, ..append(&[]) }));
    }
}
