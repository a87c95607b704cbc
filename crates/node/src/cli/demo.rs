//! `quorate demo`: a whole cluster in this process, until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate::SyncMode;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use super::output::say;
use crate::demo::{Demo, DemoConfig};

/// How long the demo waits for every shard to have a leader before it says which have none.
const READY: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Shards of the cluster.
    #[arg(long, default_value_t = 64)]
    shards: u32,
    /// Directory of the data; kept, and used again by the next start. Default: a temporary one that
    /// is removed at the end.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Redis port of node 1; the others count up. 0: free ports.
    #[arg(long, default_value_t = 7001)]
    redis_port: u16,
    /// HTTP port of node 1; the others count up. 0: free ports.
    #[arg(long, default_value_t = 8001)]
    admin_port: u16,
}

/// Runs a cluster until Ctrl-C.
pub(super) async fn run(arguments: DemoArguments) -> anyhow::Result<Exit> {
    // Before the start: a Ctrl-C while it starts must clean up too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let demo = Demo::start(DemoConfig {
        nodes: arguments.nodes,
        shards: arguments.shards,
        directory: arguments.dir,
        redis_port: arguments.redis_port,
        admin_port: arguments.admin_port,
        sync: SyncMode::Sync,
    })
    .await?;
    let served = serve(&demo, &mut interrupt, &mut terminate).await;
    demo.stop().await?;
    served.map(|()| Exit::Success)
}

async fn serve(
    demo: &Demo,
    interrupt: &mut tokio::signal::unix::Signal,
    terminate: &mut tokio::signal::unix::Signal,
) -> anyhow::Result<()> {
    let running = async {
        if let Err(error) = demo.wait_ready(READY).await {
            tracing::warn!("{error:#}; they are served as soon as they have one");
        }
        say(&demo.greeting());
        fatal(demo).await
    };
    tokio::select! {
        ended = running => return ended,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    say("\nStopping.\n");
    Ok(())
}

/// Ends when the first node meets a fatal error: a demo with a dead node would only confuse.
async fn fatal(demo: &Demo) -> anyhow::Result<()> {
    let mut waiting = tokio::task::JoinSet::new();
    for node in demo.running() {
        let engine = node.engine().clone();
        waiting.spawn(async move { (engine.node(), engine.wait_fatal().await) });
    }
    match waiting.join_next().await {
        Some(ended) => {
            let (node, error) = ended?;
            anyhow::bail!("node {node} met a fatal error: {error}")
        }
        None => Ok(()),
    }
}
