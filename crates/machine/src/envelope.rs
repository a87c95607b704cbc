//! The envelope around every command in a log.
//!
//! Layout, little-endian: format u8 (1), flags u8 (bit 0: session), descriptor version u64, leader
//! time u64 (milliseconds since 1970), with bit 0 also session u64 and sequence u64, then the
//! command's own bytes.

use quorate_types::WallMillis;

use quorate_types::{ByteReader, CutShort};

const FORMAT: u8 = 1;
const FLAG_SESSION: u8 = 1;

/// A client session; replicated, so that a retry finds the answer to the first attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Names the client request that a command carries, for exactly-once commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStamp {
    /// The session.
    pub session: SessionId,
    /// The request's number within it.
    pub sequence: u64,
}

/// The fields that travel with a command (RULE 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Version of the descriptor that the command was routed by. If it is not the shard's when the
    /// entry is applied, the command does nothing and its caller is told so.
    pub descriptor_version: u64,
    /// The leader's wall time at proposal: the only clock that apply knows.
    pub leader_time: WallMillis,
    /// Set for exactly-once commands.
    pub session: Option<SessionStamp>,
}

/// The bytes hold no envelope that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Cut short.
    #[error("command envelope is cut short")]
    CutShort,
    /// Another format, or unknown flags.
    #[error("command envelope has format {format} and flags {flags:#x}, which are not known here")]
    Unknown {
        /// Format byte.
        format: u8,
        /// Flags byte.
        flags: u8,
    },
}

impl From<CutShort> for EnvelopeError {
    fn from(_: CutShort) -> Self {
        EnvelopeError::CutShort
    }
}

impl Envelope {
    /// The bytes before the command's own.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(34);
        bytes.push(FORMAT);
        bytes.push(if self.session.is_some() { FLAG_SESSION } else { 0 });
        bytes.extend_from_slice(&self.descriptor_version.to_le_bytes());
        bytes.extend_from_slice(&self.leader_time.0.to_le_bytes());
        if let Some(stamp) = self.session {
            bytes.extend_from_slice(&stamp.session.0.to_le_bytes());
            bytes.extend_from_slice(&stamp.sequence.to_le_bytes());
        }
        bytes
    }

    /// Splits an entry's payload into envelope and command.
    ///
    /// # Errors
    /// [`EnvelopeError`] for bytes that [`Envelope::encode`] did not begin. Never panics.
    pub fn decode(payload: &[u8]) -> Result<(Envelope, &[u8]), EnvelopeError> {
        let mut reader = ByteReader::new(payload);
        let (format, flags) = (reader.u8()?, reader.u8()?);
        if format != FORMAT || flags & !FLAG_SESSION != 0 {
            return Err(EnvelopeError::Unknown { format, flags });
        }
        let descriptor_version = reader.u64()?;
        let leader_time = WallMillis(reader.u64()?);
        let session = if flags & FLAG_SESSION == 0 {
            None
        } else {
            let (session, sequence) = (SessionId(reader.u64()?), reader.u64()?);
            Some(SessionStamp { session, sequence })
        };
        Ok((Envelope { descriptor_version, leader_time, session }, reader.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let plain =
            Envelope { descriptor_version: 2, leader_time: WallMillis(0x0102), session: None };
        assert_eq!(plain.encode(), [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
        let stamp = SessionStamp { session: SessionId(5), sequence: 6 };
        let session = Envelope { session: Some(stamp), ..plain };
        let mut bytes = session.encode();
        assert_eq!(bytes[1], 1);
        assert_eq!(bytes[18..], [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(b"xyz");
        assert_eq!(Envelope::decode(&bytes), Ok((session, &b"xyz"[..])));
    }

    #[test]
    fn every_cut_and_unknown_format_is_refused() {
        let bytes =
            Envelope { descriptor_version: 1, leader_time: WallMillis(1), session: None }.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Envelope::decode(&bytes[..cut]), Err(EnvelopeError::CutShort));
        }
        let unknown = EnvelopeError::Unknown { format: 2, flags: 0 };
        assert_eq!(Envelope::decode(&[2, 0, 0]), Err(unknown));
    }
}
