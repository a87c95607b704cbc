//! The errors of bytes that should belong to the meta shard.

use quorate_types::CutShort;

/// The bytes are no command, reply, record or map of the meta shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// They end too early.
    #[error("meta bytes are cut short")]
    CutShort,
    /// Written by a newer version.
    #[error("{what} has format {found}, which this version does not know; upgrade this node")]
    Format {
        /// What was read.
        what: &'static str,
        /// Its format byte.
        found: u8,
    },
    /// The checksum does not match.
    #[error("meta map is damaged: checksum {found:08x}, expected {expected:08x}; fetch it again")]
    Checksum {
        /// As written.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// Senseless contents.
    #[error("meta bytes are malformed: {0}")]
    Malformed(&'static str),
    /// A pair of the meta shard's data does not make sense.
    #[error(
        "the meta shard's value under key {key:02x?} can't be used: {source}; replace this replica"
    )]
    Stored {
        /// Key of the pair.
        key: Vec<u8>,
        /// What is wrong with it.
        source: Box<MetaError>,
    },
}

impl From<CutShort> for MetaError {
    fn from(_: CutShort) -> Self {
        MetaError::CutShort
    }
}

impl MetaError {
    /// The same, with the key it was found under.
    pub(super) fn under(self, key: &[u8]) -> MetaError {
        MetaError::Stored { key: key.to_vec(), source: Box::new(self) }
    }
}
