//! The directory in which an operator keeps the authority and the certificates of one cluster.
//!
//! ```text
//! PATH/authority.pem    every node trusts it, every node needs a copy
//!     authority.key     makes any node: stays with the operator
//!     node-1.pem        proves node 1; goes to node 1
//!     node-1.key        belongs to it; goes to node 1 and nowhere else
//! ```
//!
//! Used by `quorate cert` and by the demo, whose nodes all live under one directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate::{CertificateError, ClusterAuthority, ClusterId, NodeId, NodeTls, limits};

use crate::process::files::{self, FileError};

/// What happens to files that exist already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// They are kept, and named in an error.
    Refuse,
    /// They are replaced.
    Replace,
}

/// Why certificates were not made or not read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateDirectoryError {
    /// There is an authority already.
    #[error(
        "{} exists already, and whatever it issued would be worthless with another authority; to \
         add a node: quorate cert node --dir {} --node N; for another cluster choose another --dir",
        file.display(), dir.display()
    )]
    AuthorityExists {
        /// The directory.
        dir: PathBuf,
        /// The file found.
        file: PathBuf,
    },
    /// There is no authority to issue with.
    #[error(
        "{} does not exist: there is no authority that could issue a certificate; make one for a \
         new cluster: quorate cert init --dir {}; or bring authority.pem and authority.key of the \
         cluster there",
        file.display(), dir.display()
    )]
    NoAuthority {
        /// The directory.
        dir: PathBuf,
        /// The file that is missing.
        file: PathBuf,
    },
    /// The node has its files already.
    #[error(
        "{} exists already; to replace certificate and key of node {node} by new ones, add --renew",
        file.display()
    )]
    NodeExists {
        /// The node.
        node: NodeId,
        /// The file found.
        file: PathBuf,
    },
    /// A certificate was refused.
    #[error("certificates in {}: {cause}", dir.display())]
    Refused {
        /// Where they are.
        dir: PathBuf,
        /// What is wrong.
        cause: CertificateError,
    },
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A directory of certificates; it need not exist yet.
#[derive(Clone, Debug)]
pub struct CertificateDirectory {
    path: PathBuf,
}

