//! Starts the nodes on what a power loss left, and looks for what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::{Engine, ReadLevel};
use quorate_tests::cluster::{ClusterSpec, READY, close, introduce};

use crate::load::{KEYS_PER_LANE, LANES, builder, key, value};

/// How long a state may take to come: leadership can still move just after the start.
const SETTLED: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// How many writes of each lane were acknowledged.
pub(crate) type Acknowledged = [u64; LANES as usize];

/// Starts the nodes in `tree`.
///
/// # Errors
/// What is wrong: a node does not start; an acknowledged write is not there; the pairs are not what
/// some number of writes leaves; the replicas differ.
pub(crate) fn check(tree: &Path, acknowledged: &Acknowledged) -> Result<(), String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let spec = ClusterSpec::new(tree, 1);
        let mut engines = Vec::new();
        for node in &spec.nodes {
            match builder(&spec, *node).open() {
                Ok(engine) => engines.push(engine),
                Err(error) => return Err(format!("node {node} does not start: {error}")),
            }
        }
        introduce(&engines);
        let found = compare(&engines, acknowledged).await;
        close(engines).await;
        found
    })
}

async fn compare(engines: &[Engine], acknowledged: &Acknowledged) -> Result<(), String> {
    for engine in engines {
        let ready = engine.wait_ready(READY).await;
        ready.map_err(|error| format!("node {}: {error}", engine.node()))?;
    }
    let state = state(&engines[0], ReadLevel::Linearizable).await?;
    let state = is_after_some_writes(&state, acknowledged)?;
    // Nobody writes any more: all replicas come to hold the same, at the same index.
    let deadline = Instant::now() + SETTLED;
    loop {
        let differing = differing(engines, &state).await?;
        match differing {
            None => return Ok(()),
            Some(what) if Instant::now() > deadline => return Err(what),
            Some(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

async fn differing(
    engines: &[Engine],
    expected: &BTreeMap<Bytes, Bytes>,
) -> Result<Option<String>, String> {
    let mut applied = Vec::new();
    for engine in engines {
        let status = engine.status().await;
        applied.push(status.shards.iter().map(|shard| shard.applied).collect::<Vec<_>>());
    }
    if applied.windows(2).any(|two| two[0] != two[1]) {
        return Ok(Some(format!("replicas stay at {applied:?}")));
    }
    for engine in engines {
        let found = state(engine, ReadLevel::Stale).await?;
        if found != *expected {
            let differing = expected.iter().find(|(key, value)| found.get(*key) != Some(*value));
            let key = differing.map(|(key, _)| key);
            return Ok(Some(format!("node {} differs, first at {key:?}", engine.node())));
        }
    }
    Ok(None)
}

async fn state(engine: &Engine, level: ReadLevel) -> Result<BTreeMap<Bytes, Bytes>, String> {
    let deadline = Instant::now() + SETTLED;
    loop {
        match engine.scan(b"", None, usize::MAX, level).await {
            Ok(pairs) => return Ok(pairs.into_iter().collect()),
            Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(format!("node {} does not read: {error}", engine.node())),
        }
    }
}

/// The state, if some number of each lane's writes, not fewer than were acknowledged and at most the
/// one under way more, leaves it.
fn is_after_some_writes(
    state: &BTreeMap<Bytes, Bytes>,
    acknowledged: &Acknowledged,
) -> Result<BTreeMap<Bytes, Bytes>, String> {
    let pairs_after = |lane: u64, writes: u64| {
        let first = writes.saturating_sub(KEYS_PER_LANE);
        (first..writes)
            .map(move |number| (Bytes::from(key(lane, number)), Bytes::from(value(lane, number))))
    };
    let mut expected = BTreeMap::new();
    for (lane, acknowledged) in (0..).zip(acknowledged) {
        let holds = |writes: u64| {
            pairs_after(lane, writes).all(|(key, value)| state.get(&key) == Some(&value))
        };
        let writes = [*acknowledged, acknowledged + 1].into_iter().rev().find(|it| holds(*it));
        let Some(writes) = writes else {
            let missing = pairs_after(lane, *acknowledged)
                .filter(|(key, value)| state.get(key) != Some(value))
                .count();
            return Err(format!(
                "lane {lane}: {acknowledged} writes were acknowledged, and {missing} keys are not \
                 as they left them"
            ));
        };
        expected.extend(pairs_after(lane, writes));
    }
    match expected == *state {
        true => Ok(expected),
        false => Err(format!("{} pairs, and {} were written", state.len(), expected.len())),
    }
}
