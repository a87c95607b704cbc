//! A replica whose end is durable never starts again, and nothing of it is written any more (RULES 3
//! and 5). One that was given up says nothing until it ends, or until a start finds it whole because
//! a crash has lost its end; and no end is lost for good.

use quorate_raft::Message;
use quorate_types::{NodeId, ReplicaId, ShardId};

use super::known::Known;
use super::{Broken, broken};

const NAME: &str = "ended_stay_silent";

/// Checks a message that leaves its node.
pub(crate) fn sent(
    known: &Known,
    from: NodeId,
    shard: ShardId,
    message: &Message,
) -> Result<(), Broken> {
    let sender = message.from;
    match known.get(shard, sender) {
        Some(replica) if replica.is_removed => {
            let what = format!("replica {sender} of shard {shard} was given up and speaks");
            Err(broken(NAME, shard, [from], what))
        }
        _ => Ok(()),
    }
}

/// Checks a write that has become durable.
pub(crate) fn durable(
    known: &Known,
    node: NodeId,
    shard: ShardId,
    id: ReplicaId,
) -> Result<(), Broken> {
    match known.get(shard, id) {
        Some(replica) if replica.is_ended => {
            let what = format!("replica {id} of shard {shard} has ended, and is written");
            Err(broken(NAME, shard, [node], what))
        }
        _ => Ok(()),
    }
}

/// Checks that every replica that was given up has ended, or lives again.
pub(crate) fn end(known: &Known) -> Result<(), Broken> {
    let is_lost = |replica: &super::known::Replica| replica.is_removed && !replica.is_ended;
    match known.replicas.iter().find(|(_, replica)| is_lost(replica)) {
        Some(((shard, id), replica)) => {
            let what = format!("replica {id} of shard {shard} was given up, and has not ended");
            Err(broken(NAME, *shard, [replica.node], what))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::Body;
    use quorate_types::{NodeId, ReplicaId};

    use super::super::samples::{Bench, SHARD, breaks, restored, write};
    use super::*;
    use crate::observation::{Observation, why};

    fn heartbeat() -> Body {
        Body::HeartbeatReply { round: 0 }
    }

    fn give_up(bench: &mut Bench) {
        let (node, shard, replica, why) = (NodeId(2), SHARD, ReplicaId(2), why::DAMAGED);
        let removed = Observation::ReplicaRemoved { node, shard, replica, why };
        bench.see(&removed).expect("it may end");
    }

    #[test]
    fn one_that_was_given_up_speaks_only_if_it_lives_again() {
        let mut bench = Bench::new();
        bench.send(2, 1, 1, heartbeat()).expect("it lives");
        give_up(&mut bench);
        breaks(bench.send(2, 1, 1, heartbeat()), NAME);
        bench.add(2, &restored()).expect("a crash has lost its end");
        bench.send(2, 1, 1, heartbeat()).expect("it lives again");
    }

    #[test]
    fn what_has_ended_is_neither_written_nor_started() {
        let mut bench = Bench::new();
        give_up(&mut bench);
        breaks(end(&bench.properties.known), NAME);
        let (node, shard, replica) = (NodeId(2), SHARD, ReplicaId(2));
        bench.see(&Observation::ReplicaEnded { node, shard, replica }).expect("it ends");
        end(&bench.properties.known).expect("it has ended");
        breaks(bench.durable(2, &write(1).vote(2, 1).build()), NAME);
        breaks(bench.add(2, &restored()), "sync_before_promise");
    }
}
