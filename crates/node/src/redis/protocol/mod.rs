//! The bytes of the Redis protocol: requests, replies and keys. Pure.

pub mod output;
pub mod parser;
pub mod reply;
pub mod slot;
