//! Puts an engine together from what its directory held, and starts its threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_host::{Host, HostConfig, ReplicaInit};
use quorate_log::{LogStore, LogWriter, RecoveredReplica};
use quorate_machine::NodeRecord;
use quorate_transport::{BoundSocket, Transport};
use quorate_types::{NodeId, NodeInstance, limits};
use rustc_hash::FxHashMap;

use crate::cluster::addresses::PeerAddresses;
use crate::cluster::bootstrap_state::BootstrapState;
use crate::cluster::identity::NodeIdentity;
use crate::cluster::map::ClusterMap;
use crate::control::admission::{Admission, AdmissionParts};
use crate::control::map_sync::{MapSync, MapSyncParts};
use crate::error::{FatalError, OpenFault};
use crate::lifecycle::join::Replica;
use crate::lifecycle::running::{Components, Running};
use crate::lifecycle::settings::Settings;
use crate::peer::forwarder::Forwarder;
use crate::request::dispatch::{Dispatch, DispatchParts};
use crate::request::reads::Reads;
use crate::serve::inbound::{Inbound, Targets};
use crate::serve::peer_service::PeerService;
use crate::snapshot::receiver::SnapshotReceiver;
use crate::snapshot::sender::SnapshotSender;
use crate::state::disk_floor::DiskFloor;
use crate::state::engine_state::EngineState;
use crate::state::fatal::Fatal;
use crate::state::shards::{DamagedReplica, LocalShard, Shards};
use crate::status::cluster_reporter::ClusterReporter;
use crate::status::node_status::{StatusParts, StatusReporter};
use crate::status::resources::Resources;
use crate::store::data_store::DataStore;
use crate::store::identity::StoreIdentity;
use crate::upkeep::disk_watch::DiskWatch;
use crate::upkeep::log_bound::LogBound;
use crate::worker::applier::Applier;
use crate::worker::apply::{Appliers, ApplyThread};
use crate::worker::fetch::FetchThread;
use crate::worker::inbox::{Inbox, Input};
use crate::worker::shared::{Queues, WorkerShared};
use crate::worker::step::Worker;

/// What a directory held, and the port that was claimed for it.
pub(super) struct Parts {
    pub(super) log: Arc<LogStore>,
    pub(super) data: Arc<DataStore>,
    pub(super) replicas: Vec<Replica>,
    pub(super) damaged: Vec<DamagedReplica>,
    pub(super) map: ClusterMap,
    pub(super) bootstrap_state: BootstrapState,
    pub(super) first_map: u32,
    /// The newest instance of every peer that was ever admitted.
    pub(super) peers: BTreeMap<NodeId, NodeInstance>,
    pub(super) instance: NodeInstance,
    pub(super) bound: BoundSocket,
}

