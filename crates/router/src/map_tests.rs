//! The map compared with a twin that scans a plain list, and tables of the rules.

use bytes::Bytes;
use proptest::prelude::*;
use quorate_types::{Epoch, NodeId, ReplicaId, ShardId};

use super::*;
use crate::Replica;

fn descriptor(
    shard: u64,
    start: &[u8],
    end: Option<&[u8]>,
    membership: u64,
    version: u64,
) -> ShardDescriptor {
    ShardDescriptor {
        shard: ShardId(shard),
        start: Bytes::copy_from_slice(start),
        end: end.map(Bytes::copy_from_slice),
        epoch: Epoch { membership, version },
        members: vec![Replica { replica: ReplicaId(membership), node: NodeId(1) }],
    }
}

fn map_of(descriptors: &[ShardDescriptor]) -> RouteMap {
    RouteMap::from_descriptors(descriptors.iter().cloned()).expect("valid")
}

/// Goal: the range's edges and gaps. Method: a table of look-ups.
#[test]
fn look_ups_respect_half_open_ranges_and_gaps() {
    let map = map_of(&[
        descriptor(3, b"m", None, 1, 1),
        descriptor(1, b"b", Some(b"d"), 1, 1),
        descriptor(2, b"d", Some(b"f"), 1, 1),
    ]);
    let table: &[(&[u8], Option<u64>)] = &[
        (b"", None),
        (b"a\xff", None),
        (b"b", Some(1)),
        (b"c\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(1)),
        (b"d", Some(2)),
        (b"f", None),
        (b"l", None),
        (b"m", Some(3)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(3)),
    ];
    for &(key, shard) in table {
        assert_eq!(map.lookup(key).map(|d| d.shard.0), shard, "{key:?}");
    }
    let shards = |start: &[u8], end: Option<&[u8]>| -> Vec<u64> {
        map.range(start, end).map(|d| d.shard.0).collect()
    };
    assert_eq!(shards(b"", None), [1, 2, 3]);
    assert_eq!(shards(b"c", Some(b"d")), [1]);
    assert_eq!(shards(b"c", Some(b"d\0")), [1, 2]);
    assert_eq!(shards(b"f", Some(b"m")), [0; 0]);
    assert_eq!(shards(b"d", Some(b"d")), [0; 0]);
    assert_eq!(shards(b"e", Some(b"b")), [0; 0]);
    assert_eq!(map.get(ShardId(2)).map(|d| d.start.as_ref()), Some(b"d".as_ref()));
    assert_eq!(map.get(ShardId(9)), None);
}

/// Goal: starts that differ only after their eighth byte. Method: neighbours with one prefix.
#[test]
fn starts_that_share_their_first_bytes_are_told_apart() {
    let starts = ["prefixed", "prefixed\0", "prefixed\0\0", "prefixed-a", "prefixed-b"];
    let map = map_of(
        &(0..starts.len())
            .map(|at| {
                let end = starts.get(at + 1).map(|end| end.as_bytes());
                descriptor(at as u64, starts[at].as_bytes(), end, 1, 1)
            })
            .collect::<Vec<_>>(),
    );
    for (at, start) in starts.iter().enumerate() {
        assert_eq!(map.lookup(start.as_bytes()).map(|d| d.shard.0), Some(at as u64));
    }
    assert_eq!(map.lookup(b"prefixed-ab").map(|d| d.shard.0), Some(3));
    assert_eq!(map.lookup(b"prefixe"), None);
}

/// Goal: most steps of a look-up are decided without a whole key. Method: the prefixes of keys in ascending
/// order, which ascend as well; equal are those that differ behind their eighth byte or by zeros.
#[test]
fn prefixes_keep_the_order_of_keys() {
    let table: &[(&[u8], u64)] = &[
        (b"", 0),
        (b"\0\0", 0),
        (b"\0\0\0\0\0\0\0\x01", 1),
        (b"\x01\x02", 0x0102_0000_0000_0000),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08", 0x0102_0304_0506_0708),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08\x09", 0x0102_0304_0506_0708),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
    ];
    assert!(table.is_sorted());
    for &(key, expected) in table {
        assert_eq!(prefix(key), expected, "{key:?}");
    }
}

