//! Tests of what the meta shard's commands mean, by scripts.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_router::{Replica, ShardDescriptor};
use quorate_types::{
    Epoch, Incarnation, Index, LogId, NodeId, NodeInstance, ReplicaId, ShardId, StoreId, Term,
    WallMillis,
};

use super::head::TAG_OPERATION;
use super::*;
use crate::plain_map::PlainMap;
use crate::state_machine::{ApplyContext, OrderedMap, StateMachine};

/// The shard `shard` at this epoch from `start` on, with these (replica, node) pairs.
pub(super) fn descriptor(
    shard: u64,
    (membership, version): (u64, u64),
    (start, end): (&'static str, Option<&'static str>),
    members: &[(u64, u64)],
) -> ShardDescriptor {
    let member = |&(replica, node)| Replica { replica: ReplicaId(replica), node: NodeId(node) };
    ShardDescriptor {
        shard: ShardId(shard),
        start: Bytes::from_static(start.as_bytes()),
        end: end.map(|end| Bytes::from_static(end.as_bytes())),
        epoch: Epoch { membership, version },
        members: members.iter().map(member).collect(),
    }
}

pub(super) fn record(node: u64, store: u128, address: &str) -> NodeRecord {
    let services = [("redis".to_owned(), "r:1".to_owned())];
    let instance = NodeInstance { store: StoreId(store), incarnation: Incarnation(2), nonce: 9 };
    let (node, address) = (NodeId(node), address.to_owned());
    NodeRecord { node, instance, address, services: BTreeMap::from(services) }
}

pub(super) fn apply_bytes(map: &mut PlainMap, command: &[u8]) -> MetaReply {
    let id = LogId::new(Term(1), Index(1));
    let context = ApplyContext { shard: ShardId(0), id, time: WallMillis(0) };
    MetaReply::decode(&MetaMachine.apply(context, command, map)).expect("replies are sound")
}

pub(super) fn apply(map: &mut PlainMap, command: &MetaCommand) -> MetaReply {
    apply_bytes(map, &command.encode())
}

pub(super) fn found(cluster_version: u32, shards: &[ShardDescriptor]) -> MetaCommand {
    MetaCommand::Found { cluster_version, shards: shards.to_vec() }
}

pub(super) fn report(shards: &[ShardDescriptor]) -> MetaCommand {
    MetaCommand::ReportShards(shards.to_vec())
}

pub(super) fn allocate(kind: IdKind, count: u32) -> MetaCommand {
    MetaCommand::Allocate { kind, count }
}

/// Applies each command, compares its reply, and holds the revision to whether the map changed.
fn play(map: &mut PlainMap, script: &[(&str, MetaCommand, MetaReply)]) {
    for (what, command, expected) in script {
        let (before, revision) = (map.clone(), MetaMap::revision_of(map));
        assert_eq!(apply(map, command), *expected, "{what}");
        let changed = u64::from(*map != before);
        assert_eq!(MetaMap::revision_of(map), revision + changed, "{what}");
        MetaMap::read(map).expect(what);
    }
}

const ALL: (&str, Option<&str>) = ("", None);

#[test]
fn nothing_before_the_founding_and_one_founding() {
    let shard = descriptor(1, (1, 1), ALL, &[(1, 1)]);
    let empty = descriptor(1, (1, 1), ("m", Some("m")), &[(1, 1)]);
    let refused = MetaReply::Contradiction { shard: ShardId(1) };
    let map = &mut PlainMap::default();
    assert_eq!(MetaMap::read(map), Ok(MetaMap::default()));
    play(
        map,
        &[
            ("register", MetaCommand::Register(record(1, 1, "a")), MetaReply::NotFounded),
            ("report", report(std::slice::from_ref(&shard)), MetaReply::NotFounded),
            ("allocate", allocate(IdKind::Node, 1), MetaReply::NotFounded),
            ("raise", MetaCommand::RaiseVersion { from: 0, to: 1 }, MetaReply::NotFounded),
            ("a range without keys", found(1, &[empty]), refused),
        ],
    );
    assert_eq!(*map, PlainMap::default());
    let again = MetaReply::AlreadyFounded { revision: 1 };
    play(
        map,
        &[
            ("found", found(3, std::slice::from_ref(&shard)), MetaReply::Done { revision: 1 }),
            ("the same again", found(3, std::slice::from_ref(&shard)), again),
            ("another", found(4, &[]), again),
        ],
    );
    let expected =
        MetaMap { revision: 1, cluster_version: 3, nodes: Vec::new(), shards: vec![shard] };
    assert_eq!(MetaMap::read(map), Ok(expected));
    let map = &mut PlainMap::default();
    play(map, &[("no shard at all", found(0, &[]), MetaReply::Done { revision: 1 })]);
}

