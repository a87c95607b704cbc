//! A leader quiesces only once every follower that counts knows all that is committed: later
//! nothing would tell the follower.

use quorate_types::{Index, NodeId, ShardId};

use super::{Broken, broken};

const NAME: &str = "quiesced_when_done";

/// Checks a quiesced leader against a follower whose node supports the leader's node.
pub(crate) fn quiesced_leader(
    (leader, follower): (NodeId, NodeId),
    shard: ShardId,
    commit: Index,
    known: Index,
) -> Result<(), Broken> {
    if known >= commit {
        return Ok(());
    }
    let what = format!(
        "the leader of shard {shard} at node {leader} is quiesced with {commit:?} committed, of which \
         node {follower} knows {known:?}"
    );
    Err(broken(NAME, shard, [leader, follower], what))
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, SHARD, breaks};
    use super::*;
    use crate::observation::Observation;

    fn see(known: u64) -> Result<(), Broken> {
        let (leader, follower) = (NodeId(1), NodeId(2));
        let (commit, known) = (Index(7), Index(known));
        let seen = Observation::QuiescedLeader { leader, follower, shard: SHARD, commit, known };
        Bench::new().see(&seen)
    }

    #[test]
    fn a_follower_knows_before_its_leader_rests() {
        see(7).expect("it knows");
        breaks(see(6), NAME);
    }
}