/// Goal: every verdict on a descriptor of a known shard. Method: a table against one map.
#[test]
fn epochs_of_one_shard_decide() {
    let known = descriptor(1, b"b", Some(b"d"), 5, 5);
    let changed = |evicted: &[u64]| {
        Ok(Updated::Changed { evicted: evicted.iter().map(|&shard| ShardId(shard)).collect() })
    };
    let contradiction = |membership, version| {
        Err(UpdateError::Contradiction {
            shard: ShardId(1),
            known: known.epoch,
            found: Epoch { membership, version },
        })
    };
    let other_members = ShardDescriptor { members: Vec::new(), ..known.clone() };
    let table = [
        (known.clone(), Ok(Updated::Unchanged)),
        (descriptor(1, b"b", Some(b"d"), 4, 5), Ok(Updated::Stale)),
        (descriptor(1, b"b", None, 5, 4), Ok(Updated::Stale)),
        (descriptor(1, b"b", Some(b"d"), 6, 5), changed(&[])),
        (descriptor(1, b"b", Some(b"c"), 5, 6), changed(&[])),
        (descriptor(1, b"b", Some(b"e"), 6, 5), contradiction(6, 5)),
        (descriptor(1, b"b", Some(b"c"), 4, 6), contradiction(4, 6)),
        (other_members, contradiction(5, 5)),
        (descriptor(1, b"d", Some(b"d"), 9, 9), Err(UpdateError::EmptyRange { shard: ShardId(1) })),
    ];
    for (news, verdict) in table {
        let mut map = map_of(std::slice::from_ref(&known));
        assert_eq!(map.update(news.clone()), verdict, "{news:?}");
    }
}

/// Goal: versions decide between shards that share keys. Method: newer, older and equal overlaps.
#[test]
fn versions_decide_between_shards() {
    let held = [descriptor(1, b"a", Some(b"d"), 1, 2), descriptor(2, b"d", Some(b"f"), 1, 4)];
    let mut map = map_of(&held);
    assert_eq!(
        map.update(descriptor(3, b"c", Some(b"e"), 1, 5)),
        Ok(Updated::Changed { evicted: vec![ShardId(1), ShardId(2)] })
    );
    assert_eq!(map.len(), 1);

    let mut map = map_of(&held);
    assert_eq!(map.update(descriptor(3, b"c", Some(b"e"), 1, 3)), Ok(Updated::Stale));
    let refused = map.update(descriptor(3, b"c", Some(b"e"), 1, 2));
    let overlap = UpdateError::Overlap {
        shard: ShardId(3),
        other: ShardId(1),
        key: Bytes::from("c"),
        version: 2,
    };
    assert_eq!(refused, Err(overlap));
    assert!(map.iter().eq(&held), "a refusal changes nothing");
}

/// Goal: a list describes one moment. Method: lists with a shard twice, overlaps, an empty range.
#[test]
fn lists_are_checked_whole() {
    let twice = [descriptor(1, b"a", Some(b"b"), 1, 1), descriptor(1, b"c", Some(b"d"), 1, 1)];
    let mixed = [descriptor(1, b"a", Some(b"c"), 1, 1), descriptor(2, b"b", Some(b"d"), 1, 2)];
    let endless = [descriptor(1, b"a", None, 1, 1), descriptor(2, b"b", Some(b"d"), 1, 1)];
    let empty = [descriptor(1, b"b", Some(b"a"), 1, 1)];
    assert_eq!(
        RouteMap::from_descriptors(twice).unwrap_err(),
        UpdateError::Mixed { shard: ShardId(1), other: ShardId(1) }
    );
    assert_eq!(
        RouteMap::from_descriptors(mixed).unwrap_err(),
        UpdateError::Mixed { shard: ShardId(1), other: ShardId(2) }
    );
    assert!(matches!(RouteMap::from_descriptors(endless), Err(UpdateError::Overlap { .. })));
    assert!(matches!(RouteMap::from_descriptors(empty), Err(UpdateError::EmptyRange { .. })));
}

