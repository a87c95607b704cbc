//! The support that one node gives another: both sides, their datagrams, and the suspicion of a peer.

mod messages;
mod requester;
mod standings;
mod supporter;
mod suspicion;
#[cfg(test)]
mod tests;

pub use messages::{Datagram, DatagramError, Heartbeat, HeartbeatAnswer, Verdict};
pub use requester::{Requester, RequesterEvent, SupportHeld, Unfit};
pub use standings::{
    HeartbeatSequence, Standing, StandingCause, StandingChange, Standings, SupportEpoch,
};
pub use supporter::Supporter;
pub use suspicion::Suspicion;
