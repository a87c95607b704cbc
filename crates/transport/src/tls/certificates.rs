//! Certificates: one authority per cluster, one certificate per node.
//!
//! A certificate names exactly one node of one cluster, as the DNS name `n<node>.<cluster, 32
//! hexadecimal digits>.quorate`. It is a DNS name and not a custom extension, because every TLS
//! library then checks it: the dialer's while it connects, the acceptor's by one call. A node's
//! certificate is valid for two years, the authority's for ten, unless set otherwise: see
//! `Validity`.

use std::fmt;
use std::time::Duration;

use quorate_types::{ClusterId, NodeId, limits};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::tls::certificate_error::{CertificateError, PemRole};
use crate::tls::validity::{Validity, now};

const SUFFIX: &str = ".quorate";

/// The authority of one cluster: its certificate and its private key.
pub struct ClusterAuthority {
    cluster: ClusterId,
    certificate_pem: String,
    validity: Validity,
    issuer: Issuer<'static, KeyPair>,
}

impl ClusterAuthority {
    /// Generates a new authority for `cluster`, valid from now on for `limits::AUTHORITY_LIFETIME`.
    ///
    /// # Errors
    /// [`CertificateError::Generate`] if the system gives no randomness.
    pub fn generate(cluster: ClusterId) -> Result<ClusterAuthority, CertificateError> {
        ClusterAuthority::generate_for(cluster, limits::AUTHORITY_LIFETIME)
    }

    /// As [`ClusterAuthority::generate`], for `lifetime`.
    ///
    /// # Errors
    /// As there, and if a certificate can't express the end of `lifetime`.
    pub fn generate_for(
        cluster: ClusterId,
        lifetime: Duration,
    ) -> Result<ClusterAuthority, CertificateError> {
        let key = KeyPair::generate().map_err(generate_error)?;
        ClusterAuthority::sign(cluster, key, counted(lifetime))
    }

    /// The same authority with a new certificate, valid from now on for `lifetime`. Certificates
    /// that it has issued stay valid: key and name are the same.
    ///
    /// # Errors
    /// As [`ClusterAuthority::generate_for`].
    pub fn renew(&self, lifetime: Duration) -> Result<ClusterAuthority, CertificateError> {
        let key = KeyPair::from_pem(&self.key_pem()).map_err(generate_error)?;
        ClusterAuthority::sign(self.cluster, key, counted(lifetime))
    }

    fn sign(
        cluster: ClusterId,
        key: KeyPair,
        validity: Validity,
    ) -> Result<ClusterAuthority, CertificateError> {
        let mut parameters = authority_parameters(cluster)?;
        (parameters.not_before, parameters.not_after) = validity.dates()?;
        let certificate = parameters.self_signed(&key).map_err(generate_error)?;
        let issuer = Issuer::new(parameters, key);
        Ok(ClusterAuthority { cluster, certificate_pem: certificate.pem(), validity, issuer })
    }

    /// Reads back what [`ClusterAuthority::certificate_pem`] and [`ClusterAuthority::key_pem`]
    /// gave.
    ///
    /// # Errors
    /// [`CertificateError`] that names the text at fault.
    pub fn from_pem(certificate: &str, key: &str) -> Result<ClusterAuthority, CertificateError> {
        let der = certificate_der(PemRole::Authority, certificate)?;
        let cluster = cluster_of_authority(&der)?;
        let key = KeyPair::from_pem(key)
            .map_err(|error| unreadable(PemRole::AuthorityKey, error.to_string()))?;
        let public = parse(PemRole::Authority, &der)?.subject_public_key_info();
        if public.as_ref() != key.subject_public_key_info() {
            return Err(CertificateError::KeyMismatch {
                certificate: PemRole::Authority,
                key: PemRole::AuthorityKey,
                detail: "the public keys differ".to_owned(),
            });
        }
        // The issuer's name and key identifier follow from cluster and key alone.
        let issuer = Issuer::new(authority_parameters(cluster)?, key);
        let validity = validity_of(PemRole::Authority, &der)?;
        Ok(ClusterAuthority { cluster, certificate_pem: certificate.to_owned(), validity, issuer })
    }

