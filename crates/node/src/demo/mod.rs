//! A whole cluster in one process: real engines, real QUIC on loopback, real directories.

pub mod directory;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use quorate::{Bootstrap, NodeId, SyncMode};
use quorate_types::limits;

use crate::node::{Leave, Node, NodeConfig, NodePorts, PortSettings};
use crate::process::descriptors::Descriptors;
use crate::redis::protocol::slot::{SLOTS, split_keys};
use directory::ClusterDirectory;

/// Copies of each shard.
const COPIES: usize = 3;
/// Most nodes of a demo: they share one machine.
pub const NODES_MAX: u64 = 64;

/// The configuration of a demo.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// How many nodes.
    pub nodes: u64,
    /// How many shards.
    pub shards: u32,
    /// Where the data lives; `None`: a temporary directory that is removed at the end.
    pub directory: Option<PathBuf>,
    /// Redis port of node 1, the others count up; 0: free ones.
    pub redis_port: u16,
    /// HTTP port of node 1, the others count up; 0: free ones.
    pub admin_port: u16,
    /// How the log reaches the disk.
    pub sync: SyncMode,
}

/// A running cluster. Nodes can be stopped and started again one by one.
pub struct Demo {
    config: DemoConfig,
    directory: ClusterDirectory,
    /// The share of each node.
    descriptors: Descriptors,
    path: PathBuf,
    nodes: Vec<Option<Node>>,
    /// Removes the directory when it is dropped.
    temporary: Option<tempfile::TempDir>,
}

