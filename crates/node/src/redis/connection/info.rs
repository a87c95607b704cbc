//! INFO: facts about the node, in the sections and words of Redis.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::process_info::{ProcessInfo, human};
use super::shared::Shared;

/// The Redis version that clients may expect the commands here to behave like.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// The sections that were asked for, or all if none was named.
pub(super) fn info(shared: &Shared, sections: &[Bytes]) -> String {
    let everything = |name: &Bytes| {
        [b"all".as_slice(), b"default", b"everything"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word))
    };
    let every = sections.is_empty() || sections.iter().any(everything);
    let shown = all(shared).into_iter().filter(|(title, _)| {
        every || sections.iter().any(|name| name.eq_ignore_ascii_case(title.as_bytes()))
    });
    let text = |(title, fields): (&str, Vec<(&str, String)>)| {
        let fields = fields.into_iter().map(|(name, value)| format!("{name}:{value}\r\n"));
        format!("# {title}\r\n{}", fields.collect::<String>())
    };
    shown.map(text).collect::<Vec<_>>().join("\r\n")
}

type Section = (&'static str, Vec<(&'static str, String)>);

fn all(shared: &Shared) -> Vec<Section> {
    let statistics = &shared.statistics;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let zero = || "0".to_owned();
    let process = ProcessInfo::read();
    let server = vec![
        ("redis_version", REDIS_VERSION.to_owned()),
        ("quorate_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("redis_mode", "standalone".to_owned()),
        ("process_id", std::process::id().to_string()),
        ("tcp_port", shared.address.port().to_string()),
        ("uptime_in_seconds", shared.started.elapsed().as_secs().to_string()),
    ];
    let clients = vec![
        ("connected_clients", shared.clients_now().to_string()),
        ("maxclients", shared.clients_max.to_string()),
        // No command here blocks.
        ("blocked_clients", zero()),
    ];
    // Every write is on disk before it is answered.
    let persistence = vec![
        ("loading", zero()),
        ("rdb_bgsave_in_progress", zero()),
        ("aof_enabled", "1".to_owned()),
        ("aof_rewrite_in_progress", zero()),
    ];
    let stats = vec![
        ("total_connections_received", load(&statistics.connections)),
        ("total_commands_processed", load(&statistics.commands)),
        ("rejected_connections", load(&statistics.connections_refused)),
    ];
    let replication = vec![("role", "master".to_owned()), ("connected_slaves", zero())];
    let cpu = vec![
        ("used_cpu_sys", format!("{:.6}", process.system_s)),
        ("used_cpu_user", format!("{:.6}", process.user_s)),
    ];
    vec![
        ("Server", server),
        ("Clients", clients),
        ("Memory", memory(&process)),
        ("Persistence", persistence),
        ("Stats", stats),
        ("Replication", replication),
        ("CPU", cpu),
        ("Cluster", vec![("cluster_enabled", zero())]),
        ("Quorate", vec![("node", shared.engine.node().to_string())]),
        ("Keyspace", keyspace(shared)),
    ]
}

fn memory(process: &ProcessInfo) -> Vec<(&'static str, String)> {
    let ProcessInfo { memory_bytes, memory_bytes_peak, .. } = *process;
    vec![
        ("used_memory", memory_bytes.to_string()),
        ("used_memory_human", human(memory_bytes)),
        ("used_memory_rss", memory_bytes.to_string()),
        ("used_memory_rss_human", human(memory_bytes)),
        ("used_memory_peak", memory_bytes_peak.to_string()),
        ("used_memory_peak_human", human(memory_bytes_peak)),
        ("maxmemory", "0".to_owned()),
        ("maxmemory_human", "0B".to_owned()),
        ("maxmemory_policy", "noeviction".to_owned()),
    ]
}

/// An estimate for this node alone; only DBSIZE counts keys.
fn keyspace(shared: &Shared) -> Vec<(&'static str, String)> {
    let keys = shared.engine.data_statistics().keys_estimate;
    // As in Redis, an empty database is not listed.
    match keys {
        0 => Vec::new(),
        keys => vec![("db0", format!("keys={keys},expires=0,avg_ttl=0"))],
    }
}