/// The twin: a plain list; every look-up is a full scan.
#[derive(Default)]
struct Twin(Vec<ShardDescriptor>);

impl Twin {
    fn update(&mut self, news: &ShardDescriptor) -> &'static str {
        if news.end.as_ref().is_some_and(|end| *end <= news.start) {
            return "error";
        }
        if let Some(known) = self.0.iter().find(|known| known.shard == news.shard) {
            let (k, n) = (known.epoch, news.epoch);
            let same_range = known.start == news.start && known.end == news.end;
            if n.version == k.version && !same_range {
                return "error";
            }
            if n == k {
                return if known.members == news.members { "unchanged" } else { "error" };
            }
            if n.version <= k.version && n.membership <= k.membership {
                return "stale";
            }
            if n.version < k.version || n.membership < k.membership {
                return "error";
            }
        }
        let others = |d: &&ShardDescriptor| {
            d.shard != news.shard && d.overlaps(&news.start, news.end.as_deref())
        };
        let versions: Vec<u64> = self.0.iter().filter(others).map(|d| d.epoch.version).collect();
        if versions.contains(&news.epoch.version) {
            return "error";
        }
        if versions.iter().any(|&version| version > news.epoch.version) {
            return "stale";
        }
        self.0.retain(|d| d.shard != news.shard && !d.overlaps(&news.start, news.end.as_deref()));
        self.0.push(news.clone());
        "changed"
    }
}

/// Short keys over a tiny alphabet behind an optional long common prefix, so that ranges meet.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let tail = proptest::collection::vec(0u8..4, 0..3);
    (any::<bool>(), tail).prop_map(|(long, tail)| {
        let mut key = if long { vec![2; 8] } else { Vec::new() };
        key.extend(tail);
        key
    })
}

fn any_descriptor() -> impl Strategy<Value = ShardDescriptor> {
    (0u64..5, key(), proptest::option::weighted(0.9, key()), 0u64..4, 0u64..6).prop_map(
        |(shard, start, end, membership, version)| {
            descriptor(shard, &start, end.as_deref(), membership, version)
        },
    )
}

proptest! {
    /// Goal: the map and its twin agree on every verdict and every look-up after any history.
    #[test]
    fn the_map_agrees_with_its_twin(
        history in proptest::collection::vec(any_descriptor(), 0..40),
        probes in proptest::collection::vec((key(), proptest::option::of(key())), 20),
    ) {
        let mut map = RouteMap::new();
        let mut twin = Twin::default();
        for news in history {
            let expected = twin.update(&news);
            let found = match map.update(news) {
                Ok(Updated::Stale) => "stale",
                Ok(Updated::Unchanged) => "unchanged",
                Ok(Updated::Changed { .. }) => "changed",
                Err(_) => "error",
            };
            prop_assert_eq!(found, expected);
        }
        twin.0.sort_by(|a, b| a.start.cmp(&b.start));
        prop_assert!(map.iter().eq(&twin.0));
        prop_assert_eq!(map.len(), twin.0.len());
        prop_assert_eq!(map.is_empty(), twin.0.is_empty());
        for (start, end) in probes {
            prop_assert_eq!(map.lookup(&start), twin.0.iter().find(|d| d.contains(&start)));
            let end = end.as_deref();
            let expected = twin.0.iter().filter(|d| d.overlaps(&start, end));
            prop_assert!(map.range(&start, end).eq(expected));
        }
        for shard in 0..5 {
            let expected = twin.0.iter().find(|d| d.shard == ShardId(shard));
            prop_assert_eq!(map.get(ShardId(shard)), expected);
        }
        prop_assert!(RouteMap::from_descriptors(twin.0).is_ok());
    }
}
