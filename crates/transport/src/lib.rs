//! Carries every shard's messages over one QUIC connection per pair of nodes.
//!
//! A node claims one UDP port, proves itself with the certificate of its cluster's authority, and
//! keeps one connection to each peer (the node with the lower id dials and redials; the other dials
//! if that fails). Messages are queued without ever blocking the caller, gathered into few, large
//! frames, and handed to a [`Receiver`] on the other side, with their runs as slices of the one
//! buffer they arrived in.
//!
//! It is not a general RPC framework, a reliable queue, or a judge of liveness. A message that
//! exceeds a bound, or meets a broken connection, is dropped and counted: Raft sends it again, and
//! for a forward the engine reports "outcome unknown". The crate knows nothing of terms, shards'
//! places or disks.
//!
//! ```text
//!  worker threads            this crate, on the tokio runtime it is given               Receiver
//!  send_messages ──▶ control queue  ─▶ frames ─▶ stream ┐           ┌ frames ─▶ handle_messages
//!                 ├▶ append queue 0 ─▶ frames ─▶ stream ┤  one QUIC ├ frames ─▶ handle_messages
//!                 └▶ append queue 3 ─▶ frames ─▶ stream ┼▶ connec- ─┼ ...
//!  send_forwards ──▶ forward queue  ─▶ frames ─▶ stream ┤  tion     ├ frames ─▶ handle_forwards
//!  send_snapshot_part ▶ snapshot queue ▶ frames ▶ stream ┤          ├ frames ─▶ handle_snapshot_parts
//!  send_datagram ───────────────────────────────────────┘           └ ───────── handle_datagram
//!
//!  connection:  TLS (both certificates)  ▶  hello both ways, admit  ▶  handle_connected
//!               ... lanes ...            ▶  handle_disconnected     ▶  dialer backs off
//! ```
//!
//! [`decode_frame`] is the gate: a peer's bytes are validated there, once, before anything else
//! reads them. Invalid bytes close their connection with a reason that both sides log.
//!
//! ```no_run
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//!
//! use quorate_transport::{
//!     ClusterAuthority, Forward, PeerHello, Receiver, Rejection, ShardMessage, Transport,
//!     TransportConfig,
//! };
//! use quorate_types::{ClusterId, Incarnation, NodeId, NodeInstance, StoreId, WallMillis};
//!
//! struct Printer;
//!
//! impl Receiver for Printer {
//!     fn admit(&self, peer: &PeerHello) -> Result<(), Rejection> {
//!         match peer.instance.store {
//!             StoreId(0) => Err(Rejection::IdentityRejected("a store has an id".into())),
//!             _ => Ok(()),
//!         }
//!     }
//!     fn handle_messages(&self, from: NodeId, messages: Vec<ShardMessage>) {
//!         println!("{} messages of node {from}", messages.len());
//!     }
//!     fn handle_forwards(&self, from: NodeId, forwards: Vec<Forward>) {
//!         println!("{} forwards of node {from}", forwards.len());
//!     }
//!     fn handle_connected(&self, peer: &PeerHello) {
//!         println!("node {} is here", peer.node);
//!     }
//!     fn handle_disconnected(&self, peer: NodeId, reason: &str) {
//!         println!("node {peer} is gone: {reason}");
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let authority = ClusterAuthority::generate(ClusterId(7))?;
//! let bound = Transport::bind(TransportConfig {
//!     cluster: ClusterId(7),
//!     node: NodeId(1),
//!     instance: NodeInstance { store: StoreId(1), incarnation: Incarnation(1), nonce: 42 },
//!     wall_clock: Arc::new(|| WallMillis(1_700_000_000_000)),
//!     first_map: 0,
//!     listen: "127.0.0.1:0".parse()?,
//!     peers: BTreeMap::from([(NodeId(2), "127.0.0.1:7402".parse()?)]),
//!     tls: authority.issue(NodeId(1))?,
//! })?;
//! let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//! let transport = Transport::start(bound, runtime.handle(), Arc::new(Printer))?;
//! println!("listening at {}", transport.local_address());
//! transport.shutdown_blocking();
//! # Ok(())
//! # }
//! ```

mod connection;
mod frame;
mod guard;
mod hello;
mod peer;
mod receiver;
mod shared;
mod tls;
mod transport;

pub use frame::{
    EncodedFrame, Forward, ForwardKind, Frame, FrameError, ShardMessage, decode_frame,
    encode_forwards, encode_messages, encode_snapshot_parts,
};
pub use guard::{catch_panic, panic_text};
pub use hello::handshake_error::{HandshakeError, Rejection};
pub use hello::{Hello, PeerHello, VERSION_MAX, VERSION_MIN};
pub use peer::lane::SendError;
pub use peer::statistics::{PeerStatistics, TransportStatistics};
pub use receiver::Receiver;
pub use shared::WallClock;
pub use tls::certificate_error::{CertificateError, PemRole};
pub use tls::certificates::{ClusterAuthority, NodeTls};
pub use tls::validity::{Validity, utc};
pub use transport::{BindError, BoundSocket, Transport, TransportConfig};
