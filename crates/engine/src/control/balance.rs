//! Spreads leaders over the nodes.
//!
//! After a node was away, the others lead its shards, and still lead them when it is back: a
//! transfer interrupts a shard for a moment, so leaders are moved only on request. The node that is
//! asked makes the plan from the cluster's status, and the leaders carry it out.

use std::sync::Arc;

use bytes::Bytes;
use quorate_types::limits;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::calls::call::{Call, CallKind, Completion, Outcome};
use crate::peer::codec::RequestKind;
use crate::request::dispatch::Dispatch;
use crate::state::fatal::Fatal;
use crate::state::tasks::guarded;
use crate::status::cluster_reporter::ClusterReporter;
use crate::status::cluster_status::Balanced;
use crate::status::leader_spread::{Move, plan};

/// Most transfers that one round begins: each interrupts the writes of its shard for a moment.
const MOVES_MAX: usize = 256;

/// Plans transfers of leadership, and asks the leaders for them.
pub(crate) struct Balancer {
    cluster: Arc<ClusterReporter>,
    dispatch: Arc<Dispatch>,
    fatal: Arc<Fatal>,
}

impl Balancer {
    pub(crate) fn new(
        cluster: Arc<ClusterReporter>,
        dispatch: Arc<Dispatch>,
        fatal: Arc<Fatal>,
    ) -> Balancer {
        Balancer { cluster, dispatch, fatal }
    }

    /// One round: asks the leaders of the plan to hand over, and waits until each has begun.
    pub(crate) async fn balance_leaders(self: &Arc<Self>) -> Balanced {
        let status = self.cluster.status(limits::STATUS_ANSWER).await;
        let moves = plan(&status.nodes, &status.shards);
        let planned = moves.len();
        let mut asked = JoinSet::new();
        for one in moves.into_iter().take(MOVES_MAX) {
            let (balancer, fatal) = (Arc::clone(self), Arc::clone(&self.fatal));
            let begin = async move { balancer.begin(one).await };
            asked.spawn(guarded(fatal, "balance", begin));
        }
        let mut begun = 0;
        while let Some(ended) = asked.join_next().await {
            begun += usize::from(matches!(ended, Ok(Some(Outcome::TransferBegun))));
        }
        Balanced { begun, planned }
    }

    async fn begin(&self, Move { shard, from, to }: Move) -> Outcome {
        let Ok(route) = self.dispatch.route_by_id(shard) else {
            return Outcome::Stopping;
        };
        if from != self.dispatch.node() {
            let body = Bytes::copy_from_slice(&to.0.to_le_bytes());
            return match self.dispatch.forward(
                &route,
                from,
                RequestKind::TransferLeader,
                body,
                None,
            ) {
                Ok(mut pending) => {
                    let end =
                        tokio::time::timeout(limits::TRANSFER_TIMEOUT, pending.answer()).await;
                    end.ok().and_then(Result::ok).unwrap_or(Outcome::Stopping)
                }
                Err(outcome) => outcome,
            };
        }
        let (sender, receiver) = oneshot::channel();
        let (kind, completion) = (CallKind::TransferLeader(to), Completion::Local(sender));
        let descriptor_version = route.descriptor_version;
        match self.dispatch.submit(Call { shard, descriptor_version, kind, completion }) {
            Ok(()) => receiver.await.unwrap_or(Outcome::Stopping),
            Err(outcome) => outcome,
        }
    }
}
