//! From a directory to a running engine.
//!
//! Order matters: the stores are recovered first (`recover.rs`), then the port is claimed, then the
//! threads start, and only at the very end are peers let in.

use std::sync::Arc;

use parking_lot::Mutex;
use quorate_host::{Host, HostConfig, ReplicaInit};
use quorate_log::{LogStore, LogWriter, RecoveredReplica};
use quorate_machine::{MetaMachine, MetaMap, NodeRecord};
use quorate_transport::{Bound, Transport, TransportConfig};
use quorate_types::{NodeLife, limits};
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use crate::admission::Lives;
use crate::apply::{Applier, Appliers, ApplyThread};
use crate::bootstrap::Bootstrap;
use crate::budget::Budget;
use crate::builder::EngineBuilder;
use crate::callers::Callers;
use crate::cluster_map::{ClusterMap, META_SHARD};
use crate::core::Core;
use crate::counters::Counters;
use crate::data::DataStore;
use crate::ending::Ending;
use crate::engine::Engine;
use crate::error::{FatalError, OpenFault};
use crate::fatal::Fatal;
use crate::fetch::FetchThread;
use crate::forwarder::Forwarder;
use crate::founding::Founding;
use crate::inbox::{Inbox, Input};
use crate::map_keeper::MapKeeper;
use crate::reads::ReadRoom;
use crate::receiver::Inbound;
use crate::recover::{Recovered, Replica, recover};
use crate::relay::{RELAYED_BYTES_MAX, RELAYED_MAX};
use crate::replies::Replies;
use crate::resources::Resources;
use crate::room;
use crate::running::Running;
use crate::shards::{ShardState, Shards};
use crate::shared::Shared;
use crate::stall::{Stalled, Stalls};
use crate::submission::{SUBMISSIONS_BYTES_MAX, SUBMISSIONS_MAX};
use crate::worker::Worker;

pub(crate) fn open(builder: EngineBuilder) -> Result<Engine, OpenFault> {
    let bootstrap = builder.bootstrap.as_ref().expect("checked by the builder");
    room::check(&builder.directory)?;
    let Recovered { log, data, replicas, life, first_map, recovery } =
        recover(&builder, bootstrap)?;
    let map = known_map(bootstrap, recovery.map.as_deref(), &replicas)?;
    let founding = Founding::new(log.identity().node, bootstrap.founders(), recovery.founded);
    let bound = bind(&builder, &log, life, first_map)?;
    let (log, data, lives) = (Arc::new(log), Arc::new(data), Lives::new(recovery.peers));
    start(builder, Parts { log, data, replicas, map, founding, first_map, lives, life, bound })
}

/// The map as this directory last heard it, or the first one; with what its own replicas say.
fn known_map(
    bootstrap: &Bootstrap,
    cached: Option<&[u8]>,
    replicas: &[Replica],
) -> Result<ClusterMap, OpenFault> {
    let contradiction = |error: quorate_router::UpdateError| OpenFault::Setting {
        setting: "bootstrap",
        what: error.to_string(),
    };
    let map = match cached.map(MetaMap::decode) {
        None => ClusterMap::new(&bootstrap.descriptors()).map_err(contradiction)?,
        Some(Ok(cached)) => {
            let map = ClusterMap::new(&cached.shards).map_err(contradiction)?;
            map.adopt(cached);
            map
        }
        Some(Err(error)) => {
            // A cache: the meta shard has it all.
            tracing::warn!(%error, "the cached map can't be read and is heard anew");
            ClusterMap::new(&bootstrap.descriptors()).map_err(contradiction)?
        }
    };
    for replica in replicas {
        let own = replica.descriptor();
        let shard = own.shard;
        map.try_learn(own)
            .map_err(|error| OpenFault::Replica { shard, what: error.to_string() })?;
    }
    Ok(map)
}

