//! The errors of the log. Each names the thing concerned, what was found and what to do about it.

use std::fmt;
use std::path::PathBuf;

use quorate_types::{ClusterId, Index, NodeId, ReplicaId, ShardId};

/// Which process has a directory open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This process.
    ThisProcess,
    /// Another process.
    AnotherProcess,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Holder::ThisProcess => "this very process: shut down what has it open",
            Holder::AnotherProcess => "another process: stop that one",
        })
    }
}

/// Why a directory could not be opened as a log.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// A running process has it open.
    #[error("log directory {} is in use by {holder}, or use another directory", dir.display())]
    InUse {
        /// The log's directory.
        dir: PathBuf,
        /// The process that has it open.
        holder: Holder,
    },
    /// The directory belongs to another cluster.
    #[error(
        "log directory {} belongs to cluster {found}, this node was started for {expected}: \
         correct the configuration, or use an empty directory", dir.display()
    )]
    OtherCluster {
        /// The log's directory.
        dir: PathBuf,
        /// As configured.
        expected: ClusterId,
        /// As stored.
        found: ClusterId,
    },
    /// The directory belongs to another node.
    #[error(
        "log directory {} belongs to node {found}, this is node {expected}: correct the \
         configuration, or use an empty directory", dir.display()
    )]
    OtherNode {
        /// The log's directory.
        dir: PathBuf,
        /// As configured.
        expected: NodeId,
        /// As stored.
        found: NodeId,
    },
    /// A newer release wrote the directory.
    #[error(
        "log directory {} has format {found}, this release reads up to {supported}: start the \
         release that wrote it, or a newer one", dir.display()
    )]
    NewerFormat {
        /// The log's directory.
        dir: PathBuf,
        /// As stored.
        found: u32,
        /// The newest format that this release reads.
        supported: u32,
    },
    /// A release that had other bytes wrote the directory.
    #[error(
        "log directory {} has format {found}, this release reads {supported} only: no data was \
         changed; start the release that wrote it, or start this node on a fresh directory and let \
         the cluster fill it", dir.display()
    )]
    OlderFormat {
        /// The log's directory.
        dir: PathBuf,
        /// As stored.
        found: u32,
        /// The format that this release reads.
        supported: u32,
    },
    /// Durable bytes are missing or changed. At most a last write, which was never acknowledged,
    /// was cut. What replicas of this directory promised is now unknown (RULE 5, RULE 9).
    #[error(
        "log directory {} is damaged: {what}; its replicas may have lost promises and must not \
         vote again: keep the directory for inspection, start the node on an empty one and let \
         the cluster replace its replicas", dir.display()
    )]
    Damaged {
        /// The log's directory.
        dir: PathBuf,
        /// What was found where.
        what: String,
    },
    /// Tables are damaged, and the disk has no room for what can be read of them. Nothing that
    /// counts was changed.
    #[error(
        "tables in log directory {} are damaged, and writing what can be read into new ones takes \
         {needed_mebibytes} MiB, of which its disk has {free_mebibytes}: free some, then start the \
         node again", dir.display()
    )]
    NoRoom {
        /// The log's directory.
        dir: PathBuf,
        /// The free space.
        free_mebibytes: u64,
        /// The free space that it takes.
        needed_mebibytes: u64,
    },
    /// The storage engine refuses for another reason.
    #[error("log directory {} can't be opened: {detail}; correct that and start again", dir.display())]
    Storage {
        /// The log's directory.
        dir: PathBuf,
        /// In the storage engine's words.
        detail: String,
    },
    /// The directory can't be made, listed or synced.
    #[error("log directory {} can't be prepared: {source}; check its path, owner and disk", dir.display())]
    Directory {
        /// The directory concerned.
        dir: PathBuf,
        /// From the operating system.
        source: std::io::Error,
    },
    /// The first write after opening failed.
    #[error(transparent)]
    Fault(#[from] LogFault),
}

