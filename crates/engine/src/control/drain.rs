//! Hands leaderships over before a stop, so that no caller waits for an election.

use std::sync::Arc;
use std::time::Duration;

use quorate_types::{NodeId, ShardId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::calls::call::{Call, CallKind, Completion};
use crate::request::dispatch::Dispatch;
use crate::state::shards::LocalShard;
use crate::status::cluster_status::Drained;

/// Longest wait for one round of transfers; a transfer gives up by itself after about as long.
const ROUND: Duration = Duration::from_millis(1_200);

impl Dispatch {
    /// Transfers every leadership to a connected replica, in rounds: a follower that did not catch
    /// up in one may be followed by another in the next.
    pub(crate) async fn drain(&self, timeout: Duration) -> Drained {
        let deadline = Instant::now() + timeout;
        let led_first = self.led();
        let mut round = 0;
        loop {
            let led = self.led();
            let asked: Vec<_> =
                led.iter().filter_map(|s| Some((s, self.target(s, round, |_| true)?))).collect();
            if asked.is_empty() || Instant::now() >= deadline {
                let taken = |state: &&Arc<LocalShard>| {
                    state.leader().is_some_and(|leader| leader != self.node())
                };
                let handed = led_first.iter().filter(taken).count();
                return Drained { handed, kept: led.len() };
            }
            for (state, target) in asked {
                self.begin_transfer(state.shard, state.version(), target);
            }
            self.wait_given(&led, deadline.min(Instant::now() + ROUND)).await;
            round += 1;
        }
    }

    /// The shards that this node leads.
    pub(super) fn led(&self) -> Vec<Arc<LocalShard>> {
        let all = self.shards().all().into_iter();
        all.filter(|state| state.leader() == Some(self.node())).cloned().collect()
    }

    /// The node to lead next: the connected members that `may_lead`, in turn, so that no node gets all.
    pub(super) fn target(
        &self,
        state: &LocalShard,
        round: u64,
        may_lead: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        let members = state.descriptor().members;
        let others: Vec<NodeId> = members
            .iter()
            .map(|member| member.node)
            .filter(|node| *node != self.node() && self.is_connected(*node) && may_lead(*node))
            .collect();
        let turn = (state.shard.0 + round) % (others.len() as u64).max(1);
        others.get(usize::try_from(turn).unwrap_or(0)).copied()
    }

    /// Begins a transfer; the shard's leader shows whether it succeeds.
    pub(super) fn begin_transfer(&self, shard: ShardId, descriptor_version: u64, target: NodeId) {
        let (sender, _) = oneshot::channel();
        let kind = CallKind::TransferLeader(target);
        let completion = Completion::Local(sender);
        if let Err(outcome) = self.submit(Call { shard, descriptor_version, kind, completion }) {
            tracing::debug!(%shard, ?outcome, "a leadership was not handed over");
        }
    }

    /// Waits until this node leads none of `led`, or until `deadline`.
    async fn wait_given(&self, led: &[Arc<LocalShard>], deadline: Instant) {
        for state in led {
            loop {
                let changed = state.leader_changed();
                if state.leader() != Some(self.node()) {
                    break;
                }
                if tokio::time::timeout_at(deadline, changed).await.is_err() {
                    return;
                }
            }
        }
    }
}
