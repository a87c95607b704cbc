//! One view of the whole cluster, from what its nodes say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ShardId};

use crate::call::Outcome;
use crate::cluster_status::{
    ClusterStatus, Health, NodeState, NodeStatus, Readiness, ReplicaSummary, SCHEMA, ShardState,
    ShardSummary,
};
use crate::core::Core;
use crate::forward::{Request, RequestKind};
use crate::guarded::guarded;
use crate::status::{Status, hex};

impl Core {
    /// This node's word, for another one that gathers.
    pub(crate) async fn encoded_status(&self) -> Bytes {
        serde_json::to_vec(&self.status().await).expect("plain numbers and text").into()
    }

    /// Whether this node can serve.
    pub(crate) fn readiness(&self) -> Readiness {
        let waiting = self.shards.all().into_iter().filter(|state| !state.is_ready(self.node));
        let shards_without_leader: Vec<u64> = waiting.map(|state| state.shard.0).collect();
        let founders_missing: Vec<u64> = self.founding.missing().iter().map(|n| n.0).collect();
        let fatal = self.fatal.get().map(|error| error.to_string());
        let founded = self.founding.is_founded();
        let disk_stalled = self.stalls.any();
        let ready = founded && fatal.is_none() && !disk_stalled && shards_without_leader.is_empty();
        Readiness { ready, founded, founders_missing, shards_without_leader, disk_stalled, fatal }
    }

    /// Asks every node, each for at most `timeout`.
    pub(crate) async fn cluster_status(self: &Arc<Self>, timeout: Duration) -> ClusterStatus {
        let mut asked = Vec::new();
        for node in self.known_nodes() {
            let core = Arc::clone(self);
            let guard = Arc::downgrade(&core);
            let asking = async move { core.status_of(node, timeout).await };
            asked.push((node, tokio::spawn(guarded(guard, "question to a peer", asking))));
        }
        let mut heard = BTreeMap::new();
        for (node, answer) in asked {
            let stopped = || Err("this node is stopping".to_owned());
            let answer = answer.await.ok().flatten().unwrap_or_else(stopped);
            heard.insert(node, answer);
        }
        self.put_together(&heard)
    }

    /// Everybody whom this node has heard of.
    fn known_nodes(&self) -> BTreeSet<NodeId> {
        let members = self.map.descriptors().into_iter().flat_map(|d| d.members);
        let mut nodes: BTreeSet<NodeId> = members.map(|member| member.node).collect();
        nodes.extend(self.map.nodes().into_iter().map(|record| record.node));
        nodes.extend(self.addresses.lock().keys());
        nodes.insert(self.node);
        nodes
    }

    async fn status_of(&self, node: NodeId, timeout: Duration) -> Result<Status, String> {
        if node == self.node {
            return Ok(self.status().await);
        }
        let request = Request {
            kind: RequestKind::Status,
            shard: ShardId(0),
            descriptor_version: 0,
            body: Bytes::new(),
        };
        let unconnected = || match self.transport.statistics().peers.get(&node) {
            Some(peer) => peer.last_failure.clone().unwrap_or_else(|| "not connected yet".into()),
            None => "its address is not known here".to_owned(),
        };
        let Ok(mut asked) = self.forwarder.send(&self.transport, node, &request, None) else {
            return Err(unconnected());
        };
        match tokio::time::timeout(timeout, asked.answer()).await {
            Ok(Ok(Outcome::Reply(bytes))) => {
                serde_json::from_slice(&bytes).map_err(|error| format!("its answer: {error}"))
            }
            Ok(Ok(Outcome::UnknownConnectionLost { .. })) => Err(unconnected()),
            Ok(Ok(outcome)) => Err(format!("it answered {outcome:?}")),
            Ok(Err(_)) => Err("this node is stopping".to_owned()),
            Err(_) => Err(format!(
                "no answer within {} s, though the connection stands: it hangs, or died just now",
                timeout.as_secs_f64()
            )),
        }
    }

