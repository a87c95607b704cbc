//! Metrics as Prometheus reads them. One registry per node: two in one process share nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use quorate::{Engine, ReplicaRole, Status, TimesStatus};

use crate::process::descriptors::Descriptors;
use crate::process::logging;
use crate::redis::RedisStatistics;

/// One node's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    status: Arc<Mutex<Option<Status>>>,
}

impl Metrics {
    /// The media type of [`Metrics::text`].
    pub(crate) const CONTENT_TYPE: &str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Metrics of an engine and its Redis port, on a node with this share of descriptors.
    #[must_use]
    pub(crate) fn new(redis: Arc<RedisStatistics>, descriptors: Descriptors) -> Metrics {
        let status = Arc::new(Mutex::new(None));
        let mut registry = Registry::with_prefix("quorate");
        let engine = EngineCollector { status: Arc::clone(&status) };
        registry.register_collector(Box::new(engine));
        registry.register_collector(Box::new(RedisCollector { statistics: redis, descriptors }));
        Metrics { registry, status }
    }

    /// What a scrape reads.
    ///
    /// # Errors
    /// If a metric can't be written as text.
    pub(crate) async fn text(&self, engine: &Engine) -> Result<String, std::fmt::Error> {
        let status = engine.status().await;
        *self.status.lock() = Some(status);
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

/// Writes the engine's last status; the counters live in the engine.
struct EngineCollector {
    status: Arc<Mutex<Option<Status>>>,
}

impl std::fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl Collector for EngineCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let status = self.status.lock();
        match &*status {
            Some(status) => write_engine(status, &mut Writer { encoder }),
            None => Ok(()),
        }
    }
}

fn write_engine(status: &Status, out: &mut Writer<'_>) -> Result<(), std::fmt::Error> {
    let shards = |wanted: &dyn Fn(&quorate::ShardStatus) -> bool| {
        status.shards.iter().filter(|shard| wanted(shard)).count() as u64
    };
    let gauges = [
        ("healthy", "1, or 0 after a fatal error", u64::from(status.fatal.is_none())),
        ("incarnation", "How often the node has started", status.incarnation.0),
        ("shards", "Replicas on this node", shards(&|_| true)),
        ("shards_led", "Shards that this node leads", shards(&|s| s.role == ReplicaRole::Leader)),
        ("shards_leaderless", "Shards without a known leader", shards(&|s| s.leader.is_none())),
        (
            "peers_connected",
            "Peers with a standing connection",
            status.peers.iter().filter(|peer| peer.connected).count() as u64,
        ),
        ("data_keys_estimate", "Estimated keys of the data store", status.data.keys_estimate),
        ("data_memtable_bytes", "Memtables of the data store", status.data.memtable_bytes),
        ("data_table_bytes", "Table files of the data store", status.data.table_bytes),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value)?;
    }
    out.times("log_sync_seconds", "Synced writes of the log", &status.log.sync_times)?;
    let resources = &status.resources;
    let left = [
        (
            "warnings",
            "What an operator should do soon; see /status",
            Some(status.warnings.len() as u64),
        ),
        ("descriptors_used", "Open files and sockets of the process", resources.descriptors_used),
        ("descriptors_max", "How many it may have", resources.descriptors_max),
        ("disk_free_bytes", "Bytes left on the directory's disk", resources.disk_free_bytes),
        ("disk_bytes", "Bytes of that disk", resources.disk_bytes),
        (
            "disk_floor_bytes",
            "Free bytes below which no writes are taken",
            resources.disk_floor_bytes,
        ),
        (
            "disk_low",
            "1 while no writes are taken because the disk is below its floor",
            Some(u64::from(status.readiness.disk_low.is_some())),
        ),
        (
            "certificate_expires_seconds",
            "When the node's certificates count no more, in seconds since 1970",
            resources.certificate_expires_ms.map(|ms| ms / 1_000),
        ),
    ];
    for (name, help, value) in left {
        value.map_or(Ok(()), |value| out.gauge(name, help, value))?;
    }
    write_logs_and_snapshots(status, out)?;
    let counters = &status.counters;
    let peers = |of: fn(&quorate::PeerStatus) -> u64| status.peers.iter().map(of).sum::<u64>();
    let totals = [
        ("writes_applied", "Writes answered after their apply", counters.writes_applied),
        ("writes_refused", "Writes that did not happen", counters.writes_refused),
        ("writes_unknown", "Writes of unknown outcome", counters.writes_unknown),
        ("reads_served", "Reads answered", counters.reads_served),
        ("reads_refused", "Reads refused", counters.reads_refused),
        ("forwards_sent", "Requests forwarded to other nodes", counters.forwards_sent),
        ("relayed", "Requests for leaders that the asker can't reach", counters.relayed),
        ("turns", "Turns of all workers", counters.turns),
        ("messages_dropped", "Messages dropped by full inboxes", counters.messages_dropped),
        ("appends_dropped", "Appends dropped for want of room", counters.appends_dropped),
        ("log_writes", "Batches written to the log", status.log.batches),
        ("log_syncs", "Syncs of the log", status.log.syncs),
        ("log_runs", "Runs written to the log", status.log.runs),
        ("log_entries", "Entries written to the log", status.log.entries),
        ("log_run_bytes", "Bytes of runs written", status.log.run_bytes),
        ("peer_frames_sent", "Frames sent", peers(|peer| peer.frames_sent)),
        ("peer_messages_sent", "Messages sent", peers(|peer| peer.messages_sent)),
        ("peer_udp_bytes_sent", "UDP bytes sent", peers(|peer| peer.udp_bytes_sent)),
        ("peer_udp_bytes_received", "UDP bytes received", peers(|p| p.udp_bytes_received)),
        ("logged_lines_dropped", "Lines that nobody read in time", logging::lines_dropped()),
    ];
    totals.into_iter().try_for_each(|(name, help, value)| out.counter(name, help, value))
}

