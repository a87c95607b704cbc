//! What a state machine does that keeps a store of its own.

use bytes::Bytes;

/// The store of a [`StateMachine`](crate::StateMachine) that does not write into the engine's map: a
/// database of its author's choice, a file, an index in memory with checkpoints.
///
/// The engine hands its own progress to the store as a *record*: bytes that mean nothing to the
/// store, which it keeps beside its data and changes in the same transaction. There is no second copy:
/// where a replica continues after a start is what its store says. The log has everything that came
/// later, so the store needs no write-ahead log.
///
/// # What has to hold
///
/// - **Whole commits.** [`commit`](OwnStore::commit) makes everything that was applied since the last
///   commit and the record take effect together. Whatever happens, a later process finds the data of
///   some commit (or install) with the record of that same one, never a part.
/// - **No step back behind a sync.** After a power cut, the store is at a commit that is not older
///   than the last one whose sync ended. After the end of the process alone it may be, too. Entries of
///   the log are deleted once they are synced here, and no sooner.
/// - **Uncommitted changes are nobody's.** If the process ends before the commit, they are gone, and
///   the same entries are applied again.
/// - **One store for one shard of one node.** Its author names it by both. A store that holds another
///   directory's record refuses the start, so a node that begins anew needs an empty one. A machine
///   keeps its own store from its shard's first start on, or never.
///
/// # Threads
///
/// All methods are called from one thread at a time, and never while `apply` runs.
/// [`committed`](OwnStore::committed) is called on the thread that opens the engine, before anything
/// else; [`install`](OwnStore::install) there too, or on a thread that receives snapshots; all others
/// on the apply thread, which works for all shards of the node: what blocks there holds them all up.
/// The longer parts of the work are therefore objects that go to other threads: [`StoreSync`] and
/// [`StoreSnapshot`]. They run while further entries are applied and committed.
///
/// # Failures
///
/// [`StoreFault::Damaged`] gives the replica up for ever: it may be replaced by a new one, but nothing
/// of it is read again. [`StoreFault::Failed`] ends it until the next start of the node, which begins
/// with what the store has committed; nothing is called on the store any more until then, because a
/// write or a sync that failed says nothing about what is on the disk. Neither touches the other
/// shards of the node, nor the other replicas of the shard. One call is spared: a snapshot that fails
/// to be read is only not sent.
///
/// # Example
///
/// A counter in a file, which is replaced as a whole by each commit. It is durable then, so there is
/// nothing left for a sync; a store with more data would rather write now and sync later.
///
/// ```
/// use std::fs::{self, File};
/// use std::io::Write;
/// use std::path::PathBuf;
///
/// use bytes::Bytes;
/// use quorate_machine::{
///     ApplyContext, OrderedMap, OwnStore, SnapshotChunks, StateMachine, StoreFault, StoreSnapshot,
///     StoreSync,
/// };
///
/// struct Counter {
///     directory: PathBuf,
///     value: u64,
/// }
///
/// impl StateMachine for Counter {
///     fn apply(&mut self, _: ApplyContext, _: &[u8], _: &mut dyn OrderedMap) -> Bytes {
///         self.value += 1;
///         Bytes::copy_from_slice(&self.value.to_le_bytes())
///     }
///
///     fn own_store(&mut self) -> Option<&mut dyn OwnStore> {
///         Some(self)
///     }
/// }
///
/// /// The whole state is one chunk.
/// struct Value(Option<u64>);
///
/// impl StoreSnapshot for Value {
///     fn bytes_estimate(&self) -> u64 {
///         8
///     }
///
///     fn next_chunk(&mut self, _bytes_max: usize) -> Result<Option<Bytes>, StoreFault> {
///         Ok(self.0.take().map(|value| Bytes::copy_from_slice(&value.to_le_bytes())))
///     }
/// }
///
/// impl OwnStore for Counter {
///     fn committed(&mut self) -> Result<Option<Bytes>, StoreFault> {
///         let bytes = match fs::read(self.directory.join("counter")) {
///             Ok(bytes) => bytes,
///             Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
///             Err(error) => return Err(error.into()),
///         };
///         // A store should have a checksum of its own, too.
///         let Some((value, record)) = bytes.split_first_chunk() else {
///             return Err(StoreFault::Damaged("the file is cut short".to_owned()));
///         };
///         self.value = u64::from_le_bytes(*value);
///         Ok(Some(Bytes::copy_from_slice(record)))
///     }
///
///     fn commit(&mut self, record: &[u8]) -> Result<(), StoreFault> {
///         let next = self.directory.join("next");
///         let mut file = File::create(&next)?;
///         file.write_all(&self.value.to_le_bytes())?;
///         file.write_all(record)?;
///         file.sync_all()?;
///         fs::rename(&next, self.directory.join("counter"))?;
///         File::open(&self.directory)?.sync_all()?;
///         Ok(())
///     }
///
///     fn begin_sync(&mut self) -> Result<StoreSync, StoreFault> {
///         Ok(Box::new(|| Ok(())))
///     }
///
///     fn snapshot(&mut self) -> Result<Box<dyn StoreSnapshot>, StoreFault> {
///         Ok(Box::new(Value(Some(self.value))))
///     }
///
///     fn install(
///         &mut self,
///         record: &[u8],
///         chunks: &mut dyn SnapshotChunks,
///     ) -> Result<(), StoreFault> {
///         let chunk = chunks.next_chunk()?.unwrap_or_default();
///         let value = chunk[..].try_into().map_err(|_| {
///             StoreFault::Damaged(format!("a snapshot of {} bytes, not 8", chunk.len()))
///         })?;
///         self.value = u64::from_le_bytes(value);
///         self.commit(record)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let directory = std::env::temp_dir().join(format!("counter-{}", std::process::id()));
/// fs::create_dir_all(&directory)?;
/// let mut counter = Counter { directory: directory.clone(), value: 4 };
/// counter.commit(b"record")?;
/// let mut again = Counter { directory: directory.clone(), value: 0 };
/// assert_eq!(again.committed()?.as_deref(), Some(&b"record"[..]));
/// assert_eq!(again.value, 4);
/// # fs::remove_dir_all(&directory)?;
/// # Ok(())
/// # }
/// ```
pub trait OwnStore {
    /// The record of the last commit or install; `None` if there was none yet. Called once, first. A
    /// machine that could not open its store says so here.
    ///
    /// # Errors
    /// [`StoreFault`]. After `Failed` the node starts without this replica.
    fn committed(&mut self) -> Result<Option<Bytes>, StoreFault>;

