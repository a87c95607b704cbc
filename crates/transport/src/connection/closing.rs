//! How a connection ends: the codes of a close, and the reason in words.

use quinn::{Connection, ConnectionError, ReadError, VarInt, WriteError};

use crate::hello::handshake_error::{HandshakeError, Rejection};
use crate::tls::validity::{Whose, dates_in_words};

/// First and last of the QUIC error codes that carry an alert of TLS (RFC 9001, 4.8).
const CRYPTO_CODES: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Application code of a close: the peer is refused; the reason says why.
pub(crate) const CODE_REFUSED: VarInt = VarInt::from_u32(1);
/// As [`CODE_REFUSED`], and for good: the peer is not the node whose name it bears.
pub(crate) const CODE_IDENTITY_REJECTED: VarInt = VarInt::from_u32(4);
/// As [`CODE_IDENTITY_REJECTED`], with proof that the peer's directory is a copy, or that a copy
/// runs.
pub(crate) const CODE_FORKED: VarInt = VarInt::from_u32(5);
/// The peer sent bytes that can't be decoded.
pub(crate) const CODE_MALFORMED: VarInt = VarInt::from_u32(2);
/// A newer connection of the same peer takes over.
pub(crate) const CODE_REPLACED: VarInt = VarInt::from_u32(3);
/// Its reason.
pub(crate) const REPLACED: &[u8] = b"replaced by a newer connection of the same node";
/// This node is stopping.
pub(crate) const CODE_STOPPED: VarInt = VarInt::from_u32(0);

/// The reason of a close, in words that an operator can act on.
pub(crate) fn describe(error: ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the peer: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::ConnectionClosed(close) if !is_of_tls(&close) => {
            format!("given up by the peer before it stood ({close}): it stops, or one was slow")
        }
        ConnectionError::ConnectionClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason);
            match dates_in_words(&reason, Whose::Own) {
                Some(dates) => format!("refused by the peer: {dates}"),
                None => format!(
                    "refused by the peer during TLS ({close}): do both certificates come from the \
                     same cluster authority, and does the address belong to that node?"
                ),
            }
        }
        ConnectionError::TransportError(error) => {
            match dates_in_words(&error.reason, Whose::Peers) {
                Some(dates) => format!("refused: {dates}"),
                None => format!("refused during TLS or by QUIC: {error}"),
            }
        }
        ConnectionError::TimedOut => "timed out: nothing answers at the address".to_owned(),
        ConnectionError::Reset => {
            "reset: the peer does not know the connection any more: it has restarted, or this node \
             was silent for too long"
                .to_owned()
        }
        ConnectionError::LocallyClosed => "closed by this node".to_owned(),
        other => other.to_string(),
    }
}

/// Ends the connection with the reason, which it returns.
pub(crate) fn refuse(connection: &Connection, refusal: &HandshakeError) -> String {
    let reason = refusal.to_string();
    let code = match refusal {
        HandshakeError::NotAdmitted { rejection: Rejection::IdentityRejected(_), .. } => {
            CODE_IDENTITY_REJECTED
        }
        HandshakeError::NotAdmitted { rejection: Rejection::Forked(_), .. } => CODE_FORKED,
        _ => CODE_REFUSED,
    };
    connection.close(code, reason.as_bytes());
    reason
}

/// The code with which the peer ended the connection, if it did.
pub(crate) fn code_of_peer(connection: &Connection) -> Option<VarInt> {
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) => Some(close.error_code),
        _ => None,
    }
}

/// Ends the connection because the peer sent bytes that can't be decoded; returns the reason.
pub(crate) fn malformed(connection: &Connection, reason: &str) -> String {
    connection.close(CODE_MALFORMED, reason.as_bytes());
    reason.to_owned()
}

/// The reason for a stream's error: the connection's reason, if the connection has ended.
pub(crate) fn failed(connection: &Connection, error: impl std::fmt::Display) -> String {
    connection.close_reason().map_or_else(|| error.to_string(), describe)
}

/// As [`failed`], for a stream that is written.
pub(crate) fn write_failed(connection: &Connection, error: WriteError) -> String {
    match error {
        // The stream may see the end before the connection knows the reason.
        WriteError::ConnectionLost(error) => describe(error),
        error => failed(connection, error),
    }
}

/// The reason for the error of a stream that is read.
pub(crate) fn read_failed(error: ReadError) -> String {
    match error {
        // The stream may see the end before the connection knows the reason.
        ReadError::ConnectionLost(error) => describe(error),
        error => error.to_string(),
    }
}

/// Whether the peer refused the handshake itself.
pub(crate) fn is_of_tls(close: &quinn::ConnectionClose) -> bool {
    CRYPTO_CODES.contains(&u64::from(close.error_code))
}
