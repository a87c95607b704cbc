//! Relays requests of a node to a leader that it can't reach.
//!
//! The asker sends a relayed request to a node that it reaches. That node executes it, or forwards
//! it as a plain request, which no node forwards again: one hop, so nothing goes in circles. The
//! relaying node has bounded memory for all relayed requests, and passes on the answer that it
//! gets. If the answer to a forwarded write is lost, it answers that the outcome is unknown: no
//! node on the way retries the write.

use std::sync::Arc;

use bytes::Bytes;
use quorate_host::HostRefusal;
use quorate_types::{NodeId, limits};

use crate::calls::call::Outcome;
use crate::calls::read::{ReadLevel, ReadRequest};
use crate::peer::codec::{PeerRequest, RequestKind};
use crate::peer::read_codec;
use crate::request::dispatch::check_command_size;
use crate::request::retry::{Retry, Target};
use crate::request::route::Route;
use crate::serve::peer_reads::{AnswerRoom, PeerRead};
use crate::serve::peer_service::PeerService;

/// Most relayed requests under way on a node: as many as it may ask of one peer at once.
pub(crate) const RELAYED_MAX: usize = limits::FORWARDS_PENDING_MAX;
/// Most bytes of these requests: as many as may wait for one lane. The largest command fits.
pub(crate) const RELAYED_BYTES_MAX: usize = limits::LANE_BYTES_MAX;

const _: () = assert!(limits::COMMAND_BYTES_MAX <= RELAYED_BYTES_MAX);

impl PeerService {
    /// Executes a write for `from`, here or at a leader that this node reaches.
    pub(crate) async fn relay_write(&self, from: NodeId, request: PeerRequest) -> Outcome {
        if check_command_size(&request.body).is_err() {
            return Outcome::Malformed;
        }
        let Some(_share) = self.relays.take(request.body.len()) else {
            return Outcome::Refused(HostRefusal::Busy);
        };
        self.dispatch.counters().relayed.add(1);
        let route = self.relay_route(&request);
        // Copied, because the body would hold the whole frame that it came in.
        let command = Bytes::copy_from_slice(&request.body);
        drop(request);
        if route.local.is_some() {
            let retry = Retry::new();
            return match retry.target(&self.dispatch, &route) {
                // Asking the asker would be a circle.
                Target::Node(node) if node == from => Target::nowhere(None),
                Target::Via(_) | Target::Nowhere { .. } => Target::nowhere(None),
                target => self.relay_to(target, &route, &command, &retry).await,
            };
        }
        let (mut members, mut leader) = (Members::of(&route), None);
        let mut outcome = Target::nowhere(None);
        let retry = Retry::new();
        let reached = |node| node != from && self.dispatch.is_connected(node);
        while let Some(node) = members.next(leader, reached) {
            outcome = self.relay_to(Target::Node(node), &route, &command, &retry).await;
            leader = match outcome {
                // The write did not happen, so it may be tried elsewhere.
                Outcome::Refused(HostRefusal::NotLeader { leader })
                | Outcome::LeaderChanged { leader } => leader,
                Outcome::Refused(HostRefusal::NoReplica) | Outcome::Unreachable { .. } => None,
                outcome => return outcome,
            };
        }
        outcome
    }

    /// Forwards a relayed write, once.
    async fn relay_to(
        &self,
        target: Target,
        route: &Route,
        command: &Bytes,
        retry: &Retry,
    ) -> Outcome {
        let tried = self.dispatch.try_at(target, route, command, retry, None).await;
        // The asker, which began earlier, has given up before this.
        tried.unwrap_or(Outcome::UnknownLeaderChanged)
    }

    /// Answers a read for another node, here or at a replica that this node reaches. An answer from
    /// there reserves no memory here: memory is reserved there.
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
        let (mut members, retry) = (Members::of(&route), Retry::new());
        let reached = |node| node != read.from() && self.dispatch.is_connected(node);
        let mut outcome = Outcome::Refused(HostRefusal::NoReplica);
        while let Some(node) = members.next(None, reached) {
            let body = request.body.clone();
            let sent = self.dispatch.forward(&route, node, RequestKind::Read, body, None);
            let answer = match sent {
                Ok(mut pending) => retry.end_of(pending.answer()).await,
                Err(outcome) => Ok(outcome),
            };
            outcome = match answer {
                Ok(Outcome::Reply(response)) => return Ok((response, None)),
                // After these another member may have an answer. Reads change nothing, so a retry
                // is safe.
                Ok(
                    outcome @ (Outcome::Refused(_)
                    | Outcome::LeaderChanged { .. }
                    | Outcome::Unreachable { .. }
                    | Outcome::Stopping
                    | Outcome::UnknownConnectionLost { .. }),
                ) => outcome,
                Ok(outcome) => return Err(outcome),
                // All that counts is that the read is not known to have been done.
                Err(_) => return Err(Outcome::LeaderChanged { leader: None }),
            };
        }
        Err(outcome)
    }

    /// The asker's route: the node that executes the request checks that version.
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

/// The members of a shard without a replica here, each to be asked at most once.
struct Members {
    unasked: Vec<NodeId>,
}

impl Members {
    fn of(route: &Route) -> Members {
        Members { unasked: route.members.clone() }
    }

    /// The next member that is reached: the leader, if known and not yet asked, otherwise in order.
    fn next(&mut self, leader: Option<NodeId>, reached: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let leads = self.unasked.iter().position(|node| Some(*node) == leader && reached(*node));
        let at = leads.or_else(|| self.unasked.iter().position(|node| reached(*node)))?;
        Some(self.unasked.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every member that is reached is asked, once, the leader as soon as it is known. Method: the
    /// second of four is out of reach, and each that is asked names another one.
    #[test]
    fn each_member_is_asked_once() {
        let unasked = (1..=4).map(NodeId).collect();
        let mut members = Members { unasked };
        let reached = |node| node != NodeId(2);
        let mut next = |leader: Option<u64>| members.next(leader.map(NodeId), reached);
        assert_eq!(next(None), Some(NodeId(1)));
        assert_eq!(next(Some(4)), Some(NodeId(4)), "it is said to lead");
        assert_eq!(next(Some(2)), Some(NodeId(3)), "who leads is out of reach");
        assert_eq!(next(Some(4)), None, "nobody twice");
    }
}
