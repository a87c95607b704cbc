//! Which other nodes have said that their disks are spent: that they take no entries of other leaders.
//!
//! A leader whose own disk has room would take writes that no majority stores, and their callers would
//! learn nothing of them. Written when a node tells; a write reads one atomic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use quorate_types::{Monotonic, NodeId, limits};

use crate::error::DiskLow;

/// What spent nodes have told, as long as it counts.
#[derive(Debug, Default)]
pub(crate) struct SpentPeers {
    has_some: AtomicBool,
    told: RwLock<BTreeMap<NodeId, (Monotonic, DiskLow)>>,
}

impl SpentPeers {
    /// Notes what `node` says: its figures, or that its disk is spent no longer.
    pub(crate) fn note(&self, now: Monotonic, node: NodeId, low: Option<DiskLow>) {
        let mut told = self.told.write();
        match low {
            Some(low) => drop(told.insert(node, (now, low))),
            None => drop(told.remove(&node)),
        }
        self.has_some.store(!told.is_empty(), Ordering::Release);
    }

    /// Forgets what counts no longer: a node that has died says nothing more.
    pub(crate) fn forget_old(&self, now: Monotonic) {
        let mut told = self.told.write();
        told.retain(|_, (at, _)| counts(now, *at));
        self.has_some.store(!told.is_empty(), Ordering::Release);
    }

    /// Whether there may be any.
    pub(crate) fn has_some(&self) -> bool {
        self.has_some.load(Ordering::Acquire)
    }

    /// One of `members` that is spent, if those that are not are no majority. A node that does not say it
    /// again may have room by now, and one that is down counts as if it took them.
    pub(crate) fn without_majority(
        &self,
        now: Monotonic,
        members: impl ExactSizeIterator<Item = NodeId>,
    ) -> Option<(NodeId, DiskLow)> {
        let told = self.told.read();
        let count = members.len();
        let mut spent = members
            .filter_map(|node| Some((node, told.get(&node)?)))
            .filter(|(_, (at, _))| counts(now, *at))
            .map(|(node, (_, low))| (node, *low));
        let first = spent.next()?;
        let takes = count - 1 - spent.count();
        (takes < count / 2 + 1).then_some(first)
    }
}

fn counts(now: Monotonic, told: Monotonic) -> bool {
    now.since(told) < limits::DISK_SPENT_COUNTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::clock;

    /// Goal: writes stop exactly when no majority takes them, and go on once a node says so, or says
    /// nothing more.
    #[test]
    fn a_majority_that_is_spent_is_known() {
        let (peers, now) = (SpentPeers::default(), clock::now());
        let low = DiskLow { free_bytes: 1, needed_bytes: 2 };
        let of = |now, nodes: &[u64]| {
            let members: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
            peers.without_majority(now, members.into_iter())
        };
        assert_eq!(of(now, &[1, 2, 3]), None);
        peers.note(now, NodeId(2), Some(low));
        assert_eq!(of(now, &[1, 2, 3]), None, "two of three take them");
        assert_eq!(of(now, &[1, 2]), Some((NodeId(2), low)), "both are needed");
        peers.note(now, NodeId(3), Some(low));
        assert_eq!(of(now, &[1, 2, 3]), Some((NodeId(2), low)));
        assert_eq!(of(now, &[1, 2, 3, 4]), Some((NodeId(2), low)), "three of four are needed");
        assert_eq!(of(now, &[1, 2, 3, 4, 5]), None);
        peers.note(now, NodeId(2), None);
        assert_eq!(of(now, &[1, 2, 3]), None);
        peers.note(now, NodeId(2), Some(low));
        let later = now + limits::DISK_SPENT_COUNTS;
        peers.note(later, NodeId(3), Some(low));
        assert_eq!(of(later, &[1, 2, 3]), None, "node 2 has not said it again");
        peers.forget_old(later);
        assert!(peers.has_some());
        peers.forget_old(later + limits::DISK_SPENT_COUNTS);
        assert!(!peers.has_some(), "a write looks for none");
    }
}
