//! Runs the hosts of a cluster in a simulated world: one seed gives one history.
//!
//! # Fault model
//!
//! The world runs the same [`Host`](quorate_host::Host) and
//! [`NodeLiveness`](quorate_liveness::NodeLiveness) as the engine, over a network, disks and clocks
//! simulated from a seed. It uses no threads and no real time, and depends on no hash order. Each
//! seed has a [`Profile`]: how many nodes and shards, which kinds of faults, and how often.
//!
//! - **Clocks**: each node's clock runs up to 1% fast or slow and makes small jumps: any two stray
//!   by less than the drift margin within one support, and leases are on. In other seeds clocks
//!   jump by seconds and stand still: reads then use ReadIndex, and writes must still be safe.
//! - **Network**: streams keep their order within a lane and lose messages only with their
//!   connection; datagrams are lost, duplicated and reordered. Pairs are cut in one direction or
//!   both, the cluster is partitioned in two or in part, peers are slow, streams hang while
//!   datagrams pass and the reverse. In some seeds single messages are lost, duplicated and
//!   reordered as well.
//! - **Log disk**: what turns change becomes durable in order, some time after it was handed over:
//!   purges, writes and ended replicas as one unit, births apart. A crash keeps a random number of
//!   the oldest units under way, each whole: a checksum reveals a torn one. Disks are slow, hang, or
//!   fail a sync: the node then stops and starts again. A bit flips: the next read of the run
//!   detects it, and that ends the replica. A whole write-ahead log is damaged: the next start
//!   detects it, and that ends every replica of the node.
//! - **Data store**: durable only as of the last completed flush, shard by shard; a flush takes up
//!   to seconds. A crash takes each shard back to it, data and applied record together.
//! - **Threads**: apply and fetch lag by up to seconds, each for itself, also behind a hung worker and
//!   past the end of their replica. An install pauses apply, and ranges are parked meanwhile.
//! - **Process**: crashes, alone or all at once, restarts, pauses, hung workers.
//! - **Operator**: members are added, removed and replaced, leaders moved, shards created;
//!   snapshots are cut off, resumed, bounded per node and replaced by later leaders'. At most one
//!   replica of a shard is damaged at a time, and it
//!   is replaced before the next: more damage loses data on any system of this kind. A world never
//!   restores an older copy of a node's stores: a separate drill with one group does.
//!
//! # Properties, checked at every step
//!
//! Each is a file in [`properties`] and sees only [`observation`]s. After the faults everything
//! heals; within a bound every shard must serve, every member must have caught up, and every
//! acknowledged write must be there. [`linearizability`] checks the clients' histories as a whole.
//!
//! # For embedders
//!
//! A [`Workload`] provides the commands, the state machine and the check of its replies; the world
//! provides everything else. [`KvWorkload`] is the workload of the built-in key-value store.
//!
//! The world has no RocksDB, no QUIC and no engine threads. The tests on real processes find the
//! faults of those.
//!
//! ```
//! use quorate_sim::{World, WorldConfig};
//! let config = WorldConfig { faulty_ms: 5_000, ..WorldConfig::new(7) };
//! let finished = World::new(config).run().map_err(|failure| failure.to_string())?;
//! assert!(finished.report.acknowledged > 0);
//! # Ok::<(), String>(())
//! ```

pub mod linearizability;
pub mod mark_finder;
pub mod marks;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod observation;
pub mod properties;
pub mod report;
pub mod timeline;
mod world;

pub use report::Report;
pub use world::{
    Ask, Clocks, Failure, Finished, KvWorkload, Moment, Outcome, Profile, Workload, World,
    WorldConfig,
};
