//! Reads `node.toml`, the configuration of one node of a cluster.
//!
//! Every fault of the file is found and reported at once, each with its line and what to do, so
//! that an operator repairs a file in one go. Nothing is taken silently: an unknown key is a fault.
//!
#![doc = concat!("```toml\n", include_str!("example.toml"), "```")]

mod addresses;
mod bootstrap;
mod certificates;
mod faults;
mod nodes;
mod schema;
mod section;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate::{Bootstrap, NodeId, NodeTls, SyncMode, limits};
use toml::de::DeTable;

use crate::certs::watch::CertificatePaths;
use crate::node::{NodeConfig, PortSettings, ReachedAt};
use crate::process::descriptors::Descriptors;
use addresses::{Addresses, Taken, Use};
use bootstrap::BootstrapSettings;
use certificates::CertificateFiles;
use faults::{Faults, Placed};
use nodes::NodeEntry;
use section::Section;

pub use faults::{ConfigError, Fault};
pub use nodes::ConfiguredNode;

/// Most that `log_kept_mib` may be: a tebibyte, which is more than a start reads back in an hour.
const LOG_KEPT_MIB_MAX: u64 = 1 << 20;

/// A whole file, with every key.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A node's configuration, without any fault that the file and the certificates can show.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Where its data lives.
    pub directory: PathBuf,
    /// Bytes of applied entries that its log keeps for nodes that were away.
    pub log_kept_bytes_max: u64,
    /// Its certificates, which also name the cluster.
    pub tls: NodeTls,
    /// The files that they were read from.
    pub certificates: CertificatePaths,
    /// Every node of the cluster, this one too, ascending.
    pub nodes: Vec<ConfiguredNode>,
    /// The first map of the cluster.
    pub bootstrap: Bootstrap,
    /// Where this node listens.
    pub listen: Listen,
    /// Free bytes of its disk below which it takes no writes, if the file sets them.
    pub disk_floor_bytes: Option<u64>,
}

/// Where a node listens: its own addresses, unless `[listen]` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// UDP, for the other nodes.
    pub address: SocketAddr,
    /// TCP, for Redis clients.
    pub redis: SocketAddr,
    /// TCP, for HTTP.
    pub admin: SocketAddr,
}

impl Config {
    /// Reads the file at `path` and the certificates that it names. Blocks on the disk.
    ///
    /// # Errors
    /// [`ConfigError`] with every fault; a syntax error alone, because nothing after it is known.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::parse(path, &read_file(path)?)
    }

    /// As [`Config::read`], of a text that would be at `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let mut faults = Faults::new(text);
        let config = match DeTable::parse(text) {
            Ok(table) => {
                let draft = Draft::read(table.get_ref(), base_of(path), &mut faults);
                let node = draft.node.map(|node| NodeId(node.value));
                let tls = draft.certificates.as_ref().and_then(|c| c.load(node, &mut faults));
                draft.finish(tls)
            }
            Err(error) => {
                note_syntax(&error, &mut faults);
                None
            }
        };
        faults.finish(path)?;
        Ok(config.expect("what is missing is a fault"))
    }

    /// What the node is started with, in a process that lets it have `descriptors`.
    #[must_use]
    pub fn node_config(&self, descriptors: Descriptors) -> NodeConfig {
        let own = self.own();
        let others = self.nodes.iter().filter(|node| node.id != self.node);
        NodeConfig {
            node: self.node,
            directory: self.directory.clone(),
            log_kept_bytes_max: self.log_kept_bytes_max,
            listen: self.listen.address,
            peers: others.map(|node| (node.id, node.address)).collect(),
            redis: self.listen.redis,
            admin: self.listen.admin,
            reached_at: Some(ReachedAt {
                address: own.address,
                redis: own.redis,
                admin: own.admin,
            }),
            tls: self.tls.clone(),
            bootstrap: self.bootstrap.clone(),
            sync: SyncMode::Sync,
            descriptors,
            disk_floor_bytes: self.disk_floor_bytes,
            settings: PortSettings::File,
        }
    }

    /// This node's entry under `[[nodes]]`.
    #[must_use]
    pub fn own(&self) -> &ConfiguredNode {
        let own = self.nodes.iter().find(|node| node.id == self.node);
        own.expect("checked when the file was read")
    }
}

/// The admin addresses that the file at `path` names, this node's first. Reads no certificate: a user who
/// asks how a cluster is may not be allowed to read its keys. Blocks on the disk.
///
/// # Errors
/// As [`Config::read`].
pub fn read_admin_addresses(path: &Path) -> Result<Vec<SocketAddr>, ConfigError> {
    let text = read_file(path)?;
    let mut faults = Faults::new(&text);
    let mut addresses = Vec::new();
    match DeTable::parse(&text) {
        Ok(table) => {
            let draft = Draft::read(table.get_ref(), base_of(path), &mut faults);
            let own = draft.node.map(|node| node.value);
            let admins = draft.nodes.iter().filter_map(|node| Some((node.id, node.complete()?)));
            let mut admins: Vec<_> = admins.map(|(id, node)| (id != own, node.admin)).collect();
            admins.sort_by_key(|(other, _)| *other);
            addresses.extend(admins.into_iter().map(|(_, admin)| admin));
        }
        Err(error) => note_syntax(&error, &mut faults),
    }
    faults.finish(path).map(|()| addresses)
}

