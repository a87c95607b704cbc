//! The Redis port, plain mode: any node serves any key, in RESP2 and RESP3, with pipelining.
//!
//! ```text
//!  bytes ─▶ parser ─▶ command ─▶ pipeline ─▶ execute ─▶ engine
//!                        │ local     (what may overlap)    │
//!  bytes ◀─ reply ◀──────┴─────────────── in order ◀───────┘
//! ```
//!
//! Everything left of `execute` is pure. A key is stored as its hash slot (two bytes, big-endian)
//! and itself, so that keys spread over the shards and a shard is a range of slots.

pub mod commands;
mod connection;
pub mod protocol;

pub use connection::server::RedisServer;
pub use connection::shared::RedisStatistics;

use bytes::BytesMut;

use commands::command;
use protocol::output::Output;
use protocol::parser::{Parser, Request};
use protocol::reply::Protocol;
use protocol::slot::KeyMaker;

/// Parses `bytes` as a connection would, in pieces of `step`, and checks every command; for
/// fuzzers. Returns the number of whole requests. Never panics.
pub fn parse_untrusted(bytes: &[u8], step: usize) -> usize {
    let mut parser = Parser::default();
    let mut keys = KeyMaker::default();
    let mut buffer = BytesMut::new();
    let mut out = Output::default();
    let mut found = 0;
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(Request::Command(arguments))) => {
                    if let Err(reply) = command::parse(arguments, &mut keys) {
                        reply.write(Protocol::Resp3, &mut out);
                    }
                    out.clear();
                    found += 1;
                }
                Ok(Some(Request::Oversize(_))) => found += 1,
                Ok(None) => break,
                Err(_) => return found,
            }
        }
    }
    found
}
