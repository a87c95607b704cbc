//! `[certificates]`: checks that the files are there, readable, and of this node.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use quorate::PemRole;
use quorate::{CertificateError, NodeId, NodeTls};

use super::faults::{Faults, Placed};
use super::section::Section;
use crate::certs::watch::CertificatePaths;
use crate::process::files::directory_of;

/// The three files, as the section names them, resolved against the directory of the configuration.
pub(super) struct CertificateFiles {
    at: usize,
    authority: Option<Placed<PathBuf>>,
    certificate: Option<Placed<PathBuf>>,
    key: Option<Placed<PathBuf>>,
}

impl CertificateFiles {
    pub(super) fn read(
        section: &Section<'_>,
        base: &Path,
        faults: &mut Faults<'_>,
    ) -> CertificateFiles {
        section.require(&["authority", "certificate", "key"], faults);
        let mut file = |name| {
            let text = section.text(name, faults)?;
            Some(Placed { value: base.join(text.value), at: text.at })
        };
        CertificateFiles {
            at: section.at(),
            authority: file("authority"),
            certificate: file("certificate"),
            key: file("key"),
        }
    }

    /// Reads the files and checks them against each other and against the node's id. Everything
    /// that is wrong is noted.
    pub(super) fn load(&self, node: Option<NodeId>, faults: &mut Faults<'_>) -> Option<NodeTls> {
        let mut text = |file: &Option<Placed<PathBuf>>, role| {
            let Placed { value: path, at } = file.as_ref()?;
            match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(error) => {
                    let what = match error.kind() {
                        ErrorKind::NotFound => "does not exist".to_owned(),
                        ErrorKind::InvalidData => "is no PEM text".to_owned(),
                        _ => format!("can't be read: {error}"),
                    };
                    faults.add(
                        *at,
                        format!("{} {what}; {}", path.display(), remedy(role, path, node)),
                    );
                    None
                }
            }
        };
        let authority = text(&self.authority, PemRole::Authority);
        let certificate = text(&self.certificate, PemRole::Certificate);
        let key = text(&self.key, PemRole::Key);
        let tls = match NodeTls::from_pem(&authority?, &certificate?, &key?) {
            Ok(tls) => tls,
            Err(error) => {
                faults.add(self.place_of(role_of(&error)), error.to_string());
                return None;
            }
        };
        if let Some(node) = node
            && tls.node() != node
        {
            let of = tls.node();
            let what = format!(
                "this is the certificate of node {of}, and the file is of node {node}; name \
                 node-{node}.pem and node-{node}.key, or write node = {of}"
            );
            faults.add(self.place_of(PemRole::Certificate), what);
            return None;
        }
        Some(tls)
    }

    /// The files, if all were named.
    pub(super) fn paths(&self) -> Option<CertificatePaths> {
        let path = |file: &Option<Placed<PathBuf>>| file.as_ref().map(|file| file.value.clone());
        Some(CertificatePaths {
            authority: path(&self.authority)?,
            certificate: path(&self.certificate)?,
            key: path(&self.key)?,
        })
    }

    fn place_of(&self, role: PemRole) -> usize {
        let file = match role {
            PemRole::Authority | PemRole::AuthorityKey => &self.authority,
            PemRole::Certificate => &self.certificate,
            PemRole::Key => &self.key,
        };
        file.as_ref().map_or(self.at, |file| file.at)
    }
}

/// Which file an operator should look at first.
fn role_of(error: &CertificateError) -> PemRole {
    match error {
        CertificateError::Unreadable { role, .. }
        | CertificateError::Name { role, .. }
        | CertificateError::Expired { role, .. }
        | CertificateError::NotYetValid { role, .. } => *role,
        CertificateError::KeyMismatch { key, .. } => *key,
        CertificateError::NotIssuedByAuthority { .. }
        | CertificateError::Cluster { .. }
        | CertificateError::Generate { .. } => PemRole::Certificate,
    }
}

fn remedy(role: PemRole, path: &Path, node: Option<NodeId>) -> String {
    let dir = directory_of(path).display();
    match (role, node) {
        (PemRole::Authority | PemRole::AuthorityKey, _) => format!(
            "copy authority.pem of the cluster there, or begin a new cluster with: quorate cert \
             init --dir {dir}"
        ),
        (PemRole::Certificate | PemRole::Key, node) => format!(
            "issue it where the authority's key is, with: quorate cert node --dir {dir} --node {}",
            node.map_or_else(|| "N".to_owned(), |node| node.to_string()),
        ),
    }
}
