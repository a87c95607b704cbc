//! The configuration of a bench.

use std::path::PathBuf;
use std::time::Duration;

use quorate::SyncMode;

/// The kind of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Replicated, synced writes.
    Write,
    /// Linearizable reads.
    Read,
    /// Half of each, at random.
    Mixed,
}

/// Where a caller sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientPlace {
    /// At the node that leads the key's shard: nothing is forwarded.
    Leader,
    /// At any node, in turn.
    Any,
}

/// The configuration of a bench.
#[derive(Clone, Debug)]
pub struct BenchConfig {
    /// The kind of operations.
    pub mode: Mode,
    /// How many nodes.
    pub nodes: u64,
    /// How many shards.
    pub shards: u32,
    /// Bytes of a value.
    pub payload: usize,
    /// Operations under way at any time.
    pub outstanding: usize,
    /// Length of the measured window.
    pub window: Duration,
    /// Length of the time before it that is not measured.
    pub warm_up: Duration,
    /// Where directories are made; `None`: where temporary files go.
    pub directory: Option<PathBuf>,
    /// Where callers sit.
    pub client: ClientPlace,
    /// How the log reaches the disk.
    pub sync: SyncMode,
}
