//! Collects the status of the whole cluster from the statuses of its nodes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_router::ShardDescriptor;
use quorate_transport::Transport;
use quorate_types::{NodeId, ShardId, limits};

use crate::calls::call::Outcome;
use crate::cluster::addresses::PeerAddresses;
use crate::cluster::identity::NodeIdentity;
use crate::peer::codec::{PeerRequest, RequestKind};
use crate::request::dispatch::Dispatch;
use crate::state::fatal::Fatal;
use crate::state::tasks::{guarded, run_blocking};
use crate::status::cached::Cached;
use crate::status::cluster_status::{
    ClusterStatus, Health, NodeState, NodeStatus, Reason, ReplicaRole, ReplicaSummary, ShardState,
    ShardSummary, UnheardNode,
};
use crate::status::lag::{self, Look};
use crate::status::leader_spread;
use crate::status::node_status::{PeerStatus, Status, StatusParts, StatusReporter};
use crate::status::problems::problems;

/// Asks every node for its status, and combines the answers.
pub(crate) struct ClusterReporter {
    identity: NodeIdentity,
    node: Arc<StatusReporter>,
    dispatch: Arc<Dispatch>,
    addresses: Arc<PeerAddresses>,
    transport: Arc<Transport>,
    fatal: Arc<Fatal>,
    /// The last answer.
    whole: Cached<Arc<ClusterStatus>>,
}

impl ClusterReporter {
    pub(crate) fn new(node: Arc<StatusReporter>) -> ClusterReporter {
        let StatusParts { identity, dispatch, addresses, transport, .. } = node.parts();
        ClusterReporter {
            identity: *identity,
            dispatch: Arc::clone(dispatch),
            addresses: Arc::clone(addresses),
            transport: Arc::clone(transport),
            fatal: dispatch.shutdown().fatal(),
            whole: Cached::new(limits::STATUS_AGE_MAX),
            node,
        }
    }

    /// Asks every node, waits at most `timeout` for each, and asks once more if replicas seem
    /// to lag. Callers at about the same time share one answer.
    pub(crate) async fn status(self: &Arc<Self>, timeout: Duration) -> Arc<ClusterStatus> {
        self.whole.get(async { Arc::new(self.collect(timeout).await) }).await
    }

    async fn collect(self: &Arc<Self>, timeout: Duration) -> ClusterStatus {
        let first = self.ask_all(self.known_nodes(), timeout).await;
        if !self.is_suspicious(&first) {
            return self.put_together(&first, None);
        }
        tokio::time::sleep(limits::STATUS_LOOK_AGAIN).await;
        let answered = first.iter().filter(|(_, answer)| answer.is_ok());
        let again =
            self.ask_all(answered.map(|(node, _)| *node), limits::STATUS_ANSWER_AGAIN).await;
        let mut second = first.clone();
        second.extend(again);
        self.put_together(&second, Some(&first))
    }

    async fn ask_all(
        self: &Arc<Self>,
        nodes: impl IntoIterator<Item = NodeId>,
        timeout: Duration,
    ) -> Look {
        let mut asked = Vec::new();
        for node in nodes {
            let (reporter, fatal) = (Arc::clone(self), Arc::clone(&self.fatal));
            let asking = async move { reporter.status_of(node, timeout).await };
            asked.push((node, tokio::spawn(guarded(fatal, "request to a peer", asking))));
        }
        let mut heard = Look::new();
        for (node, answer) in asked {
            let answer = answer.await.ok().flatten().unwrap_or(Err(Reason::Stopping));
            heard.insert(node, answer.map(Arc::new));
        }
        heard
    }

    /// Whether only a second look can show the cluster's state.
    fn is_suspicious(&self, look: &Look) -> bool {
        let answered =
            || look.iter().filter_map(|(node, answer)| Some((node, answer.as_ref().ok()?)));
        let apart = answered().any(|(node, status)| {
            answered().any(|(other, _)| node != other && !status.is_connected_to(*other))
        });
        apart
            || self.dispatch.map().descriptors().iter().any(|shard| lag::is_suspicious(shard, look))
    }

