//! Writes the data store anew if tables of it are damaged: what background work has met, or a read, or
//! this start.

use std::io;
use std::time::Instant;

use quorate_log::LogStore;
use quorate_types::{ReplicaId, ShardId};

use crate::error::OpenFault;
use crate::lifecycle::join::{Replica, WaitingReplica, end_damaged};
use crate::lifecycle::recover::{data_files_max, open_data};
use crate::lifecycle::settings::Settings;
use crate::state::disk_room;
use crate::state::shards::DamagedReplica;
use crate::store::data_store::{DataError, DataStore};
use crate::store::identity::StoreIdentity;
use crate::store::rewrite::Rewrite;
use crate::store::space_writer::SpaceError;

/// Returns the store of `replicas` without damaged tables, and those whose data could be read. The
/// others are given up durably, and added to `damaged`. The spaces of replicas that are `waiting` for a
/// later start are kept. Blocks for the disk.
pub(super) fn without_damage(
    settings: &Settings,
    log: &LogStore,
    data: DataStore,
    replicas: Vec<Replica>,
    waiting: Vec<WaitingReplica>,
    damaged: &mut Vec<DamagedReplica>,
) -> Result<(DataStore, Vec<Replica>), OpenFault> {
    let directory = data.directory().to_owned();
    let unread = |cause: io::Error| OpenFault::System {
        what: format!("looking for a note of damage in {}", directory.display()),
        cause,
    };
    let Some(noted) = data.noted_damage().map_err(unread)? else {
        return Ok((data, replicas));
    };
    disk_room::check_rewrite(&directory, data.statistics().table_bytes)?;
    let dir = directory.display();
    tracing::warn!(%dir, noted, "damaged tables: the data store is written anew");
    let begun = Instant::now();
    let failed = |error: SpaceError| OpenFault::Data(format!("writing it anew: {error}"));
    let identity = StoreIdentity::of(log.identity());
    let copy = Rewrite::begin(&data, identity, data_files_max(settings)).map_err(failed)?;
    let (sound, mut given_up) = copy_sound(&copy, replicas).map_err(failed)?;
    for WaitingReplica { shard, replica, space, record } in waiting {
        // The start at which its own store can be read again would find nothing of it here.
        if let Err(error) = copy.copy(space, &record).map_err(failed)? {
            damaged.retain(|it| it.shard != shard);
            given_up.push(unreadable(shard, replica, &error));
        }
    }
    // Before the copy counts: what it lacks would be no proof later that bytes were damaged.
    end_damaged(log, &given_up)?;
    let bytes = copy.complete().map_err(failed)?;
    drop(data);
    let data = open_data(settings, &directory, false)?;
    let (kept, took_ms) = (sound.len(), begun.elapsed().as_millis());
    tracing::warn!(
        kept,
        given_up = given_up.len(),
        bytes,
        took_ms,
        "the data store is written anew"
    );
    damaged.extend(given_up);
    Ok((data, sound))
}

/// The replicas of which all data was copied, and those of which something can't be read.
fn copy_sound(
    copy: &Rewrite<'_>,
    replicas: Vec<Replica>,
) -> Result<(Vec<Replica>, Vec<DamagedReplica>), SpaceError> {
    let mut sound = Vec::with_capacity(replicas.len());
    let mut given_up = Vec::new();
    for replica in replicas {
        match copy.copy(replica.recovered.space, &replica.space_record)? {
            Ok(()) => sound.push(replica),
            Err(error) => {
                let (shard, replica) = (replica.recovered.shard, replica.recovered.replica);
                given_up.push(unreadable(shard, replica, &error));
            }
        }
    }
    Ok((sound, given_up))
}

fn unreadable(shard: ShardId, replica: ReplicaId, error: &DataError) -> DamagedReplica {
    let what = format!("its data: {error}");
    tracing::error!(%shard, %replica, %what, "a replica is damaged and given up");
    DamagedReplica::for_good(shard, replica, what)
}
