//! A cluster of processes below one temporary directory.
//!
//! ```text
//! certificates/     the authority, and a certificate for each node
//! node-1.toml       the configuration of node 1
//! node-1.txt        the output of its processes
//! node-1/           its data
//! ```

use std::collections::BTreeMap;
use std::io::PipeReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate::{ClusterAuthority, ClusterId, Engine, EngineBuilder, Health, NodeId};
use quorate_node::certs::directory::{CertificateDirectory, Existing};
use quorate_node::report::ClusterReport;
use tempfile::TempDir;

use super::configuration::Configuration;
use super::http::http_get;
use super::loopback::Addresses;
use super::node_process::NodeProcess;
use super::wait::until;
use crate::cluster::even;

/// Longest wait until a node, or the cluster, is in the expected state. An election takes two
/// seconds; the rest is slack for machines that are busy.
pub const READY: Duration = Duration::from_secs(40);

/// Longest wait for an admin port's answer; a node asks the others for two seconds before it
/// answers.
const ANSWER: Duration = Duration::from_secs(5);

/// What a cluster is made with.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSpec {
    /// The program.
    pub program: &'static str,
    /// Number of shards.
    pub shards: u32,
    /// Whether the cluster has a node 4, without replicas, for the test's own process.
    pub has_guest: bool,
}

/// Three nodes that hold replicas, perhaps one that does not, and which of them run.
pub struct ProcessCluster {
    /// Before the directory: processes end before their files are removed.
    running: BTreeMap<NodeId, NodeProcess>,
    authority: ClusterAuthority,
    nodes: Vec<(NodeId, Addresses)>,
    shards: u32,
    program: &'static str,
    directory: TempDir,
}

impl ProcessCluster {
    /// The nodes that are processes.
    pub const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
    /// The node that the test's own process may be.
    pub const GUEST: NodeId = NodeId(4);

    /// Starts every node and waits until each is ready.
    ///
    /// # Panics
    /// If that fails.
    pub async fn start(spec: ProcessSpec) -> ProcessCluster {
        let mut cluster = ProcessCluster::prepare(spec);
        cluster.start_nodes(&ProcessCluster::NODES).await;
        cluster
    }

