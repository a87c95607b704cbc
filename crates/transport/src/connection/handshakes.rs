//! Bounds how many connections are in their handshake at once, TLS and hello, by whether their
//! sender has proven its address.
//!
//! The first packet of QUIC is one datagram whose sender may be invented, and answering it holds a
//! place for seconds. So a few places are for senders that have proven nothing. While those are taken,
//! a first packet is answered by a token, without keeping anything. Only a sender that receives at its
//! address can bring the token back, and gets one of the other places for it.

use std::sync::Arc;

use quinn::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes of senders whose address is proven; more are turned away.
const PROVEN_MAX: usize = 256;
/// Handshakes of senders whose address is not proven. A cluster that starts has as many at once, and
/// is spared a round trip.
const UNPROVEN_MAX: usize = 32;

/// A place; given back when it is dropped.
pub(crate) type Permit = OwnedSemaphorePermit;

/// See the module's documentation.
pub(crate) struct Handshakes {
    proven: Arc<Semaphore>,
    unproven: Arc<Semaphore>,
}

impl Default for Handshakes {
    fn default() -> Handshakes {
        Handshakes {
            proven: Arc::new(Semaphore::new(PROVEN_MAX)),
            unproven: Arc::new(Semaphore::new(UNPROVEN_MAX)),
        }
    }
}

impl Handshakes {
    /// A place for `incoming`, or none: it is answered then.
    pub(crate) fn admit(&self, incoming: Incoming) -> Option<(Incoming, Permit)> {
        if incoming.remote_address_validated() {
            match Arc::clone(&self.proven).try_acquire_owned() {
                Ok(permit) => return Some((incoming, permit)),
                Err(_) => incoming.refuse(),
            }
            return None;
        }
        if let Ok(permit) = Arc::clone(&self.unproven).try_acquire_owned() {
            return Some((incoming, permit));
        }
        let address = incoming.remote_address();
        if let Err(error) = incoming.retry() {
            // It can't be: who has brought a token is proven. Dropping it refuses it.
            tracing::debug!(%address, %error, "a first packet that can't be answered with a token");
        }
        None
    }
}