    fn put_together(&self, heard: &BTreeMap<NodeId, Result<Status, String>>) -> ClusterStatus {
        let descriptors = self.map.descriptors();
        let shards: Vec<ShardSummary> =
            descriptors.iter().map(|descriptor| summarise(descriptor, heard)).collect();
        let nodes: Vec<NodeStatus> = heard
            .iter()
            .map(|(node, answer)| self.node_status(*node, answer, &descriptors))
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
            schema: SCHEMA,
            cluster: self.cluster.to_string(),
            asked: self.node.0,
            health,
            problems,
            map_revision: self.map.revision(),
            nodes,
            shards,
        }
    }

    fn node_status(
        &self,
        node: NodeId,
        answer: &Result<Status, String>,
        descriptors: &[ShardDescriptor],
    ) -> NodeStatus {
        let record = self.map.node(node);
        let told = self.addresses.lock().get(&node).map(ToString::to_string);
        let address = told.or(record.as_ref().map(|record| record.address.clone()));
        let mut status = NodeStatus {
            node: node.0,
            state: NodeState::Unreachable,
            reason: None,
            address: address.unwrap_or_default(),
            services: record.as_ref().map(|r| r.services.clone()).unwrap_or_default(),
            store: record.map(|record| record.store.to_string()),
            incarnation: None,
            replicas: 0,
            leaders: None,
            sync_p99_us: None,
        };
        match answer {
            Err(reason) => {
                let lives_there =
                    |d: &&ShardDescriptor| d.members.iter().any(|member| member.node == node);
                status.replicas = descriptors.iter().filter(lives_there).count() as u64;
                status.reason = Some(reason.clone());
            }
            Ok(answer) => {
                let missing = &answer.readiness.founders_missing;
                (status.state, status.reason) = match (&answer.fatal, answer.readiness.founded) {
                    (Some(fatal), _) => (NodeState::Failed, Some(fatal.clone())),
                    (None, false) => {
                        let whom = name("node", missing);
                        let reason = format!("waits to meet {whom} before it serves");
                        (NodeState::Founding, Some(reason))
                    }
                    (None, true) if answer.readiness.disk_stalled => {
                        let reason = "its log's disk finishes nothing: look at the disk";
                        (NodeState::Stalled, Some(reason.to_owned()))
                    }
                    (None, true) => (NodeState::Up, None),
                };
                let led = answer.shards.iter().filter(|shard| shard.role == "leader");
                status.address.clone_from(&answer.address);
                status.store = Some(answer.store.clone());
                status.incarnation = Some(answer.incarnation);
                status.replicas = answer.shards.len() as u64;
                status.leaders = Some(led.count() as u64);
                status.sync_p99_us = Some(answer.log.sync_p99_us);
            }
        }
        status
    }
}

fn summarise(
    descriptor: &ShardDescriptor,
    heard: &BTreeMap<NodeId, Result<Status, String>>,
) -> ShardSummary {
    let seen = |node: NodeId| {
        let status = heard.get(&node)?.as_ref().ok()?;
        status.shards.iter().find(|shard| shard.shard == descriptor.shard.0)
    };
    let replicas: Vec<ReplicaSummary> = descriptor
        .members
        .iter()
        .map(|member| {
            let replica = seen(member.node);
            ReplicaSummary {
                replica: member.replica.0,
                node: member.node.0,
                role: replica.map(|replica| replica.role.clone()),
                last: replica.map(|replica| replica.last_index),
                commit: replica.map(|replica| replica.commit),
                applied: replica.map(|replica| replica.applied),
            }
        })
        .collect();
    let views = || descriptor.members.iter().filter_map(|member| seen(member.node));
    let leader = views().filter(|view| view.role == "leader").max_by_key(|view| view.term);
    let seen_count = views().count();
    ShardSummary {
        shard: descriptor.shard.0,
        state: match (leader, seen_count) {
            (_, 0) => ShardState::Unknown,
            (None, _) => ShardState::NoLeader,
            (Some(_), seen) if seen < replicas.len() => ShardState::UnderReplicated,
            (Some(_), _) => ShardState::Healthy,
        },
        start: hex(&descriptor.start),
        end: descriptor.end.as_deref().map(hex),
        version: descriptor.epoch.version,
        membership: descriptor.epoch.membership,
        term: views().map(|view| view.term).max().unwrap_or(0),
        leader: leader.and_then(|view| view.leader),
        replicas,
    }
}

