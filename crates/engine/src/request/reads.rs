//! Reads of one shard: the replica here answers, or one on another node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_host::HostRefusal;

use crate::calls::call::Outcome;
use crate::calls::read::{ReadLevel, ReadRequest, ReadResponse};
use crate::error::Refusal;
use crate::peer::codec::RequestKind;
use crate::peer::read_codec;
use crate::request::dispatch::Dispatch;
use crate::request::local_reads::ReadRoom;
use crate::request::retry::{Next, Retry, Target};
use crate::request::route::Route;
use crate::state::fatal::Fatal;
use crate::state::shards::LocalShard;
use crate::store::data_store::DataStore;

/// What reads need: the route to a shard, and the data that lies here.
pub(crate) struct Reads {
    pub(crate) dispatch: Arc<Dispatch>,
    pub(super) data: Arc<DataStore>,
    pub(super) fatal: Arc<Fatal>,
    pub(super) room: ReadRoom,
}

impl Reads {
    pub(crate) fn new(dispatch: Arc<Dispatch>, data: Arc<DataStore>, fatal: Arc<Fatal>) -> Reads {
        Reads { dispatch, data, fatal, room: ReadRoom::default() }
    }

    /// Waits until no read is in progress, at most `patience`. Blocks.
    pub(crate) fn drain(&self, patience: Duration) {
        self.room.drain(patience);
    }

    /// Reads from the shard of `route`: from the replica here, or one elsewhere.
    pub(crate) async fn read(
        self: &Arc<Self>,
        route: &Route,
        request: &ReadRequest,
        level: ReadLevel,
    ) -> Result<ReadResponse, Refusal> {
        let mut retry = Retry::new();
        let mut around;
        let mut route = route;
        loop {
            if self.dispatch.is_stopped() {
                return Err(self.dispatch.stopped());
            }
            if route.is_ended() {
                // The replica here was given up: the others answer.
                // By the version that the caller chose its keys by (RULE 1).
                let descriptor_version = route.descriptor_version;
                let others = self.dispatch.route_by_id(route.shard)?;
                around = Route { descriptor_version, ..others };
                route = &around;
            }
            let outcome = match self.try_read(route, request, level, &retry).await {
                Ok(response) => {
                    self.dispatch.counters().reads_served.add(1);
                    return Ok(response);
                }
                Err(outcome) => outcome,
            };
            let ready = match self.next_step(route, outcome) {
                Ok(next) => retry.prepare(&self.dispatch, route, next).await,
                // Not counted as refused: the caller splits its request by the newer map.
                Err(rerouted @ Refusal::StaleRoute { .. }) => return Err(rerouted),
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = ready {
                self.dispatch.counters().reads_refused.add(1);
                return Err(refusal);
            }
        }
    }

    /// Whether another try may help, and what it should know.
    fn next_step(&self, route: &Route, outcome: Outcome) -> Result<Next, Refusal> {
        match outcome {
            Outcome::Stale(current) => {
                self.dispatch.map().learn((*current).clone());
                if self.dispatch.is_old(route) {
                    let routed = route.descriptor_version;
                    return Err(Refusal::StaleRoute { routed, current });
                }
                Ok(Next::Descriptor(current))
            }
            Outcome::Refused(HostRefusal::NotLeader { leader })
            | Outcome::LeaderChanged { leader } => Ok(Next::Leader(leader)),
            Outcome::Refused(HostRefusal::Busy) => Ok(Next::Busy),
            Outcome::Unreachable { node } => Ok(Next::Unreachable(node)),
            // Another try would get the same answer.
            Outcome::Malformed | Outcome::UnknownStopped | Outcome::ReplyTooLarge { .. } => {
                Err(match self.dispatch.is_stopped() {
                    true => self.dispatch.stopped(),
                    false => Refusal::Unreadable { shard: route.shard },
                })
            }
            _ => Ok(Next::Leader(None)),
        }
    }

    async fn try_read(
        self: &Arc<Self>,
        route: &Route,
        request: &ReadRequest,
        level: ReadLevel,
        retry: &Retry,
    ) -> Result<ReadResponse, Outcome> {
        let may_serve =
            |state: &Arc<LocalShard>| level == ReadLevel::Stale || !self.dispatch.is_cut_off(state);
        if route.local.as_ref().is_some_and(may_serve) {
            return self.read_here(route.shard, route.descriptor_version, request, level).await;
        }
        let (node, kind) = match retry.target(&self.dispatch, route) {
            Target::Node(node) => (node, RequestKind::Read),
            Target::Via(node) => (node, RequestKind::RelayedRead),
            // The local replica is checked again when the next try begins.
            Target::Here => return Err(Target::nowhere(None)),
            Target::Nowhere { unreached } => return Err(Target::nowhere(unreached)),
        };
        let body = read_codec::encode_request(request, level);
        let mut pending = self.dispatch.forward(route, node, kind, body, None)?;
        match retry.end_of(pending.answer()).await {
            Ok(Outcome::Reply(bytes)) => match read_codec::decode_response(own(bytes)) {
                Ok(response) if response.fits(request) => Ok(response),
                Ok(_) | Err(_) => Err(Outcome::Malformed),
            },
            Ok(outcome) => Err(outcome),
            Err(_) => Err(Outcome::LeaderChanged { leader: None }),
        }
    }
}

/// Answers shorter than this are copied out of the frame that they came in. Longer ones hold at most a
/// few times their own bytes: a frame of many answers has 256 KiB.
const COPIED_BYTES_MAX: usize = 64 << 10;

/// The answer without the others that came in its frame: values are slices of it, and a short one would
/// keep all of them in memory for as long as the caller keeps it.
fn own(answer: Bytes) -> Bytes {
    match answer.len() {
        0..=COPIED_BYTES_MAX => Bytes::copy_from_slice(&answer),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a short answer does not hold its frame, and a long one is not copied. Method: whether the
    /// bytes are where they were.
    #[test]
    fn short_answers_let_go_of_their_frame() {
        let frame = Bytes::from(vec![7; 256 << 10]);
        let (short, long) = (frame.slice(10..20), frame.slice(..COPIED_BYTES_MAX + 1));
        assert_ne!(own(short.clone()).as_ptr(), short.as_ptr());
        assert_eq!(own(short.clone()), short);
        assert_eq!(own(long.clone()).as_ptr(), long.as_ptr());
    }
}
