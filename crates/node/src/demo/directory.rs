//! The directory of a whole cluster in one process: certificates, identity, one folder per node.
//!
//! ```text
//! PATH/cluster.json          what the cluster was made with; written last, so that it vouches
//!     certificates/          authority.pem, authority.key, node-1.pem, node-1.key, ...
//!     node-1/                a node's own data, as if it were a machine of its own
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate::{ClusterId, NodeId, NodeTls};
use serde::{Deserialize, Serialize};

use crate::certs::directory::{
    CertificateDirectory, CertificateDirectoryError, Existing, draw_cluster,
};
use crate::process::files::{self, FileError};

const IDENTITY: &str = "cluster.json";
/// Left by a power cut before the identity had its name.
const IDENTITY_UNFINISHED: &str = "cluster.json.new";
const CERTIFICATES: &str = "certificates";
const FORMAT: u32 = 1;

/// What a cluster was made with; it can't be changed by starting it with other numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: String,
    nodes: u64,
    shards: u32,
}

/// Why a cluster's directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It was made with other numbers.
    #[error(
        "{} was made with --nodes {made_nodes} --shards {made_shards}, not with --nodes {nodes} \
         --shards {shards}; start it with its own numbers, or choose another directory with --dir",
        path.display()
    )]
    OtherShape {
        /// The directory.
        path: PathBuf,
        /// Nodes it was made with.
        made_nodes: u64,
        /// Shards it was made with.
        made_shards: u32,
        /// Nodes asked for.
        nodes: u64,
        /// Shards asked for.
        shards: u32,
    },
    /// It holds something else.
    #[error(
        "{} holds `{found}` and no {IDENTITY}: it is not the directory of a cluster; choose an \
         empty or a new one with --dir",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// A name found in it.
        found: String,
    },
    /// It was written by another version.
    #[error(
        "{} has format {found}, this version knows {FORMAT}; use the version that made it",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// Its identity can't be read.
    #[error("{} is damaged: {what}; restore it, or choose another directory with --dir",
        path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Its certificates were refused.
    #[error(transparent)]
    Certificates(#[from] CertificateDirectoryError),
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An opened directory of a cluster.
#[derive(Debug)]
pub struct ClusterDirectory {
    path: PathBuf,
    cluster: ClusterId,
    nodes: u64,
}

impl ClusterDirectory {
    /// Opens `path`, or makes a cluster in it if it is empty or missing.
    ///
    /// # Errors
    /// [`DirectoryError`] says what is wrong and what to do.
    pub fn open(path: &Path, nodes: u64, shards: u32) -> Result<ClusterDirectory, DirectoryError> {
        files::make_directory(path)?;
        let identity_path = path.join(IDENTITY);
        let identity = match fs::read(&identity_path) {
            Ok(bytes) => read_identity(&identity_path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path, nodes, shards)?,
            Err(cause) => return Err(FileError::new("read", &identity_path, cause).into()),
        };
        if (identity.nodes, identity.shards) != (nodes, shards) {
            return Err(DirectoryError::OtherShape {
                path: path.to_owned(),
                made_nodes: identity.nodes,
                made_shards: identity.shards,
                nodes,
                shards,
            });
        }
        let cluster = identity.cluster.parse().map_err(|error: quorate_types::ParseIdError| {
            DirectoryError::Damaged { path: identity_path, what: error.to_string() }
        })?;
        Ok(ClusterDirectory { path: path.to_owned(), cluster, nodes })
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its nodes, numbered from 1.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        (1..=self.nodes).map(NodeId).collect()
    }

    /// Where `node` keeps its data.
    #[must_use]
    pub fn node_directory(&self, node: NodeId) -> PathBuf {
        self.path.join(format!("node-{node}"))
    }

    /// The certificates of `node`.
    ///
    /// # Errors
    /// [`DirectoryError`] if they are missing, damaged, or of another node or cluster.
    pub fn tls(&self, node: NodeId) -> Result<NodeTls, DirectoryError> {
        let path = self.path.join(CERTIFICATES);
        let tls = CertificateDirectory::at(&path).tls(node)?;
        if (tls.node(), tls.cluster()) != (node, self.cluster) {
            let what = format!("node-{node}.pem is of node {} of {}", tls.node(), tls.cluster());
            return Err(DirectoryError::Damaged { path, what });
        }
        Ok(tls)
    }
}

fn read_identity(path: &Path, bytes: &[u8]) -> Result<Identity, DirectoryError> {
    let damaged = |what: serde_json::Error| DirectoryError::Damaged {
        path: path.to_owned(),
        what: what.to_string(),
    };
    // The format first: another one may have other fields.
    #[derive(Deserialize)]
    struct OnlyFormat {
        format: u32,
    }
    let OnlyFormat { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format != FORMAT {
        return Err(DirectoryError::Format { path: path.to_owned(), found: format });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Draws an identity and its certificates. Certificates alone are the trace of a start that did not
/// end, and are drawn again.
fn make(path: &Path, nodes: u64, shards: u32) -> Result<Identity, DirectoryError> {
    let list = |cause| FileError::new("list", path, cause);
    for found in fs::read_dir(path).map_err(list)? {
        let name = found.map_err(list)?.file_name();
        if name != CERTIFICATES && name != IDENTITY_UNFINISHED {
            let found = name.to_string_lossy().into_owned();
            return Err(DirectoryError::Foreign { path: path.to_owned(), found });
        }
    }
    let cluster =
        draw_cluster().map_err(|cause| FileError::new("draw an identity for", path, cause))?;
    let certificates = CertificateDirectory::at(path.join(CERTIFICATES));
    let authority = certificates.init(cluster, Existing::Replace)?;
    for node in 1..=nodes {
        certificates.issue(&authority, NodeId(node), Existing::Replace)?;
    }
    let identity = Identity { format: FORMAT, cluster: cluster.to_string(), nodes, shards };
    let text = serde_json::to_vec_pretty(&identity).map_err(|error| DirectoryError::Damaged {
        path: path.join(IDENTITY),
        what: error.to_string(),
    })?;
    files::write_whole(&path.join(IDENTITY), &text, files::PUBLIC)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a directory is made once and then only opened as it was made. Method: open it twice,
    /// with other numbers, and beside foreign files.
    #[test]
    fn a_directory_stays_what_it_was_made_as() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path().join("cluster");
        let made = ClusterDirectory::open(&path, 2, 8).expect("made");
        let again = ClusterDirectory::open(&path, 2, 8).expect("opened");
        assert_eq!(made.cluster(), again.cluster());
        for node in again.nodes() {
            assert_eq!(again.tls(node).expect("certificates").node(), node);
        }
        let other = ClusterDirectory::open(&path, 3, 8).expect_err("other numbers");
        let text = other.to_string();
        assert!(text.contains("--nodes 2 --shards 8, not with --nodes 3 --shards 8"), "{text}");

        let foreign = temporary.path().join("foreign");
        fs::create_dir(&foreign).expect("made");
        fs::write(foreign.join("letters"), "x").expect("written");
        let refused = ClusterDirectory::open(&foreign, 3, 8);
        assert!(matches!(refused, Err(DirectoryError::Foreign { .. })));

        fs::write(path.join(IDENTITY), r#"{"format":9}"#).expect("written");
        let newer = ClusterDirectory::open(&path, 2, 8);
        assert!(matches!(newer, Err(DirectoryError::Format { found: 9, .. })));
        fs::write(path.join(IDENTITY), "{").expect("written");
        let damaged = ClusterDirectory::open(&path, 2, 8);
        assert!(matches!(damaged, Err(DirectoryError::Damaged { .. })));
    }
}
