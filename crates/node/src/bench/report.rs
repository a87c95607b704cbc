//! The figures of a bench, with the conditions that they were measured under.

use std::time::Duration;

use quorate::SyncMode;
use serde::Serialize;

use super::config::{BenchConfig, ClientPlace, Mode};
use super::load::Measured;

/// What a bench found, and under which conditions. Rates are per second of the window.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the names are the documentation that users see")]
pub struct Report {
    pub mode: Mode,
    pub ops_per_s: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
    /// Operations that failed within the window.
    pub errors: u64,
    /// Syncs of all nodes' logs.
    pub syncs_per_s: f64,
    /// Answered operations for each sync of one node, on average over the nodes.
    pub writes_per_sync: f64,
    /// Batches written to all nodes' logs.
    pub log_batches_per_s: f64,
    /// Processor time of the whole process, all nodes and callers.
    pub cpu_s: f64,
    pub cpu_us_per_op: f64,
    /// Of all nodes, in the window.
    pub udp_bytes_sent: u64,
    /// Median of a 4 KiB append and its sync in the same directory, measured before.
    pub disk_sync_p50_us: u64,
    pub filesystem: String,
    pub nodes: u64,
    pub shards: u32,
    pub payload: usize,
    pub outstanding: usize,
    pub seconds: f64,
    pub cores: usize,
    pub tls: bool,
    pub sync: bool,
    pub client: ClientPlace,
    pub state_machine: &'static str,
}

pub(super) fn assemble(
    config: &BenchConfig,
    measured: &Measured,
    disk_sync: Duration,
    filesystem: String,
) -> Report {
    let operations = measured.latencies_us.len() as f64;
    let per_second = |count: u64| count as f64 / measured.seconds;
    let ratio = |over: f64, under: f64| if under > 0.0 { over / under } else { 0.0 };
    let quantile = |quantile| measured.latencies_us.value_at_quantile(quantile);
    let writes = if config.mode == Mode::Read { 0.0 } else { operations };
    Report {
        mode: config.mode,
        ops_per_s: operations / measured.seconds,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        max_us: measured.latencies_us.max(),
        errors: measured.errors,
        syncs_per_s: per_second(measured.syncs),
        writes_per_sync: ratio(writes * config.nodes as f64, measured.syncs as f64),
        log_batches_per_s: per_second(measured.log_writes),
        cpu_s: measured.cpu_seconds,
        cpu_us_per_op: ratio(measured.cpu_seconds * 1e6, operations),
        udp_bytes_sent: measured.udp_bytes_sent,
        disk_sync_p50_us: u64::try_from(disk_sync.as_micros()).unwrap_or(u64::MAX),
        filesystem,
        nodes: config.nodes,
        shards: config.shards,
        payload: config.payload,
        outstanding: config.outstanding,
        seconds: measured.seconds,
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        tls: true,
        sync: config.sync == SyncMode::Sync,
        client: config.client,
        state_machine: "key-value",
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:?}: {:.0}/s, {} errors; p50 {} us, p99 {} us, p99.9 {} us, longest {} us",
            self.mode,
            self.ops_per_s,
            self.errors,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.max_us,
        )?;
        writeln!(
            f,
            "  {:.0} syncs/s, {:.1} writes a sync; {:.1} CPU s, {:.1} us an operation; {} MB sent",
            self.syncs_per_s,
            self.writes_per_sync,
            self.cpu_s,
            self.cpu_us_per_op,
            self.udp_bytes_sent / 1_000_000,
        )?;
        write!(
            f,
            "  {} nodes, {} shards, {} B, {} outstanding, {:.1} s; client at {:?}; mutual TLS; \
             sync {}; {} state machine; {} cores; {}, sync p50 {} us",
            self.nodes,
            self.shards,
            self.payload,
            self.outstanding,
            self.seconds,
            self.client,
            if self.sync { "on" } else { "OFF" },
            self.state_machine,
            self.cores,
            self.filesystem,
            self.disk_sync_p50_us,
        )
    }
}