    /// The cluster of this authority.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// When its own certificate is valid. Nothing that it issues is valid for longer.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// The certificate that every node trusts.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key: its holder can act as any node.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate with a new private key to `node`, valid from now on for
    /// `limits::CERTIFICATE_LIFETIME`.
    ///
    /// # Errors
    /// [`CertificateError::Generate`] if the system gives no randomness;
    /// [`CertificateError::Expired`] if the authority has expired.
    pub fn issue(&self, node: NodeId) -> Result<NodeTls, CertificateError> {
        self.issue_for(node, limits::CERTIFICATE_LIFETIME)
    }

    /// As [`ClusterAuthority::issue`], for `lifetime`.
    ///
    /// # Errors
    /// As there, and if a certificate can't express the end of `lifetime`.
    pub fn issue_for(&self, node: NodeId, lifetime: Duration) -> Result<NodeTls, CertificateError> {
        self.validity.check(PemRole::Authority, now())?;
        self.issue_between(node, counted(lifetime))
    }

    /// As [`ClusterAuthority::issue`], for any times, even past ones; they end no later than the
    /// authority's.
    ///
    /// # Errors
    /// As [`ClusterAuthority::issue_for`].
    pub fn issue_between(
        &self,
        node: NodeId,
        validity: Validity,
    ) -> Result<NodeTls, CertificateError> {
        let not_after = validity.not_after.min(self.validity.not_after);
        let validity = Validity { not_after, ..validity };
        let key = KeyPair::generate().map_err(generate_error)?;
        let name = node_name(node, self.cluster);
        let mut parameters = CertificateParams::new(vec![name.clone()]).map_err(generate_error)?;
        parameters.distinguished_name.push(DnType::CommonName, format!("quorate node {node}"));
        (parameters.not_before, parameters.not_after) = validity.dates()?;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(generate_error)?;
        NodeTls::read(&self.certificate_pem, &certificate.pem(), &key.serialize_pem())
    }
}

/// What one node proves itself with: three PEM texts, checked against each other.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeTls {
    authority_pem: String,
    certificate_pem: String,
    key_pem: String,
    node: NodeId,
    cluster: ClusterId,
    validity: Validity,
    authority_validity: Validity,
}

impl NodeTls {
    /// Checks that the texts can be read, belong together, name a node of a cluster, and are valid
    /// now.
    ///
    /// # Errors
    /// [`CertificateError`] that names the text at fault.
    pub fn from_pem(
        authority: &str,
        certificate: &str,
        key: &str,
    ) -> Result<NodeTls, CertificateError> {
        let tls = NodeTls::read(authority, certificate, key)?;
        tls.authority_validity.check(PemRole::Authority, now())?;
        tls.validity.check(PemRole::Certificate, now())?;
        Ok(tls)
    }

    /// Makes every check except that of the time.
    fn read(authority: &str, certificate: &str, key: &str) -> Result<NodeTls, CertificateError> {
        let authority_der = certificate_der(PemRole::Authority, authority)?;
        let certificate_der = certificate_der(PemRole::Certificate, certificate)?;
        let key_der = key_der(key)?;
        let authority_cluster = cluster_of_authority(&authority_der)?;
        let (node, cluster) = node_of_certificate(&certificate_der)?;
        if authority_cluster != cluster {
            return Err(CertificateError::Cluster {
                authority: authority_cluster,
                certificate: cluster,
            });
        }
        let authority_validity = validity_of(PemRole::Authority, &authority_der)?;
        let validity = validity_of(PemRole::Certificate, &certificate_der)?;
        check_issued(&authority_der, &certificate_der, validity)?;
        check_key(&certificate_der, key_der)?;
        Ok(NodeTls {
            authority_pem: authority.to_owned(),
            certificate_pem: certificate.to_owned(),
            key_pem: key.to_owned(),
            node,
            cluster,
            validity,
            authority_validity,
        })
    }