/// The first failure of the store. It latches: every later call is refused with the same fault,
/// because a sync that succeeds after one that failed proves nothing about the bytes of the first
/// (RULE 8). Only a new start may find out what is on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// A write or its sync failed.
    #[error(
        "write to the log in {} failed: {detail}; nothing more is written until a restart: check \
         the disk first", dir.display()
    )]
    Write {
        /// The log's directory.
        dir: PathBuf,
        /// In the storage engine's words.
        detail: String,
    },
    /// A flush or compaction failed in the background.
    #[error(
        "background work on the log in {} failed: {detail}; nothing more is written until a \
         restart: check the disk first", dir.display()
    )]
    Background {
        /// The log's directory.
        dir: PathBuf,
        /// In the storage engine's words.
        detail: String,
    },
    /// A flush or compaction met a table whose bytes are not what was written.
    #[error(
        "a table of the log in {} is damaged: {detail}; nothing more is written until a restart, \
         which writes what can be read into new tables, and gives up the replicas of which something \
         can't be read: start the node again", dir.display()
    )]
    DamagedTable {
        /// The log's directory.
        dir: PathBuf,
        /// In the storage engine's words.
        detail: String,
    },
    /// A write had to read older runs and found them unreadable.
    #[error(
        "log of shard {shard} in {} is unreadable: {detail}; restart the node, which then reports \
         the replica as damaged", dir.display()
    )]
    Unreadable {
        /// The log's directory.
        dir: PathBuf,
        /// The shard of these runs.
        shard: ShardId,
        /// What was found where.
        detail: String,
    },
    /// A caller or the writer thread met a broken invariant in the middle of a change.
    #[error(
        "a change of the log in {} has panicked: see the panic message, then restart", dir.display()
    )]
    Panicked {
        /// The log's directory.
        dir: PathBuf,
    },
}

/// Why a call created no replicas: it creates all of its list or none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The shard has a replica here, or is named twice in the list.
    #[error("shard {shard} has replica {found} on this node already: end that one first")]
    Exists {
        /// The shard.
        shard: ShardId,
        /// Its living replica.
        found: ReplicaId,
    },
    /// A replica of this id or a later one was removed here (RULE 3).
    #[error(
        "replica {found} of shard {shard} is refused: {removed} was removed from this node, a new \
         admission has a higher id"
    )]
    Removed {
        /// The shard.
        shard: ShardId,
        /// The id asked for.
        found: ReplicaId,
        /// The highest id that was removed.
        removed: ReplicaId,
    },
    /// A replica of this id or a later one is here, and may have lost what it promised (RULE 5).
    #[error(
        "replica {found} of shard {shard} is refused: {damaged} is damaged on this node and may \
         have promised what it no longer knows, a new admission has a higher id"
    )]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// The id asked for.
        found: ReplicaId,
        /// The damaged one.
        damaged: ReplicaId,
    },
    /// The store has failed, now or earlier.
    #[error(transparent)]
    Fault(#[from] LogFault),
}

/// Why entries could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogReadError {
    /// No living replica of the shard is here.
    #[error("shard {shard} has no living replica in this log: ask the node that has one")]
    Unknown {
        /// The shard.
        shard: ShardId,
    },
    /// The log does not hold the entry: it was purged, or is not yet written.
    #[error("entry {index} of shard {shard} is not in the log: send a snapshot if it was purged")]
    Absent {
        /// The shard.
        shard: ShardId,
        /// The first index asked for.
        index: Index,
    },
    /// The disk or the system did not give the bytes; nothing says that they are damaged.
    #[error(
        "log of shard {shard} could not be read: {detail}; check disk and limits, then restart"
    )]
    Failed {
        /// The shard.
        shard: ShardId,
        /// In the storage engine's words.
        detail: String,
    },
    /// Stored bytes differ from those written.
    #[error(
        "log of shard {shard} is unreadable: {detail}; this replica has to be replaced (RULE 5)"
    )]
    Damaged {
        /// The shard.
        shard: ShardId,
        /// What was found where.
        detail: String,
    },
}
