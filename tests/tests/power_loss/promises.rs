//! The promises made before a cut, and which of them the logs do not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quorate::{ClusterId, Index, NodeId, ReplicaId, ShardId, StoreId, Term};
use quorate_log::{LogOptions, LogStore, RecoveredReplica};

/// The cluster of every test; see `ClusterSpec`.
const CLUSTER: ClusterId = ClusterId(0xc1);
const NODES: u64 = 3;

/// The promises of one replica. Only the newest of each kind has to be kept: a log that holds it
/// holds what the older ones allow to be overwritten.
#[derive(Clone, Debug, Default)]
struct Replica {
    /// The vote of every term.
    votes: BTreeMap<Term, ReplicaId>,
    /// The highest index acknowledged, by term.
    accepted: BTreeMap<Term, Index>,
}

/// Everything promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promises {
    replicas: BTreeMap<(u64, ShardId), Replica>,
    /// Numbers of the writes that were acknowledged to clients.
    pub(crate) writes: BTreeSet<u64>,
    /// Two votes of one term.
    contradictions: Vec<(u64, String)>,
}

impl Promises {
    /// Reads marks.
    ///
    /// # Panics
    /// If they have another form.
    pub(crate) fn parse(marks: &[u8]) -> Promises {
        let mut promises = Promises::default();
        for line in std::str::from_utf8(marks).expect("marks are text").lines() {
            let mut words = line.split(' ');
            let kind = words.next().expect("a kind");
            let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
            match (kind, &numbers[..]) {
                ("put", &[number]) => {
                    promises.writes.insert(number);
                }
                ("vote", &[node, shard, term, replica]) => {
                    promises.take_vote(node, ShardId(shard), Term(term), ReplicaId(replica));
                }
                ("accepted", &[node, shard, term, matched]) => {
                    let replica = promises.replicas.entry((node, ShardId(shard))).or_default();
                    let newest = replica.accepted.entry(Term(term)).or_default();
                    *newest = Index(matched).max(*newest);
                }
                _ => panic!("no mark: {line:?}"),
            }
        }
        promises
    }

    fn take_vote(&mut self, node: u64, shard: ShardId, term: Term, vote: ReplicaId) {
        let replica = self.replicas.entry((node, shard)).or_default();
        let first = *replica.votes.entry(term).or_insert(vote);
        if first != vote {
            let what = format!("shard {shard}: voted for {first} and {vote} in term {term}");
            self.contradictions.push((node, what));
        }
    }

    /// How many votes were given.
    pub(crate) fn votes(&self) -> usize {
        self.replicas.values().map(|replica| replica.votes.len()).sum()
    }

    /// How many logs were acknowledged in how many terms.
    pub(crate) fn acknowledgements(&self) -> usize {
        self.replicas.values().map(|replica| replica.accepted.len()).sum()
    }

    /// Opens every node's log in `tree` and returns what is missing where.
    pub(crate) fn broken_in(&self, tree: &Path) -> Vec<(u64, String)> {
        let mut broken = self.contradictions.clone();
        for node in 1..=NODES {
            match self.broken_by(node, &tree.join(format!("node-{node}/log"))) {
                Ok(found) => broken.extend(found.into_iter().map(|what| (node, what))),
                Err(refused) => broken.push((node, refused)),
            }
        }
        broken
    }

    fn broken_by(&self, node: u64, log: &Path) -> Result<Vec<String>, String> {
        let options = LogOptions::default();
        let (store, recovery) = LogStore::open(log, CLUSTER, NodeId(node), StoreId(1), options)
            .map_err(|refused| refused.to_string())?;
        let mut broken = Vec::new();
        for ((_, shard), promised) in
            self.replicas.range((node, ShardId(0))..(node + 1, ShardId(0)))
        {
            let found = recovery.replicas.iter().find(|replica| replica.shard == *shard);
            let what = match found {
                None => Some("is not there".to_owned()),
                Some(RecoveredReplica { damaged: Some(what), .. }) => Some(what.clone()),
                Some(found) => promised.broken_by(found),
            };
            broken.extend(what.map(|what| format!("shard {shard}: {what}")));
        }
        store.close().map_err(|fault| fault.to_string())?;
        Ok(broken)
    }
}

impl Replica {
    /// Which of the promises `found` does not hold. A higher term may have overwritten both.
    fn broken_by(&self, found: &RecoveredReplica) -> Option<String> {
        let (state, last) = (&found.restored.hard_state, found.restored.last);
        if let Some((term, vote)) = self.votes.last_key_value()
            && (state.term < *term || (state.term == *term && state.vote != Some(*vote)))
        {
            return Some(format!("voted for {vote} in term {term}, holds {state:?}"));
        }
        if let Some((term, matched)) = self.accepted.last_key_value()
            && (state.term < *term || (state.term == *term && last.index < *matched))
        {
            return Some(format!(
                "acknowledged {matched} in term {term}, ends at {last} and holds {state:?}"
            ));
        }
        None
    }
}
