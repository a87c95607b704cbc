//! At most one leader per shard and term (election safety, Raft paper figure 3). A leader is known
//! by its role, and by messages that only a leader sends.

use std::collections::BTreeMap;

use quorate_raft::{Body, Message};
use quorate_types::{NodeId, ReplicaId, ShardId, Term};

use super::{Broken, broken};

/// Checks that each term has one leader; keeps all leaders seen.
#[derive(Default)]
pub(crate) struct ElectionSafety {
    leaders: BTreeMap<(ShardId, Term), (ReplicaId, NodeId)>,
}

impl ElectionSafety {
    pub(crate) fn leads(
        &mut self,
        shard: ShardId,
        term: Term,
        replica: ReplicaId,
        node: NodeId,
    ) -> Result<(), Broken> {
        let (other, other_node) = *self.leaders.entry((shard, term)).or_insert((replica, node));
        if other == replica {
            return Ok(());
        }
        let what = format!("term {term} of shard {shard} is led by replicas {other} and {replica}");
        Err(broken("election_safety", shard, [other_node, node], what))
    }

    pub(crate) fn sent(
        &mut self,
        from: NodeId,
        shard: ShardId,
        message: &Message,
    ) -> Result<(), Broken> {
        match message.body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::TimeoutNow => {
                self.leads(shard, message.term, message.from, from)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Role;
    use quorate_types::Index;

    use super::super::samples::{Bench, breaks};
    use super::*;

    #[test]
    fn one_leader_per_term_may_say_so_often() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("the first");
        bench.role(1, Role::Leader, 2).expect("the same");
        bench.role(2, Role::Leader, 3).expect("a later term");
    }

    #[test]
    fn a_second_leader_is_found_by_role_and_by_message() {
        let mut bench = Bench::new();
        bench.role(1, Role::Leader, 2).expect("the first");
        breaks(bench.role(2, Role::Leader, 2), "election_safety");
        let heartbeat = Body::Heartbeat { commit: Index(1), round: 0 };
        breaks(bench.send(3, 1, 2, heartbeat), "election_safety");
    }
}