/// What is held and purged of the logs, what is sent and received in their place, and what was lost.
fn write_logs_and_snapshots(status: &Status, out: &mut Writer<'_>) -> Result<(), std::fmt::Error> {
    let (log, counters, snapshots) = (&status.log, &status.counters, status.snapshots.counts());
    let gauges = [
        ("log_held_bytes", "Bytes of runs that the log stores", log.held_bytes),
        ("log_kept_bytes_max", "Bytes of runs beyond which it is purged", log.kept_bytes_max),
        ("snapshots_sending", "Snapshots that are being sent", snapshots.sending),
        ("snapshots_waiting", "Snapshots that followers wait for, not begun", snapshots.waiting),
        ("snapshots_receiving", "Snapshots that are being received", snapshots.receiving),
        (
            "replicas_damaged",
            "Replicas given up because their bytes are damaged",
            status.damaged.len() as u64,
        ),
    ];
    for (name, help, value) in gauges {
        out.gauge(name, help, value)?;
    }
    let totals = [
        ("log_purges", "Purges of shards' logs", log.purges),
        ("log_purged_runs", "Runs purged", log.purged_runs),
        ("log_purged_bytes", "Bytes of runs purged", log.purged_bytes),
        ("log_installs", "Logs that begin after a snapshot since", log.installs),
        ("log_skipped_parts", "Changes of replicas that were gone", log.skipped_parts),
        ("snapshots_sent", "Snapshots that followers put in force", counters.snapshots_sent),
        ("snapshots_failed", "Snapshots that were not taken", counters.snapshots_failed),
        ("snapshots_received", "Snapshots put in force here", counters.snapshots_received),
        ("snapshot_bytes_sent", "Bytes of snapshots sent", counters.snapshot_bytes_sent),
        (
            "snapshot_bytes_received",
            "Bytes of snapshots received",
            counters.snapshot_bytes_received,
        ),
    ];
    totals.into_iter().try_for_each(|(name, help, value)| out.counter(name, help, value))
}

#[derive(Debug)]
struct RedisCollector {
    statistics: Arc<RedisStatistics>,
    descriptors: Descriptors,
}

impl Collector for RedisCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let mut out = Writer { encoder };
        let of = &self.statistics;
        let clients_max = self.descriptors.clients_max as u64;
        out.gauge("redis_clients_max", "Connections taken at once", clients_max)?;
        let totals = [
            ("redis_connections", "Connections accepted", &of.connections),
            ("redis_connections_refused", "Connections over the bound", &of.connections_refused),
            ("redis_commands", "Commands answered", &of.commands),
            ("redis_errors", "Error replies", &of.errors),
            ("redis_protocol_errors", "Connections of broken protocol", &of.protocol_errors),
        ];
        totals.into_iter().try_for_each(|(name, help, value)| {
            out.counter(name, help, value.load(Ordering::Relaxed))
        })?;
        let held = of.reply_bytes() as u64;
        out.gauge(
            "redis_reply_bytes",
            "Replies not yet read by clients, beyond 16 KiB of each",
            held,
        )
    }
}

struct Writer<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Writer<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn times(
        &mut self,
        name: &str,
        help: &str,
        times: &TimesStatus,
    ) -> Result<(), std::fmt::Error> {
        let mut encoder =
            self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let (sum, count) = (times.sum_us as f64 / 1e6, times.counts.iter().sum());
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets(times), None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), std::fmt::Error> {
        let encoder = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(encoder)
    }
}

/// The powers of two nanoseconds that bound buckets: from 8 us, faster than any disk, to 17 s, when
/// a disk counts as hung.
const BOUNDS: std::ops::RangeInclusive<usize> = 13..=34;

/// Upper bounds in seconds, each with the number of measured times below it and not below the one
/// before; the last one has no bound.
fn buckets(times: &TimesStatus) -> Vec<(f64, u64)> {
    // Place n holds the times below 2^(n+1).
    let below = |bound: usize| &times.counts[..bound.min(times.counts.len())];
    let counted = |bound| below(bound).iter().sum::<u64>();
    let mut before = 0;
    let mut bucket = |bound, total| {
        let count = total - before;
        before = total;
        (bound, count)
    };
    let bounded = BOUNDS.map(|bound| bucket((1u64 << bound) as f64 / 1e9, counted(bound)));
    let mut buckets: Vec<(f64, u64)> = bounded.collect();
    buckets.push(bucket(f64::MAX, counted(usize::MAX)));
    buckets
}

