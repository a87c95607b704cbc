//! Requests for a leader that the asking node can't reach, by way of a node that can.
//!
//! The asker sends a relayed request to a node that it reaches; that one does it itself, or sends it on
//! as a plain request, which nobody sends on: one hop, so nothing goes in circles. The one in between
//! has a bounded room for all of them, and answers what it was answered. A write that it sent on and whose
//! answer is lost has an unknown outcome there, and is answered as such: nobody on the way sends it
//! again.

use std::sync::Arc;

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_types::{NodeId, limits};

use crate::calls::call::Outcome;
use crate::calls::read::ReadLevel;
use crate::calls::read::ReadRequest;
use crate::peer::codec::{PeerRequest, RequestKind};
use crate::peer::read_codec;
use crate::request::dispatch::check_command_size;
use crate::request::retry::{Retry, Target};
use crate::request::route::Route;
use crate::serve::peer_reads::{AnswerRoom, PeerRead};
use crate::serve::peer_service::PeerService;

/// Leaders to whom one relayed write is sent, one after the other: the one known here, and the one
/// whom that one names.
const LEADERS_TRIED_MAX: usize = 2;
/// Relayed requests that a node has in hand: as many as it may ask of one peer at once.
pub(crate) const RELAYED_MAX: usize = limits::FORWARDS_PENDING_MAX;
/// Bytes of what they ask: as many as wait for one lane. The largest command fits.
pub(crate) const RELAYED_BYTES_MAX: usize = limits::LANE_BYTES_MAX;

const _: () = assert!(limits::COMMAND_BYTES_MAX <= RELAYED_BYTES_MAX);

impl PeerService {
    /// Does a write for `from`, here or at a leader that this node reaches.
    pub(crate) async fn relay_write(&self, from: NodeId, request: PeerRequest) -> Outcome {
        if check_command_size(&request.body).is_err() {
            return Outcome::Malformed;
        }
        let Some(_share) = self.relays.take(request.body.len()) else {
            return Outcome::Refused(HostRefusal::Busy);
        };
        self.dispatch.counters().relayed.add(1);
        let route = self.relay_route(&request);
        // A copy of its own: the body would hold the whole frame that it came in.
        let command = Bytes::copy_from_slice(&request.body);
        drop(request);
        let mut retry = Retry::new();
        let mut outcome = Outcome::Refused(HostRefusal::NotLeader { leader: None });
        for _ in 0..LEADERS_TRIED_MAX {
            let target = match retry.target(&self.dispatch, &route) {
                // Asking whoever asks would be a circle.
                Target::Node(node) if node == from => break,
                Target::Via(_) | Target::Nowhere { .. } => break,
                target => target,
            };
            outcome = match self.dispatch.try_at(target, &route, &command, &retry, None).await {
                Ok(outcome) => outcome,
                // The asker, who began earlier, has given up before this.
                Err(_) => return Outcome::UnknownLeaderChanged,
            };
            match outcome {
                // It did not happen, so it may be tried there.
                Outcome::Refused(HostRefusal::NotLeader { leader: Some(leader) })
                | Outcome::LeaderChanged { leader: Some(leader) }
                    if route.local.is_none() =>
                {
                    retry.set_hint(leader);
                }
                outcome => return outcome,
            }
        }
        outcome
    }

    /// Answers a read for another node, here or at a replica that this node reaches. What comes from
    /// there has no room here: it had its room there.
    pub(crate) async fn relay_read(
        self: &Arc<Self>,
        read: &PeerRead,
        request: PeerRequest,
        asked: &ReadRequest,
        level: ReadLevel,
    ) -> Result<(Bytes, Option<AnswerRoom>), Outcome> {
        let Some(_share) = self.relays.take(request.body.len()) else {
            return Err(Outcome::Refused(HostRefusal::Busy));
        };
        self.dispatch.counters().relayed.add(1);
        let route = self.relay_route(&request);
        if route.local.is_some() {
            let shard = (request.shard, request.descriptor_version);
            let (response, room) = self.read_for_peer(read, shard, asked, level).await?;
            return Ok((read_codec::encode_response(&response), Some(room)));
        }
        let reached = |node: &NodeId| *node != read.from() && self.dispatch.is_connected(*node);
        let Some(node) = route.members.iter().copied().find(reached) else {
            return Err(Outcome::Refused(HostRefusal::NoReplica));
        };
        let mut pending =
            self.dispatch.forward(&route, node, RequestKind::Read, request.body, None)?;
        match Retry::new().end_of(pending.answer()).await {
            Ok(Outcome::Reply(response)) => Ok((response, None)),
            Ok(outcome) => Err(outcome),
            // Reads change nothing: that it is not known to have been done is all that counts.
            Err(_) => Err(Outcome::LeaderChanged { leader: None }),
        }
    }

    /// As the asker routed it: the node that does it judges by that version.
    fn relay_route(&self, request: &PeerRequest) -> Route {
        let members = self.dispatch.map().descriptor(request.shard).map(|shard| shard.members);
        Route {
            shard: request.shard,
            descriptor_version: request.descriptor_version,
            local: self.dispatch.shards().get(request.shard).cloned(),
            members: members.unwrap_or_default().iter().map(|member| member.node).collect(),
        }
    }
}
