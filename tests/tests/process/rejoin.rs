//! A node that comes back while the others work.

use std::time::{Duration, Instant};

use quorate::{Health, NodeId};
use quorate_tests::process::{Overwrites, ProcessCluster, READY, assert_filled, fill, until};

use crate::{CLUSTER, environment, turn};

const AWAY: NodeId = NodeId(3);
const OBSERVER: NodeId = NodeId(1);
/// How long the node is away unless the environment sets it.
const AWAY_SECONDS: u64 = 600;
/// How long throughput is measured before the node leaves, before it returns, and after it has
/// caught up.
const MEASURED: Duration = Duration::from_secs(60);
const WRITERS: usize = 24;
const KEYS_PER_WRITER: u64 = 1_000;
/// What one figure of throughput is taken over.
const WINDOW: Duration = Duration::from_secs(5);
const CATCH_UP: Duration = Duration::from_secs(300);

/// Goal: a node that returns after ten minutes, far behind, catches up while the others' load goes on,
/// and costs them at most half of their throughput at any time. Method: acknowledged writes in windows
/// of five seconds, from before the start of the node until a minute after the cluster is healthy
/// again, against the median of the minute before the start.
///
/// `QUORATE_AWAY_SECONDS` sets how long the node is away.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: just soak"]
async fn a_node_that_returns_leaves_the_others_half_of_their_throughput() {
    let _turn = turn();
    let away = environment("QUORATE_AWAY_SECONDS").unwrap_or(AWAY_SECONDS);
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    let servers = cluster.redis_without(AWAY);
    fill(&servers, (0, WRITERS as u64 * KEYS_PER_WRITER), 0).await;
    cluster.wait_caught_up(OBSERVER).await;

    let load = Overwrites::start(&servers, WRITERS, 0, KEYS_PER_WRITER);
    let all_up = windows(&load, async || tokio::time::sleep(MEASURED).await).await;
    cluster.stop(AWAY, READY).await;
    tokio::time::sleep(Duration::from_secs(away).saturating_sub(MEASURED)).await;
    let before = windows(&load, async || tokio::time::sleep(MEASURED).await).await;

    let began = Instant::now();
    cluster.spawn(AWAY);
    let during = windows(&load, async || {
        until("the cluster is healthy", CATCH_UP, async || {
            let status = cluster.status(OBSERVER).await?;
            match status.health {
                Health::Healthy => Ok(()),
                _ => Err(format!("{:?}", status.problems)),
            }
        })
        .await;
        println!("healthy {:?} after the start", began.elapsed());
        tokio::time::sleep(MEASURED).await;
    })
    .await;
    let (versions, _) = load.stop().await;
    for (name, found) in [("all up", &all_up), ("away", &before), ("return", &during)] {
        println!("{name}: median {:.0} writes/s, windows {found:.0?}", median(found));
    }
    let least = during.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least >= median(&before) / 2.0, "{least:.0} of {:.0} writes/s", median(&before));

    cluster.wait_caught_up(OBSERVER).await;
    assert_filled(cluster.addresses(AWAY).redis, 0, &versions).await;
}

/// Acknowledged writes per second in each window while `work` goes on; the last, which it cuts short, is
/// left out.
async fn windows(load: &Overwrites, work: impl AsyncFnOnce()) -> Vec<f64> {
    let mut windows = Vec::new();
    let sample = async {
        let mut next = tokio::time::interval(WINDOW);
        next.tick().await;
        let (mut count, mut at) = (load.acknowledged(), Instant::now());
        loop {
            next.tick().await;
            let (now, then) = (load.acknowledged(), Instant::now());
            windows.push((now - count) as f64 / then.duration_since(at).as_secs_f64());
            (count, at) = (now, then);
        }
    };
    tokio::select! {
        () = sample => {}
        () = work() => {}
    }
    windows
}

fn median(figures: &[f64]) -> f64 {
    let mut ascending = figures.to_vec();
    ascending.sort_by(f64::total_cmp);
    ascending[ascending.len() / 2]
}
