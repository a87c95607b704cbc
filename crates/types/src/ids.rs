//! Identifiers: one newtype for each kind, so that two bare numbers never stand side by side.

use std::cmp::Ordering;
use std::fmt;

/// Declares a newtype over an unsigned integer with a short display prefix.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(
            feature = "serde",
            derive(serde::Serialize, serde::Deserialize),
            serde(transparent)
        )]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id!(
    /// A process that hosts replicas. The operator assigns the id, unique in a cluster forever.
    NodeId,
    "n"
);
id!(
    /// One consensus group and the key range it owns. Shard 0 is the meta shard.
    ShardId,
    "s"
);
id!(
    /// One admission of a node to a shard's group; never reused (a node that was removed and
    /// comes back gets a new one), so that an old acknowledgement can't count for the new replica.
    ReplicaId,
    "r"
);
id!(
    /// The key prefix under which a replica keeps its data; never reused on a node.
    SpaceId,
    "sp"
);
id!(
    /// A Raft term (Ongaro, thesis 3.3).
    Term,
    "t"
);
id!(
    /// A position in a shard's log. Index 0 never names an entry.
    Index,
    "i"
);
id!(
    /// The number of a write that a kernel has requested; starts at 1, grows by one.
    WriteNumber,
    "w"
);
id!(
    /// How often a node has started; durable, and raised before the node sends anything.
    Incarnation,
    "inc"
);

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    /// The index after this one.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one.
    ///
    /// # Panics
    /// If this is index 0, which has none before it.
    #[must_use]
    pub fn previous(self) -> Index {
        Index(self.0.checked_sub(1).expect("index 0 has no predecessor"))
    }

    /// The index `count` places further.
    #[must_use]
    pub fn plus(self, count: u64) -> Index {
        Index(self.0 + count)
    }

    /// How many indexes lie in `[earlier, self)`; 0 if `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Index) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl WriteNumber {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> WriteNumber {
        WriteNumber(self.0 + 1)
    }
}

/// An entry's identity: term and index always travel together, because more than one system has
/// mistaken either alone for the whole. Ordered by term, then index: the order in which logs are
/// "up to date" (Raft paper, 5.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogId {
    /// Term in which the entry was proposed. First, so that the derived order compares it first.
    pub term: Term,
    /// Position in the log.
    pub index: Index,
}

impl LogId {
    /// The entry at `index` proposed in `term`.
    #[must_use]
    pub const fn new(term: Term, index: Index) -> LogId {
        LogId { term, index }
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.term.0, self.index.0)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A version of a shard's descriptor: `membership` counts configuration changes, `version` counts
/// changes of the range.
///
/// A shard's log applies one change after another, and each raises one part. So of two epochs that were
/// both in force, one is at least as high as the other in both parts: that is their order. If each is
/// newer in one part, they have no order, and one of them is not from this shard's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch {
    /// Raised by every change of members.
    pub membership: u64,
    /// Raised by every change of the range; commands carry this one.
    pub version: u64,
}

impl PartialOrd for Epoch {
    fn partial_cmp(&self, other: &Epoch) -> Option<Ordering> {
        let membership = self.membership.cmp(&other.membership);
        let version = self.version.cmp(&other.version);
        match (membership, version) {
            (membership, Ordering::Equal) => Some(membership),
            (Ordering::Equal, version) => Some(version),
            (membership, version) => (membership == version).then_some(version),
        }
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}v{}", self.membership, self.version)
    }
}

/// The text was not an identifier of 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not 32 hexadecimal digits")]
pub struct ParseIdError(pub String);

/// Declares a 128-bit random identity, written as 32 hexadecimal digits.
macro_rules! wide_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u128);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
                match u128::from_str_radix(text, 16) {
                    Ok(value) if digits => Ok(Self(value)),
                    _ => Err(ParseIdError(text.to_owned())),
                }
            }
        }
    };
}

wide_id!(
    /// A cluster; drawn at random when its certificates are made.
    ClusterId
);
wide_id!(
    /// One directory of one node; drawn at random when the directory is made. It tells an empty or
    /// foreign directory under a known node id from the right one.
    StoreId
);

/// One start of one node from one directory. Peers remember it for each node, to tell a restart
/// from an old process, a copied directory, or an emptied one (RULE 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeInstance {
    /// The directory.
    pub store: StoreId,
    /// How often the directory was started.
    pub incarnation: Incarnation,
    /// Drawn at random by the process: two processes that raised copies of one directory to the
    /// same incarnation differ in it.
    pub nonce: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_term_outranks_a_longer_log() {
        assert!(LogId::new(Term(2), Index(1)) > LogId::new(Term(1), Index(9)));
        assert!(LogId::new(Term(2), Index(2)) > LogId::new(Term(2), Index(1)));
    }

    #[test]
    fn epochs_are_ordered_by_both_parts() {
        let epoch = |membership, version| Epoch { membership, version };
        assert!(
            epoch(2, 2) > epoch(1, 1) && epoch(2, 1) > epoch(1, 1) && epoch(1, 2) > epoch(1, 1)
        );
        assert!(epoch(1, 1) >= epoch(1, 1) && epoch(1, 1) < epoch(1, 2));
        assert_eq!(epoch(2, 1).partial_cmp(&epoch(1, 2)), None);
        assert_eq!(epoch(1, 2).partial_cmp(&epoch(2, 1)), None);
    }

    #[test]
    fn wide_ids_survive_their_text() {
        let id = ClusterId(0x00ab_0000_0000_0000_0000_0000_0000_0001);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("+b000000000000000000000000000001".parse::<StoreId>().is_err());
        assert!("12".parse::<StoreId>().is_err());
    }
}
