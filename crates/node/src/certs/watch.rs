//! Watches a running node's certificate files, and takes new ones into use.
//!
//! The files are checked from time to time: a signal would be one more thing that an operator has
//! to know, and forget.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use quorate::{Engine, NodeTls, limits, utc};

use crate::process::files::{self, loose_key};

/// The subject of the engine's warnings about replaced files.
const SUBJECT: &str = "certificate files";

/// The files that a node proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The certificate of the cluster's authority.
    pub authority: PathBuf,
    /// The node's own.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl CertificatePaths {
    fn load(&self) -> Result<NodeTls, String> {
        let text = |path: &Path| files::read_text(path).map_err(|error| error.to_string());
        let (authority, certificate) = (text(&self.authority)?, text(&self.certificate)?);
        NodeTls::from_pem(&authority, &certificate, &text(&self.key)?)
            .map_err(|error| error.to_string())
    }

    fn stamps(&self) -> Stamps {
        [&self.authority, &self.certificate, &self.key].map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        })
    }
}

/// What changes when a file is replaced or written anew; none if it is not there.
type Stamps = [Option<(u64, u64, i64, i64)>; 3];

/// The outcome of one check of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing new, or something half done.
    Nothing,
    /// Other files, with the certificates that are in use.
    InUse,
    /// New certificates of this node.
    Renewed(Box<NodeTls>),
    /// Files that can't be used, unchanged over two checks.
    Unusable(String),
}

/// What is known about the files.
struct Watch {
    paths: CertificatePaths,
    in_use: NodeTls,
    /// The stamps of the files that were judged last.
    judged: Option<Stamps>,
    /// The stamps of files that did not fit each other: an operator replaces them one by one.
    doubtful: Option<Stamps>,
}

impl Watch {
    /// Checks the files. Blocks on the disk.
    fn look(&mut self) -> Found {
        let stamps = self.paths.stamps();
        if self.judged == Some(stamps) {
            return Found::Nothing;
        }
        let found = match self.paths.load() {
            Ok(tls) if tls == self.in_use => Found::InUse,
            Ok(tls)
                if (tls.node(), tls.cluster()) != (self.in_use.node(), self.in_use.cluster()) =>
            {
                Found::Unusable(format!(
                    "they are of node {} of cluster {}, this is node {} of cluster {}",
                    tls.node(),
                    tls.cluster(),
                    self.in_use.node(),
                    self.in_use.cluster()
                ))
            }
            Ok(tls) => Found::Renewed(Box::new(tls)),
            Err(what) => Found::Unusable(what),
        };
        if matches!(found, Found::Unusable(_)) && self.doubtful.replace(stamps) != Some(stamps) {
            return Found::Nothing;
        }
        self.judged = Some(stamps);
        if let Found::Renewed(tls) = &found {
            self.in_use = NodeTls::clone(tls);
        }
        found
    }
}

/// Checks the files forever, gives new ones to the engine, and logs it.
pub(crate) async fn run(
    engine: &Engine,
    paths: CertificatePaths,
    in_use: NodeTls,
    say: impl Fn(&str),
) -> Infallible {
    let key = paths.key.clone();
    let mut watch = Watch { paths, in_use, judged: None, doubtful: None };
    loop {
        tokio::time::sleep(limits::CERTIFICATE_POLL).await;
        let looked = tokio::task::spawn_blocking(move || {
            let found = watch.look();
            (watch, found)
        });
        let found = match looked.await {
            Ok((same, found)) => {
                watch = same;
                found
            }
            Err(error) => {
                tracing::error!(%error, "replaced certificates are not noticed any more");
                return std::future::pending().await;
            }
        };
        match found {
            Found::Nothing => {}
            Found::InUse => engine.set_warning(SUBJECT, None),
            Found::Renewed(tls) => match engine.set_tls(&tls) {
                Ok(()) => {
                    engine.set_warning(SUBJECT, None);
                    let end = utc(tls.validity().not_after);
                    say(&format!(
                        "Node {} has new certificates, good until {end}.\n",
                        engine.node()
                    ));
                    if let Some(loose) = loose_key(&key) {
                        tracing::warn!("node {}: {loose}", engine.node());
                    }
                }
                Err(error) => refuse(engine, &error.to_string()),
            },
            Found::Unusable(what) => refuse(engine, &what),
        }
    }
}

fn refuse(engine: &Engine, what: &str) {
    let text =
        format!("its new certificate files can't be used, so it goes on with the old: {what}");
    tracing::warn!("node {}: {text}", engine.node());
    engine.set_warning(SUBJECT, Some(text));
}

#[cfg(test)]
mod tests {
    use quorate::{ClusterAuthority, ClusterId, NodeId};

    use super::*;
    use crate::certs::directory::{CertificateDirectory, Existing};

    /// Goal: new certificates are taken once, when they fit together; unusable ones are reported
    /// once, and forgotten when the old files are back. Method: checks of the files between each
    /// step of an operator's.
    #[test]
    fn replaced_files_are_noticed_once_they_fit() {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = CertificateDirectory::at(temporary.path());
        let node = NodeId(1);
        let authority = directory.init(ClusterId(0xC1), Existing::Refuse).expect("made");
        let first = directory.issue(&authority, node, Existing::Refuse).expect("issued");
        let paths = CertificatePaths {
            authority: directory.authority_pem(),
            certificate: directory.node_pem(node),
            key: directory.node_key(node),
        };
        let mut watch = Watch { paths, in_use: first.clone(), judged: None, doubtful: None };
        assert_eq!([watch.look(), watch.look()], [Found::InUse, Found::Nothing]);

        // The key alone fits nothing yet; that is no news until it has stayed so.
        let second = authority.issue(node).expect("issued");
        let write = |path: PathBuf, text: &str| {
            files::write_whole(&path, text.as_bytes(), files::PRIVATE).expect("written");
        };
        write(directory.node_key(node), second.key_pem());
        assert_eq!(watch.look(), Found::Nothing);
        write(directory.node_pem(node), second.certificate_pem());
        assert_eq!(watch.look(), Found::Renewed(Box::new(second.clone())));
        assert_eq!(watch.look(), Found::Nothing);

        std::fs::remove_file(directory.node_key(node)).expect("removed");
        assert_eq!(watch.look(), Found::Nothing);
        assert!(matches!(watch.look(), Found::Unusable(what) if what.contains("node-1.key")));
        assert_eq!(watch.look(), Found::Nothing, "it was told");
        write(directory.node_key(node), second.key_pem());
        assert_eq!([watch.look(), watch.look()], [Found::InUse, Found::Nothing]);

        let other = ClusterAuthority::generate(ClusterId(0xC2)).expect("made");
        let stranger = other.issue(node).expect("issued");
        write(directory.authority_pem(), stranger.authority_pem());
        write(directory.node_pem(node), stranger.certificate_pem());
        write(directory.node_key(node), stranger.key_pem());
        assert_eq!(watch.look(), Found::Nothing);
        assert!(matches!(watch.look(), Found::Unusable(what) if what.contains("this is node 1")));
    }
}
