//! What the log disk holds is what was written: after every change that has become durable, a log ends
//! where the writes so far make it end, without a gap, and begins no later than its purges say.

use quorate_types::{LogId, NodeId, ReplicaId, ShardId};

use super::known::Known;
use super::{Broken, broken};

const NAME: &str = "stored_as_written";

/// Checks where a stored log begins and ends.
pub(crate) fn stored(
    known: &Known,
    (node, shard, id): (NodeId, ShardId, ReplicaId),
    base: LogId,
    last: LogId,
    has_gap: bool,
) -> Result<(), Broken> {
    let Some(replica) = known.get(shard, id) else { return Ok(()) };
    let fail = |what: String| {
        let what = format!("replica {id} of shard {shard}: {what}");
        Err(broken(NAME, shard, [node], what))
    };
    let expected = replica.durable.last();
    if has_gap {
        return fail("a run was stored that does not follow the one before".to_owned());
    }
    if last != expected {
        return fail(format!("its stored log ends with {last}, written was {expected}"));
    }
    let purged = replica.durable.base();
    if base.index > purged.index {
        return fail(format!("its stored log begins behind {base}, purged was {purged}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Bench, SHARD, breaks, id, write};
    use super::*;
    use crate::observation::Observation;

    #[test]
    fn a_log_that_ends_elsewhere_is_found() {
        let mut bench = Bench::new();
        bench.durable(1, &write(1).run(2, 2, 3).build()).expect("written");
        let stored = |base, last, has_gap| {
            let (node, replica) = (NodeId(1), ReplicaId(1));
            Observation::Stored { node, shard: SHARD, replica, base, last, has_gap }
        };
        bench.see(&stored(id(1, 1), id(2, 4), false)).expect("as written");
        breaks(bench.see(&stored(id(1, 1), id(2, 3), false)), NAME);
        breaks(bench.see(&stored(id(2, 2), id(2, 4), false)), NAME);
        breaks(bench.see(&stored(id(1, 1), id(2, 4), true)), NAME);
    }
}
