//! The audit of a pair of nodes: it finds shards that only one of the two believes to be bound.
//!
//! A lost release, or a binding that only one side remembers, would otherwise leave a quiesced shard
//! stuck forever. Each side keeps the bound shards in 64 buckets, each with count and xor of a
//! hash of (shard, term). The bound side numbers the changes of a bucket and tells its number with
//! each binding, so that two digests can be compared at the same point of one history: unequal
//! digests under one number are a difference, under two numbers only a lag, until that has lasted.
//!
//! One bucket rides on each heartbeat of the bound side; the leader's side compares. Where they
//! differ it sends its list of the bucket on the control lane and gets the other's back; each side
//! wakes the shards that it has and the other has not.
//!
//! **The hash** is two lanes of the splitmix64 finalizer, keyed by the cluster. Peers are
//! authenticated, so only accidents count: two different sets of shards agree in digest if the
//! hashes of their difference cancel out, by chance once in 2^128, and even a hash much worse than
//! that would be caught by the next change, since every term is new. Chaining shard and term through
//! the mixer, not adding their hashes, keeps (s1, t1), (s1, t2), (s2, t1), (s2, t2) from cancelling.

use std::collections::BTreeMap;

use quorate_types::{ClusterId, ShardId, Term, limits, mix};

/// Counts the changes of one bucket on the bound side, since both sides began in their incarnations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeNumber(pub u64);

/// One of the [`limits::AUDIT_BUCKETS`] buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketNumber(u8);

impl BucketNumber {
    /// The bucket of this number, if there is one.
    #[must_use]
    pub fn new(number: u8) -> Option<BucketNumber> {
        (usize::from(number) < limits::AUDIT_BUCKETS).then_some(BucketNumber(number))
    }

    /// Its number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

/// The key of the hash; the same on all nodes of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct AuditKey {
    low: u64,
    high: u64,
}

impl AuditKey {
    /// The key of a cluster.
    #[must_use]
    pub fn new(cluster: ClusterId) -> AuditKey {
        let low = u64::try_from(cluster.0 & u128::from(u64::MAX)).expect("64 bits");
        let high = u64::try_from(cluster.0 >> 64).expect("64 bits");
        AuditKey { low: mix(low), high: mix(high ^ low) }
    }

    fn bucket(self, shard: ShardId) -> BucketNumber {
        let buckets = u64::try_from(limits::AUDIT_BUCKETS).expect("a small number");
        BucketNumber(u8::try_from(mix(shard.0 ^ self.low) % buckets).expect("below 256"))
    }

    fn hash(self, shard: ShardId, term: Term) -> u128 {
        let lane = |seed: u64| mix(mix(shard.0.wrapping_add(seed)).wrapping_add(term.0) ^ seed);
        u128::from(lane(self.low)) | u128::from(lane(self.high.wrapping_add(1))) << 64
    }
}

/// One bucket as it stands on the bound side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditSample {
    /// The bucket.
    pub bucket: BucketNumber,
    /// How often it has changed.
    pub change: ChangeNumber,
    /// How many shards it holds.
    pub count: u32,
    /// Xor of their hashes.
    pub digest: u128,
}

/// All shards of one bucket, as one side has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditList {
    /// The bucket.
    pub bucket: BucketNumber,
    /// The bound side's number, or the newest of it that the leader's side has seen.
    pub change: ChangeNumber,
    /// Ascending by shard.
    pub shards: Vec<(ShardId, Term)>,
}

/// The outcome of comparing a sample with the own bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both sides have the same shards.
    Equal,
    /// They differ, but one side has seen more changes: an answer may be on its way.
    Behind,
    /// They differ, and not because of a lag: exchange the lists.
    Unequal,
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    change: ChangeNumber,
    digest: u128,
    shards: BTreeMap<ShardId, Term>,
    rounds_behind: u32,
}

/// The buckets of one side.
#[derive(Clone, Debug)]
struct Buckets {
    key: AuditKey,
    buckets: Vec<Bucket>,
}

impl Buckets {
    fn new(key: AuditKey) -> Buckets {
        Buckets { key, buckets: vec![Bucket::default(); limits::AUDIT_BUCKETS] }
    }

    fn at(&self, number: BucketNumber) -> &Bucket {
        &self.buckets[usize::from(number.0)]
    }

    fn bucket_of(&mut self, shard: ShardId) -> &mut Bucket {
        let number = self.key.bucket(shard);
        &mut self.buckets[usize::from(number.0)]
    }

    /// True if that was news.
    fn insert(&mut self, shard: ShardId, term: Term) -> bool {
        let key = self.key;
        let bucket = self.bucket_of(shard);
        let old = bucket.shards.insert(shard, term);
        bucket.digest ^= key.hash(shard, term);
        bucket.digest ^= old.map_or(0, |old| key.hash(shard, old));
        old != Some(term)
    }

