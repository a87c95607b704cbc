//! Opens a directory's two stores, and checks what they hold against each other.
//!
//! Log and data store belong together: each holds the identity of the other, and neither is created
//! anew while the other holds anything (RULE 17). A start that is refused here has changed at most
//! the count of starts.

use std::path::{Path, PathBuf};

use quorate_log::{LogOptions, LogStore, NewReplica, RecoveredReplica, Recovery};
use quorate_machine::AppliedRecord;
use quorate_raft::{HardState, Member, Membership, Restored};
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, NodeInstance, SpaceId, StoreId, WallMillis};
use rustc_hash::FxHashSet;

use crate::cluster::bootstrap::Bootstrap;
use crate::error::OpenFault;
use crate::lifecycle::join::{BOOTSTRAP_BASE, Joined, Joining, Replica, end_damaged, join_stores};
use crate::lifecycle::rewrite::without_damage;
use crate::lifecycle::settings::Settings;
use crate::state::shards::DamagedReplica;
use crate::store::data_store::{DataError, DataStore, is_damage};
use crate::store::identity::StoreIdentity;
use crate::store::rewrite;

/// What a directory held.
pub(crate) struct Recovered {
    pub(crate) log: LogStore,
    pub(crate) data: DataStore,
    pub(crate) replicas: Vec<Replica>,
    /// What is sound of their files stays, as evidence, until their shards get other replicas here or
    /// the store is written anew.
    pub(crate) damaged: Vec<DamagedReplica>,
    /// This start: durable, and not yet told to any peer.
    pub(crate) instance: NodeInstance,
    pub(crate) first_map: u32,
    /// What else the log knows, without its replicas.
    pub(crate) recovery: Recovery,
}

/// Opens both stores of the directory; if it is new, creates them and the bootstrap's replicas.
/// Blocks on the disks.
pub(crate) fn recover(settings: &Settings, bootstrap: &Bootstrap) -> Result<Recovered, OpenFault> {
    let node = settings.node.expect("checked before");
    let (log, data, mut recovery) = open_stores(settings, node)?;
    let first_map = first_map(&log, &recovery, bootstrap)?;
    // Only if no peer has been told of this directory: once it is founded, or knows the map, the
    // bootstrap is ignored.
    let is_new = recovery.replicas.is_empty() && !recovery.founded && recovery.map.is_none();
    let recovered = if is_new {
        create_replicas(&log, &data, node, &bootstrap.descriptors())?
    } else {
        std::mem::take(&mut recovery.replicas)
    };
    let leftovers = leftovers(&data, &recovered)?;
    let joining = Joining {
        data: &data,
        identity: StoreIdentity::of(log.identity()),
        machines: settings.machines(),
        has_leftovers: !leftovers.is_empty(),
        workers: settings.workers,
    };
    let Joined { replicas, mut damaged, waiting } = join_stores(&joining, recovered)?;
    end_damaged(&log, &damaged)?;
    delete_leftovers(&data, &leftovers)?;
    let (data, replicas) = without_damage(settings, &log, data, replicas, waiting, &mut damaged)?;
    let nonce = u64::from_le_bytes(random("a nonce")?);
    // Before any peer hears of this start: later starts must be able to prove that they descend
    // from it.
    log.record_start(nonce)?;
    let identity = log.identity();
    let instance = NodeInstance { store: identity.store, incarnation: identity.incarnation, nonce };
    Ok(Recovered { log, data, replicas, damaged, instance, first_map, recovery })
}

/// Opens both stores, or neither.
fn open_stores(
    settings: &Settings,
    node: NodeId,
) -> Result<(LogStore, DataStore, Recovery), OpenFault> {
    let directories = Directories::of(&settings.directory);
    let data_holds = holds(&directories.data)? || rewrite::is_pending(&directories.data);
    if data_holds && !holds(&directories.log)? {
        return Err(directories.log_is_missing());
    }
    let (log, recovery) = open_log(settings, node, &directories.log)?;
    if let Some(reason) = &recovery.ended {
        return Err(OpenFault::Ended { reason: reason.clone() });
    }
    let own = StoreIdentity::of(log.identity());
    if recovery.has_data_store && !data_holds {
        return Err(directories.data_is_missing(own));
    }
    let data = open_data(settings, &directories.data, !recovery.has_data_store)?;
    match data.identity().map_err(|error| unopened(&error))? {
        Some(Ok(found)) if found == own => {}
        Some(Ok(found)) => return Err(directories.do_not_match(own, found)),
        Some(Err(error)) => return Err(OpenFault::Data(format!("its identity: {error}"))),
        // A new directory, or one whose creation a crash cut short.
        None if !recovery.has_data_store && data.is_empty().map_err(data_fault)? => {
            data.take_identity(own).map_err(data_fault)?;
        }
        None => return Err(directories.data_is_nobodys(own)),
    }
    if !recovery.has_data_store {
        log.record_data_store()?;
    }
    Ok((log, data, recovery))
}

