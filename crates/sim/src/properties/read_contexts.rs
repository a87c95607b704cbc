//! Read contexts only grow, through all lives of a replica: a late response must not pass for the
//! response to a newer request.

use std::collections::BTreeMap;

use quorate_raft::{Body, Message};
use quorate_types::{NodeId, ReplicaId, ShardId};

use super::{Broken, broken};

const NAME: &str = "read_contexts";

/// Checks that read contexts grow; keeps the newest of each replica.
#[derive(Default)]
pub(crate) struct ReadContexts {
    newest: BTreeMap<(ShardId, ReplicaId), u64>,
}

impl ReadContexts {
    pub(crate) fn sent(
        &mut self,
        from: NodeId,
        shard: ShardId,
        message: &Message,
    ) -> Result<(), Broken> {
        let Body::ReadIndex { context } = message.body else { return Ok(()) };
        let id = message.from;
        match self.newest.insert((shard, id), context) {
            Some(before) if context <= before => {
                let what = format!("replica {id} of shard {shard} asks as {context:#x} again");
                Err(broken(NAME, shard, [from], what))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_types::Term;

    use super::*;

    #[test]
    fn a_context_that_comes_again_is_seen() {
        let mut contexts = ReadContexts::default();
        let mut ask = |from, context| {
            let body = Body::ReadIndex { context };
            let (from, to) = (ReplicaId(from), ReplicaId(9));
            let message = Message { from, to, term: Term(3), body };
            contexts.sent(NodeId(1), ShardId(1), &message).is_ok()
        };
        assert!(ask(1, 7) && ask(2, 7) && ask(1, 8));
        assert!(!ask(1, 8));
    }
}
