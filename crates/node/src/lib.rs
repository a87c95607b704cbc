//! The parts of the binary `quorate`: one node with its ports, a demo cluster, the bench, and the
//! command line over all of them.
//!
//! A library so that tests and benches call what the binary runs. It is not the embedding API: that
//! is the crate `quorate`.
//!
//! ```text
//!  main ─▶ cli ─┬─▶ start ─▶ config ─┬─▶ node ─┬─▶ redis ─▶ engine (crate quorate)
//!               ├─▶ demo ────────────┘         └─▶ admin ─▶ ▲
//!               ├─▶ bench ────────────────────────────────▶ ┘
//!               ├─▶ status, shard, node ─▶ admin::client ~ HTTP ~▶ admin::server
//!               │   └─▶ render ─▶ report ◀────────────────────────────┘
//!               └─▶ cert ─▶ certs ◀─ config, demo
//!  all of them ─▶ process
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

pub mod admin;
pub mod bench;
pub mod certs;
pub mod cli;
pub mod config;
pub mod demo;
pub mod node;
pub mod process;
pub mod redis;
pub mod render;
pub mod report;
