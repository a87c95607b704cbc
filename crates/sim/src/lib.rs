//! The hosts of a cluster in a simulated world: one seed gives one history.
//!
//! # Fault model
//!
//! The world runs the very [`Host`](quorate_host::Host) and
//! [`NodeLiveness`](quorate_liveness::NodeLiveness) that the engine runs, over a network, disks
//! and clocks that are made up from a seed. No thread, no real time, no hash order. Each seed has a
//! [`Profile`]: how many nodes and shards, which kinds of faults, and how often.
//!
//! - **Clocks**: each node has its own, which runs up to 1% fast or slow and jumps by a little: any two
//!   stray by less than the drift margin within one support, and leases are on. Or clocks do what they
//!   like: they jump by seconds and stand still. Then reads go by ReadIndex, and writes have to be
//!   safe all the same.
//! - **Network**: streams keep their order within a lane and lose messages only with their connection;
//!   datagrams are lost, doubled and overtaken. Pairs are cut in one direction or both, the cluster
//!   falls apart in two or in part, peers are slow, streams hang while datagrams pass and the other
//!   way round. In some seeds single messages are lost, doubled and reordered as well.
//! - **Log disk**: turns become durable in order, some time after they were handed over. A crash keeps
//!   a random number of the oldest of those under way, each whole: a torn one is known by its
//!   checksum. Disks are slow, hang, or fail a sync: the node then stops and starts again. A bit
//!   flips: whoever reads the run finds out, and that ends the replica.
//! - **Data store**: durable only when it was flushed, shard by shard. A crash takes each back to its
//!   last flush, data and applied record together.
//! - **Process**: crashes, alone or all at once, restarts, pauses, hung workers.
//! - **Operator**: members are added, removed and replaced, leaders moved, shards made; snapshots are
//!   cut off and go on. At most one replica of a shard is damaged at a time, and it is replaced
//!   before the next: more is lost data on any system of this kind. Nobody puts an older copy of a node's
//!   stores back: that is drilled apart, with one group.
//!
//! # Properties, checked at every step
//!
//! One file each in [`properties`]; they see [`observation`]s alone. After the faults everything
//! heals, and within a bound every shard has to serve, every member to have caught up, and every
//! acknowledged write to be there. Histories of clients are checked as a whole by
//! [`linearizability`].
//!
//! # For embedders
//!
//! A [`Workload`] brings the commands, the state machine and the judgement of its replies; the world
//! brings everything else. [`KvWorkload`] is the one of the built-in key-value store.
//!
//! What it is not: it has no RocksDB, no QUIC and no engine threads. What those do wrong by
//! themselves is found by the tests on real processes.
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