    /// Makes the directory, certificates and configurations; starts nothing.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn prepare(spec: ProcessSpec) -> ProcessCluster {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let certificates = CertificateDirectory::at(directory.path().join("certificates"));
        let authority =
            certificates.init(ClusterId(0xc1), Existing::Refuse).expect("an authority can be made");
        let count = if spec.has_guest { 4 } else { 3 };
        let nodes: Vec<_> = (1..).map(NodeId).zip(Addresses::draw(count)).collect();
        for (node, _) in &nodes {
            certificates.issue(&authority, *node, Existing::Refuse).expect("can be issued");
        }
        let ProcessSpec { program, shards, .. } = spec;
        let running = BTreeMap::new();
        let cluster = ProcessCluster { running, authority, nodes, shards, program, directory };
        for node in ProcessCluster::NODES {
            cluster.configuration(node).write(&cluster.configuration_path(node));
        }
        cluster
    }

    /// Gives every node other addresses, and writes all configurations. None may run.
    ///
    /// # Panics
    /// If one runs, or the system refuses.
    pub fn change_addresses(&mut self) {
        assert!(self.running.is_empty(), "a node runs");
        let drawn = Addresses::draw(self.nodes.len());
        for ((_, addresses), drawn) in self.nodes.iter_mut().zip(drawn) {
            *addresses = drawn;
        }
        for node in ProcessCluster::NODES {
            self.configuration(node).write(&self.configuration_path(node));
        }
    }

    /// Where everything is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration of `node`, which tests may change.
    #[must_use]
    pub fn configuration(&self, node: NodeId) -> Configuration {
        let certificates = CertificateDirectory::at(self.path().join("certificates"));
        Configuration {
            node,
            directory: self.data_path(node),
            log_kept_mib: None,
            authority: certificates.authority_pem(),
            certificate: certificates.node_pem(node),
            key: certificates.node_key(node),
            nodes: self.nodes.clone(),
            shards: self.shards,
            founders: ProcessCluster::NODES.to_vec(),
            disk_floor_mib: None,
        }
    }

    /// The configuration file of the process of `node`.
    #[must_use]
    pub fn configuration_path(&self, node: NodeId) -> PathBuf {
        self.path().join(format!("node-{node}.toml"))
    }

    /// The directory in which `node` keeps its data.
    #[must_use]
    pub fn data_path(&self, node: NodeId) -> PathBuf {
        self.path().join(format!("node-{node}"))
    }

    /// Where `node` is reached.
    ///
    /// # Panics
    /// If the cluster has no such node.
    #[must_use]
    pub fn addresses(&self, node: NodeId) -> Addresses {
        let entry = self.nodes.iter().find(|(id, _)| *id == node);
        entry.expect("one of the cluster's nodes").1
    }

    /// The Redis ports of the nodes that are processes.
    #[must_use]
    pub fn redis(&self) -> Vec<SocketAddr> {
        ProcessCluster::NODES.iter().map(|node| self.addresses(*node).redis).collect()
    }

    /// The Redis ports without that of `node`.
    #[must_use]
    pub fn redis_without(&self, node: NodeId) -> Vec<SocketAddr> {
        let others = ProcessCluster::NODES.into_iter().filter(|other| *other != node);
        others.map(|other| self.addresses(other).redis).collect()
    }

    /// Starts the process of `node`; does not wait for anything.
    ///
    /// # Panics
    /// If it runs already, or the system refuses.
    pub fn spawn(&mut self, node: NodeId) {
        let name = format!("node {node}");
        let output = self.path().join(format!("node-{node}.txt"));
        let configuration = self.configuration_path(node);
        let process = NodeProcess::start(&name, self.program, &configuration, &output);
        assert!(self.running.insert(node, process).is_none(), "{name} runs already");
    }

    /// As [`ProcessCluster::spawn`], with its output in a pipe; see [`NodeProcess::start_piped`].
    ///
    /// # Panics
    /// As there.
    pub fn spawn_piped(&mut self, node: NodeId, filter: &str) -> PipeReader {
        let name = format!("node {node}");
        let output = self.path().join(format!("node-{node}.txt"));
        let configuration = self.configuration_path(node);
        let (process, reader) =
            NodeProcess::start_piped(&name, self.program, &configuration, &output, filter);
        assert!(self.running.insert(node, process).is_none(), "{name} runs already");
        reader
    }

    /// Starts a further process with `configuration`.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn spawn_beside(&self, name: &str, configuration: &Configuration) -> NodeProcess {
        let file = self.path().join(format!("{name}.toml"));
        configuration.write(&file);
        self.spawn_file(name, &file)
    }

    /// As [`ProcessCluster::spawn_beside`], with a file that exists already.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn spawn_file(&self, name: &str, configuration: &Path) -> NodeProcess {
        let output = self.path().join(format!("{name}.txt"));
        NodeProcess::start(name, self.program, configuration, &output)
    }

    /// Starts `nodes` and waits until each is ready.
    ///
    /// # Panics
    /// If one is not ready in time, or ends.
    pub async fn start_nodes(&mut self, nodes: &[NodeId]) {
        nodes.iter().for_each(|node| self.spawn(*node));
        for node in nodes {
            self.wait_ready(*node).await;
        }
    }

    /// Waits until `node` is ready.
    ///
    /// # Panics
    /// If it is not ready in time, or ends.
    pub async fn wait_ready(&mut self, node: NodeId) {
        let admin = self.addresses(node).admin;
        let process = self.process_mut(node);
        until(&format!("node {node} is ready"), READY, async || {
            if let Some(status) = process.exited() {
                panic!("node {node} has ended with {status}\n{}", process.said_last());
            }
            match http_get(admin, "/ready", ANSWER).await {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(reply.body),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// The process of `node`.
    ///
    /// # Panics
    /// If it was not started.
    #[must_use]
    pub fn process(&self, node: NodeId) -> &NodeProcess {
        self.running.get(&node).unwrap_or_else(|| panic!("node {node} was not started"))
    }

    /// As [`ProcessCluster::process`].
    ///
    /// # Panics
    /// As there.
    pub fn process_mut(&mut self, node: NodeId) -> &mut NodeProcess {
        self.running.get_mut(&node).unwrap_or_else(|| panic!("node {node} was not started"))
    }

    /// Ends the process of `node` as a power cut would.
    ///
    /// # Panics
    /// If it was not started.
    pub fn kill(&mut self, node: NodeId) {
        self.process_mut(node).kill();
        self.running.remove(&node);
    }

    /// Asks the process of `node` to stop, waits until it ends and returns its exit code.
    ///
    /// # Panics
    /// If it does not end within `within`.
    pub async fn stop(&mut self, node: NodeId, within: Duration) -> Option<i32> {
        let code = self.process_mut(node).stop(within).await;
        self.running.remove(&node);
        code
    }

    /// The cluster as `node` sees it.
    ///
    /// # Errors
    /// The reason in words.
    pub async fn status(&self, node: NodeId) -> Result<ClusterReport, String> {
        let reply = http_get(self.addresses(node).admin, "/cluster", ANSWER).await;
        let reply = reply.map_err(|error| error.to_string())?;
        serde_json::from_str(&reply.body).map_err(|error| format!("{error}: {}", reply.body))
    }

    /// Waits until `node` sees a leader for every shard, and returns what it sees.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub async fn wait_led(&self, node: NodeId) -> ClusterReport {
        until("every shard has a leader", READY, async || {
            let status = self.status(node).await?;
            match status.health {
                Health::Unavailable => Err(format!("{:?}", status.problems)),
                Health::Healthy | Health::Degraded => Ok(status),
            }
        })
        .await
    }

    /// Waits until `node` sees every node up, and every replica as far as the others of its shard.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub async fn wait_caught_up(&self, node: NodeId) {
        until("every replica catches up", READY, async || {
            let status = self.status(node).await?;
            if status.health != Health::Healthy {
                return Err(format!("{:?}", status.problems));
            }
            for shard in &status.shards {
                let first = shard.replicas.first().and_then(|replica| replica.applied);
                let are_equal = shard.replicas.iter().all(|replica| replica.applied == first);
                if !are_equal || first.is_none() {
                    return Err(format!("{shard:?}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// The builder of an engine for the node without replicas.
    ///
    /// # Panics
    /// If the cluster has none, or its certificate can't be issued.
    pub fn guest(&self) -> EngineBuilder {
        let guest = ProcessCluster::GUEST;
        let builder = Engine::builder(self.data_path(guest))
            .cluster(self.authority.cluster())
            .node(guest)
            .listen(self.addresses(guest).address)
            .tls(self.authority.issue(guest).expect("a certificate can be issued"))
            .bootstrap(even(&ProcessCluster::NODES, self.shards));
        let others = self.nodes.iter().filter(|(node, _)| *node != guest);
        others.fold(builder, |builder, (node, addresses)| builder.peer(*node, addresses.address))
    }
}

/// The leader of the meta shard in `status`.
#[must_use]
pub fn meta_leader(status: &ClusterReport) -> Option<NodeId> {
    let meta = status.shards.iter().find(|shard| shard.shard == 0);
    meta.and_then(|shard| shard.leader).map(NodeId)
}

/// The node that leads most shards in `status`, and how many.
#[must_use]
pub fn busiest_leader(status: &ClusterReport) -> Option<(NodeId, usize)> {
    let mut led = BTreeMap::new();
    for leader in status.shards.iter().filter_map(|shard| shard.leader) {
        *led.entry(NodeId(leader)).or_insert(0) += 1;
    }
    led.into_iter().max_by_key(|(_, count)| *count)
}
