//! The founding of a cluster: when a new directory may begin to make promises.
//!
//! A directory that was emptied looks like a new one, and a new one may vote. So the replicas of a
//! new directory stay silent (no vote, no acknowledgement, no campaign) until every other founder,
//! a node that has a replica in the first map, has admitted this very directory and has stored its
//! store id durably. From then on each of them refuses any other directory under this node's id: a
//! directory that was emptied after it had made promises finds no founder that admits it (RULES 5
//! and 9). The price: a cluster starts only when all its founders have met.
//!
//! Until a node is founded itself, it takes another directory under a known id as that of a founder
//! that had to begin again, and forgets the old one: a promise counts only at founded nodes, so the
//! old directory has made none to it. All founders must have been given the same first map: its
//! digest is in every hello, and a node that was made for another map is not met.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use quorate_types::NodeId;

/// The founders that have met this directory, and the nodes that have rejected it.
pub(crate) struct BootstrapState {
    /// The other founders.
    others: BTreeSet<NodeId>,
    /// Whether this node waits for them: it does if it is a founder, too.
    waits: bool,
    met: Mutex<BTreeSet<NodeId>>,
    rejected_by: Mutex<BTreeSet<NodeId>>,
    founded: AtomicBool,
}

impl BootstrapState {
    /// `founders` are all nodes with a replica in the first map; `founded` is what the log says.
    pub(crate) fn new(
        node: NodeId,
        mut founders: BTreeSet<NodeId>,
        founded: bool,
    ) -> BootstrapState {
        let waits = founders.remove(&node);
        BootstrapState {
            others: founders,
            waits,
            met: Mutex::default(),
            rejected_by: Mutex::default(),
            founded: AtomicBool::new(founded),
        }
    }

    pub(crate) fn is_founded(&self) -> bool {
        self.founded.load(Ordering::Acquire)
    }

    /// To be called once the log has stored it.
    pub(crate) fn set_founded(&self) {
        self.founded.store(true, Ordering::Release);
    }

    /// True if no founder is missing, and the log does not say so yet.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_founded() && self.missing().is_empty()
    }

    /// `peer` has admitted this directory: both ends admit before either is connected.
    pub(crate) fn meet(&self, peer: NodeId) {
        self.rejected_by.lock().remove(&peer);
        self.met.lock().insert(peer);
    }

    /// `peer` is gone, or begins again with another directory.
    pub(crate) fn forget(&self, peer: NodeId) {
        self.met.lock().remove(&peer);
    }

    /// The founders that have not met this directory; none once it is founded.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        if self.is_founded() || !self.waits {
            return Vec::new();
        }
        let met = self.met.lock();
        self.others.iter().copied().filter(|other| !met.contains(other)).collect()
    }

    /// `peer` says that it knows another directory under this node's id. True if that ends this
    /// node: one rejection is enough for a directory that never made a promise; one that did stays
    /// until so many reject it that it can be in no majority.
    pub(crate) fn note_rejection_by(&self, peer: NodeId) -> bool {
        let mut rejected_by = self.rejected_by.lock();
        rejected_by.insert(peer);
        let against = rejected_by.intersection(&self.others).count();
        !self.is_founded() || against > self.others.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founders(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    /// Goal: a new directory waits for every founder, and for no other node. Method: meet them.
    #[test]
    fn a_new_directory_waits_for_every_founder() {
        let bootstrap_state = BootstrapState::new(NodeId(1), founders(&[1, 2, 3]), false);
        bootstrap_state.meet(NodeId(2));
        bootstrap_state.meet(NodeId(7));
        assert_eq!(bootstrap_state.missing(), [NodeId(3)]);
        assert!(!bootstrap_state.is_complete());
        bootstrap_state.meet(NodeId(3));
        assert!(bootstrap_state.is_complete() && !bootstrap_state.is_founded());
        bootstrap_state.set_founded();
        assert!(!bootstrap_state.is_complete() && bootstrap_state.missing().is_empty());
    }

    #[test]
    fn alone_or_without_a_replica_there_is_nobody_to_wait_for() {
        assert!(BootstrapState::new(NodeId(1), founders(&[1]), false).is_complete());
        assert!(BootstrapState::new(NodeId(9), founders(&[1, 2, 3]), false).is_complete());
    }

    /// Goal: one confused peer can't end a founded node, a majority of the founders can; a new
    /// directory believes the first.
    #[test]
    fn who_may_end_a_node() {
        let new = BootstrapState::new(NodeId(1), founders(&[1, 2, 3]), false);
        assert!(new.note_rejection_by(NodeId(3)));
        let founded = BootstrapState::new(NodeId(1), founders(&[1, 2, 3, 4, 5]), true);
        assert!(!founded.note_rejection_by(NodeId(2)));
        assert!(!founded.note_rejection_by(NodeId(2)), "the same word twice is one word");
        assert!(!founded.note_rejection_by(NodeId(9)), "no founder");
        assert!(!founded.note_rejection_by(NodeId(3)));
        founded.meet(NodeId(2));
        assert!(!founded.note_rejection_by(NodeId(4)), "node 2 has taken it back");
        assert!(founded.note_rejection_by(NodeId(5)));
    }
}