/// The directory that relative paths of the file at `path` are joined to; empty for a bare name, so
/// that they are shown as they were written.
fn base_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let name = path.display();
        let unreadable = match error.kind() {
            ErrorKind::NotFound => format!(
                "{name} does not exist; name another one with --config, or begin: make \
                 certificates with `quorate cert init` and `quorate cert node`, then write the \
                 file as `quorate start --help` shows"
            ),
            ErrorKind::InvalidData => format!("{name} is not UTF-8 text; save it as such"),
            _ => format!("can't read {name}: {error}"),
        };
        ConfigError { path: path.to_owned(), faults: Vec::new(), unreadable: Some(unreadable) }
    })
}

fn note_syntax(error: &toml::de::Error, faults: &mut Faults<'_>) {
    let at = error.span().map_or(0, |span| span.start);
    faults.add(at, format!("not TOML: {}; repair this first", error.message().trim_end()));
}

/// The file as far as it can be understood. What is missing has been noted as a fault.
struct Draft {
    node: Option<Placed<u64>>,
    directory: Option<PathBuf>,
    log_kept_bytes_max: u64,
    certificates: Option<CertificateFiles>,
    nodes: Vec<NodeEntry>,
    bootstrap: BootstrapSettings,
    listen: Addresses,
    disk_floor_bytes: Option<u64>,
}

impl Draft {
    fn read<'t>(table: &'t DeTable<'t>, base: &Path, faults: &mut Faults<'_>) -> Draft {
        let root = Section::open(&schema::ROOT, table, 0, faults);
        root.require(&["node", "directory", "certificates", "nodes"], faults);
        let node = root.number("node", faults);
        let directory = root.text("directory", faults).map(|text| base.join(text.value));
        let disk_floor_bytes = disk_floor_bytes(&root, faults);
        let log_kept_bytes_max = log_kept_bytes_max(&root, faults);
        let certificates = root.table(&schema::CERTIFICATES, "certificates", faults);
        let certificates = certificates.map(|c| CertificateFiles::read(&c, base, faults));
        let sections = root.tables(&schema::NODES, "nodes", faults);
        let mut nodes = nodes::read(&sections, faults);
        nodes::check(&nodes, node, faults);
        nodes.sort_by_key(|node| node.id);
        let bootstrap = root.table(&schema::BOOTSTRAP, "bootstrap", faults);
        let bootstrap = BootstrapSettings::read(bootstrap.as_ref(), &nodes, faults);
        let listen = root.table(&schema::LISTEN, "listen", faults);
        let listen = listen.map(|section| Addresses::read(&section, Use::Listen, faults));
        let listen = listen.unwrap_or_default();
        Taken::default().add("[listen]", &listen, faults);
        Draft {
            node,
            directory,
            log_kept_bytes_max,
            certificates,
            nodes,
            bootstrap,
            listen,
            disk_floor_bytes,
        }
    }

    /// The configuration, if nothing is missing.
    fn finish(self, tls: Option<NodeTls>) -> Option<Config> {
        let nodes: Option<Vec<_>> = self.nodes.iter().map(NodeEntry::complete).collect();
        let (nodes, node) = (nodes?, NodeId(self.node?.value));
        let own = nodes.iter().find(|entry| entry.id == node)?;
        let or = |placed: Option<Placed<SocketAddr>>, own| placed.map_or(own, |p| p.value);
        let listen = Listen {
            address: or(self.listen.address, own.address),
            redis: or(self.listen.redis, own.redis),
            admin: or(self.listen.admin, own.admin),
        };
        let bootstrap = self.bootstrap.map(&nodes)?;
        let (directory, certificates) = (self.directory?, self.certificates?.paths()?);
        let disk_floor_bytes = self.disk_floor_bytes;
        let tls = tls?;
        Some(Config {
            node,
            directory,
            tls,
            log_kept_bytes_max: self.log_kept_bytes_max,
            certificates,
            nodes,
            bootstrap,
            listen,
            disk_floor_bytes,
        })
    }
}

/// The floor of the disk, which the file has in MiB.
fn disk_floor_bytes(root: &Section<'_>, faults: &mut Faults<'_>) -> Option<u64> {
    const MIN_MIB: u64 = limits::DISK_FLOOR_BYTES_MIN >> 20;
    let Placed { value, at } = root.number("disk_floor_mib", faults)?;
    if value < MIN_MIB {
        let what =
            format!("`disk_floor_mib` is {value}; write at least {MIN_MIB}, or leave it out");
        faults.add(at, what);
        return None;
    }
    Some(value.saturating_mul(1 << 20))
}

fn log_kept_bytes_max(root: &Section<'_>, faults: &mut Faults<'_>) -> u64 {
    let Some(mib) = root.number("log_kept_mib", faults) else {
        return limits::LOG_KEPT_BYTES_MAX;
    };
    if mib.value > LOG_KEPT_MIB_MAX {
        let what = format!("`log_kept_mib` is {}; write at most {LOG_KEPT_MIB_MAX}", mib.value);
        faults.add(mib.at, what);
    }
    mib.value.min(LOG_KEPT_MIB_MAX) << 20
}