    /// The node that the certificate names.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The cluster that the certificate names.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// When the certificate is valid, or the authority's, if that ends first.
    #[must_use]
    pub fn validity(&self) -> Validity {
        let (own, authority) = (self.validity, self.authority_validity);
        if authority.not_after < own.not_after { authority } else { own }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The node's certificate.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The node's private key.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

/// Never shows the private key.
impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeTls({:?} of {:?})", self.node, self.cluster)
    }
}

/// The name in the certificate of `node` of `cluster`.
pub(crate) fn node_name(node: NodeId, cluster: ClusterId) -> String {
    format!("n{node}.{cluster}{SUFFIX}")
}

/// Checks that a certificate, whose chain TLS has verified, is that of `node` of `cluster`.
pub(crate) fn check_names(
    certificate: &CertificateDer<'_>,
    node: NodeId,
    cluster: ClusterId,
) -> Result<(), String> {
    let certificate = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(node_name(node, cluster)).map_err(|e| e.to_string())?;
    certificate.verify_is_valid_for_subject_name(&name).map_err(|_| {
        format!("it names {}", certificate.valid_dns_names().collect::<Vec<_>>().join(", "))
    })
}

pub(crate) fn certificate_der(
    role: PemRole,
    pem: &str,
) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| unreadable(role, e.to_string()))
}

pub(crate) fn key_der(pem: &str) -> Result<PrivateKeyDer<'static>, CertificateError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| unreadable(PemRole::Key, error.to_string()))
}

fn unreadable(role: PemRole, detail: String) -> CertificateError {
    CertificateError::Unreadable { role, detail }
}

fn generate_error(error: rcgen::Error) -> CertificateError {
    CertificateError::Generate { detail: error.to_string() }
}

fn authority_parameters(cluster: ClusterId) -> Result<CertificateParams, CertificateError> {
    let mut parameters =
        CertificateParams::new(vec![format!("{cluster}{SUFFIX}")]).map_err(generate_error)?;
    parameters.distinguished_name.push(DnType::CommonName, format!("quorate cluster {cluster}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters)
}

fn parse<'a>(
    role: PemRole,
    der: &'a CertificateDer<'_>,
) -> Result<EndEntityCert<'a>, CertificateError> {
    EndEntityCert::try_from(der).map_err(|error| unreadable(role, error.to_string()))
}

fn cluster_of_authority(der: &CertificateDer<'_>) -> Result<ClusterId, CertificateError> {
    let names: Vec<&str> = parse(PemRole::Authority, der)?.valid_dns_names().collect();
    let cluster = match names.as_slice() {
        [name] => name.strip_suffix(SUFFIX).and_then(|hex| hex.parse().ok()),
        _ => None,
    };
    cluster.ok_or_else(|| CertificateError::Name {
        role: PemRole::Authority,
        found: names.iter().map(|&name| name.to_owned()).collect(),
        expected: "one name <cluster id>.quorate",
    })
}

fn node_of_certificate(der: &CertificateDer<'_>) -> Result<(NodeId, ClusterId), CertificateError> {
    let names: Vec<&str> = parse(PemRole::Certificate, der)?.valid_dns_names().collect();
    let parse_name = |name: &str| {
        let (node, cluster) = name.strip_suffix(SUFFIX)?.strip_prefix('n')?.split_once('.')?;
        Some((NodeId(node.parse().ok()?), cluster.parse().ok()?))
    };
    let identity = match names.as_slice() {
        [name] => parse_name(name),
        _ => None,
    };
    identity.ok_or_else(|| CertificateError::Name {
        role: PemRole::Certificate,
        found: names.iter().map(|&name| name.to_owned()).collect(),
        expected: "one name n<node id>.<cluster id>.quorate",
    })
}

fn validity_of(role: PemRole, der: &CertificateDer<'_>) -> Result<Validity, CertificateError> {
    Validity::of(der).map_err(|error| unreadable(role, error.to_string()))
}

fn counted(lifetime: Duration) -> Validity {
    Validity::from_now(now(), limits::CERTIFICATE_BACKDATING, lifetime)
}

