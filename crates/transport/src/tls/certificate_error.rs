//! The errors of certificates, in words that name the file and the remedy.

use std::fmt;

use quorate_types::{ClusterId, WallMillis};

use crate::tls::validity::utc;

/// Which of the three PEM texts an error speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemRole {
    /// The certificate of the cluster's authority, the same on every node.
    Authority,
    /// The private key of the authority; the operator keeps it, and nodes don't have it.
    AuthorityKey,
    /// The node's own certificate.
    Certificate,
    /// The private key of the node's certificate.
    Key,
}

impl fmt::Display for PemRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PemRole::Authority => "authority certificate",
            PemRole::AuthorityKey => "authority private key",
            PemRole::Certificate => "node certificate",
            PemRole::Key => "node private key",
        })
    }
}

/// Why PEM texts don't form an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// A text is not PEM of its kind, or its contents can't be read.
    #[error("the {role} can't be read ({detail}); expected one PEM block of that kind")]
    Unreadable {
        /// Which text.
        role: PemRole,
        /// What the parser said.
        detail: String,
    },
    /// The name inside is not of this format.
    #[error(
        "the {role} names {found:?}, expected {expected}; issue it with `quorate cert`, other \
         tools don't write these names"
    )]
    Name {
        /// Which text.
        role: PemRole,
        /// The names found.
        found: Vec<String>,
        /// The form expected.
        expected: &'static str,
    },
    /// The private key belongs to another certificate.
    #[error("the {key} does not belong to the {certificate} ({detail}); files were mixed up")]
    KeyMismatch {
        /// The certificate.
        certificate: PemRole,
        /// The key.
        key: PemRole,
        /// What the check said.
        detail: String,
    },
    /// The certificate was issued by another authority.
    #[error(
        "the node certificate is not signed by the authority certificate ({detail}); both must \
         come from the same `cert init`"
    )]
    NotIssuedByAuthority {
        /// What the verification said.
        detail: String,
    },
    /// The certificate has expired.
    #[error("the {role} expired on {}, it is {} here: {}", utc(*not_after), utc(*now), renewal(*role))]
    Expired {
        /// Which text.
        role: PemRole,
        /// Its last second.
        not_after: WallMillis,
        /// The time here.
        now: WallMillis,
    },
    /// The certificate is not valid yet.
    #[error(
        "the {role} counts from {} on, it is {} here: set this machine's clock, or {}",
        utc(*not_before), utc(*now), renewal(*role)
    )]
    NotYetValid {
        /// Which text.
        role: PemRole,
        /// Its first second.
        not_before: WallMillis,
        /// The time here.
        now: WallMillis,
    },
    /// The authority belongs to another cluster than the node certificate.
    #[error("the authority is of cluster {authority}, the node certificate of {certificate}")]
    Cluster {
        /// As the authority's certificate says.
        authority: ClusterId,
        /// As the node's certificate says.
        certificate: ClusterId,
    },
    /// Making a key or a certificate failed.
    #[error("a certificate could not be made: {detail}")]
    Generate {
        /// What the library said.
        detail: String,
    },
}

/// What to do about a certificate that is not valid now.
fn renewal(role: PemRole) -> &'static str {
    match role {
        PemRole::Authority | PemRole::AuthorityKey => {
            "renew it where its key is, with `quorate cert init --renew`, and bring authority.pem to \
             every node"
        }
        PemRole::Certificate | PemRole::Key => {
            "renew it where the authority's key is, with `quorate cert node --node N --renew`"
        }
    }
}
