//! The leader of most shards is paused, and continues as if nothing had happened.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::NodeId;
use quorate_tests::process::{AnyPort, Client, ProcessCluster, Recorder, busiest_leader};
use quorate_types::SplitMix64;
use tokio::task::JoinHandle;

use crate::{CLUSTER, chaos, random, turn};

const PAUSE: Duration = Duration::from_secs(10);
/// How long a client waits: long enough for the answer of a node that slept.
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENTS_PER_PORT: usize = 4;
const KEYS: u64 = 20;
const THINK: Duration = Duration::from_millis(3);
/// Pause between two readers that come while the node sleeps.
const LATE: Duration = Duration::from_millis(50);

/// Goal: a leader that slept while it was deposed answers nothing that is out of date, and loses no
/// write. Method: clients of every port; while the leader sleeps, readers connect to it (the system
/// takes the connections on its behalf), and it finds their requests when it wakes up, after others
/// have led and taken writes. The checker looks for one order of everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_gives_no_stale_answer() {
    let _turn = turn();
    let mut random = random();
    let cluster = ProcessCluster::start(CLUSTER).await;
    let recorder = Recorder::default();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = start_clients(&cluster, &recorder, &stop, &mut random);

    let ends = Instant::now() + chaos(Duration::ZERO);
    loop {
        put_to_sleep(&cluster, &recorder, &mut random).await;
        if Instant::now() >= ends {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client does not panic");
    }
    println!("{}", recorder.figures());
    recorder.assert_linearizable();
}

/// Pauses the leader of most shards, sends readers to it meanwhile, resumes it, and waits until
/// they are answered.
async fn put_to_sleep(cluster: &ProcessCluster, recorder: &Recorder, random: &mut SplitMix64) {
    let status = cluster.wait_led(NodeId(1)).await;
    let (sleeper, led) = busiest_leader(&status).expect("somebody leads");
    cluster.process(sleeper).pause();
    let writes_before = recorder.figures().writes;
    let began = Instant::now();
    let mut late = Vec::new();
    while began.elapsed() < PAUSE {
        let id = 1_000 + late.len() as u64;
        let server = cluster.addresses(sleeper).redis;
        late.push(tokio::spawn(read_once(id, server, recorder.clone(), key(random))));
        tokio::time::sleep(LATE).await;
    }
    let meanwhile = recorder.figures().writes - writes_before;
    cluster.process(sleeper).resume();
    let waited = late.len();
    let mut answered = 0;
    for reader in late {
        answered += usize::from(reader.await.expect("a reader does not panic"));
    }
    println!(
        "node {sleeper}, leader of {led}, slept {PAUSE:?}; {meanwhile} writes meanwhile; {waited} \
         readers waited for it, {answered} were answered"
    );
    assert!(meanwhile > 100, "the others led and took writes");
    // The others were told CLUSTERDOWN: the node knew that it no longer leads, but not yet who
    // does.
    assert!(answered > 0, "the readers that waited are those that could be deceived");
}

fn start_clients(
    cluster: &ProcessCluster,
    recorder: &Recorder,
    stop: &Arc<AtomicBool>,
    random: &mut SplitMix64,
) -> Vec<JoinHandle<()>> {
    let servers = cluster.redis().into_iter().flat_map(|port| [port; CLIENTS_PER_PORT]);
    let start = |(id, server): (u64, SocketAddr)| {
        let client = Client::Redis(AnyPort::new(&[server], 0, PATIENCE));
        let random = SplitMix64::new(random.bits());
        tokio::spawn(run_client(id, client, recorder.clone(), stop.clone(), random))
    };
    (0..).zip(servers).map(start).collect()
}

async fn run_client(
    id: u64,
    mut client: Client,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    mut random: SplitMix64,
) {
    while !stop.load(Ordering::Relaxed) {
        let key = key(&mut random);
        if random.below(2) == 0 {
            recorder.set(id, &mut client, key).await;
        } else {
            recorder.get(id, &mut client, key).await;
        }
        tokio::time::sleep(THINK).await;
    }
}

async fn read_once(id: u64, server: SocketAddr, recorder: Recorder, key: Bytes) -> bool {
    let mut client = Client::Redis(AnyPort::new(&[server], 0, PATIENCE));
    recorder.get(id, &mut client, key).await
}

fn key(random: &mut SplitMix64) -> Bytes {
    Bytes::from(format!("key-{}", random.below(KEYS)))
}