impl Demo {
    /// Starts every node.
    ///
    /// # Errors
    /// A sentence with the remedy; nothing runs then, and a temporary directory is gone.
    pub async fn start(config: DemoConfig) -> anyhow::Result<Demo> {
        check(&config)?;
        let nodes = usize::try_from(config.nodes).context("few nodes")?;
        let descriptors = Descriptors::claim(nodes)?;
        // All ports before anything else: the likeliest fault leaves no trace.
        let temporary = match &config.directory {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("quorate-demo-")
                    .tempdir()
                    .context("can't make a temporary directory; name one with --dir")?,
            ),
        };
        let path = match (&config.directory, &temporary) {
            (Some(path), _) => path.clone(),
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => unreachable!("one of the two was just made"),
        };
        let directory = ClusterDirectory::open(&path, config.nodes, config.shards)?;
        let nodes = directory.nodes().iter().map(|_| None).collect();
        let mut demo = Demo { config, directory, descriptors, path, nodes, temporary };
        match demo.start_all().await {
            Ok(()) => Ok(demo),
            Err(error) => {
                demo.stop().await?;
                Err(error)
            }
        }
    }

    async fn start_all(&mut self) -> anyhow::Result<()> {
        let mut starting = Vec::new();
        for node in self.directory.nodes() {
            let config = self.node_config(node)?;
            let ports = NodePorts::bind(&config).await?;
            starting.push((node, config, ports));
        }
        let tasks: Vec<_> = starting
            .into_iter()
            .map(|(node, config, ports)| (node, tokio::spawn(Node::start_on(config, ports))))
            .collect();
        let mut first_error = None;
        for (node, task) in tasks {
            match task.await.map_err(anyhow::Error::from) {
                Ok(Ok(started)) => *self.place(node) = Some(started),
                Ok(Err(error)) => first_error = first_error.or(Some(error.into())),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => {
                self.introduce();
                Ok(())
            }
        }
    }

    /// Tells every node where the others listen: their UDP ports are drawn at each start.
    fn introduce(&self) {
        for node in self.running() {
            for peer in self.running() {
                let (own, other) = (node.engine(), peer.engine());
                if own.node() != other.node() {
                    own.set_peer(other.node(), other.local_address());
                }
            }
        }
    }

    /// Stops one node, as an operator would: the others take over its leaderships and keep serving.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn stop_node(&mut self, node: NodeId) -> anyhow::Result<()> {
        let running = self.place(node).take();
        running.with_context(|| format!("node {node} does not run"))?.stop(Leave::HandOver).await;
        Ok(())
    }

    /// Starts a stopped node from its directory.
    ///
    /// # Errors
    /// If it runs, or can't start.
    pub async fn start_node(&mut self, node: NodeId) -> anyhow::Result<()> {
        anyhow::ensure!(self.place(node).is_none(), "node {node} runs already");
        let started = Node::start(self.node_config(node)?).await?;
        *self.place(node) = Some(started);
        self.introduce();
        Ok(())
    }

    /// The nodes that run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    /// One node, if it runs.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&Node> {
        self.running().find(|running| running.engine().node() == node)
    }

    /// Where the data lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends when every shard has a leader that serves, or after `timeout`.
    ///
    /// # Errors
    /// Which shards have none.
    pub async fn wait_ready(&self, timeout: Duration) -> anyhow::Result<()> {
        for node in self.running() {
            node.engine().wait_ready(timeout).await?;
        }
        Ok(())
    }

    /// Stops every node and removes a temporary directory.
    ///
    /// # Errors
    /// If the temporary directory can't be removed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let nodes = self.nodes.drain(..).flatten();
        let stopping: Vec<_> = nodes.map(|node| tokio::spawn(node.stop(Leave::AtOnce))).collect();
        for node in stopping {
            node.await?;
        }
        match self.temporary.take() {
            Some(temporary) => {
                let path = temporary.path().display().to_string();
                temporary.close().with_context(|| format!("can't remove {path}; do it by hand"))
            }
            None => Ok(()),
        }
    }

    /// What a user needs to know to connect.
    #[must_use]
    pub fn greeting(&self) -> String {
        let fate = if self.temporary.is_some() { " (removed at the end)" } else { "" };
        let mut text = format!(
            "Quorate demo: {}, {}, data in {}{fate}\n\n",
            counted(self.config.nodes, "node"),
            counted(self.config.shards.into(), "shard"),
            self.path.display(),
        );
        for node in self.running() {
            text += &format!(
                "  node {}   redis {}   admin http://{}\n",
                node.engine().node(),
                node.redis_address(),
                node.admin_address(),
            );
        }
        let mut all = self.running();
        if let (Some(first), Some(last)) = (all.next(), self.running().last()) {
            text += &format!(
                "\nTry:\n  redis-cli -p {} set greeting hello\n  redis-cli -p {} get greeting\n  \
                 quorate status --admin http://{}\n  curl http://{}/metrics\n",
                first.redis_address().port(),
                last.redis_address().port(),
                first.admin_address(),
                first.admin_address(),
            );
        }
        text + "\nCtrl-C ends it.\n"
    }

    fn place(&mut self, node: NodeId) -> &mut Option<Node> {
        let place = usize::try_from(node.0 - 1).expect("few nodes");
        &mut self.nodes[place]
    }

    fn node_config(&self, node: NodeId) -> anyhow::Result<NodeConfig> {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Checked at the start: the last port fits.
        let counted = |first: u16| match first {
            0 => 0,
            first => first + u16::try_from(node.0 - 1).expect("few nodes"),
        };
        let peers =
            self.running().map(|peer| (peer.engine().node(), peer.engine().local_address()));
        Ok(NodeConfig {
            node,
            directory: self.directory.node_directory(node),
            log_kept_bytes_max: limits::LOG_KEPT_BYTES_MAX,
            listen: local(0),
            peers: peers.collect(),
            redis: local(counted(self.config.redis_port)),
            admin: local(counted(self.config.admin_port)),
            reached_at: None,
            tls: self.directory.tls(node)?,
            bootstrap: Bootstrap::split_at(
                &self.directory.nodes(),
                COPIES,
                split_keys(self.config.shards),
            ),
            sync: self.config.sync,
            descriptors: self.descriptors,
            disk_floor_bytes: None,
            settings: PortSettings::Flags,
        })
    }
}

/// "1 node", "3 nodes".
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn check(config: &DemoConfig) -> anyhow::Result<()> {
    let nodes = config.nodes;
    anyhow::ensure!(
        (1..=NODES_MAX).contains(&nodes),
        "--nodes {nodes}: must be from 1 to {NODES_MAX}"
    );
    let shards = config.shards;
    anyhow::ensure!(
        (1..=u32::from(SLOTS)).contains(&shards),
        "--shards {shards}: must be from 1 to {}",
        SLOTS
    );
    for (flag, port) in [("--redis-port", config.redis_port), ("--admin-port", config.admin_port)] {
        anyhow::ensure!(
            u64::from(port) + nodes <= 1 << 16,
            "{flag} {port}: the ports of {} would pass 65535; choose a lower one",
            counted(nodes, "node"),
        );
    }
    let (redis, admin) = (config.redis_port, config.admin_port);
    anyhow::ensure!(
        redis == 0 || admin == 0 || u64::from(redis.abs_diff(admin)) >= nodes,
        "--redis-port {redis} and --admin-port {admin}: the ports of {} would meet; keep them {nodes} or \
         more apart",
        counted(nodes, "node"),
    );
    Ok(())
}
