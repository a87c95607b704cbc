//! Measures two transports of one process that talk over loopback: throughput of append messages
//! in batches, round trip of a single heartbeat, alone and beside a full snapshot lane, and the CPU
//! time of the whole process.
//!
//! `cargo run --release -p quorate-transport --example loopback`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use quorate_raft::{Body, EntryKind, Message, RunDraft};
use quorate_transport::{
    ClusterAuthority, Forward, PeerHello, Receiver, Rejection, ShardMessage, Transport,
    TransportConfig,
};
use quorate_types::{
    ClusterId, Incarnation, Index, LogId, NodeId, NodeInstance, ReplicaId, ShardId, StoreId, Term,
    WallMillis, limits,
};

const SHARDS: u64 = 48;
/// Messages in flight: a few turns of a worker.
const IN_FLIGHT: usize = 4_096;
const SECONDS: u64 = 3;

#[derive(Default)]
struct Counter {
    received: AtomicUsize,
    connected: Mutex<bool>,
    changed: Condvar,
    /// How long each frame of snapshot parts takes.
    part_takes: Mutex<Duration>,
}

impl Counter {
    fn wait_until(&self, count: usize) {
        let mut guard = self.connected.lock();
        while self.received.load(Ordering::Acquire) < count {
            self.changed.wait_for(&mut guard, Duration::from_millis(100));
        }
    }

    fn add(&self, count: usize) {
        self.received.fetch_add(count, Ordering::Release);
        drop(self.connected.lock());
        self.changed.notify_all();
    }
}

impl Receiver for Counter {
    fn admit(&self, _hello: &PeerHello) -> Result<(), Rejection> {
        Ok(())
    }

    fn handle_messages(&self, _from: NodeId, messages: Vec<ShardMessage>) {
        self.add(messages.len());
    }

    fn handle_forwards(&self, _from: NodeId, forwards: Vec<Forward>) {
        self.add(forwards.len());
    }

    fn handle_snapshot_parts(&self, _from: NodeId, _parts: Vec<Bytes>) {
        let takes = *self.part_takes.lock();
        if !takes.is_zero() {
            std::thread::sleep(takes);
        }
    }

    fn handle_datagram(&self, _from: NodeId, _datagram: Bytes) {
        self.add(1);
    }

    fn handle_connected(&self, _peer: &PeerHello) {
        *self.connected.lock() = true;
        self.changed.notify_all();
    }

    fn handle_disconnected(&self, _peer: NodeId, reason: &str) {
        eprintln!("disconnected: {reason}");
    }
}

struct Pair {
    one: Transport,
    two: Transport,
    at_one: Arc<Counter>,
    at_two: Arc<Counter>,
}

impl Pair {
    fn start(runtime: &tokio::runtime::Handle) -> Pair {
        let cluster = ClusterId(1);
        let authority = ClusterAuthority::generate(cluster).expect("an authority");
        let start = |node: u64, counter: &Arc<Counter>| {
            let config = TransportConfig {
                cluster,
                node: NodeId(node),
                instance: NodeInstance {
                    store: StoreId(node.into()),
                    incarnation: Incarnation(1),
                    nonce: node,
                },
                wall_clock: Arc::new(|| WallMillis(0)),
                first_map: 0,
                listen: ([127, 0, 0, 1], 0).into(),
                peers: BTreeMap::new(),
                tls: authority.issue(NodeId(node)).expect("a certificate"),
            };
            let bound = Transport::bind(config).expect("a free port");
            Transport::start(bound, runtime, counter.clone()).expect("a runtime with I/O")
        };
        let (at_one, at_two) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let (one, two) = (start(1, &at_one), start(2, &at_two));
        one.set_peer(NodeId(2), two.local_address());
        for counter in [&at_one, &at_two] {
            let mut connected = counter.connected.lock();
            while !*connected {
                counter.changed.wait(&mut connected);
            }
        }
        Pair { one, two, at_one, at_two }
    }