/// Where the two stores are.
struct Directories {
    log: PathBuf,
    data: PathBuf,
}

impl Directories {
    fn of(directory: &Path) -> Directories {
        Directories { log: directory.join("log"), data: directory.join("data") }
    }

    fn log_is_missing(&self) -> OpenFault {
        let whose = match DataStore::peek_identity(&self.data) {
            Some(owner) => owner.to_string(),
            None => "a node that can't be told".to_owned(),
        };
        self.mismatch(format!(
            "{} holds the data of {whose}, and {} holds no log: is a volume not mounted? Put the log \
             back; if it is lost, move the data away too, and give the machine a node id that was \
             never used",
            self.data.display(),
            self.log.display()
        ))
    }

    fn data_is_missing(&self, own: StoreIdentity) -> OpenFault {
        self.mismatch(format!(
            "{} holds the log of {own}, and {} holds no data: is a volume not mounted? Put the data \
             back; if it is lost, move the log away too, and give the machine a node id that was \
             never used",
            self.log.display(),
            self.data.display()
        ))
    }

    fn do_not_match(&self, own: StoreIdentity, found: StoreIdentity) -> OpenFault {
        self.mismatch(format!(
            "{} holds the log of {own}, and {} the data of {found}: have directories been swapped? \
             Put the right ones together",
            self.log.display(),
            self.data.display()
        ))
    }

    fn data_is_nobodys(&self, own: StoreIdentity) -> OpenFault {
        self.mismatch(format!(
            "{} holds the log of {own}, and {} holds data that bears no identity: it is another \
             program's, or an older build's; put the right directories together, or start on an \
             empty one",
            self.log.display(),
            self.data.display()
        ))
    }

    fn mismatch(&self, what: String) -> OpenFault {
        OpenFault::Stores { what }
    }
}

fn holds(directory: &Path) -> Result<bool, OpenFault> {
    quorate_log::holds_database(directory).map_err(|cause| OpenFault::System {
        what: format!("looking into the directory {}", directory.display()),
        cause,
    })
}

/// The digest of the map that this directory was made for; noted before anything is created.
fn first_map(log: &LogStore, recovery: &Recovery, bootstrap: &Bootstrap) -> Result<u32, OpenFault> {
    let given = bootstrap.digest();
    match recovery.first_map {
        Some(noted) if noted != given && !recovery.founded => Err(OpenFault::Setting {
            setting: "bootstrap",
            what: "differs from the one that this directory was made for, and the cluster is not \
                   founded yet: give that one again, or empty the directory"
                .to_owned(),
        }),
        Some(noted) => Ok(noted),
        None => {
            log.record_first_map(given)?;
            Ok(given)
        }
    }
}

fn random<const N: usize>(what: &str) -> Result<[u8; N], OpenFault> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| OpenFault::System {
        what: format!("drawing {what}"),
        cause: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}

fn open_log(
    settings: &Settings,
    node: NodeId,
    directory: &Path,
) -> Result<(LogStore, Recovery), OpenFault> {
    let open_files_max = settings.table_files_max / 3;
    let options = LogOptions { sync: settings.sync, open_files_max, ..LogOptions::default() };
    let cluster = settings.cluster.expect("checked before");
    let fresh_store = StoreId(u128::from_le_bytes(random("a store id")?));
    Ok(LogStore::open(directory, cluster, node, fresh_store, options)?)
}

pub(super) fn open_data(
    settings: &Settings,
    directory: &Path,
    may_be_new: bool,
) -> Result<DataStore, OpenFault> {
    // Once the log is purged, losing the name of this directory would lose what it held.
    quorate_log::make_durably(directory).map_err(|cause| OpenFault::System {
        what: format!("making the directory {}", directory.display()),
        cause,
    })?;
    // Under the lock of the log, which is open.
    rewrite::finish(directory).map_err(|cause| OpenFault::System {
        what: format!("putting a rewritten store into {}", directory.display()),
        cause,
    })?;
    quorate_log::mend_manifest(directory).map_err(|error| OpenFault::Data(error.to_string()))?;
    DataStore::open_bounded(directory, may_be_new, data_files_max(settings))
        .map_err(|error| unopened(&error))
}