#[cfg(test)]
mod tests {
    use quorate::{DamagedReplica, ReplicaId, ShardId};

    use super::*;

    /// A node with no shards, as an older version reports it.
    fn status() -> Status {
        let status = serde_json::json!({
            "node": 1, "cluster": "", "store": "", "incarnation": 1, "address": "", "fatal": null,
            "readiness": {
                "ready": true, "founded": true, "founders_missing": [], "shards_without_leader": [],
                "disk_stalled": false, "apply_stalled": false, "fatal": null,
            },
            "shards": [], "peers": [],
            "log": {
                "writes": 0, "batches": 0, "syncs": 0, "runs": 0, "entries": 0, "run_bytes": 0,
                "sync_p50_us": 0, "sync_p99_us": 0,
            },
            "data": { "memtable_bytes": 0, "table_bytes": 0, "keys_estimate": 0 },
            "counters": {
                "writes_applied": 0, "writes_refused": 0, "writes_unknown": 0, "reads_served": 0,
                "reads_refused": 0, "forwards_sent": 0, "turns": 0, "messages_dropped": 0,
            },
            "warning_facts": [],
        });
        serde_json::from_value(status).expect("the documented form")
    }

    fn text_of(status: Status) -> String {
        let mut registry = Registry::with_prefix("quorate");
        let status = Arc::new(Mutex::new(Some(status)));
        registry.register_collector(Box::new(EngineCollector { status }));
        let mut written = String::new();
        text::encode(&mut written, &registry).expect("written");
        written
    }

    /// Goal: the life of the log, snapshots and damage are under stable names, each with its own number,
    /// and none with a label. Method: a status of numbers that differ.
    #[test]
    fn logs_snapshots_and_damage_are_counted() {
        let mut status = status();
        let log = &mut status.log;
        (log.held_bytes, log.kept_bytes_max, log.purges) = (101, 102, 103);
        (log.purged_runs, log.purged_bytes, log.installs) = (104, 105, 106);
        log.skipped_parts = 107;
        let counters = &mut status.counters;
        (counters.snapshots_sent, counters.snapshots_failed) = (108, 109);
        (counters.snapshots_received, counters.snapshot_bytes_sent) = (110, 111);
        counters.snapshot_bytes_received = 112;
        status.snapshots.wanted = 113;
        let what = String::new();
        status.damaged = vec![DamagedReplica {
            shard: ShardId(1),
            replica: ReplicaId(1),
            what,
            until_restart: false,
        }];
        let written = text_of(status);
        for line in [
            "quorate_log_held_bytes 101",
            "quorate_log_kept_bytes_max 102",
            "quorate_log_purges_total 103",
            "quorate_log_purged_runs_total 104",
            "quorate_log_purged_bytes_total 105",
            "quorate_log_installs_total 106",
            "quorate_log_skipped_parts_total 107",
            "quorate_snapshots_sent_total 108",
            "quorate_snapshots_failed_total 109",
            "quorate_snapshots_received_total 110",
            "quorate_snapshot_bytes_sent_total 111",
            "quorate_snapshot_bytes_received_total 112",
            "quorate_snapshots_waiting 113",
            "quorate_snapshots_sending 0",
            "quorate_snapshots_receiving 0",
            "quorate_replicas_damaged 1",
        ] {
            assert!(written.lines().any(|found| found == line), "{line} is not in {written}");
        }
    }

    /// Goal: every time is in one bucket, below its bound, and the text is a histogram that Prometheus
    /// reads. Method: times below, between and beyond the bounds.
    #[test]
    fn times_are_a_histogram() {
        let mut counts = vec![0; 41];
        // 16 ns, 65 us to 131 us, 18 minutes.
        (counts[4], counts[16], counts[40]) = (1, 2, 4);
        let times = TimesStatus { sum_us: 3_000_000, counts };
        let found = buckets(&times);
        let filled: Vec<_> = found.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(8.192e-6, 1), (131.072e-6, 2), (f64::MAX, 4)]);
        assert_eq!(buckets(&TimesStatus::default()).len(), found.len());

        #[derive(Debug)]
        struct One(TimesStatus);
        impl Collector for One {
            fn encode(&self, encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
                Writer { encoder }.times("log_sync_seconds", "Syncs", &self.0)
            }
        }
        let mut registry = Registry::with_prefix("quorate");
        registry.register_collector(Box::new(One(times)));
        let mut written = String::new();
        text::encode(&mut written, &registry).expect("written");
        for line in [
            "# TYPE quorate_log_sync_seconds histogram",
            "quorate_log_sync_seconds_sum 3.0",
            "quorate_log_sync_seconds_count 7",
            "quorate_log_sync_seconds_bucket{le=\"0.000131072\"} 3",
            "quorate_log_sync_seconds_bucket{le=\"+Inf\"} 7",
        ] {
            assert!(written.lines().any(|found| found == line), "{line} is not in {written}");
        }
    }
}
