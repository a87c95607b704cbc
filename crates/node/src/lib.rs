//! The parts of the binary `quorate`: one node with its ports, a demo cluster, and the bench.
//!
//! A library so that tests and benches call what the binary runs. It is not the embedding API: that
//! is the crate `quorate`.
//!
//! ```text
//!  main ─▶ demo ──▶ node ─┬─▶ redis ─▶ engine (crate quorate)
//!    │       └─▶ cluster_directory   ▲
//!    │                    └─▶ admin ─┤
//!    └───▶ bench ────────────────────┘
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

mod admin;
pub mod bench;
pub mod cluster_directory;
pub mod concurrent;
pub mod demo;
mod metrics;
pub mod node;
pub mod redis;
