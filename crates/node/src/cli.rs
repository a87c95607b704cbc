//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use quorate::SyncMode;
use quorate_node::bench::{self, BenchConfig, ClientPlace, Mode};
use quorate_node::demo::{Demo, DemoConfig};
use tokio::signal::unix::{SignalKind, signal};

/// How long the demo waits for every shard to have a leader before it says which have none.
const READY: Duration = Duration::from_secs(15);

/// Quorate: a Multi-Raft sharded storage engine.
#[derive(Debug, Parser)]
#[command(name = "quorate", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster in this process, on loopback.
    Demo(DemoArguments),
    /// Measure a cluster in this process, on real disks and real QUIC.
    Bench(BenchArguments),
}

#[derive(Debug, Args)]
struct DemoArguments {
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

#[derive(Debug, Args)]
struct BenchArguments {
    /// What is asked.
    #[arg(value_enum)]
    mode: Mode,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3)]
    nodes: u64,
    /// Shards of the cluster.
    #[arg(long, default_value_t = 48)]
    shards: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 16)]
    payload: usize,
    /// Operations under way at any time.
    #[arg(long, default_value_t = 4096)]
    outstanding: usize,
    /// Length of the measured window.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Time before the window, not measured.
    #[arg(long, default_value_t = 2)]
    warm_up_seconds: u64,
    /// Where a directory for the run is made. Default: where temporary files go.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Where the callers sit.
    #[arg(long, value_enum, default_value_t = ClientPlace::Leader)]
    client: ClientPlace,
    /// Leave out the syncs, to see what they cost. Loses data when the power fails.
    #[arg(long)]
    unsafe_no_sync: bool,
    /// Form of the result.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Does what the command line says.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("clients")
        .build()
        .context("can't start the runtime")?;
    match arguments.command {
        Command::Demo(arguments) => runtime.block_on(demo(arguments)),
        Command::Bench(arguments) => runtime.block_on(measure(arguments)),
    }
}

async fn demo(arguments: DemoArguments) -> anyhow::Result<()> {
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
    served
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
        print(&demo.greeting())?;
        fatal(demo).await
    };
    tokio::select! {
        ended = running => ended,
        _ = interrupt.recv() => print("\nStopping.\n"),
        _ = terminate.recv() => print("\nStopping.\n"),
    }
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

async fn measure(arguments: BenchArguments) -> anyhow::Result<()> {
    let sync = if arguments.unsafe_no_sync { SyncMode::UnsafeNoSync } else { SyncMode::Sync };
    let report = bench::run(&BenchConfig {
        mode: arguments.mode,
        nodes: arguments.nodes,
        shards: arguments.shards,
        payload: arguments.payload,
        outstanding: arguments.outstanding,
        window: Duration::from_secs(arguments.seconds),
        warm_up: Duration::from_secs(arguments.warm_up_seconds),
        directory: arguments.dir,
        client: arguments.client,
        sync,
    })
    .await?;
    match arguments.output {
        Output::Text => print(&format!("{report}\n")),
        Output::Json => print(&(serde_json::to_string_pretty(&report)? + "\n")),
    }
}

/// As `print!`, but a closed pipe is an error and no panic.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("can't print")
}