/// Goal: of the starts of one directory the newest is kept; a late word of an older one, and one of a
/// copy that counts as many, change nothing.
#[test]
fn the_newest_start_of_a_node_is_kept() {
    let register = |incarnation, nonce, address| {
        let mut record = record(5, 7, address);
        record.instance =
            NodeInstance { incarnation: Incarnation(incarnation), nonce, ..record.instance };
        MetaCommand::Register(record)
    };
    let map = &mut PlainMap::default();
    play(
        map,
        &[
            ("found", found(1, &[]), MetaReply::Done { revision: 1 }),
            ("first start", register(1, 10, "a:1"), MetaReply::Done { revision: 2 }),
            ("next start", register(3, 30, "a:1"), MetaReply::Done { revision: 3 }),
            ("a late word", register(1, 10, "b:1"), MetaReply::Done { revision: 3 }),
            ("a copy", register(3, 31, "b:1"), MetaReply::Done { revision: 3 }),
            ("it moves", register(3, 30, "c:1"), MetaReply::Done { revision: 4 }),
        ],
    );
    let read = MetaMap::read(map).expect("sound");
    let kept = read.node(NodeId(5)).expect("it is registered");
    assert_eq!((kept.instance.nonce, kept.address.as_str()), (30, "c:1"));
}

#[test]
fn a_node_keeps_its_store_and_may_move() {
    let register = |store, address| MetaCommand::Register(record(5, store, address));
    let other = MetaReply::OtherStore { known: StoreId(7) };
    let map = &mut PlainMap::default();
    play(
        map,
        &[
            ("found", found(1, &[]), MetaReply::Done { revision: 1 }),
            ("first time", register(7, "a:1"), MetaReply::Done { revision: 2 }),
            ("the same again", register(7, "a:1"), MetaReply::Done { revision: 2 }),
            ("another directory", register(8, "a:1"), other),
            ("another address", register(7, "b:1"), MetaReply::Done { revision: 3 }),
            ("next node", allocate(IdKind::Node, 2), MetaReply::Allocated { first: 6 }),
        ],
    );
    let read = MetaMap::read(map).expect("sound");
    assert_eq!(read.node(NodeId(5)), Some(&record(5, 7, "b:1")));
    assert_eq!(read.node(NodeId(6)), None);
    let mut wide = record(9, 1, "a:1");
    wide.services.insert("x".repeat(256), String::new());
    assert!(wide.check().is_err() && record(9, 1, "a:1").check().is_ok());
    let mut many = record(9, 1, "a:1");
    many.services = (0..300).map(|name| (name.to_string(), String::new())).collect();
    assert!(many.check().is_err());
    play(
        map,
        &[
            ("a long name", MetaCommand::Register(wide), MetaReply::Unknown),
            ("too many services", MetaCommand::Register(many), MetaReply::Unknown),
        ],
    );
}

