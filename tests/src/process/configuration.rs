//! The text of a node.toml.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use quorate::NodeId;

use super::loopback::Addresses;

/// The contents of the file. Paths are absolute, so that the file may be anywhere.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The node that the file configures.
    pub node: NodeId,
    /// Where its data lives.
    pub directory: PathBuf,
    /// What its log keeps for nodes that were away, in MiB, if not the usual.
    pub log_kept_mib: Option<u64>,
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The node's key.
    pub key: PathBuf,
    /// Every node of the cluster.
    pub nodes: Vec<(NodeId, Addresses)>,
    /// Number of shards.
    pub shards: u32,
    /// The nodes that hold replicas.
    pub founders: Vec<NodeId>,
    /// Free MiB of the disk below which the node takes no writes, if not the usual.
    pub disk_floor_mib: Option<u64>,
}

impl Configuration {
    /// The addresses of the node itself.
    ///
    /// # Panics
    /// If it is not among the nodes.
    pub fn own_mut(&mut self) -> &mut Addresses {
        let node = self.node;
        let own = self.nodes.iter_mut().find(|(id, _)| *id == node);
        &mut own.expect("a node is one of its cluster").1
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Configuration { node, directory, authority, certificate, key, .. } = self;
        let line = |key: &str, value: Option<u64>| {
            value.map_or(String::new(), |value| format!("{key} = {value}\n"))
        };
        let floor = line("disk_floor_mib", self.disk_floor_mib);
        let kept = line("log_kept_mib", self.log_kept_mib);
        let mut text = format!(
            "node = {node}\ndirectory = {directory:?}\n{floor}{kept}\n[certificates]\nauthority = {authority:?}\n\
             certificate = {certificate:?}\nkey = {key:?}\n"
        );
        for (id, Addresses { address, redis, admin }) in &self.nodes {
            let entry = format!(
                "\n[[nodes]]\nid = {id}\naddress = \"{address}\"\nredis = \"{redis}\"\n\
                 admin = \"{admin}\"\n"
            );
            text.push_str(&entry);
        }
        let founders: Vec<u64> = self.founders.iter().map(|node| node.0).collect();
        write!(text, "\n[bootstrap]\nshards = {}\nnodes = {founders:?}\n", self.shards)
            .expect("a String takes everything");
        text
    }

    /// Writes the file.
    ///
    /// # Panics
    /// If the disk refuses.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.text()).expect("a temporary directory takes a file");
    }
}