    /// Commits everything that was applied since the last commit, and `record` in place of the last
    /// one. Called once for each batch of entries, on the apply thread; their callers are answered
    /// when it returns. It need not be durable then.
    ///
    /// # Errors
    /// [`StoreFault`]. The outcome of the batch is unknown to its callers then.
    fn commit(&mut self, record: &[u8]) -> Result<(), StoreFault>;

    /// Prepares to make durable everything that is committed now. The result is run on another
    /// thread, while entries are applied and committed here; only when it has succeeded are entries
    /// of the log deleted. Called now and then as the log grows, and when the engine stops, which runs
    /// the result at once.
    ///
    /// # Errors
    /// [`StoreFault`], here or when it is run.
    fn begin_sync(&mut self) -> Result<StoreSync, StoreFault>;

    /// What the store holds as of the last commit, to be sent to a replica that lags. Called right
    /// after a commit, on the apply thread: it must not copy much. Several may be read at once.
    ///
    /// # Errors
    /// [`StoreFault`]. After `Failed` it is asked again later.
    fn snapshot(&mut self) -> Result<Box<dyn StoreSnapshot>, StoreFault>;

    /// Replaces everything in the store by a snapshot and `record`. Takes effect as a whole, and is
    /// durable when it returns; may take long, while no entry of this shard is applied. After a crash
    /// it is called again, unless [`committed`](OwnStore::committed) gives its record or a later one.
    ///
    /// # Errors
    /// [`StoreFault`]; those of `chunks` are passed on.
    fn install(&mut self, record: &[u8], chunks: &mut dyn SnapshotChunks)
    -> Result<(), StoreFault>;
}

/// The rest of a sync, which [`OwnStore::begin_sync`] has begun. It may block for the disk; if it is
/// dropped, nothing needs to be durable.
pub type StoreSync = Box<dyn FnOnce() -> Result<(), StoreFault> + Send>;

/// What a store held at one commit, whatever is committed meanwhile. It is dropped when it was read,
/// or when it is not wanted any more.
pub trait StoreSnapshot: Send {
    /// About how many bytes all chunks have together: what the receiver makes room for, and what
    /// people see as the length of the way. It need not be exact.
    fn bytes_estimate(&self) -> u64;

    /// The next chunk, of 1 to `bytes_max` bytes (at least a megabyte); `None` at the end. How the
    /// state is cut is up to the store: the receiver gets the same chunks in the same order. Called on
    /// a thread that sends all snapshots of the node; may block for the disk.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StoreFault>;
}

/// The chunks of a snapshot, in the order in which [`StoreSnapshot::next_chunk`] gave them.
pub trait SnapshotChunks {
    /// The next chunk; `None` at the end. Blocks for the disk.
    ///
    /// # Errors
    /// [`StoreFault`] if it can't be read, or if the engine stops.
    fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreFault>;
}

/// Why a store can't do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// What is stored is not what was written: a checksum does not match, a part is missing. Reading
    /// it again can't help.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk or the system failed, or there is no room. What was committed before may be sound.
    #[error("failed: {0}")]
    Failed(String),
}

impl From<std::io::Error> for StoreFault {
    fn from(error: std::io::Error) -> Self {
        StoreFault::Failed(error.to_string())
    }
}
