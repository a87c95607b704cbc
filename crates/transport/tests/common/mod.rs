//! Nodes that record what reaches them. Waiting is on channels; the timeout only bounds failure.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_raft::{Body, EntryKind, Message, RunDraft};
use quorate_transport::{
    ClusterAuthority, Forward, NodeTls, PeerHello, Receiver, Rejection, ShardMessage, Transport,
    TransportConfig,
};
use quorate_types::{
    ClusterId, Incarnation, Index, LogId, NodeId, NodeInstance, ReplicaId, ShardId, StoreId, Term,
    WallMillis,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

pub(crate) const CLUSTER: ClusterId = ClusterId(0xC1);
/// The only start of every node here, and what its process drew.
pub(crate) const LIFE_START: (Incarnation, u64) = (Incarnation(1), 5);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) enum Event {
    Messages(NodeId, Vec<ShardMessage>),
    Forwards(NodeId, Vec<Forward>),
    /// Recorded once they are taken.
    SnapshotParts(NodeId, Vec<Bytes>),
    Connected(PeerHello),
    Disconnected(NodeId, String),
    Datagram(NodeId, Bytes),
    Refused(Option<NodeId>, String),
    IdentityRejected(NodeId, String),
    Forked(NodeId, String),
}

pub(crate) struct Recorder {
    events: mpsc::UnboundedSender<Event>,
    /// The answer to every peer that asks to be admitted.
    pub(crate) refusal: Mutex<Option<Rejection>>,
    /// The start that every peer is asked for.
    pub(crate) remembered: Mutex<Option<Incarnation>>,
    /// The next admission tells the first that it has begun, and waits for the second.
    pub(crate) hold: Mutex<Option<(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>)>>,
    /// Each word lets one frame of snapshot parts through; once the sender is gone, all pass.
    snapshot_gate: Mutex<Option<std::sync::mpsc::Receiver<()>>>,
}

impl Recorder {
    fn record(&self, event: Event) {
        // A test that has seen enough may have dropped its end.
        let _ended = self.events.send(event);
    }
}

impl Receiver for Recorder {
    fn remembered(&self, _peer: NodeId) -> Option<Incarnation> {
        *self.remembered.lock()
    }

    fn start_nonce(&self, start: Incarnation) -> Result<Option<u64>, Rejection> {
        Ok((start == LIFE_START.0).then_some(LIFE_START.1))
    }

    fn admit(&self, hello: &PeerHello) -> Result<(), Rejection> {
        if hello.has_rival {
            return Err(Rejection::NotNow("another process lives".to_owned()));
        }
        let hold = self.hold.lock().take();
        if let Some((begun, release)) = hold {
            begun.send(()).expect("the test waits");
            release.recv().expect("the test goes on");
        }
        self.refusal.lock().clone().map_or(Ok(()), Err)
    }

    fn handle_messages(&self, from: NodeId, messages: Vec<ShardMessage>) {
        self.record(Event::Messages(from, messages));
    }

    fn handle_forwards(&self, from: NodeId, forwards: Vec<Forward>) {
        self.record(Event::Forwards(from, forwards));
    }

    fn handle_snapshot_parts(&self, from: NodeId, parts: Vec<Bytes>) {
        if let Some(gate) = &*self.snapshot_gate.lock() {
            // A failing test must not hang with the thread that waits here.
            let waited = gate.recv_timeout(PATIENCE);
            assert_ne!(waited, Err(RecvTimeoutError::Timeout), "the gate stays closed");
        }
        self.record(Event::SnapshotParts(from, parts));
    }

    fn handle_connected(&self, peer: &PeerHello) {
        self.record(Event::Connected(peer.clone()));
    }

    fn handle_disconnected(&self, peer: NodeId, reason: &str) {
        self.record(Event::Disconnected(peer, reason.to_owned()));
    }

    fn handle_datagram(&self, from: NodeId, datagram: Bytes) {
        self.record(Event::Datagram(from, datagram));
    }

    fn handle_refused(&self, peer: Option<NodeId>, reason: &str) {
        self.record(Event::Refused(peer, reason.to_owned()));
    }

    fn handle_identity_rejected(&self, peer: NodeId, reason: &str) {
        self.record(Event::IdentityRejected(peer, reason.to_owned()));
    }

    fn handle_forked(&self, peer: NodeId, reason: &str) {
        self.record(Event::Forked(peer, reason.to_owned()));
    }
}

pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) recorder: Arc<Recorder>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Node {
    /// Starts `tls`'s node on a port that the system chooses.
    pub(crate) fn start(tls: &NodeTls) -> Node {
        Node::start_at(tls, ([127, 0, 0, 1], 0).into(), None)
    }

    pub(crate) fn start_at(tls: &NodeTls, listen: SocketAddr, refusal: Option<Rejection>) -> Node {
        Node::start_instance(tls, listen, refusal, life_of(tls.node()))
    }

    /// As [`Node::start`], of another start of the node.
    pub(crate) fn start_as(tls: &NodeTls, instance: NodeInstance) -> Node {
        Node::start_instance(tls, ([127, 0, 0, 1], 0).into(), None, instance)
    }

    fn start_instance(
        tls: &NodeTls,
        listen: SocketAddr,
        refusal: Option<Rejection>,
        instance: NodeInstance,
    ) -> Node {
        let (node, cluster) = (tls.node(), tls.cluster());
        let config = TransportConfig {
            cluster,
            node,
            instance,
            wall_clock: Arc::new(|| WallMillis(77)),
            first_map: 0,
            listen,
            peers: BTreeMap::new(),
            tls: tls.clone(),
        };
        let (sender, events) = mpsc::unbounded_channel();
        let refusal = Mutex::new(refusal);
        let recorder = Arc::new(Recorder {
            events: sender,
            refusal,
            remembered: Mutex::default(),
            hold: Mutex::default(),
            snapshot_gate: Mutex::default(),
        });
        let bound = Transport::bind(config).unwrap();
        let transport = Transport::start(bound, &Handle::current(), recorder.clone()).unwrap();
        Node { transport, recorder, events }
    }

    /// Starts at an address that a dying process may still hold.
    pub(crate) async fn start_when_free(tls: &NodeTls, listen: SocketAddr) -> Node {
        let free = async {
            while std::net::UdpSocket::bind(listen).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.expect("the port is given back");
        Node::start_at(tls, listen, None)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_address()
    }

    /// The first event that `choose` accepts; others before it are dropped.
    pub(crate) async fn expect<T>(&mut self, choose: impl Fn(Event) -> Option<T>) -> T {
        let chosen = async {
            loop {
                let event = self.events.recv().await.expect("the recorder lives");
                if let Some(chosen) = choose(event) {
                    return chosen;
                }
            }
        };
        tokio::time::timeout(PATIENCE, chosen).await.expect("the event came in time")
    }

    pub(crate) async fn expect_connected(&mut self, node: NodeId) -> PeerHello {
        self.expect(|event| match event {
            Event::Connected(hello) if hello.node == node => Some(hello),
            _ => None,
        })
        .await
    }

    pub(crate) async fn expect_disconnected(&mut self, node: NodeId) -> String {
        self.expect(|event| match event {
            Event::Disconnected(from, reason) if from == node => Some(reason),
            _ => None,
        })
        .await
    }

    pub(crate) async fn expect_refused(&mut self) -> (Option<NodeId>, String) {
        self.expect(|event| match event {
            Event::Refused(peer, reason) => Some((peer, reason)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn expect_identity_rejected(&mut self) -> (NodeId, String) {
        self.expect(|event| match event {
            Event::IdentityRejected(peer, reason) => Some((peer, reason)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn expect_forked(&mut self) -> (NodeId, String) {
        self.expect(|event| match event {
            Event::Forked(peer, reason) => Some((peer, reason)),
            _ => None,
        })
        .await
    }

    pub(crate) async fn expect_forwards(&mut self) -> Vec<Forward> {
        self.expect(|event| match event {
            Event::Forwards(_, forwards) => Some(forwards),
            _ => None,
        })
        .await
    }

    /// Makes this node's application wait with each frame of snapshot parts for a word of the result, and
    /// with none once that is dropped.
    pub(crate) fn hold_snapshot_parts(&self) -> std::sync::mpsc::Sender<()> {
        let (opens, gate) = std::sync::mpsc::channel();
        *self.recorder.snapshot_gate.lock() = Some(gate);
        opens
    }

    /// Snapshot parts of `from` until there are `count`.
    pub(crate) async fn expect_snapshot_parts(&mut self, from: NodeId, count: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.expect(|event| match event {
                Event::SnapshotParts(sender, parts) if sender == from => Some(parts),
                _ => None,
            });
            all.extend(more.await);
        }
        all
    }

    /// Messages of `from` until there are `count`.
    pub(crate) async fn expect_messages(
        &mut self,
        from: NodeId,
        count: usize,
    ) -> Vec<ShardMessage> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.expect(|event| match event {
                Event::Messages(sender, messages) if sender == from => Some(messages),
                _ => None,
            });
            all.extend(more.await);
        }
        all
    }
}

fn life_of(node: NodeId) -> NodeInstance {
    let (incarnation, nonce) = LIFE_START;
    NodeInstance { store: StoreId(u128::from(node.0)), incarnation, nonce }
}

pub(crate) fn authority() -> ClusterAuthority {
    ClusterAuthority::generate(CLUSTER).unwrap()
}

/// Certificates of nodes 1 to `count` of one cluster.
pub(crate) fn identities(count: u64) -> Vec<NodeTls> {
    let authority = authority();
    (1..=count).map(|node| authority.issue(NodeId(node)).unwrap()).collect()
}

/// Starts nodes 1 to `count` and waits until each is connected to each.
pub(crate) async fn cluster(count: u64) -> Vec<Node> {
    let mut nodes: Vec<Node> = identities(count).iter().map(Node::start).collect();
    let addresses: Vec<_> = nodes.iter().map(Node::address).collect();
    for node in &nodes {
        for (peer, address) in (1..).zip(&addresses) {
            node.transport.set_peer(NodeId(peer), *address);
        }
    }
    for (own, node) in (1..).zip(&mut nodes) {
        let mut missing: Vec<_> = (1..=count).filter(|&peer| peer != own).collect();
        while !missing.is_empty() {
            let hello = node.expect(|event| match event {
                Event::Connected(hello) => Some(hello),
                _ => None,
            });
            let hello = hello.await;
            missing.retain(|&peer| peer != hello.node.0);
        }
    }
    nodes
}

pub(crate) fn message(shard: u64, body: Body) -> ShardMessage {
    let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(3), body };
    ShardMessage { shard: ShardId(shard), message }
}

pub(crate) fn heartbeat(shard: u64) -> ShardMessage {
    message(shard, Body::Heartbeat { commit: Index(1), round: 0 })
}

/// An append of `entries` payloads of `bytes` bytes, after index `previous`.
pub(crate) fn append(shard: u64, previous: u64, entries: usize, bytes: usize) -> ShardMessage {
    let mut draft = RunDraft::new();
    for entry in 0..entries {
        draft.push(EntryKind::Command, &[&vec![entry as u8; bytes]]);
    }
    let runs = vec![draft.seal(Term(3), Index(previous + 1))];
    let previous = LogId::new(Term(2), Index(previous));
    message(shard, Body::Append { previous, runs, commit: Index(1) })
}
