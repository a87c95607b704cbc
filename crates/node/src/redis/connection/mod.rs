//! The connections of a Redis port: accepting them, and running their commands within bounds.

mod in_flight;
mod info;
mod pipeline;
mod process_info;
mod room;
pub(super) mod server;
pub(super) mod shared;
mod state;
mod task;
mod transaction;
