//! The connections of a Redis port: who is let in, what of a client's commands runs at once, and what
//! room their replies have.

mod in_flight;
mod info;
mod pipeline;
mod process_info;
mod room;
pub(super) mod server;
mod session;
pub(super) mod shared;
mod task;
mod transaction;
