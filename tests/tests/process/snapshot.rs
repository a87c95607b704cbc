//! A node that was away until the others' logs began later than its own ends.

use std::time::{Duration, Instant};

use quorate::NodeId;
use quorate_tests::link::Link;
use quorate_tests::process::{
    Overwrites, ProcessCluster, ProcessSpec, READY, VALUE_BYTES, assert_filled, fill, http_get,
    numbered_key, until,
};
use serde_json::Value;

use crate::{PROGRAM, environment, turn};

/// One shard, so that there is one snapshot.
const SPEC: ProcessSpec = ProcessSpec { program: PROGRAM, shards: 1, has_guest: false };
const AWAY: NodeId = NodeId(3);
const OTHERS: [NodeId; 2] = [NodeId(1), NodeId(2)];
/// MiB of data unless the environment sets it; chosen for a CI of two cores.
const DATA_MIB: u64 = 60;
const WRITERS: usize = 4;
const KEYS_PER_WRITER: u64 = 200;
/// How often the connections are cut on the way.
const CUTS: u64 = 5;
/// Bytes of one part; see `SNAPSHOT_CHUNK_BYTES_MAX`.
const CHUNK_BYTES: u64 = 2 << 20;
/// A connection ends after five seconds of silence.
const NOTICED: Duration = Duration::from_secs(40);
/// Longest wait for a snapshot, or a part of one.
const ARRIVAL: Duration = Duration::from_secs(600);
const ANSWER: Duration = Duration::from_secs(5);

