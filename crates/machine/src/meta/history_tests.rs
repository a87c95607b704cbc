//! Tests of the meta shard's machine by random histories with a fixed seed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};
use quorate_router::ShardDescriptor;

use super::head::KEY_HEAD;
use super::tests::{allocate, apply, descriptor, found, record};
use super::*;
use crate::plain_map::PlainMap;

fn any_descriptor() -> impl Strategy<Value = ShardDescriptor> {
    // Mostly one range per version, as a log would have it, so that most reports are no nonsense.
    let range = |version: u64, odd: u8| match (version, odd) {
        (1, 1..) => ("", None),
        (_, 1..) => ("", Some("m")),
        (_, 0) => ("b", Some("b")),
    };
    let members = prop::collection::vec((1u64..60, 1u64..8), 0..3);
    (1u64..6, 1u64..4, 1u64..4, 0u8..20, members).prop_map(
        move |(shard, membership, version, odd, members)| {
            descriptor(shard, (membership, version), range(version, odd), &members)
        },
    )
}

fn any_command() -> impl Strategy<Value = MetaCommand> {
    let descriptors = || prop::collection::vec(any_descriptor(), 0..3);
    let node = (1u64..6, 1u128..3, 0u8..3)
        .prop_map(|(node, store, address)| record(node, store, &address.to_string()));
    let kind = prop_oneof![Just(IdKind::Shard), Just(IdKind::Replica), Just(IdKind::Node)];
    prop_oneof![
        1 => descriptors().prop_map(|shards| found(1, &shards)),
        3 => node.prop_map(MetaCommand::Register),
        5 => descriptors().prop_map(MetaCommand::ReportShards),
        2 => (kind, 0u32..5).prop_map(|(kind, count)| allocate(kind, count)),
        1 => (1u32..4, 1u32..4).prop_map(|(from, to)| MetaCommand::RaiseVersion { from, to }),
    ]
}

/// Goal: replicas agree, the revision counts changes exactly, ids given out are new, refusals
/// change nothing, and readers can read it all. Method: random histories applied twice; the map
/// without its head's revision is compared around every command. The seed is fixed, so that it is
/// also known that every reply occurs.
#[test]
fn random_histories() {
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8),
        ..ProptestConfig::default()
    };
    let replies = RefCell::new(BTreeSet::new());
    let histories = prop::collection::vec(any_command(), 1..40);
    let outcome = TestRunner::new(config).run(&histories, |history| {
        let (mut one, mut other) = (PlainMap::default(), PlainMap::default());
        let mut seen = BTreeSet::new();
        for command in &history {
            let (before, revision) = (one.clone(), MetaMap::revision_of(&mut one));
            let reply = apply(&mut one, command);
            prop_assert_eq!(apply(&mut other, command), reply);
            replies.borrow_mut().insert(reply.encode()[0]);

            let changed = without_revision(&one) != without_revision(&before);
            let after = MetaMap::revision_of(&mut one);
            prop_assert_eq!(after, revision + u64::from(changed), "{:?}", command);
            match reply {
                MetaReply::Done { revision } => prop_assert_eq!(revision, after),
                MetaReply::Allocated { .. } => {}
                _ => prop_assert!(!changed),
            }
            let read = MetaMap::read(&mut one).expect("what the machine wrote is sound");
            prop_assert_eq!(read.revision, after);
            note_ids(command, reply, &read, &mut seen)?;
            prop_assert_eq!(MetaMap::decode(&read.encode()), Ok(read));
        }
        prop_assert_eq!(one, other);
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
    let all_but_unknown = BTreeSet::from([1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(replies.into_inner(), all_but_unknown);
}

fn without_revision(map: &PlainMap) -> PlainMap {
    let mut map = map.clone();
    if let Some(head) = map.0.get_mut(&KEY_HEAD[..]) {
        head.drain(1..9);
    }
    map
}

/// Remembers the ids that the map names and those given out, by kind; one given out must be new.
fn note_ids(
    command: &MetaCommand,
    reply: MetaReply,
    read: &MetaMap,
    seen: &mut BTreeSet<(&'static str, u64)>,
) -> Result<(), TestCaseError> {
    if let (MetaCommand::Allocate { kind, count }, MetaReply::Allocated { first }) =
        (command, reply)
    {
        let kind = match kind {
            IdKind::Shard => "shard",
            IdKind::Replica => "replica",
            IdKind::Node => "node",
        };
        for id in first..first + u64::from(*count) {
            prop_assert!(seen.insert((kind, id)), "{} {} was given out before", kind, id);
        }
    }
    seen.extend(read.nodes.iter().map(|record| ("node", record.node.0)));
    for shard in &read.shards {
        seen.insert(("shard", shard.shard.0));
        seen.extend(shard.members.iter().map(|member| ("replica", member.replica.0)));
        seen.extend(shard.members.iter().map(|member| ("node", member.node.0)));
    }
    Ok(())
}