    /// True if it was there.
    fn remove(&mut self, shard: ShardId) -> bool {
        let key = self.key;
        let bucket = self.bucket_of(shard);
        let old = bucket.shards.remove(&shard);
        bucket.digest ^= old.map_or(0, |old| key.hash(shard, old));
        old.is_some()
    }

    fn sample(&self, number: BucketNumber) -> AuditSample {
        let bucket = self.at(number);
        let count = u32::try_from(bucket.shards.len()).expect("fewer than 2^32 shards");
        AuditSample { bucket: number, change: bucket.change, count, digest: bucket.digest }
    }

    fn list(&self, number: BucketNumber) -> AuditList {
        let bucket = self.at(number);
        let shards = bucket.shards.iter().map(|(shard, term)| (*shard, *term)).collect();
        AuditList { bucket: number, change: bucket.change, shards }
    }

    /// The shards that this side has and `theirs` has not, or has in another term.
    fn missing_in(&self, theirs: &AuditList) -> Vec<ShardId> {
        let theirs_by_shard: BTreeMap<_, _> = theirs.shards.iter().copied().collect();
        let mine = self.at(theirs.bucket).shards.iter();
        mine.filter(|(shard, term)| theirs_by_shard.get(shard) != Some(term))
            .map(|(shard, _)| *shard)
            .collect()
    }
}

/// The shards bound here to leaders at one peer: the bound side, which decides what is true.
#[derive(Clone, Debug)]
pub struct BoundHere {
    buckets: Buckets,
    next: BucketNumber,
}

impl BoundHere {
    /// The state of two nodes that both begin in their incarnations: nothing is bound.
    #[must_use]
    pub fn new(key: AuditKey) -> BoundHere {
        BoundHere { buckets: Buckets::new(key), next: BucketNumber(0) }
    }

    /// `shard` is bound in `term`. The number goes to the leader with the binding.
    pub fn bind(&mut self, shard: ShardId, term: Term) -> ChangeNumber {
        let is_news = self.buckets.insert(shard, term);
        self.count(shard, is_news)
    }

    /// `shard` is no longer bound.
    pub fn unbind(&mut self, shard: ShardId) {
        let is_news = self.buckets.remove(shard);
        self.count(shard, is_news);
    }

    /// The bucket for the next heartbeat, all in turn.
    pub fn take_sample(&mut self) -> AuditSample {
        let number = self.next;
        self.next = BucketNumber::new(number.0.wrapping_add(1)).unwrap_or(BucketNumber(0));
        self.buckets.sample(number)
    }

    /// The leader's side found a difference and sent its list: the shards bound here of which it
    /// does not know, each to be woken to ask. [`BoundHere::list`] goes back.
    #[must_use]
    pub fn handle_list(&self, theirs: &AuditList) -> Vec<ShardId> {
        self.buckets.missing_in(theirs)
    }

    /// What this side has in a bucket.
    #[must_use]
    pub fn list(&self, bucket: BucketNumber) -> AuditList {
        self.buckets.list(bucket)
    }

    fn count(&mut self, shard: ShardId, is_news: bool) -> ChangeNumber {
        let bucket = self.buckets.bucket_of(shard);
        bucket.change = ChangeNumber(bucket.change.0 + u64::from(is_news));
        bucket.change
    }
}

/// The shards led here that are bound at one peer, as its answers told: the leader's side.
#[derive(Clone, Debug)]
pub struct BoundThere {
    buckets: Buckets,
}

impl BoundThere {
    /// The state of two nodes that both begin in their incarnations: nothing is bound.
    #[must_use]
    pub fn new(key: AuditKey) -> BoundThere {
        BoundThere { buckets: Buckets::new(key) }
    }

    /// The peer's replica of `shard` has bound itself in `term`, by its change `change`.
    pub fn record(&mut self, shard: ShardId, term: Term, change: ChangeNumber) {
        let bucket = self.buckets.bucket_of(shard);
        bucket.change = bucket.change.max(change);
        // Answers may overtake each other.
        if bucket.shards.get(&shard).is_none_or(|old| *old < term) {
            self.buckets.insert(shard, term);
        }
    }

    /// This node no longer leads `shard`, or knows that it is not bound there.
    pub fn forget(&mut self, shard: ShardId) {
        self.buckets.remove(shard);
    }

    /// A heartbeat of the peer brought a sample.
    pub fn compare(&mut self, theirs: &AuditSample) -> Comparison {
        let mine = self.buckets.sample(theirs.bucket);
        let bucket = &mut self.buckets.buckets[usize::from(theirs.bucket.0)];
        if (mine.count, mine.digest) == (theirs.count, theirs.digest) {
            // Changes that cancelled out, of which no answer told.
            bucket.change = bucket.change.max(theirs.change);
            bucket.rounds_behind = 0;
            return Comparison::Equal;
        }
        if mine.change != theirs.change {
            bucket.rounds_behind += 1;
            if bucket.rounds_behind < limits::AUDIT_ROUNDS {
                return Comparison::Behind;
            }
        }
        bucket.rounds_behind = 0;
        Comparison::Unequal
    }

