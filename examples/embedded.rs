//! Three nodes in one process: write, read anywhere, lose a node, continue, get it back.
//!
//! Run it: `cargo run --release --example embedded`. Every node has its own directory, databases
//! and QUIC port; only the process is shared, so that one command shows the whole path.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use quorate::{Bootstrap, ClusterAuthority, ClusterId, Engine, NodeId, ReadLevel};

const CLUSTER: ClusterId = ClusterId(0x5eed);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn open(
    authority: &ClusterAuthority,
    directory: &Path,
    node: NodeId,
    listen: SocketAddr,
) -> Result<Engine, Box<dyn Error>> {
    let engine = Engine::builder(directory.join(format!("node-{node}")))
        .cluster(CLUSTER)
        .node(node)
        .listen(listen)
        .tls(authority.issue(node)?)
        // Four shards, split at these keys, with three replicas each.
        .bootstrap(Bootstrap::split_at(&NODES, 3, ["g", "n", "t"]))
        .open()?;
    Ok(engine)
}

/// Tells every node where the others are. In production the addresses are known beforehand.
fn introduce(engines: &[Engine]) {
    for engine in engines {
        for other in engines {
            engine.set_peer(other.node(), other.local_address());
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let authority = ClusterAuthority::generate(CLUSTER)?;
    let free_port: SocketAddr = "127.0.0.1:0".parse()?;

    let mut engines = Vec::new();
    for node in NODES {
        engines.push(open(&authority, directory.path(), node, free_port)?);
    }
    introduce(&engines);
    for engine in &engines {
        engine.wait_ready(Duration::from_secs(20)).await?;
    }
    println!("three nodes lead {} shards between them", engines[0].status().await.shards.len());

    engines[0].put("colour", "blue").await?;
    let seen = engines[1].get(b"colour", ReadLevel::Linearizable).await?;
    println!("written at node 1, read at node 2: {seen:?}");

    let lost = engines.pop().expect("three nodes");
    let address = lost.local_address();
    lost.shutdown().await;
    println!("node 3 is gone");
    engines[0].put("colour", "green").await?;
    let visits = engines[1].increment("visits", 1).await?;
    println!("two of three go on: colour is green, visits is {visits}");

    let back = open(&authority, directory.path(), NODES[2], address)?;
    engines.push(back);
    introduce(&engines);
    engines[2].wait_ready(Duration::from_secs(20)).await?;
    let seen = engines[2].get(b"colour", ReadLevel::Linearizable).await?;
    println!("node 3 is back and has caught up: {seen:?}");
    assert_eq!(seen.as_deref(), Some(&b"green"[..]));

    for engine in engines {
        engine.shutdown().await;
    }
    Ok(())
}