/// Starts everything; peers are let in last.
pub(super) fn assemble(settings: Settings, parts: Parts) -> Result<Running, OpenFault> {
    let Parts {
        log,
        data,
        replicas,
        damaged,
        map,
        bootstrap_state,
        first_map,
        peers,
        instance,
        bound,
    } = parts;
    let (cluster, node) = (log.identity().cluster, log.identity().node);
    let identity = NodeIdentity { cluster, node, instance };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(format!("quic-{node}"))
        .enable_all()
        .build()
        .map_err(|cause| OpenFault::System { what: "starting the QUIC runtime".into(), cause })?;
    let inbound = Arc::new(Inbound::default());
    let transport = Transport::start(bound, runtime.handle(), Arc::clone(&inbound) as _)
        .map_err(|error| OpenFault::Transport(error.to_string()))?;
    let transport = Arc::new(transport);

    let inboxes: Vec<Arc<Inbox>> = (0..settings.workers).map(|_| Arc::default()).collect();
    let fatal = fatal(&inboxes, &log, &data);
    let shards = Shards::new(replicas.iter().map(state_of).collect(), damaged);
    let disk = DiskFloor::new(settings.disk_floor_bytes);
    let state = Arc::new(EngineState::new(shards, Arc::clone(&fatal), disk));
    let (map, bootstrap_state) = (Arc::new(map), Arc::new(bootstrap_state));
    let forwarder = Arc::new(Forwarder::new(instance.incarnation));
    let dispatch = Arc::new(Dispatch::new(DispatchParts {
        node,
        map: Arc::clone(&map),
        state: Arc::clone(&state),
        inboxes: inboxes.clone(),
        transport: Arc::clone(&transport),
        forwarder: Arc::clone(&forwarder),
    }));
    let reads = Arc::new(Reads::new(Arc::clone(&dispatch), Arc::clone(&data), Arc::clone(&fatal)));
    let addresses = Arc::new(PeerAddresses::new(settings.peers.clone(), Arc::clone(&transport)));
    let admission = AdmissionParts {
        identity,
        first_map,
        wall_clock: Arc::clone(&settings.wall_clock),
        bootstrap_state: Arc::clone(&bootstrap_state),
        log: Arc::clone(&log),
        fatal: Arc::clone(&fatal),
        map,
        inboxes: inboxes.clone(),
    };
    let admission = Arc::new(Admission::new(admission, peers));
    let resources = Arc::new(Resources::of(settings.directory.clone()));
    let status = Arc::new(StatusReporter::new(StatusParts {
        identity,
        dispatch: Arc::clone(&dispatch),
        bootstrap_state: Arc::clone(&bootstrap_state),
        resources: Arc::clone(&resources),
        addresses: Arc::clone(&addresses),
        transport: Arc::clone(&transport),
        log: Arc::clone(&log),
        data: Arc::clone(&data),
        log_kept_bytes_max: settings.log_kept_bytes_max,
        wall_clock: Arc::clone(&settings.wall_clock),
    }));

    let advertised = settings.advertise.unwrap_or(transport.local_address());
    let own = NodeRecord {
        node,
        instance,
        address: advertised.to_string(),
        services: settings.services.clone(),
    };
    let map_sync = MapSyncParts {
        reads: Arc::clone(&reads),
        admission: Arc::clone(&admission),
        addresses: Arc::clone(&addresses),
        log: Arc::clone(&log),
        fatal: Arc::clone(&fatal),
    };
    runtime.spawn(MapSync::new(map_sync, own).run_guarded());

    let writer = spawn_writer(&log, inboxes.clone(), Arc::clone(&fatal));
    let shared = WorkerShared {
        state: Arc::clone(&state),
        bootstrap_state,
        wall_clock: Arc::clone(&settings.wall_clock),
        inboxes: inboxes.clone(),
        transport: Arc::clone(&transport),
        log: Arc::clone(&log),
        writer: Arc::new(writer),
        queues: Queues::default(),
        observer: settings.observer.clone(),
    };
    let components = Components {
        identity,
        reads: Arc::clone(&reads),
        cluster: Arc::new(ClusterReporter::new(Arc::clone(&status))),
        status: Arc::clone(&status),
        addresses,
        resources,
        transport: Arc::clone(&transport),
        log,
        data,
    };
    let disk_watch = DiskWatch::new(
        Arc::clone(&components.resources),
        Arc::clone(&dispatch),
        Arc::clone(&components.data),
        runtime.handle().clone(),
    );
    // Before the first caller: a start on a disk without room takes no writes.
    disk_watch.begin();
    let running = Running::new(components, Arc::clone(&inbound), &shared, runtime);
    let queues = shared.queues.clone();
    start_threads(&running, &settings, shared, replicas)?;
    running.start_disk_watch(disk_watch)?;
    admission.found_if_complete();
    inbound.open(Targets {
        admission,
        dispatch,
        inboxes,
        forwarder,
        service: Arc::new(PeerService::new(reads, Arc::clone(&transport))),
        status,
        transport,
        queues,
        fatal,
    });
    Ok(running)
}