/// Part of every reason of a node that this one, or a peer, did not admit.
const NOT_ADMITTED: &str = "is not admitted by";

/// What an operator has to know, the worst first.
fn problems(nodes: &[NodeStatus], shards: &[ShardSummary]) -> Vec<String> {
    let mut problems = Vec::new();
    let reason =
        |node: &NodeStatus| node.reason.clone().unwrap_or_else(|| "why is not known".into());
    for node in nodes.iter().filter(|node| node.state == NodeState::Founding) {
        problems.push(format!("the cluster is being founded: node {} {}", node.node, reason(node)));
    }
    // Before it is founded no shard can have a leader: that would say the same once more.
    if problems.is_empty() {
        problems.extend(shards_out_of_service(shards));
    }
    for node in nodes {
        match node.state {
            NodeState::Up | NodeState::Founding => {}
            NodeState::Stalled => {
                problems.push(format!("node {} serves nothing: {}", node.node, reason(node)));
            }
            NodeState::Failed => problems.push(format!(
                "node {} has stopped serving: {}; mend the cause, then restart it",
                node.node,
                reason(node)
            )),
            // One that is refused has been reached, and the reason says what to do.
            NodeState::Unreachable if reason(node).contains(NOT_ADMITTED) => {
                problems.push(format!("node {} is kept out: {}", node.node, reason(node)));
            }
            NodeState::Unreachable => problems.push(format!(
                "node {} at {} does not answer: {}; start it, or mend the network",
                node.node,
                node.address,
                reason(node)
            )),
        }
    }
    if let Some(found) = in_state(shards, ShardState::UnderReplicated) {
        let have = if found.len() == 1 { "has a replica" } else { "have replicas" };
        problems.push(format!(
            "{} {have} out of reach: they serve, and another failure may end that",
            name_shards(&found)
        ));
    }
    problems
}

fn shards_out_of_service(shards: &[ShardSummary]) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(found) = in_state(shards, ShardState::Unknown) {
        problems.push(format!(
            "{}: no replica answers; bring back the nodes that do not answer",
            name_shards(&found)
        ));
    }
    if let Some(found) = in_state(shards, ShardState::NoLeader) {
        problems.push(format!(
            "{}: no leader; an election takes about two seconds, after that it means that a \
             majority of the replicas is out of reach: bring their nodes back",
            name_shards(&found)
        ));
    }
    problems
}

fn in_state(shards: &[ShardSummary], state: ShardState) -> Option<Vec<u64>> {
    let found: Vec<u64> =
        shards.iter().filter(|shard| shard.state == state).map(|shard| shard.shard).collect();
    (!found.is_empty()).then_some(found)
}

fn name_shards(shards: &[u64]) -> String {
    if shards == [0] { "the meta shard".to_owned() } else { name("shard", shards) }
}

/// A few by number, many by count.
fn name(what: &str, numbers: &[u64]) -> String {
    match numbers {
        [one] => format!("{what} {one}"),
        few if few.len() <= 8 => {
            let numbers: Vec<String> = few.iter().map(ToString::to_string).collect();
            format!("{what}s {}", numbers.join(", "))
        }
        many => format!("{} {what}s ({} to {})", many.len(), many[0], many[many.len() - 1]),
    }
}