    /// Every node that this node has heard of.
    fn known_nodes(&self) -> BTreeSet<NodeId> {
        let members = self.dispatch.map().descriptors().into_iter().flat_map(|d| d.members);
        let mut nodes: BTreeSet<NodeId> = members.map(|member| member.node).collect();
        nodes.extend(self.dispatch.map().nodes().into_iter().map(|record| record.node));
        nodes.extend(self.addresses.nodes());
        nodes.insert(self.identity.node);
        nodes
    }

    async fn status_of(
        self: &Arc<Self>,
        node: NodeId,
        timeout: Duration,
    ) -> Result<Status, Reason> {
        if node == self.identity.node {
            return self.node.blocking_status().await.ok_or(Reason::Stopping);
        }
        let request = PeerRequest {
            kind: RequestKind::Status,
            shard: ShardId(0),
            descriptor_version: 0,
            body: Bytes::new(),
        };
        let unconnected = || match self.transport.statistics().peers.get(&node) {
            Some(peer) => disconnected(peer.last_failure.clone(), peer.is_not_admitted),
            None => Reason::AddressUnknown,
        };
        let Ok(mut pending) = self.dispatch.send_request(node, &request, None) else {
            return Err(unconnected());
        };
        match tokio::time::timeout(timeout, pending.answer()).await {
            Ok(Ok(Outcome::Reply(bytes))) => {
                // The answer has megabytes if there are many shards.
                let decode = move || serde_json::from_slice(&bytes).map_err(|e| e.to_string());
                let decoded =
                    run_blocking(Arc::clone(&self.fatal), "status of a peer", decode).await;
                decoded.ok_or(Reason::Stopping)?.map_err(Reason::UnreadableAnswer)
            }
            Ok(Ok(Outcome::UnknownConnectionLost { .. })) => Err(unconnected()),
            Ok(Ok(outcome)) => Err(Reason::OtherAnswer(format!("{outcome:?}"))),
            Ok(Err(_)) => Err(Reason::Stopping),
            Err(_) => Err(Reason::NoAnswer { within: timeout }),
        }
    }

    /// The cluster's status at the last look, `heard`; the first look, if there were two, shows
    /// which replicas lag.
    fn put_together(&self, heard: &Look, first: Option<&Look>) -> ClusterStatus {
        let descriptors = self.dispatch.map().descriptors();
        let shards: Vec<ShardSummary> =
            descriptors.iter().map(|descriptor| summarise(descriptor, heard, first)).collect();
        let nodes: Vec<NodeStatus> = heard
            .iter()
            .map(|(node, answer)| {
                self.node_status(
                    *node,
                    answer.as_ref().map(|status| &**status),
                    heard,
                    &descriptors,
                )
            })
            .collect();
        let problems = problems(&nodes, &shards);
        let serves = |shard: &ShardSummary| {
            matches!(shard.state, ShardState::Healthy | ShardState::UnderReplicated)
        };
        let health = match (shards.iter().all(serves), problems.is_empty()) {
            (true, true) => Health::Healthy,
            (true, false) => Health::Degraded,
            (false, _) => Health::Unavailable,
        };
        ClusterStatus {
            cluster: self.identity.cluster,
            asked: self.identity.node,
            health,
            problems,
            notes: leader_spread::note(&nodes, &shards).into_iter().collect(),
            map_revision: self.dispatch.map().revision(),
            nodes,
            shards,
        }
    }