/// The engine's latch. It stops the workers, and is set by the first fault of either store, on any
/// thread: a failed flush or compaction has no caller.
fn fatal(inboxes: &[Arc<Inbox>], log: &LogStore, data: &DataStore) -> Arc<Fatal> {
    let inboxes = inboxes.to_vec();
    let stop = move || inboxes.iter().for_each(|inbox| inbox.push(Input::Stop));
    let fatal = Arc::new(Fatal::new(stop));
    let of_log = Arc::clone(&fatal);
    log.listen_fault(move |fault| of_log.latch(FatalError::Log(fault.to_string())));
    let of_data = Arc::clone(&fatal);
    data.listen_fault(move |what| of_data.latch(FatalError::Data(what.to_owned())));
    fatal
}

fn state_of(replica: &Replica) -> Arc<LocalShard> {
    let RecoveredReplica { replica: id, space, .. } = replica.recovered;
    let applied = replica.record.applied.index;
    let state = LocalShard::new(replica.descriptor(), id, space, replica.worker, applied);
    Arc::new(if replica.keeps_own_store { state.with_own_store() } else { state })
}

/// Takes `shared` by value: beside `running` only the threads may hold the log writer, because
/// [`Running::stop`] takes it back once they have ended. This holds for a failed start, too.
fn start_threads(
    running: &Running,
    settings: &Settings,
    shared: WorkerShared,
    replicas: Vec<Replica>,
) -> Result<(), OpenFault> {
    let hosts = hosts(settings, running.identity());
    let mut silent: Vec<Vec<ReplicaInit>> = hosts.iter().map(|_| Vec::new()).collect();
    let mut appliers = FxHashMap::default();
    for Replica { recovered, record, machine, worker, .. } in replicas {
        let shard = recovered.shard;
        silent[worker].push(ReplicaInit {
            shard,
            replica: recovered.replica,
            descriptor_version: record.epoch.version,
            restored: recovered.restored,
        });
        let state = shared.state.shards.get(shard).expect("made from the same replicas");
        appliers.insert(shard, Applier::new(Arc::clone(state), machine, record));
    }
    for (index, (host, silent)) in hosts.into_iter().zip(silent).enumerate() {
        running.start_worker(Worker::new(&shared, index, host, silent))?;
    }
    let identity = StoreIdentity::of(running.log().identity());
    let data = Arc::clone(running.data());
    let appliers = Appliers::new(appliers, data, identity, settings.machines());
    running.start_apply(ApplyThread::new(&shared, appliers))?;
    running.start_fetch(FetchThread::new(&shared))?;
    let data = || Arc::clone(running.data());
    let nonce = running.identity().instance.nonce;
    let resources = Arc::clone(running.resources());
    running.start_snapshots(
        SnapshotSender::new(&shared, data(), nonce),
        SnapshotReceiver::new(&shared, data(), resources),
    )?;
    running.start_upkeep(LogBound::new(
        Arc::clone(running.log()),
        data(),
        Arc::clone(&shared.state),
        Arc::clone(&shared.queues.applies),
        shared.inboxes.clone(),
        settings.log_kept_bytes_max,
    ))
}

fn spawn_writer(log: &Arc<LogStore>, inboxes: Vec<Arc<Inbox>>, fatal: Arc<Fatal>) -> LogWriter {
    LogWriter::spawn(Arc::clone(log), move |result| match result {
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

fn hosts(settings: &Settings, identity: &NodeIdentity) -> Vec<Host> {
    let mut seed = [0; 8];
    // Election jitter is the only use: a poor seed costs a split vote, not safety.
    if getrandom::fill(&mut seed).is_err() {
        seed = identity.node.0.to_le_bytes();
    }
    let config = HostConfig {
        entry_cache_bytes_max: settings.entry_cache_bytes_max / settings.workers,
        uncommitted_bytes_max: limits::UNCOMMITTED_NODE_BYTES_MAX / settings.workers,
        uncommitted_reserve_bytes: limits::UNCOMMITTED_RESERVE_BYTES / settings.workers,
        apply_bytes_max: limits::APPLY_NODE_BYTES_MAX / settings.workers,
        window_peer_bytes_max: limits::WINDOW_PEER_BYTES_MAX / settings.workers,
        sends_snapshots: true,
        ..HostConfig::new(identity.node, identity.instance.incarnation, u64::from_le_bytes(seed))
    };
    (0..settings.workers).map(|_| Host::new(config.clone())).collect()
}
