//! Starts the nodes on what a power loss left.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::{Engine, ReadLevel};
use quorate_tests::cluster::{ClusterSpec, READY, close, introduce, key};

use crate::load::{SHARDS, value};

/// Keys asked for at once.
const READS_AT_ONCE: usize = 500;
/// How long a read may be retried: leadership can still move just after the start.
const READ_MAX: Duration = Duration::from_secs(20);
const READ_PAUSE: Duration = Duration::from_millis(20);

/// Starts the nodes in `tree` and reads every one of `writes`; returns those that are not as
/// written.
pub(crate) fn lost_writes(tree: &Path, writes: &BTreeSet<u64>) -> Vec<String> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let spec = ClusterSpec::new(tree, SHARDS);
        let mut engines = Vec::new();
        for node in &spec.nodes {
            match spec.open(*node) {
                Ok(engine) => engines.push(engine),
                Err(error) => return vec![format!("node {node} does not start: {error}")],
            }
        }
        introduce(&engines);
        for engine in &engines {
            if let Err(error) = engine.wait_ready(READY).await {
                return vec![format!("node {}: {error}", engine.node())];
            }
        }
        let mut lost = Vec::new();
        let writes: Vec<u64> = writes.iter().copied().collect();
        for (part, numbers) in writes.chunks(READS_AT_ONCE).enumerate() {
            let engine = &engines[part % engines.len()];
            let values = match read(engine, numbers).await {
                Ok(values) => values,
                Err(error) => {
                    lost.push(format!("node {} does not answer: {error}", engine.node()));
                    continue;
                }
            };
            for (number, found) in numbers.iter().zip(values) {
                let expected = value(*number);
                if found.as_deref() != Some(&expected[..]) {
                    let found = found.map_or("nothing".to_owned(), |found| format!("{found:?}"));
                    lost.push(format!("write {number} was acknowledged and reads {found}"));
                }
            }
        }
        close(engines).await;
        lost
    })
}

async fn read(engine: &Engine, numbers: &[u64]) -> Result<Vec<Option<Bytes>>, quorate::ReadError> {
    let keys: Vec<Bytes> = numbers.iter().map(|number| key(*number).into()).collect();
    let deadline = Instant::now() + READ_MAX;
    loop {
        match engine.get_many(&keys, ReadLevel::Linearizable).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(READ_PAUSE).await,
            outcome => return outcome,
        }
    }
}
