//! `quorate bench`: a measured load on a cluster in this process.
//!
//! One operation is one caller's future and one entry of a shard's log; keys are random over a
//! million. Nodes share nothing but the processor: each has its own directory, databases and
//! sockets. Figures mean nothing without their conditions, so the report carries them all.

mod config;
mod host;
mod load;
mod report;

use std::time::Duration;

use anyhow::Context;
use quorate::{Bootstrap, ClusterAuthority, ClusterId, Engine, NodeId};

use crate::redis::protocol::slot::{SLOTS, split_keys};

pub use config::{BenchConfig, ClientPlace, Mode};
pub use host::refuse_memory_filesystem;
pub use report::Report;

/// Runs a bench in a fresh directory that is removed at its end.
///
/// # Errors
/// If the configuration makes no sense, the directory is in memory, or a node does not start.
pub async fn run(config: &BenchConfig) -> anyhow::Result<Report> {
    check(config)?;
    let parent = config.directory.clone().unwrap_or_else(std::env::temp_dir);
    let filesystem = refuse_memory_filesystem(&parent)?;
    let directory = tempfile::Builder::new()
        .prefix("quorate-bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("can't make a directory in {}", parent.display()))?;
    let disk_sync = host::measure_disk_sync(directory.path())?;
    let engines = open(config, directory.path()).await?;
    let measured = measure(config, &engines).await;
    for engine in engines {
        engine.shutdown().await;
    }
    directory.close().context("can't remove the bench's directory")?;
    Ok(report::assemble(config, &measured?, disk_sync, filesystem))
}

async fn measure(config: &BenchConfig, engines: &[Engine]) -> anyhow::Result<load::Measured> {
    for engine in engines {
        engine.wait_ready(Duration::from_secs(30)).await?;
    }
    load::run(config, engines).await
}

fn check(config: &BenchConfig) -> anyhow::Result<()> {
    let ensure = |flag, value: u64, max: u64| {
        anyhow::ensure!((1..=max).contains(&value), "{flag} {value}: must be from 1 to {max}");
        Ok(())
    };
    ensure("--nodes", config.nodes, crate::demo::NODES_MAX)?;
    ensure("--shards", config.shards.into(), SLOTS.into())?;
    ensure("--payload", config.payload as u64, quorate::limits::VALUE_BYTES_MAX as u64)?;
    ensure("--outstanding", config.outstanding as u64, 1 << 20)?;
    ensure("--seconds", config.window.as_secs(), 86_400)
}

async fn open(config: &BenchConfig, directory: &std::path::Path) -> anyhow::Result<Vec<Engine>> {
    let cluster = ClusterId(0xbe7c);
    let authority = ClusterAuthority::generate(cluster)?;
    let nodes: Vec<NodeId> = (1..=config.nodes).map(NodeId).collect();
    let bootstrap = Bootstrap::split_at(&nodes, 3, split_keys(config.shards));
    let mut opening = Vec::new();
    for &node in &nodes {
        let builder = Engine::builder(directory.join(format!("node-{node}")))
            .cluster(cluster)
            .node(node)
            .listen("127.0.0.1:0".parse()?)
            .tls(authority.issue(node)?)
            .bootstrap(bootstrap.clone())
            .sync(config.sync);
        opening.push(tokio::task::spawn_blocking(move || builder.open()));
    }
    let mut engines: Vec<Engine> = Vec::new();
    for engine in opening {
        engines.push(engine.await??);
    }
    for engine in &engines {
        for peer in engines.iter().filter(|peer| peer.node() != engine.node()) {
            engine.set_peer(peer.node(), peer.local_address());
        }
    }
    Ok(engines)
}
