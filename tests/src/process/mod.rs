//! Clusters of real processes on loopback, and clients that record what they were told.
//!
//! It is not a simulator: processes, disks, sockets and clocks are the real ones, so a run is not
//! repeatable. Every assertion has to hold in every run; durations are printed, and bounded
//! generously. No wait is for a fixed time: every wait checks for a fact, up to a bound.
//!
//! ```text
//!  ProcessCluster ─▶ Configuration (node.toml) ─▶ NodeProcess (spawn, kill, pause, stop)
//!     │    └─▶ an Engine in the test's own process, as a node without replicas
//!     └─▶ ClusterReport, over http
//!  Load, Recorder ─▶ AnyPort ─▶ RedisClient ─▶ Outcome: answered, did not happen, unknown
//! ```

mod any_port;
mod cluster;
mod configuration;
mod http;
mod load;
mod loopback;
mod node_process;
mod overwrites;
mod read_back;
mod recorder;
mod redis_client;
mod script;
mod wait;

pub use any_port::AnyPort;
pub use cluster::{ProcessCluster, ProcessSpec, READY, busiest_leader, meta_leader};
pub use configuration::Configuration;
pub use http::{HttpReply, http_get};
pub use load::{Load, Written};
pub use loopback::{Addresses, connect};
pub use node_process::NodeProcess;
pub use overwrites::{Overwrites, VALUE_BYTES, assert_filled, fill, numbered_key, numbered_value};
pub use read_back::{assert_serves, read_back};
pub use recorder::{Client, Figures, Recorder};
pub use redis_client::{Answer, Outcome, RedisClient, Request};
pub use script::{BashScript, shell_blocks};
pub use wait::until;