    /// Sends appends of one run each, a batch per "turn", at most [`IN_FLIGHT`] unconfirmed.
    fn throughput(&self, entries: usize, bytes: usize, batch: usize) {
        let messages: Vec<_> = (0..batch as u64).map(|at| append(at, entries, bytes)).collect();
        let in_flight = IN_FLIGHT.min((16 << 20) / (entries * bytes)).max(batch * 2);
        let before = self.one.statistics().peers[&NodeId(2)].clone();
        let (cpu, started) = (cpu_seconds(), Instant::now());
        let first = self.at_two.received.load(Ordering::Acquire);
        let mut sent = 0;
        while started.elapsed() < Duration::from_secs(SECONDS) {
            self.one.send_messages(NodeId(2), messages.clone());
            sent += batch;
            self.at_two.wait_until((first + sent).saturating_sub(in_flight));
        }
        self.at_two.wait_until(first + sent);
        let seconds = started.elapsed().as_secs_f64();
        let cpu = cpu_seconds() - cpu;
        let after = self.one.statistics().peers[&NodeId(2)].clone();
        let payload = (sent * entries * bytes) as f64;
        let udp = (after.udp_bytes_sent - before.udp_bytes_sent) as f64;
        println!(
            "append {entries:>4} x {bytes:>4} B, turns of {batch:>3}: {:>8.0} messages/s, {:>9.0} \
             entries/s, {:>6.1} MB/s, {:.2} CPU us/message, {:.2} CPU s/GB, {:.1} messages/frame, \
             {:.2} UDP bytes/payload byte, {} lost",
            sent as f64 / seconds,
            (sent * entries) as f64 / seconds,
            payload / seconds / 1e6,
            cpu / sent as f64 * 1e6,
            cpu / payload * 1e9,
            sent as f64 / (after.frames_sent - before.frames_sent) as f64,
            udp / payload,
            after.packets_lost - before.packets_lost,
        );
    }

    /// The round trip of a heartbeat while the snapshot lane is kept full, and each part takes its
    /// receiver so long.
    fn round_trip_beside_snapshots(&self, part_takes: Duration) {
        *self.at_two.part_takes.lock() = part_takes;
        let part = Bytes::from(vec![7; limits::SNAPSHOT_CHUNK_BYTES_MAX]);
        let received = || self.two.statistics().peers[&NodeId(1)].snapshot_bytes_received;
        let (before, started) = (received(), Instant::now());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if self.one.send_snapshot_part(NodeId(2), part.clone()).is_err() {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                }
            });
            self.round_trip(false);
            done.store(true, Ordering::Relaxed);
        });
        let rate = (received() - before) as f64 / started.elapsed().as_secs_f64();
        println!("  beside snapshots at {:.0} MB/s, {part_takes:?} a part", rate / 1e6);
    }

    /// One heartbeat there, one back, again and again.
    fn round_trip(&self, datagram: bool) {
        let mut micros = Vec::new();
        let ends = [(&self.one, NodeId(2), &self.at_two), (&self.two, NodeId(1), &self.at_one)];
        for _ in 0..5_000 {
            let started = Instant::now();
            for (transport, to, at) in ends {
                let count = at.received.load(Ordering::Acquire);
                if datagram {
                    let alive = Bytes::from_static(b"alive");
                    transport.send_datagram(to, alive).expect("connected");
                } else {
                    transport.send_messages(to, vec![heartbeat()]);
                }
                at.wait_until(count + 1);
            }
            micros.push(started.elapsed().as_secs_f64() * 1e6);
        }
        micros.sort_by(f64::total_cmp);
        let at = |share: f64| micros[(micros.len() as f64 * share) as usize];
        let what = if datagram { "datagram" } else { "heartbeat" };
        println!("round trip of a {what}: p50 {:.0} us, p99 {:.0} us", at(0.5), at(0.99));
    }
}

fn shard_message(shard: u64, body: Body) -> ShardMessage {
    let message = Message { from: ReplicaId(1), to: ReplicaId(2), term: Term(1), body };
    ShardMessage { shard: ShardId(shard % SHARDS), message }
}

fn heartbeat() -> ShardMessage {
    shard_message(0, Body::Heartbeat { commit: Index(1), round: 0 })
}

fn append(shard: u64, entries: usize, bytes: usize) -> ShardMessage {
    let mut draft = RunDraft::new();
    (0..entries).for_each(|_| draft.push(EntryKind::Command, &[&vec![7; bytes]]));
    let runs = vec![draft.seal(Term(1), Index(2))];
    let previous = LogId::new(Term(1), Index(1));
    shard_message(shard, Body::Append { previous, runs, commit: Index(1) })
}

/// User and system time of this process, from the system's own account of 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    (ticks(11).unwrap_or(f64::NAN) + ticks(12).unwrap_or(f64::NAN)) / 100.0
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let pair = Pair::start(runtime.handle());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("loopback, mutual TLS, {cores} cores, one direction, {SHARDS} shards");
    pair.round_trip(false);
    pair.round_trip(true);
    for part_takes in [Duration::ZERO, Duration::from_millis(20)] {
        pair.round_trip_beside_snapshots(part_takes);
    }
    for (entries, bytes, batch) in
        [(1, 64, 1), (1, 64, 48), (8, 64, 48), (64, 64, 48), (16, 1024, 48), (256, 1024, 16)]
    {
        pair.throughput(entries, bytes, batch);
    }
    let statistics = pair.one.statistics().peers[&NodeId(2)].clone();
    println!("datagrams of up to {} bytes", statistics.mtu_bytes.unwrap_or(0));
    pair.one.shutdown_blocking();
    pair.two.shutdown_blocking();
}
