//! Opens an engine's directory and starts the engine.
//!
//! Order matters: the stores are recovered first (`recover.rs`), then the port is claimed, then the
//! threads start (`assemble.rs`), and peers are let in last.

use std::sync::Arc;

use quorate_log::LogStore;
use quorate_machine::MetaMap;
use quorate_transport::{BoundSocket, Transport, TransportConfig};
use quorate_types::NodeInstance;

use crate::cluster::bootstrap::Bootstrap;
use crate::cluster::bootstrap_state::BootstrapState;
use crate::cluster::map::ClusterMap;
use crate::error::OpenFault;
use crate::lifecycle::assemble::{Parts, assemble};
use crate::lifecycle::join::Replica;
use crate::lifecycle::recover::{Recovered, recover};
use crate::lifecycle::running::Running;
use crate::lifecycle::settings::Settings;
use crate::state::disk_room;

pub(crate) fn open(settings: Settings) -> Result<Running, OpenFault> {
    let bootstrap = settings.bootstrap.as_ref().expect("checked before");
    disk_room::check(&settings.directory)?;
    let Recovered { log, data, replicas, damaged, instance, first_map, recovery } =
        recover(&settings, bootstrap)?;
    let map = known_map(bootstrap, recovery.map.as_deref(), &replicas)?;
    let bootstrap_state =
        BootstrapState::new(log.identity().node, bootstrap.founders(), recovery.founded);
    let bound = bind(&settings, &log, instance, first_map)?;
    let (log, data, peers) = (Arc::new(log), Arc::new(data), recovery.peers);
    assemble(
        settings,
        Parts {
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
        },
    )
}

/// The map that this directory cached last, or the first map; with what its own replicas
/// say.
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
            // It is only a cache: the meta shard has the whole map.
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
    settings: &Settings,
    log: &LogStore,
    instance: NodeInstance,
    first_map: u32,
) -> Result<BoundSocket, OpenFault> {
    let identity = log.identity();
    let config = TransportConfig {
        cluster: identity.cluster,
        node: identity.node,
        instance,
        wall_clock: Arc::clone(&settings.wall_clock),
        first_map,
        listen: settings.listen.expect("checked before"),
        peers: settings.peers.clone(),
        tls: settings.tls.clone().expect("checked before"),
    };
    Transport::bind(config).map_err(|error| OpenFault::Transport(error.to_string()))
}