    /// What this side has in a bucket, for the peer.
    #[must_use]
    pub fn list(&self, bucket: BucketNumber) -> AuditList {
        self.buckets.list(bucket)
    }

    /// The peer's list came back: forgets what is not bound there and yields it, to be woken and
    /// bound again. A list that an answer has overtaken costs one more binding, never a wrong
    /// lease.
    pub fn handle_list(&mut self, theirs: &AuditList) -> Vec<ShardId> {
        let gone = self.buckets.missing_in(theirs);
        for shard in &gone {
            self.buckets.remove(*shard);
        }
        let bucket = &mut self.buckets.buckets[usize::from(theirs.bucket.0)];
        bucket.change = bucket.change.max(theirs.change);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ClusterId = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

    fn pair() -> (BoundHere, BoundThere) {
        let key = AuditKey::new(KEY);
        (BoundHere::new(key), BoundThere::new(key))
    }

    /// The samples of one round that are not equal.
    fn round(here: &mut BoundHere, there: &mut BoundThere) -> Vec<(BucketNumber, Comparison)> {
        let samples = (0..limits::AUDIT_BUCKETS).map(|_| here.take_sample());
        let compared = samples.map(|sample| (sample.bucket, there.compare(&sample)));
        compared.filter(|(_, comparison)| *comparison != Comparison::Equal).collect()
    }

    /// Goal: the digest never changes between versions and machines. Method: it stands here.
    #[test]
    fn golden_hash() {
        let key = AuditKey::new(KEY);
        let golden = 0x498b_3a02_a3b2_e609_2871_f08b_1522_bef2;
        assert_eq!(key.hash(ShardId(1), Term(2)), golden);
    }

    #[test]
    fn agreement_is_equal_and_a_lag_is_behind_until_it_lasts() {
        let (mut here, mut there) = pair();
        for shard in 0..1_000 {
            let change = here.bind(ShardId(shard), Term(3));
            there.record(ShardId(shard), Term(3), change);
        }
        assert_eq!(round(&mut here, &mut there), []);
        let change = here.bind(ShardId(5), Term(4));
        for _ in 1..limits::AUDIT_ROUNDS {
            assert!(matches!(round(&mut here, &mut there)[..], [(_, Comparison::Behind)]));
        }
        assert!(matches!(round(&mut here, &mut there)[..], [(_, Comparison::Unequal)]));
        there.record(ShardId(5), Term(4), change);
        there.record(ShardId(5), Term(3), ChangeNumber(1));
        assert_eq!(round(&mut here, &mut there), []);
        // Unbound and bound again while no answer arrived: the numbers differ, the shards do not.
        here.unbind(ShardId(5));
        here.bind(ShardId(5), Term(4));
        assert_eq!(round(&mut here, &mut there), []);
    }

    /// Goal: a release that was lost is found at once, and the exchange names exactly what differs.
    #[test]
    fn lists_name_what_differs_on_each_side() {
        let (mut here, mut there) = pair();
        for shard in 0..1_000 {
            let change = here.bind(ShardId(shard), Term(3));
            there.record(ShardId(shard), Term(3), change);
        }
        there.forget(ShardId(7));
        let unequal = round(&mut here, &mut there);
        let [(bucket, Comparison::Unequal)] = unequal[..] else {
            panic!("one bucket differs: {unequal:?}");
        };
        assert_eq!(here.handle_list(&there.list(bucket)), [ShardId(7)]);
        assert_eq!(there.handle_list(&here.list(bucket)), []);
        here.unbind(ShardId(7));
        assert_eq!(round(&mut here, &mut there), []);
        here.unbind(ShardId(8));
        here.unbind(ShardId(9));
        let mut gone = Vec::new();
        for _ in 0..limits::AUDIT_ROUNDS {
            for (bucket, comparison) in round(&mut here, &mut there) {
                if comparison == Comparison::Unequal {
                    assert_eq!(here.handle_list(&there.list(bucket)), []);
                    gone.extend(there.handle_list(&here.list(bucket)));
                }
            }
        }
        gone.sort();
        assert_eq!(gone, [ShardId(8), ShardId(9)]);
        assert_eq!(round(&mut here, &mut there), []);
    }

    /// Goal: no small set of neighbours cancels out. Method: all pairs and all rectangles of a grid.
    #[test]
    fn neighbours_do_not_cancel_out() {
        let key = AuditKey::new(ClusterId(0));
        let hash = |shard: u64, term: u64| key.hash(ShardId(shard), Term(term));
        let grid = || (0..24u64).flat_map(|shard| (0..24u64).map(move |term| (shard, term)));
        let distinct: std::collections::BTreeSet<u128> = grid().map(|(s, t)| hash(s, t)).collect();
        assert_eq!(distinct.len(), 24 * 24);
        for (s1, t1) in grid() {
            for (s2, t2) in grid().filter(|(s2, t2)| *s2 > s1 && *t2 > t1) {
                assert_ne!(hash(s1, t1) ^ hash(s1, t2), hash(s2, t1) ^ hash(s2, t2));
            }
        }
    }
}
