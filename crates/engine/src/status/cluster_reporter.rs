//! Collects the status of the whole cluster from the statuses of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_router::ShardDescriptor;
use quorate_transport::Transport;
use quorate_types::{NodeId, ShardId, limits};

use crate::calls::call::Outcome;
use crate::cluster::addresses::PeerAddresses;
use crate::cluster::identity::NodeIdentity;
use crate::cluster::map::META_SHARD;
use crate::peer::codec::{PeerRequest, RequestKind};
use crate::request::dispatch::Dispatch;
use crate::state::fatal::Fatal;
use crate::state::tasks::{guarded, run_blocking};
use crate::status::cached::Cached;
use crate::status::cluster_status::{
    ClusterStatus, Health, NodeState, NodeStatus, Reason, ReplicaRole, ShardState, ShardSummary,
    UnheardNode,
};
use crate::status::lag::{self, Look};
use crate::status::leader_spread;
use crate::status::node_status::{PeerStatus, Status, StatusParts, StatusReporter};
use crate::status::problems::problems;
use crate::status::shard_summary::summarise;

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

    /// As [`ClusterReporter::status`], with the sizes of the data of `shard`'s replicas, which are
    /// not cheap to find.
    pub(crate) async fn status_of_shard(
        self: &Arc<Self>,
        shard: ShardId,
        timeout: Duration,
    ) -> ClusterStatus {
        let (status, found) = tokio::join!(self.status(timeout), self.data_bytes(shard, timeout));
        let mut status = (*status).clone();
        let of_shard = status.shards.iter_mut().filter(|summary| summary.shard == shard);
        for replica in of_shard.flat_map(|summary| &mut summary.replicas) {
            replica.data_bytes = found.get(&replica.node).copied();
        }
        status
    }

    /// About how many bytes the data of each replica of `shard` has, by node. Nodes that do not
    /// answer, or do not understand the question, are not among them.
    async fn data_bytes(
        self: &Arc<Self>,
        shard: ShardId,
        timeout: Duration,
    ) -> BTreeMap<NodeId, u64> {
        let descriptors = self.dispatch.map().descriptors();
        let descriptor = descriptors.into_iter().find(|descriptor| descriptor.shard == shard);
        let mut asked = Vec::new();
        for member in descriptor.into_iter().flat_map(|descriptor| descriptor.members) {
            let (reporter, fatal) = (Arc::clone(self), Arc::clone(&self.fatal));
            let asking = async move { reporter.data_bytes_on(member.node, shard, timeout).await };
            asked.push((member.node, tokio::spawn(guarded(fatal, "request to a peer", asking))));
        }
        let mut found = BTreeMap::new();
        for (node, answer) in asked {
            // A task that died has latched the engine.
            let bytes = answer.await.ok().flatten().flatten();
            found.extend(bytes.map(|bytes| (node, bytes)));
        }
        found
    }

    async fn data_bytes_on(&self, node: NodeId, shard: ShardId, timeout: Duration) -> Option<u64> {
        if node == self.identity.node {
            return self.node.data_bytes(shard).await;
        }
        let (kind, body) = (RequestKind::DataBytes, Bytes::new());
        let request = PeerRequest { kind, shard, descriptor_version: 0, body };
        // Why a node does not answer is in its status.
        let mut pending = self.dispatch.send_request(node, &request, None).ok()?;
        match tokio::time::timeout(timeout, pending.answer()).await {
            Ok(Ok(Outcome::Reply(bytes))) => Some(u64::from_le_bytes(bytes[..].try_into().ok()?)),
            _ => None,
        }
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
        let takes_no_writes = |shard: &ShardSummary| {
            let is_read_only = |node: &&NodeStatus| node.state == NodeState::ReadOnly;
            let leads = |node: &NodeStatus| Some(node.node) == shard.leader;
            shard.shard != META_SHARD && nodes.iter().filter(is_read_only).any(leads)
        };
        let serves = |shard: &ShardSummary| {
            matches!(shard.state, ShardState::Healthy | ShardState::UnderReplicated)
                && !takes_no_writes(shard)
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
            snapshots: None,
            damaged: Vec::new(),
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
                status.snapshots = Some(answer.snapshots.counts());
                status.damaged.clone_from(&answer.damaged);
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
        None => match readiness.disk_low {
            Some(low) => (NodeState::ReadOnly, Some(Reason::DiskLow(low))),
            None => (NodeState::Up, None),
        },
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
