//! The parts of the binary `quorate`: one node with its ports, a demo cluster, the bench, and the
//! command line over all of them.
//!
//! A library so that tests and benches call what the binary runs. It is not the embedding API: that
//! is the crate `quorate`.
//!
//! ```text
//!  main ─▶ cli ─┬─▶ start ─▶ config ──▶ node ─┬─▶ redis ─▶ engine (crate quorate)
//!               ├─▶ demo ─▶ cluster_directory ┘ └─▶ admin ──▶ ▲
//!               ├─▶ bench ────────────────────────────────────┘
//!               ├─▶ status, shard, node ─▶ admin_client ~ HTTP ~▶ admin;  render
//!               └─▶ cert ─▶ certificate_directory (cluster_directory uses it too)
//! ```
//!
//! ```
//! # fn main() -> anyhow::Result<()> {
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! use quorate_node::demo::{Demo, DemoConfig};
//!
//! let demo = Demo::start(DemoConfig {
//!     nodes: 1,
//!     shards: 2,
//!     directory: None,
//!     redis_port: 0,
//!     admin_port: 0,
//!     sync: quorate::SyncMode::Sync,
//! })
//! .await?;
//! demo.wait_ready(std::time::Duration::from_secs(30)).await?;
//! println!("{}", demo.greeting());
//! demo.stop().await
//! # })
//! # }
//! ```

mod accept;
mod admin;
pub mod admin_client;
pub mod bench;
pub mod certificate_directory;
pub mod certificate_watch;
pub mod cli;
pub mod cluster_directory;
pub mod concurrent;
pub mod config;
pub mod demo;
pub mod descriptors;
mod files;
mod logging;
mod metrics;
pub mod node;
pub mod outlet;
pub mod redis;
pub mod render;