impl CertificateDirectory {
    /// The directory at `path`. Touches nothing.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> CertificateDirectory {
        CertificateDirectory { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority_pem(&self) -> PathBuf {
        self.path.join("authority.pem")
    }

    /// The authority's private key.
    #[must_use]
    pub fn authority_key(&self) -> PathBuf {
        self.path.join("authority.key")
    }

    /// The certificate of `node`.
    #[must_use]
    pub fn node_pem(&self, node: NodeId) -> PathBuf {
        self.path.join(format!("node-{node}.pem"))
    }

    /// The private key of `node`.
    #[must_use]
    pub fn node_key(&self, node: NodeId) -> PathBuf {
        self.path.join(format!("node-{node}.key"))
    }

    /// Draws the authority of `cluster`, and makes the directory if it is missing. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`CertificateDirectoryError::AuthorityExists`] if a file of an authority is there and
    /// `existing` is `Refuse`; else what the system refused.
    pub fn init(
        &self,
        cluster: ClusterId,
        existing: Existing,
    ) -> Result<ClusterAuthority, CertificateDirectoryError> {
        self.init_for(cluster, existing, limits::AUTHORITY_LIFETIME)
    }

    /// As [`CertificateDirectory::init`], for an authority that counts for `lifetime`.
    ///
    /// # Errors
    /// As for [`CertificateDirectory::init`].
    pub fn init_for(
        &self,
        cluster: ClusterId,
        existing: Existing,
        lifetime: Duration,
    ) -> Result<ClusterAuthority, CertificateDirectoryError> {
        let (pem, key) = (self.authority_pem(), self.authority_key());
        // The key alone counts too: a lost certificate must not cost the operator the key as well.
        if existing == Existing::Refuse
            && let Some(file) = [&pem, &key].into_iter().find(|file| file.exists())
        {
            let (dir, file) = (self.path.clone(), file.clone());
            return Err(CertificateDirectoryError::AuthorityExists { dir, file });
        }
        files::make_directory(&self.path)?;
        let authority = ClusterAuthority::generate_for(cluster, lifetime);
        let authority = authority.map_err(|cause| self.refused(cause))?;
        files::write_whole(&key, authority.key_pem().as_bytes(), files::PRIVATE)?;
        files::write_whole(&pem, authority.certificate_pem().as_bytes(), files::PUBLIC)?;
        Ok(authority)
    }

    /// Gives the authority a new certificate for `lifetime`, with the key that it has: what it issued
    /// stays good. Blocks on the disk.
    ///
    /// # Errors
    /// As [`CertificateDirectory::authority`], and what the system refused.
    pub fn renew(&self, lifetime: Duration) -> Result<ClusterAuthority, CertificateDirectoryError> {
        let renewed = self.authority()?.renew(lifetime).map_err(|cause| self.refused(cause))?;
        let pem = renewed.certificate_pem().as_bytes();
        files::write_whole(&self.authority_pem(), pem, files::PUBLIC)?;
        Ok(renewed)
    }

    /// Reads the authority back. Blocks on the disk.
    ///
    /// # Errors
    /// [`CertificateDirectoryError::NoAuthority`] names the file that is missing.
    pub fn authority(&self) -> Result<ClusterAuthority, CertificateDirectoryError> {
        let read = |file: PathBuf| match file.exists() {
            true => Ok(files::read_text(&file)?),
            false => Err(CertificateDirectoryError::NoAuthority { dir: self.path.clone(), file }),
        };
        let (pem, key) = (read(self.authority_pem())?, read(self.authority_key())?);
        ClusterAuthority::from_pem(&pem, &key).map_err(|cause| self.refused(cause))
    }

    /// Issues certificate and key of `node` by `authority`. Blocks on the disk.
    ///
    /// # Errors
    /// [`CertificateDirectoryError::NodeExists`] if one of both is there and `existing` is
    /// `Refuse`; else what the system refused.
    pub fn issue(
        &self,
        authority: &ClusterAuthority,
        node: NodeId,
        existing: Existing,
    ) -> Result<NodeTls, CertificateDirectoryError> {
        self.issue_for(authority, node, existing, limits::CERTIFICATE_LIFETIME)
    }

    /// As [`CertificateDirectory::issue`], for a certificate that counts for `lifetime`.
    ///
    /// # Errors
    /// As for [`CertificateDirectory::issue`].
    pub fn issue_for(
        &self,
        authority: &ClusterAuthority,
        node: NodeId,
        existing: Existing,
        lifetime: Duration,
    ) -> Result<NodeTls, CertificateDirectoryError> {
        let (pem, key) = (self.node_pem(node), self.node_key(node));
        if existing == Existing::Refuse
            && let Some(file) = [&pem, &key].into_iter().find(|file| file.exists())
        {
            return Err(CertificateDirectoryError::NodeExists { node, file: file.clone() });
        }
        let tls = authority.issue_for(node, lifetime).map_err(|cause| self.refused(cause))?;
        // A power cut between both leaves a pair that does not match: refused by name at the start.
        files::write_whole(&key, tls.key_pem().as_bytes(), files::PRIVATE)?;
        files::write_whole(&pem, tls.certificate_pem().as_bytes(), files::PUBLIC)?;
        Ok(tls)
    }

    /// Reads what `node` proves itself with; the authority's key is not needed. Blocks on the disk.
    ///
    /// # Errors
    /// The file that is missing, or what does not fit together. The caller has to check whose
    /// certificate it is.
    pub fn tls(&self, node: NodeId) -> Result<NodeTls, CertificateDirectoryError> {
        let authority = files::read_text(&self.authority_pem())?;
        let certificate = files::read_text(&self.node_pem(node))?;
        let key = files::read_text(&self.node_key(node))?;
        NodeTls::from_pem(&authority, &certificate, &key).map_err(|cause| self.refused(cause))
    }

    fn refused(&self, cause: CertificateError) -> CertificateDirectoryError {
        CertificateDirectoryError::Refused { dir: self.path.clone(), cause }
    }
}

/// Draws the id of a new cluster.
///
/// # Errors
/// If the system gives no randomness.
pub fn draw_cluster() -> io::Result<ClusterId> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(ClusterId(u128::from_be_bytes(random)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(0xC1);
    const NODE: NodeId = NodeId(1);

    fn directory() -> (tempfile::TempDir, CertificateDirectory) {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = CertificateDirectory::at(temporary.path().join("certs"));
        (temporary, directory)
    }

    /// Goal: what is made is read back, by an operator and by a node; keys are private.
    #[test]
    fn what_is_made_is_read_back() {
        let (_temporary, directory) = directory();
        directory.init(CLUSTER, Existing::Refuse).expect("made");
        let authority = directory.authority().expect("read back");
        let issued = directory.issue(&authority, NODE, Existing::Refuse).expect("issued");
        assert!(directory.tls(NODE).expect("read") == issued);
        assert_eq!((issued.node(), issued.cluster()), (NODE, CLUSTER));
        for key in [directory.authority_key(), directory.node_key(NODE)] {
            let mode = fs::metadata(&key).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", key.display());
        }
    }

    /// Goal: certificates count for as long as was asked, and a renewed authority keeps its nodes.
    #[test]
    fn lifetimes_are_as_asked() {
        let (_temporary, directory) = directory();
        let day = Duration::from_secs(86_400);
        let days = |validity: quorate::Validity| {
            // One of them before it was made.
            (validity.not_after.0 - validity.not_before.0) / 86_400_000 - 1
        };
        let authority = directory.init_for(CLUSTER, Existing::Refuse, 40 * day).expect("made");
        assert_eq!(days(authority.validity()), 40);
        let issued =
            directory.issue_for(&authority, NODE, Existing::Refuse, 7 * day).expect("issued");
        assert_eq!(days(issued.validity()), 7);
        let cut = directory.issue(&authority, NODE, Existing::Replace).expect("issued");
        assert_eq!(days(cut.validity()), 40, "it ends with its authority");
        let renewed = directory.renew(400 * day).expect("renewed");
        assert_eq!(days(renewed.validity()), 400);
        assert_eq!(days(directory.authority().expect("read back").validity()), 400);
        assert_eq!(
            directory.tls(NODE).expect("still good").certificate_pem(),
            cut.certificate_pem()
        );
    }

    /// Goal: nothing is overwritten by accident, and every refusal names the way out.
    #[test]
    fn existing_files_are_kept() {
        let (_temporary, directory) = directory();
        let missing = directory.authority().err().expect("missing").to_string();
        assert!(missing.contains("quorate cert init --dir"), "{missing}");

        let first = directory.init(CLUSTER, Existing::Refuse).expect("made");
        let again = directory.init(CLUSTER, Existing::Refuse).err().expect("refused").to_string();
        assert!(again.contains("authority.pem exists already"), "{again}");
        fs::remove_file(directory.authority_pem()).expect("removed");
        let again = directory.init(CLUSTER, Existing::Refuse).err().expect("refused").to_string();
        assert!(again.contains("authority.key exists already"), "{again}");

        let issued = directory.issue(&first, NODE, Existing::Refuse).expect("issued");
        fs::remove_file(directory.node_pem(NODE)).expect("removed");
        let again = directory.issue(&first, NODE, Existing::Refuse).expect_err("refused");
        assert!(again.to_string().contains("add --renew"), "{again}");
        let renewed = directory.issue(&first, NODE, Existing::Replace).expect("renewed");
        assert!(renewed != issued, "a new key");
    }
}
