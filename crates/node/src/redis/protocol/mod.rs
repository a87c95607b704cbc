//! The bytes of the Redis protocol: requests, replies, and the keys that are made from a client's.
//! Pure.

pub mod output;
pub mod parser;
pub mod reply;
pub mod slot;
