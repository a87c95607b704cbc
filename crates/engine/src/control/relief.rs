//! Hands leaderships to nodes whose disks have room, while this node's has none.
//!
//! Only nodes that say that they have room are handed anything. So if no node has room, nothing
//! moves, and nothing goes in circles.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_types::{NodeId, ShardId, limits};
use tokio::task::JoinSet;

use crate::error::DiskLow;
use crate::peer::codec::{PeerRequest, RequestKind, encode_spent, says_room};
use crate::peer::forwarder::PendingRequest;
use crate::request::dispatch::Dispatch;

/// Most transfers that one round begins: each interrupts its shard for a moment.
const MOVES_MAX: usize = 256;

impl Dispatch {
    /// One round: asks the other members of the shards that this node leads whether they have room,
    /// and begins to hand over to those that do. Followers that did not catch up in one round may
    /// be passed over in the next, so rounds are counted by `round`.
    pub(crate) async fn hand_to_roomy(&self, round: u64) {
        let led = self.led();
        let members = led.iter().flat_map(|shard| shard.descriptor().members);
        let members: BTreeSet<NodeId> = members.map(|member| member.node).collect();
        let roomy = self.ask_for_room(&members).await;
        let relief = members.iter().map(|node| (*node, roomy.contains(node)));
        self.state().disk.set_relief(BTreeMap::from_iter(relief));
        let may_lead = |node: NodeId| roomy.contains(&node);
        let moves = led.iter().filter_map(|s| Some((s, self.target(s, round, may_lead)?)));
        for (shard, target) in moves.take(MOVES_MAX) {
            self.begin_transfer(shard.shard, shard.version(), target);
        }
    }

    /// Tells the other members of the shards here that this node's disk is spent, or is not any longer. A
    /// message that is lost is made good with the next look, or by the other's clock.
    pub(crate) fn tell_spent(&self, low: Option<DiskLow>) {
        let all = self.shards().all();
        let members = all.iter().flat_map(|shard| shard.descriptor().members);
        let nodes: BTreeSet<NodeId> = members.map(|member| member.node).collect();
        let request = PeerRequest {
            kind: RequestKind::DiskSpent,
            shard: ShardId(0),
            descriptor_version: 0,
            body: encode_spent(low),
        };
        for node in nodes.into_iter().filter(|node| *node != self.node()) {
            // Nobody waits for the answer.
            drop(self.send_request(node, &request, None));
        }
    }

    /// The other ones of `nodes` whose disks have room. One that does not answer at once has none.
    async fn ask_for_room(&self, nodes: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let request = PeerRequest {
            kind: RequestKind::DiskRoom,
            shard: ShardId(0),
            descriptor_version: 0,
            body: Bytes::new(),
        };
        let mut answers = JoinSet::new();
        for node in nodes.iter().copied().filter(|node| *node != self.node()) {
            if let Ok(pending) = self.send_request(node, &request, None) {
                answers.spawn(has_room(node, pending));
            }
        }
        let mut roomy = BTreeSet::new();
        while let Some(answer) = answers.join_next().await {
            roomy.extend(answer.ok().flatten());
        }
        roomy
    }
}

/// The node that was asked, if it says that it has room.
async fn has_room(node: NodeId, mut pending: PendingRequest) -> Option<NodeId> {
    let answer = tokio::time::timeout(limits::DISK_FLOOR_LOOK / 2, pending.answer()).await;
    matches!(answer, Ok(Ok(outcome)) if says_room(&outcome)).then_some(node)
}