fn bind(
    builder: &EngineBuilder,
    log: &LogStore,
    life: NodeLife,
    first_map: u32,
) -> Result<Bound, OpenFault> {
    let identity = log.identity();
    let config = TransportConfig {
        cluster: identity.cluster,
        node: identity.node,
        life,
        wall_clock: Arc::clone(&builder.wall_clock),
        first_map,
        listen: builder.listen.expect("checked by the builder"),
        peers: builder.peers.clone(),
        tls: builder.tls.clone().expect("checked by the builder"),
    };
    Transport::bind(config).map_err(|error| OpenFault::Transport(error.to_string()))
}

/// What `start` puts together.
struct Parts {
    log: Arc<LogStore>,
    data: Arc<DataStore>,
    replicas: Vec<Replica>,
    map: ClusterMap,
    founding: Founding,
    first_map: u32,
    lives: Lives,
    life: NodeLife,
    bound: Bound,
}

fn start(builder: EngineBuilder, parts: Parts) -> Result<Engine, OpenFault> {
    let Parts { log, data, replicas, map, founding, first_map, lives, life, bound } = parts;
    let node = builder.node.expect("checked by the builder");
    let cluster = log.identity().cluster;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(format!("quic-{node}"))
        .enable_all()
        .build()
        .map_err(|cause| OpenFault::System { what: "starting the QUIC runtime".into(), cause })?;
    let inbound = Arc::new(Inbound::default());
    let transport = Transport::start(bound, runtime.handle(), Arc::clone(&inbound) as _)
        .map_err(|error| OpenFault::Transport(error.to_string()))?;

    let inboxes: Vec<Arc<Inbox>> = (0..builder.workers).map(|_| Arc::default()).collect();
    let fatal = Arc::new(Fatal::new(inboxes.clone()));
    fatal.listen(&log, &data);
    let states: Vec<Arc<ShardState>> = replicas.iter().map(state_of).collect();
    let core = Arc::new(Core {
        node,
        cluster,
        life,
        founding: Arc::new(founding),
        first_map,
        wall_clock: Arc::clone(&builder.wall_clock),
        map: Arc::new(map),
        shards: Arc::new(Shards::new(states)),
        inboxes,
        transport: Arc::new(transport),
        forwarder: Forwarder::new(life.incarnation),
        log,
        data,
        ending: Arc::new(Ending::new(Arc::clone(&fatal))),
        fatal,
        counters: Arc::new(Counters::default()),
        stalls: Arc::new(Stalls::default()),
        resources: Arc::new(Resources::of(builder.directory.clone())),
        read_room: ReadRoom::default(),
        submissions: Budget::new(SUBMISSIONS_MAX, SUBMISSIONS_BYTES_MAX),
        relays: Budget::new(RELAYED_MAX, RELAYED_BYTES_MAX),
        addresses: Mutex::new(builder.peers.clone()),
        lives,
        map_wanted: Notify::new(),
        own_status: Shared::new(limits::STATUS_AGE_MAX),
        whole_status: Shared::new(limits::STATUS_AGE_MAX),
    });
    let advertised = builder.advertise.unwrap_or(core.transport.local_address());
    let own = NodeRecord {
        node,
        life,
        address: advertised.to_string(),
        services: builder.services.clone(),
    };
    runtime.spawn(MapKeeper::new(&core, own).run_guarded());
    let running = start_threads(builder, Arc::clone(&core), replicas, runtime, inbound.clone())?;
    core.found_if_complete();
    inbound.open(core);
    Ok(Engine { running: Arc::new(running) })
}

fn state_of(replica: &Replica) -> Arc<ShardState> {
    let RecoveredReplica { replica: id, space, .. } = replica.recovered;
    let applied = replica.record.applied.index;
    Arc::new(ShardState::new(replica.descriptor(), id, space, replica.worker, applied))
}

