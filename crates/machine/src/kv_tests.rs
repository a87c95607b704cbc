//! Tests of the key-value commands: codecs by round trip and golden bytes, meaning by a plain map.

use proptest::prelude::*;
use quorate_types::{Index, LogId, ShardId, Term, WallMillis};

use super::*;
use crate::plain_map::PlainMap;

fn run(map: &mut PlainMap, command: &KvCommand) -> KvReply {
    let id = LogId::new(Term(1), Index(1));
    let context = ApplyContext { shard: ShardId(1), id, time: WallMillis(0) };
    let reply = KvMachine.apply(context, &command.encode(), map);
    KvReply::decode(&reply).expect("replies are sound")
}

fn key(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn the_meaning_of_each_command() {
    let map = &mut PlainMap::default();
    let put = |k, v| KvCommand::Put { key: key(k), value: key(v) };
    let increment = |k, by| KvCommand::Increment { key: key(k), by };
    assert_eq!(run(map, &put("a", "1")), KvReply::Done);
    assert_eq!(run(map, &increment("a", 4)), KvReply::Integer(5));
    assert_eq!(run(map, &increment("new", -2)), KvReply::Integer(-2));
    assert_eq!(run(map, &put("b", "007")), KvReply::Done);
    assert_eq!(run(map, &increment("b", 1)), KvReply::NotAnInteger);
    assert_eq!(run(map, &put("c", "9223372036854775807")), KvReply::Done);
    assert_eq!(run(map, &increment("c", 1)), KvReply::WouldOverflow);
    let swap = |expected, value| KvCommand::CompareAndSet { key: key("a"), expected, value };
    assert_eq!(run(map, &swap(Some(key("5")), Some(key("6")))), KvReply::Swapped);
    assert_eq!(run(map, &swap(None, None)), KvReply::Conflict { actual: Some(key("6")) });
    assert_eq!(run(map, &swap(Some(key("6")), None)), KvReply::Swapped);
    assert_eq!(run(map, &KvCommand::Delete { key: key("a") }), KvReply::Deleted(0));
    assert_eq!(run(map, &KvCommand::Delete { key: key("b") }), KvReply::Deleted(1));
    let batch = KvCommand::Batch(vec![put("x", "1"), increment("x", 1), put("y", "2")]);
    let replies = vec![KvReply::Done, KvReply::Integer(2), KvReply::Done];
    assert_eq!(run(map, &batch), KvReply::Batch(replies));
    let range = KvCommand::DeleteRange { start: key("x"), end: key("y") };
    assert_eq!(run(map, &range), KvReply::Done);
    let left: Vec<&str> = map.0.keys().map(|k| std::str::from_utf8(k).unwrap()).collect();
    assert_eq!(left, ["c", "new", "y"]);
}

#[test]
fn golden_bytes() {
    let put = KvCommand::Put { key: key("k"), value: key("vv") };
    assert_eq!(put.encode(), [1, 1, 0, 0, 0, b'k', 2, 0, 0, 0, b'v', b'v']);
    let batch = KvCommand::Batch(vec![KvCommand::Increment { key: key("k"), by: -1 }]);
    assert_eq!(batch.encode()[..11], [6, 1, 0, 0, 0, 4, 1, 0, 0, 0, b'k']);
    assert_eq!(batch.encode()[11..], [255; 8]);
    assert_eq!(&KvReply::Integer(3).encode()[..], [3, 3, 0, 0, 0, 0, 0, 0, 0]);
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn any_reply() -> impl Strategy<Value = KvReply> {
    let single = prop_oneof![
        Just(KvReply::Done),
        any::<u64>().prop_map(KvReply::Deleted),
        any::<i64>().prop_map(KvReply::Integer),
        Just(KvReply::NotAnInteger),
        Just(KvReply::WouldOverflow),
        prop::option::of(any_bytes()).prop_map(|actual| KvReply::Conflict { actual }),
    ];
    prop_oneof![single.clone(), prop::collection::vec(single, 0..4).prop_map(KvReply::Batch)]
}

proptest! {
    #[test]
    fn replies_survive_their_bytes(reply in any_reply()) {
        prop_assert_eq!(KvReply::decode(&reply.encode()), Ok(reply));
    }

    /// Goal: bytes that are no command change nothing. Method: garbage and cut commands.
    #[test]
    fn garbage_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..40), cut in 0usize..12) {
        let map = &mut PlainMap::default();
        let id = LogId::new(Term(1), Index(1));
        let context = ApplyContext { shard: ShardId(1), id, time: WallMillis(0) };
        if parse(&bytes).is_err() {
            let reply = KvMachine.apply(context, &bytes, map);
            prop_assert_eq!(KvReply::decode(&reply), Ok(KvReply::Unknown));
        }
        let put = KvCommand::Put { key: key("k"), value: key("vv") };
        let batch = KvCommand::Batch(vec![put.clone(), put]).encode();
        let reply = KvMachine.apply(context, &batch[..batch.len() - 1 - cut], map);
        prop_assert_eq!(KvReply::decode(&reply), Ok(KvReply::Unknown));
        prop_assert!(map.0.is_empty() || parse(&bytes).is_ok());
        let _ = KvReply::decode(&bytes);
    }
}