/// Goal: a node that was away until its log was purged catches up by one snapshot while load goes
/// on; five broken connections on the way cost no more than the parts that were under way, and the
/// node then has exactly what was acknowledged. Method: its datagrams pass through the test's own
/// sockets, which stop after a sixth of the data each. How long the load's writes take is printed
/// with and without the snapshot; with more data than usual, 99 of 100 must take at most half as long
/// again with it.
///
/// `QUORATE_SNAPSHOT_MIB` sets how much data there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_on_over_broken_connections() {
    let _turn = turn();
    let data_mib = environment("QUORATE_SNAPSHOT_MIB").unwrap_or(DATA_MIB);
    let kept_mib = (data_mib / 8).clamp(1, 128);
    let writes = if data_mib > DATA_MIB { 10_000 } else { 1_500 };
    let (mut cluster, links) = linked_cluster(kept_mib).await;
    cluster.start_nodes(&ProcessCluster::NODES).await;
    let servers = cluster.redis_without(AWAY);
    let keys = (data_mib << 20) / VALUE_BYTES as u64;
    let bulk = keys - WRITERS as u64 * KEYS_PER_WRITER;
    fill(&cluster.redis(), (0, keys), 0).await;
    cluster.wait_caught_up(NodeId(1)).await;

    let load = Overwrites::start(&servers, WRITERS, bulk, KEYS_PER_WRITER);
    load.flow(writes, ARRIVAL).await;
    cluster.stop(AWAY, READY).await;
    load.next_phase();
    fill(&servers, (0, bulk), 1).await;
    load.next_phase();
    load.flow(writes, ARRIVAL).await;

    load.next_phase();
    let began = Instant::now();
    let link_bytes = (data_mib << 20) / (CUTS + 1);
    links.iter().for_each(|link| link.cut_after(link_bytes));
    cluster.spawn(AWAY);
    let mut arrived = 0;
    for round in 1..=CUTS {
        let now = cut(&cluster, &links).await;
        println!("cut {round}, {:?} after the start: {now} bytes have arrived", began.elapsed());
        assert!(now > arrived, "nothing has arrived since the last cut");
        arrived = now;
        if round < CUTS {
            links.iter().for_each(|link| link.cut_after(link_bytes));
        }
    }
    links.iter().for_each(Link::mend);
    until("the snapshot is in force", ARRIVAL, async || {
        match counter(&cluster, AWAY, "snapshots_received").await? {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    println!("in force {:?} after the start", began.elapsed());
    load.next_phase();
    load.flow(writes, ARRIVAL).await;
    let (versions, took) = load.stop().await;
    let phases = ["all up", "away, filling", "away", "snapshot", "caught up"];
    for (name, took) in phases.iter().zip(&took) {
        println!("{name}: {} writes, {}", took.len(), percentiles(took));
    }
    // Few writes over a moment show nothing, and a test among others shares its cores.
    if data_mib > DATA_MIB {
        let (without, with) = (percentile(&took[0], 99), percentile(&took[3], 99));
        assert!(with * 2 <= without * 3, "p99 {with} us with the snapshot, {without} us without");
    }
    cluster.wait_caught_up(NodeId(1)).await;

    let received = counter(&cluster, AWAY, "snapshot_bytes_received").await.expect("it is up");
    let pair_bytes = numbered_key(0).len() + 2 + VALUE_BYTES + 8;
    let data = keys * pair_bytes as u64;
    println!("{data} bytes of data, {received} bytes received");
    assert!(received >= data, "all of it is needed");
    assert!(received <= data + CUTS * CHUNK_BYTES, "{received}: it began again");
    let is_one = counter(&cluster, AWAY, "snapshots_received").await;
    assert_eq!(is_one, Ok(1), "one is enough");
    let mut all = vec![1; usize::try_from(bulk).expect("few")];
    all.extend(versions);
    assert_filled(cluster.addresses(AWAY).redis, 0, &all).await;
}

/// Three nodes that are not started. What the third one sends and receives passes two links.
async fn linked_cluster(kept_mib: u64) -> (ProcessCluster, Vec<Link>) {
    let cluster = ProcessCluster::prepare(SPEC);
    let mut links = Vec::new();
    let mut away = cluster.configuration(AWAY);
    for node in OTHERS {
        let (here, there) = (cluster.addresses(node).address, cluster.addresses(AWAY).address);
        let link = Link::between(here, there).await;
        let mut configuration = cluster.configuration(node);
        configuration.log_kept_mib = Some(kept_mib);
        let entry = configuration.nodes.iter_mut().find(|(id, _)| *id == AWAY);
        entry.expect("one of the cluster").1.address = link.second();
        configuration.write(&cluster.configuration_path(node));
        let entry = away.nodes.iter_mut().find(|(id, _)| *id == node);
        entry.expect("one of the cluster").1.address = link.first();
        links.push(link);
    }
    away.log_kept_mib = Some(kept_mib);
    away.write(&cluster.configuration_path(AWAY));
    (cluster, links)
}

/// Waits until a link has carried what it may, cuts the other one too, and waits until no
/// connection is left. Returns how many bytes have arrived.
async fn cut(cluster: &ProcessCluster, links: &[Link]) -> u64 {
    until("a link has carried its part", ARRIVAL, async || {
        if links.iter().any(Link::is_cut) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    links.iter().for_each(Link::cut);
    until("no connection is left", NOTICED, async || {
        let status = status(cluster, AWAY).await?;
        let peers = status["peers"].as_array().ok_or("no peers")?;
        match peers.iter().any(|peer| peer["connected"] == true) {
            true => Err(status["peers"].to_string()),
            false => Ok(()),
        }
    })
    .await;
    assert_eq!(counter(cluster, AWAY, "snapshots_received").await, Ok(0), "it is on the way");
    counter(cluster, AWAY, "snapshot_bytes_received").await.expect("it is up")
}

async fn status(cluster: &ProcessCluster, node: NodeId) -> Result<Value, String> {
    let reply = http_get(cluster.addresses(node).admin, "/status", ANSWER).await;
    let reply = reply.map_err(|error| error.to_string())?;
    serde_json::from_str(&reply.body).map_err(|error| error.to_string())
}

async fn counter(cluster: &ProcessCluster, node: NodeId, name: &str) -> Result<u64, String> {
    let status = status(cluster, node).await?;
    status["counters"][name].as_u64().ok_or_else(|| format!("no {name}: {status}"))
}

/// Of times in ascending order.
fn percentiles(took_us: &[u64]) -> String {
    let max = took_us.last().copied().unwrap_or(0);
    let (p50, p99) = (percentile(took_us, 50), percentile(took_us, 99));
    format!("p50 {p50} us, p99 {p99} us, max {max} us")
}

fn percentile(took_us: &[u64], percent: usize) -> u64 {
    took_us.get(took_us.len() * percent / 100).copied().unwrap_or(0)
}