fn start_threads(
    builder: EngineBuilder,
    core: Arc<Core>,
    replicas: Vec<Replica>,
    runtime: tokio::runtime::Runtime,
    inbound: Arc<Inbound>,
) -> Result<Running, OpenFault> {
    let writer = spawn_writer(&core);
    let running = Running::new(Arc::clone(&core), inbound, runtime, writer);
    let hosts = hosts(&builder, &core);
    let mut silent: Vec<Vec<ReplicaInit>> = hosts.iter().map(|_| Vec::new()).collect();
    let mut appliers = FxHashMap::default();
    for Replica { recovered, record, worker } in replicas {
        let shard = recovered.shard;
        silent[worker].push(ReplicaInit {
            shard,
            replica: recovered.replica,
            descriptor_version: record.epoch.version,
            restored: recovered.restored,
        });
        let state = Arc::clone(core.shards.get(shard).expect("made from the same replicas"));
        let machine = match shard {
            META_SHARD => Box::new(MetaMachine),
            shard => (builder.machine)(shard),
        };
        appliers.insert(shard, Applier { state, machine, record });
    }

    for (index, (host, silent)) in hosts.into_iter().zip(silent).enumerate() {
        let worker = Worker {
            index,
            host,
            silent,
            founding: Arc::clone(&core.founding),
            stalls: Arc::clone(&core.stalls),
            stalled: Stalled::default(),
            wall_clock: Arc::clone(&core.wall_clock),
            inbox: Arc::clone(&core.inboxes[index]),
            transport: Arc::clone(&core.transport),
            writer: running.writer(),
            log: Arc::clone(&core.log),
            applies: Arc::clone(running.applies()),
            fetches: Arc::clone(running.fetches()),
            shards: Arc::clone(&core.shards),
            callers: Callers::default(),
            replies: Replies::new(Arc::clone(&core.transport)),
            fatal: Arc::clone(&core.fatal),
            counters: Arc::clone(&core.counters),
            observer: builder.observer.clone(),
        };
        running.start_worker(worker)?;
    }
    running.start_apply(ApplyThread {
        queue: Arc::clone(running.applies()),
        appliers: Appliers::new(appliers, Arc::clone(&core.data)),
        inboxes: core.inboxes.clone(),
        replies: Replies::new(Arc::clone(&core.transport)),
        fatal: Arc::clone(&core.fatal),
        counters: Arc::clone(&core.counters),
    })?;
    running.start_fetch(FetchThread {
        queue: Arc::clone(running.fetches()),
        log: Arc::clone(&core.log),
        inboxes: core.inboxes.clone(),
        fatal: Arc::clone(&core.fatal),
    })?;
    running.start_tidy()?;
    Ok(running)
}

fn spawn_writer(core: &Arc<Core>) -> LogWriter {
    let inboxes = core.inboxes.clone();
    let fatal = Arc::clone(&core.fatal);
    LogWriter::spawn(Arc::clone(&core.log), move |result| match result {
        Ok(turns) => {
            for (worker, turn) in turns {
                inboxes[*worker].push(Input::Persisted(*turn));
            }
        }
        Err(fault) => {
            fatal.latch(FatalError::Log(fault.to_string()));
        }
    })
}

fn hosts(builder: &EngineBuilder, core: &Core) -> Vec<Host> {
    let mut seed = [0; 8];
    // Election jitter is the only use: a poor seed costs a split vote, not safety.
    if getrandom::fill(&mut seed).is_err() {
        seed = core.node.0.to_le_bytes();
    }
    let config = HostConfig {
        entry_cache_bytes_max: builder.entry_cache_bytes_max / builder.workers,
        uncommitted_bytes_max: limits::UNCOMMITTED_NODE_BYTES_MAX / builder.workers,
        uncommitted_reserve_bytes: limits::UNCOMMITTED_RESERVE_BYTES / builder.workers,
        apply_bytes_max: limits::APPLY_NODE_BYTES_MAX / builder.workers,
        window_peer_bytes_max: limits::WINDOW_PEER_BYTES_MAX / builder.workers,
        ..HostConfig::new(core.node, core.life.incarnation, u64::from_le_bytes(seed))
    };
    (0..builder.workers).map(|_| Host::new(config.clone())).collect()
}
