//! A shard's progress on this node: its worker and the apply thread store it, any thread watches.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quorate_types::Index;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How far a replica has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Everything up to and with this index is known to be committed, is durable on this node, and
    /// has been handed to the state machine. May lag behind the leader's.
    pub commit: Index,
    /// Everything up to and with this index has been applied by the state machine here; never
    /// beyond `commit`.
    pub applied: Index,
}

/// A position and its watchers. While there are none, storing costs two atomics.
///
/// A publisher stores and then checks for watchers; a watcher registers and then loads. All four
/// are sequentially consistent, so one of the two sees the other, and no wake-up is lost.
pub(crate) struct PositionCell {
    commit: AtomicU64,
    applied: AtomicU64,
    watchers: AtomicUsize,
    moved: Notify,
}

impl PositionCell {
    /// The position of a replica that begins with everything up to `applied`.
    pub(crate) fn new(applied: Index) -> PositionCell {
        PositionCell {
            commit: AtomicU64::new(applied.0),
            applied: AtomicU64::new(applied.0),
            watchers: AtomicUsize::new(0),
            moved: Notify::new(),
        }
    }

    /// The worker handed out everything up to `index`. Called before it is applied.
    pub(crate) fn publish_commit(&self, index: Index) {
        self.commit.store(index.0, Ordering::SeqCst);
        self.announce();
    }

    /// The apply thread has written everything up to `index`. A snapshot may have gone beyond it.
    pub(crate) fn publish_applied(&self, index: Index) {
        self.applied.fetch_max(index.0, Ordering::SeqCst);
        self.announce();
    }

    /// A snapshot through `index` was put in force. Entries after it may have been handed out before.
    pub(crate) fn skip_to(&self, index: Index) {
        self.commit.fetch_max(index.0, Ordering::SeqCst);
        self.applied.fetch_max(index.0, Ordering::SeqCst);
        self.announce();
    }

    /// Wakes the watchers.
    pub(crate) fn announce(&self) {
        if self.watchers.load(Ordering::SeqCst) > 0 {
            self.moved.notify_waiters();
        }
    }

    pub(crate) fn get(&self) -> Position {
        // In this order, because commit is published first: it is never seen behind `applied`.
        let applied = Index(self.applied.load(Ordering::SeqCst));
        let commit = Index(self.commit.load(Ordering::SeqCst));
        Position { commit, applied }
    }

    /// From now on publications wake [`PositionCell::moved`].
    pub(crate) fn register(&self) {
        self.watchers.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn unregister(&self) {
        self.watchers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Completes at the next publication after this call. Only for registered watchers.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }
}
