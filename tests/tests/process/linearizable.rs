//! One history of clients of every port and of an engine, through kills and restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::{Engine, NodeId};
use quorate_tests::process::{AnyPort, Client, ProcessCluster, ProcessSpec, READY, Recorder};
use quorate_types::SplitMix64;
use tokio::task::JoinHandle;

use crate::{CLUSTER, chaos, random, turn};

const REDIS_CLIENTS: u64 = 9;
const ENGINE_CLIENTS: u64 = 3;
const KEYS: u64 = 20;
/// How long a client waits before it asks another node: shorter than an election takes, so that
/// outcomes become unknown.
const PATIENCE: Duration = Duration::from_millis(800);
/// Pause between two operations of one client: it leaves the cores to the nodes, and a shorter
/// history is checked sooner.
const THINK: Duration = Duration::from_millis(3);
const SHORT: Duration = Duration::from_secs(15);

/// Goal: whatever happens to the nodes, clients of all of them see one store. Method: reads and
/// writes of few keys over every Redis port and by the engine of a node without replicas, while one
/// node, two or all are killed and started again; the checker looks for one order of everything.
#[tokio::test(flavor = "multi_thread")]
async fn one_order_explains_what_all_clients_saw() {
    let _turn = turn();
    let mut random = random();
    let mut cluster = ProcessCluster::start(ProcessSpec { has_guest: true, ..CLUSTER }).await;
    let engine = cluster.guest().open().expect("a new directory");
    engine.wait_ready(READY).await.expect("a node without replicas has nothing to wait for");

    let recorder = Recorder::default();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = start_clients(&cluster, &engine, &recorder, &stop, &mut random);
    let ends = Instant::now() + chaos(SHORT);
    let mut kills = 0;
    while Instant::now() < ends {
        let victims = draw_victims(&mut random);
        kills += victims.len();
        wait_for_operations(&recorder, 200 + random.below(1_000)).await;
        victims.iter().for_each(|node| cluster.kill(*node));
        // With a majority left the others continue for a while; else there is nothing to wait for.
        if victims.len() == 1 {
            wait_for_operations(&recorder, 50 + random.below(1_000)).await;
        }
        cluster.start_nodes(&victims).await;
    }
    cluster.wait_led(NodeId(1)).await;
    wait_for_operations(&recorder, 1_000).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client does not panic");
    }
    engine.shutdown().await;

    let began = Instant::now();
    println!("{kills} kills; {}", recorder.figures());
    recorder.assert_linearizable();
    println!("checked in {:?}", began.elapsed());
}

fn start_clients(
    cluster: &ProcessCluster,
    engine: &Engine,
    recorder: &Recorder,
    stop: &Arc<AtomicBool>,
    random: &mut SplitMix64,
) -> Vec<JoinHandle<()>> {
    let start = |id: u64, seed: u64| {
        let client = match usize::try_from(id).expect("small") {
            place if id < REDIS_CLIENTS => {
                Client::Redis(AnyPort::new(&cluster.redis(), place, PATIENCE))
            }
            _ => Client::Engine(engine.clone()),
        };
        tokio::spawn(run_client(id, client, recorder.clone(), stop.clone(), SplitMix64::new(seed)))
    };
    (0..REDIS_CLIENTS + ENGINE_CLIENTS).map(|id| start(id, random.bits())).collect()
}

async fn run_client(
    id: u64,
    mut client: Client,
    recorder: Recorder,
    stop: Arc<AtomicBool>,
    mut random: SplitMix64,
) {
    while !stop.load(Ordering::Relaxed) {
        let key = Bytes::from(format!("key-{}", random.below(KEYS)));
        if random.below(2) == 0 {
            recorder.set(id, &mut client, key).await;
        } else {
            recorder.get(id, &mut client, key).await;
        }
        tokio::time::sleep(THINK).await;
    }
}

/// Mostly one node, sometimes two, seldom all.
fn draw_victims(random: &mut SplitMix64) -> Vec<NodeId> {
    let mut victims = ProcessCluster::NODES.to_vec();
    let keep = match random.below(6) {
        0 => 3,
        1 => 2,
        _ => 1,
    };
    while victims.len() > keep {
        let place = random.below(victims.len() as u64);
        victims.remove(usize::try_from(place).expect("small"));
    }
    victims
}

async fn wait_for_operations(recorder: &Recorder, more: u64) {
    let count = || {
        let figures = recorder.figures();
        figures.reads + figures.writes
    };
    let aim = count() + more;
    quorate_tests::process::until("clients go on", READY, async || {
        let now = count();
        if now >= aim { Ok(()) } else { Err(format!("{now} of {aim} operations")) }
    })
    .await;
}
