//! Bounds how many connections can be in the handshake (TLS and hello) at once, separately for
//! senders with a proven and an unproven address.
//!
//! QUIC's first packet is one datagram whose sender may be forged, and answering it holds a place
//! for seconds. So only a few places are for senders that have proven nothing. While those are
//! taken, a first packet is answered with a token, and no state is kept. Only a sender that
//! receives at its address can return the token, and it then gets one of the other places.

use std::sync::Arc;

use quinn::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes of senders whose address is proven; more are refused.
const PROVEN_MAX: usize = 256;
/// Handshakes of senders whose address is not proven. A starting cluster has as many at once, and
/// saves a round trip.
const UNPROVEN_MAX: usize = 32;

/// A place for one handshake; dropping it releases the place.
pub(crate) type Permit = OwnedSemaphorePermit;

/// The free places for handshakes, by whether the sender's address is proven.
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
    /// A place for `incoming`. If there is none, `incoming` was answered and is gone.
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
            // This can't happen: a sender that returned a token is proven. Dropping the error
            // refuses it.
            tracing::debug!(%address, %error, "a first packet that can't be answered with a token");
        }
        None
    }
}
