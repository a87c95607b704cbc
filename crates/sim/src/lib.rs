//! The hosts of a cluster in a simulated world: one seed gives one history.
//!
//! # Fault model
//!
//! The world runs the very [`Host`](quorate_host::Host) that the engine runs, over a network, disks
//! and clocks that are made up from a seed. No thread, no real time, no hash order.
//!
//! - **Network**: every message takes a random time, so messages overtake each other; a share is
//!   lost, a share arrives twice; a pair of nodes is cut off from each other for a while.
//! - **Log disk**: a turn's write becomes durable some time after it was handed over, in order. A
//!   crash loses what was not durable; of the writes under way a random number of the oldest may
//!   have survived.
//! - **Data store**: applied at once, durable only at random moments. A crash takes it back to the
//!   last one, data and applied record together.
//! - **Process**: a node crashes at any time and restarts later from its two stores.
//!
//! # Properties, checked at every step
//!
//! - at most one leader per shard and term (election safety, Raft paper figure 3);
//! - all nodes apply the same entry at the same index (state machine safety);
//! - a linearizable read sees every increment that was acknowledged before it began;
//! - after everything has healed, every shard serves again within a bound, and every counter lies
//!   between what was acknowledged and that plus what ended as "outcome unknown".
//!
//! Histories of real or simulated clients are checked as a whole by [`linearizability`].
//!
//! What it is not yet: clock drift, torn and failing writes, membership changes, snapshots.
//!
//! ```
//! use quorate_sim::{World, WorldConfig};
//! let report = World::new(WorldConfig::new(7)).run().expect("no property is violated");
//! assert!(report.acknowledged > 0);
//! ```

pub mod linearizability;
pub mod mark_finder;
pub mod marks;
pub mod observation;
pub mod properties;
mod random;
pub mod report;
pub mod timeline;
mod world;

pub use random::Random;
pub use report::Report;
pub use world::{
    Ask, Character, Clocks, Failure, Finished, KvWorkload, Moment, Outcome, Workload, World, WorldConfig,
};