/// Whether the authority has issued the certificate, regardless of dates, which have separate
/// errors.
fn check_issued(
    authority: &CertificateDer<'_>,
    certificate: &CertificateDer<'_>,
    validity: Validity,
) -> Result<(), CertificateError> {
    let anchor = webpki::anchor_from_trusted_cert(authority)
        .map_err(|error| unreadable(PemRole::Authority, error.to_string()))?;
    parse(PemRole::Certificate, certificate)?
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &[anchor],
            &[],
            UnixTime::since_unix_epoch(Duration::from_millis(validity.not_before.0)),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map(|_| ())
        .map_err(|error| CertificateError::NotIssuedByAuthority { detail: error.to_string() })
}

fn check_key(
    certificate: &CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<(), CertificateError> {
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(vec![certificate.clone()], key, &provider)
        .map(|_| ())
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch {
                certificate: PemRole::Certificate,
                key: PemRole::Key,
                detail: error.to_string(),
            },
            other => unreadable(PemRole::Key, other.to_string()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(0xC1);

    #[test]
    fn an_issued_certificate_names_node_and_cluster() {
        let authority = ClusterAuthority::generate(CLUSTER).unwrap();
        let tls = authority.issue(NodeId(3)).unwrap();
        assert_eq!((tls.node(), tls.cluster()), (NodeId(3), CLUSTER));
        let der = certificate_der(PemRole::Certificate, tls.certificate_pem()).unwrap();
        assert_eq!(check_names(&der, NodeId(3), CLUSTER), Ok(()));
        let reason = check_names(&der, NodeId(4), CLUSTER).unwrap_err();
        assert!(reason.contains("n3."), "{reason}");
        assert!(check_names(&der, NodeId(3), ClusterId(0xC2)).is_err());
        assert!(!format!("{tls:?}").contains("PRIVATE"));
    }

    /// Goal: an authority read back from its files issues what nodes of the first one accept.
    #[test]
    fn an_authority_survives_its_pem() {
        let authority = ClusterAuthority::generate(CLUSTER).unwrap();
        let read_back =
            ClusterAuthority::from_pem(authority.certificate_pem(), &authority.key_pem()).unwrap();
        assert_eq!(read_back.cluster(), CLUSTER);
        let tls = read_back.issue(NodeId(7)).unwrap();
        let again =
            NodeTls::from_pem(authority.certificate_pem(), tls.certificate_pem(), tls.key_pem());
        assert_eq!(again, Ok(tls));
    }

    /// Goal: every way to mix up files is told apart. Method: one wrong text at a time.
    #[test]
    fn mixed_up_texts_are_refused_by_name() {
        let authority = ClusterAuthority::generate(CLUSTER).unwrap();
        let twin = ClusterAuthority::generate(CLUSTER).unwrap();
        let other = ClusterAuthority::generate(ClusterId(0xC2)).unwrap();
        let (one, two) = (authority.issue(NodeId(1)).unwrap(), authority.issue(NodeId(2)).unwrap());
        let check = |a: &str, c: &str, k: &str| NodeTls::from_pem(a, c, k).unwrap_err();
        let (pem, key) = (one.certificate_pem(), one.key_pem());
        assert!(matches!(
            check(authority.certificate_pem(), pem, two.key_pem()),
            CertificateError::KeyMismatch { key: PemRole::Key, .. }
        ));
        assert!(matches!(
            check(twin.certificate_pem(), pem, key),
            CertificateError::NotIssuedByAuthority { .. }
        ));
        assert!(matches!(
            check(other.certificate_pem(), pem, key),
            CertificateError::Cluster { .. }
        ));
        assert!(matches!(
            check(pem, pem, key),
            CertificateError::Name { role: PemRole::Authority, .. }
        ));
        assert!(matches!(
            check(authority.certificate_pem(), "no pem", key),
            CertificateError::Unreadable { role: PemRole::Certificate, .. }
        ));
        assert!(matches!(
            check(authority.certificate_pem(), pem, pem),
            CertificateError::Unreadable { role: PemRole::Key, .. }
        ));
        let mixed = ClusterAuthority::from_pem(authority.certificate_pem(), &twin.key_pem());
        assert!(matches!(
            mixed.err().unwrap(),
            CertificateError::KeyMismatch { key: PemRole::AuthorityKey, .. }
        ));
    }
}