#[test]
fn of_descriptors_the_newest_is_kept() {
    let held = || descriptor(1, (3, 3), ALL, &[(1, 1)]);
    let left = descriptor(1, (3, 4), ("", Some("m")), &[(1, 1)]);
    let child = descriptor(2, (3, 4), ("m", None), &[(2, 1)]);
    let moved = descriptor(2, (4, 4), ("m", None), &[(2, 1), (3, 2)]);
    let done = |revision| MetaReply::Done { revision };
    let refused = |shard| MetaReply::Contradiction { shard: ShardId(shard) };
    let other_range = descriptor(1, (4, 3), ("a", None), &[(1, 1)]);
    let two = [child.clone(), descriptor(1, (4, 2), ALL, &[])];
    let map = &mut PlainMap::default();
    play(
        map,
        &[
            ("found", found(1, &[held()]), done(1)),
            ("the same", report(&[held()]), done(1)),
            ("nothing", report(&[]), done(1)),
            ("older by members", report(&[descriptor(1, (2, 3), ALL, &[])]), done(1)),
            ("older by range", report(&[descriptor(1, (3, 2), ("x", None), &[])]), done(1)),
            ("same epoch, other members", report(&[descriptor(1, (3, 3), ALL, &[])]), refused(1)),
            ("same version, other range", report(&[other_range]), refused(1)),
            ("newer and older", report(&[descriptor(1, (2, 4), ALL, &[])]), refused(1)),
            ("a child beside a contradiction", report(&two), refused(1)),
            (
                "one with no key",
                report(&[descriptor(4, (1, 1), ("b", Some("a")), &[])]),
                refused(4),
            ),
            ("split", report(&[left.clone(), child.clone()]), done(2)),
            ("late news", report(&[held()]), done(2)),
            ("one old, one new", report(&[left.clone(), moved.clone()]), done(3)),
            ("twice in one", report(&[child.clone(), moved.clone(), child]), done(3)),
        ],
    );
    assert_eq!(MetaMap::read(map).expect("sound").shards, [left, moved]);
    let newer = descriptor(3, (2, 1), ALL, &[(4, 4)]);
    let twice = [descriptor(3, (1, 1), ALL, &[]), newer.clone()];
    play(map, &[("the newest of one report", report(&twice), done(4))]);
    assert_eq!(MetaMap::read(map).expect("sound").shards[2], newer);
}

#[test]
fn ids_are_never_given_out_twice() {
    let first = |first| MetaReply::Allocated { first };
    let founded = [descriptor(4, (1, 1), ALL, &[(30, 8), (12, 2)])];
    let reported = [descriptor(9, (1, 1), ALL, &[(40, 11)])];
    let last = [descriptor(9, (2, 1), ALL, &[(u64::MAX - 1, 11)])];
    let map = &mut PlainMap::default();
    play(
        map,
        &[
            ("found", found(1, &founded), MetaReply::Done { revision: 1 }),
            ("shards", allocate(IdKind::Shard, 3), first(5)),
            ("more shards", allocate(IdKind::Shard, 1), first(8)),
            ("replicas", allocate(IdKind::Replica, 5), first(31)),
            ("nodes", allocate(IdKind::Node, 1), first(9)),
            ("none", allocate(IdKind::Node, 0), first(10)),
            ("a report raises all", report(&reported), MetaReply::Done { revision: 6 }),
            ("shard after it", allocate(IdKind::Shard, 1), first(10)),
            ("replica after it", allocate(IdKind::Replica, 1), first(41)),
            ("node after it", allocate(IdKind::Node, 1), first(12)),
            ("nearly all used", report(&last), MetaReply::Done { revision: 10 }),
            ("too many", allocate(IdKind::Replica, 2), MetaReply::Unknown),
            ("the last one", allocate(IdKind::Replica, 1), first(u64::MAX)),
            ("none left", allocate(IdKind::Replica, 1), MetaReply::Unknown),
            ("not even none", allocate(IdKind::Replica, 0), MetaReply::Unknown),
        ],
    );
}

#[test]
fn the_cluster_version_only_rises() {
    let raise = |from, to| MetaCommand::RaiseVersion { from, to };
    let other = |current| MetaReply::OtherVersion { current };
    play(
        &mut PlainMap::default(),
        &[
            ("found", found(2, &[]), MetaReply::Done { revision: 1 }),
            ("from another", raise(1, 3), other(2)),
            ("down", raise(2, 1), other(2)),
            ("to itself", raise(2, 2), MetaReply::Done { revision: 1 }),
            ("up", raise(2, 4), MetaReply::Done { revision: 2 }),
            ("up, late", raise(2, 4), other(4)),
        ],
    );
}

#[test]
fn operations_in_progress_are_left_alone() {
    let map = &mut PlainMap::default();
    apply(map, &found(1, &[descriptor(1, (1, 1), ALL, &[])]));
    let before = MetaMap::read(map);
    map.put(&[TAG_OPERATION], b"?");
    map.put(&[TAG_OPERATION, 1, 2], b"anything");
    assert_eq!(MetaMap::read(map), before);
}