    fn node_status(
        &self,
        node: NodeId,
        answer: Result<&Status, &Reason>,
        heard: &Look,
        descriptors: &[ShardDescriptor],
    ) -> NodeStatus {
        let record = self.dispatch.map().node(node);
        let told = self.addresses.get(node).map(|address| address.to_string());
        let address = told.or(record.as_ref().map(|record| record.address.clone()));
        let mut status = NodeStatus {
            node,
            state: NodeState::Unreachable,
            reason: None,
            address: address.unwrap_or_default(),
            services: record.as_ref().map(|r| r.services.clone()).unwrap_or_default(),
            store: record.map(|record| record.instance.store.to_string()),
            incarnation: None,
            replicas: 0,
            leaders: None,
            sync_p99_us: None,
            resources: None,
            warnings: Vec::new(),
            unheard: Vec::new(),
        };
        match answer {
            Err(reason) => {
                let lives_there =
                    |d: &&ShardDescriptor| d.members.iter().any(|member| member.node == node);
                status.replicas = descriptors.iter().filter(lives_there).count() as u64;
                status.reason = Some(reason.clone());
            }
            Ok(answer) => {
                (status.state, status.reason) = state_of(answer);
                let led = answer.shards.iter().filter(|shard| shard.role == ReplicaRole::Leader);
                status.address.clone_from(&answer.address);
                status.store = Some(answer.store.clone());
                status.incarnation = Some(answer.incarnation);
                status.replicas = answer.shards.len() as u64;
                status.leaders = Some(led.count() as u64);
                status.sync_p99_us = Some(answer.log.sync_p99_us);
                status.resources = Some(answer.resources.clone());
                status.warnings.clone_from(&answer.warnings);
                let others = heard.keys().filter(|other| **other != node);
                status.unheard = others.filter_map(|other| unheard(answer, *other)).collect();
            }
        }
        status
    }
}

/// The state of a node that answered, and why it is not up.
fn state_of(answer: &Status) -> (NodeState, Option<Reason>) {
    let readiness = &answer.readiness;
    match &answer.fatal {
        Some(fatal) => (NodeState::Failed, Some(Reason::Fatal(fatal.clone()))),
        None if !readiness.founded => {
            let missing = readiness.founders_missing.clone();
            (NodeState::Founding, Some(Reason::Founding { missing }))
        }
        None if readiness.disk_stalled => (NodeState::Stalled, Some(Reason::DiskStalled)),
        None if readiness.apply_stalled => (NodeState::Stalled, Some(Reason::ApplyStalled)),
        None => (NodeState::Up, None),
    }
}

/// Why the node that answered has no connection to `other`, if it has none.
fn unheard(answer: &Status, other: NodeId) -> Option<UnheardNode> {
    if answer.is_connected_to(other) {
        return None;
    }
    let reason = match answer.peers.iter().find(|peer| peer.node == other) {
        Some(PeerStatus { last_failure, is_not_admitted, .. }) => {
            disconnected(last_failure.clone(), *is_not_admitted)
        }
        None => Reason::AddressUnknown,
    };
    Some(UnheardNode { node: other, reason })
}

/// Why a known peer is not connected, from how its last connection or attempt ended.
fn disconnected(last_failure: Option<String>, is_not_admitted: bool) -> Reason {
    match last_failure {
        None => Reason::NotConnectedYet,
        Some(failure) if is_not_admitted => Reason::NotAdmitted(failure),
        Some(failure) => Reason::Disconnected(failure),
    }
}

fn summarise(descriptor: &ShardDescriptor, heard: &Look, first: Option<&Look>) -> ShardSummary {
    let seen = |node: NodeId| lag::view(heard, descriptor.shard, node);
    let replicas: Vec<ReplicaSummary> = descriptor
        .members
        .iter()
        .map(|member| {
            let replica = seen(member.node);
            ReplicaSummary {
                replica: member.replica,
                node: member.node,
                role: replica.map(|replica| replica.role),
                last: replica.map(|replica| replica.last_index),
                commit: replica.map(|replica| replica.commit),
                applied: replica.map(|replica| replica.applied),
                lag: first.and_then(|first| lag::lag(descriptor, member.node, first, heard)),
            }
        })
        .collect();
    let views = || descriptor.members.iter().filter_map(|member| seen(member.node));
    let leader = lag::leader(heard, descriptor);
    let follows = |replica: &ReplicaSummary| replica.role.is_some() && replica.lag.is_none();
    ShardSummary {
        shard: descriptor.shard,
        state: match leader {
            _ if views().next().is_none() => ShardState::Unknown,
            None => ShardState::NoLeader,
            Some(_) if replicas.iter().all(follows) => ShardState::Healthy,
            Some(_) => ShardState::UnderReplicated,
        },
        start: descriptor.start.clone(),
        end: descriptor.end.clone(),
        epoch: descriptor.epoch,
        term: views().map(|view| view.term).max().unwrap_or_default(),
        leader: leader.and_then(|view| view.leader),
        replicas,
    }
}
