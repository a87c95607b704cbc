//! `quorate bench`: its flags, and its report on the standard output.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use quorate::SyncMode;

use super::exit::Exit;
use super::output::{Output, print, print_json};
use crate::bench::{self, BenchConfig, ClientPlace, Mode};

#[derive(Debug, Args)]
pub(super) struct BenchArguments {
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

/// Measures and prints.
pub(super) async fn run(arguments: BenchArguments) -> anyhow::Result<Exit> {
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
        Output::Text => print(&format!("{report}\n"))?,
        Output::Json => print_json(&report)?,
    }
    Ok(Exit::Success)
}
