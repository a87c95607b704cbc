//! The admin port: its server, the metrics that it shows, and the client of the command line.

pub mod client;
mod connections;
pub(crate) mod metrics;
mod patience;
pub(crate) mod server;
