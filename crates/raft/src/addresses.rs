//! The addresses of replicas: from the memberships and, for a few that no membership names yet,
//! from their connections.

use quorate_types::{NodeId, ReplicaId};

use crate::kernel::Kernel;
use crate::membership::Member;

/// Addresses kept of replicas that the membership does not name (yet).
const ADDRESS_HINTS_MAX: usize = 16;

impl Kernel {
    /// Tells the node of a replica that the membership here may not name yet, as known from the
    /// connection of its message: a candidate admitted by entries that have not arrived can be
    /// answered only this way. The newest few are kept.
    pub fn handle_address(&mut self, replica: ReplicaId, node: NodeId) {
        self.address_hints.retain(|hint| hint.replica != replica);
        if self.log.membership().node_of(replica).is_none() {
            if self.address_hints.len() == ADDRESS_HINTS_MAX {
                self.address_hints.remove(0);
            }
            self.address_hints.push(Member { replica, node });
        }
    }

    pub(crate) fn leader_address(&self) -> Option<(ReplicaId, NodeId)> {
        let leader = self.leader?;
        Some((leader, self.node_of(leader)?))
    }

    /// The node of `replica`. The membership before the one in force counts too: a leader that
    /// removes itself needs answers to the entry by which it does.
    pub(crate) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let hint = || self.address_hints.iter().find(|hint| hint.replica == replica);
        let in_force = self.log.membership().node_of(replica);
        in_force
            .or_else(|| hint().map(|member| member.node))
            .or_else(|| self.log.membership_before().node_of(replica))
    }
}