/// Damage of which nobody can tell which replicas it concerns: the end of a table says how to read the
/// rest, and the store's identity whose all of it is.
fn unopened(error: &DataError) -> OpenFault {
    OpenFault::Data(match is_damage(error) {
        true => format!(
            "{error}: it can't even be opened. Move the node's directory away and let the machine join as \
             a new node; the other nodes hold what this one acknowledged"
        ),
        false => error.to_string(),
    })
}

/// Table files that the data store keeps open. The log has the other third: it is rarely read from
/// tables.
pub(super) fn data_files_max(settings: &Settings) -> i32 {
    settings.table_files_max / 3 * 2
}

fn data_fault(error: DataError) -> OpenFault {
    OpenFault::Data(error.to_string())
}

/// Creates, in one step, the replicas that the bootstrap places in a new directory. Their applied
/// records are durable first: what a replica begins with must not depend on a later bootstrap.
fn create_replicas(
    log: &LogStore,
    data: &DataStore,
    node: NodeId,
    descriptors: &[ShardDescriptor],
) -> Result<Vec<RecoveredReplica>, OpenFault> {
    let mut new = Vec::new();
    let mut records = Vec::new();
    for descriptor in descriptors {
        let Some(own) = descriptor.members.iter().find(|member| member.node == node) else {
            continue;
        };
        let members = descriptor.members.iter();
        let voters = members.map(|m| Member { replica: m.replica, node: m.node });
        let base_membership = Membership::of_voters(voters);
        let space = log.next_space()?;
        records.push((space, first_record(descriptor, base_membership.clone())));
        new.push(NewReplica {
            shard: descriptor.shard,
            replica: own.replica,
            space,
            base: BOOTSTRAP_BASE,
            base_membership,
            hard_state: HardState {
                term: BOOTSTRAP_BASE.term,
                vote: None,
                committed: BOOTSTRAP_BASE.index,
            },
        });
    }
    check_unused(data)?;
    data.put_records(&records).map_err(data_fault)?;
    log.create_replicas(&new)?;
    let recovered = new.into_iter().map(|replica| RecoveredReplica {
        shard: replica.shard,
        replica: replica.replica,
        space: replica.space,
        tombstone: false,
        damaged: None,
        restored: Restored {
            hard_state: replica.hard_state,
            base: replica.base,
            base_membership: replica.base_membership,
            terms: Vec::new(),
            memberships: Vec::new(),
            last: replica.base,
            applied: replica.base.index,
        },
    });
    Ok(recovered.collect())
}

/// Refuses data that was written to although the log knows of no replica. What a creation left that
/// a crash cut short has applied nothing.
fn check_unused(data: &DataStore) -> Result<(), OpenFault> {
    for space in data.spaces().map_err(data_fault)? {
        let record = data.record(space).map_err(data_fault)?;
        let is_unused = matches!(&record, Some(Ok(found)) if found.applied == BOOTSTRAP_BASE);
        if !is_unused {
            let what = format!(
                "the data store holds a replica's data (space {space}), and the log knows of no \
                 replica: put the right log and data together, or start on an empty directory"
            );
            return Err(OpenFault::Stores { what });
        }
    }
    Ok(())
}

/// The spaces that no replica owns: what a crash left of a snapshot, or of the space before it
/// (RULES 12 and 13).
fn leftovers(data: &DataStore, recovered: &[RecoveredReplica]) -> Result<Vec<SpaceId>, OpenFault> {
    let owned: FxHashSet<SpaceId> =
        recovered.iter().filter(|replica| !replica.tombstone).map(|r| r.space).collect();
    match data.spaces() {
        // Which replica the damage is of is found by reading that replica.
        Err(error) if data.note_damage(&error) => {
            tracing::error!(%error, "data of no replica may stay behind");
            Ok(Vec::new())
        }
        Err(error) => Err(data_fault(error)),
        Ok(spaces) => Ok(spaces.into_iter().filter(|space| !owned.contains(space)).collect()),
    }
}

/// Only once log and data are known to belong together.
fn delete_leftovers(data: &DataStore, leftovers: &[SpaceId]) -> Result<(), OpenFault> {
    data.delete_incoming().map_err(|cause| OpenFault::System {
        what: "deleting what is left of snapshots".to_owned(),
        cause,
    })?;
    for space in leftovers {
        tracing::info!(%space, "data of no replica is deleted");
        data.delete_unread_space(*space).map_err(data_fault)?;
    }
    Ok(())
}

fn first_record(descriptor: &ShardDescriptor, membership: Membership) -> AppliedRecord {
    AppliedRecord {
        applied: BOOTSTRAP_BASE,
        epoch: descriptor.epoch,
        start: descriptor.start.clone(),
        end: descriptor.end.clone(),
        membership,
        clock: WallMillis(0),
    }
}
