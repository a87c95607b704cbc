//! Tests of the meta shard's bytes: golden, round trip, and what is made of damaged ones.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use quorate_router::ShardDescriptor;
use quorate_types::{NodeId, ShardId, StoreId};

use super::head::{Head, KEY_HEAD, node_key, shard_key};
use super::tests::{allocate, apply, apply_bytes, descriptor, found, record, report};
use super::*;
use crate::plain_map::PlainMap;
use crate::state_machine::OrderedMap;

const NODE: &str = "02 0500000000000000 07000000000000000000000000000000 0200000000000000 \
     0900000000000000 03000000613a31 01 050000007265646973 03000000723a31";
const WHOLE: &str = "01 0400000000000000 00000000 00 0200000000000000 0300000000000000 01000000 \
     1e00000000000000 0800000000000000";
const RIGHT: &str = "01 0900000000000000 010000006d 01 010000007a 0100000000000000 \
     0100000000000000 00000000";

fn whole() -> ShardDescriptor {
    descriptor(4, (2, 3), ("", None), &[(30, 8)])
}

fn right() -> ShardDescriptor {
    descriptor(9, (1, 1), ("m", Some("z")), &[])
}

fn commands() -> Vec<(MetaCommand, String)> {
    vec![
        (found(1, &[whole(), right()]), format!("01 01000000 02000000 {WHOLE} {RIGHT}")),
        (MetaCommand::Register(record(5, 7, "a:1")), format!("02 {NODE}")),
        (report(&[right()]), format!("03 01000000 {RIGHT}")),
        (allocate(IdKind::Shard, 258), "04 01 02010000".to_owned()),
        (allocate(IdKind::Replica, 1), "04 02 01000000".to_owned()),
        (allocate(IdKind::Node, 0), "04 03 00000000".to_owned()),
        (MetaCommand::RaiseVersion { from: 1, to: 2 }, "05 01000000 02000000".to_owned()),
    ]
}

fn sample() -> MetaMap {
    let nodes = vec![record(5, 7, "a:1")];
    MetaMap { revision: 6, cluster_version: 2, nodes, shards: vec![whole(), right()] }
}

/// A map that every command has gone through: [`sample`] is what it reads as.
fn stored() -> PlainMap {
    let mut map = PlainMap::default();
    for (command, _) in commands() {
        apply(&mut map, &command);
    }
    map
}

/// The bytes that hexadecimal digits with spaces between them stand for.
fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|digit| *digit != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn golden_commands() {
    for (command, golden) in commands() {
        assert_eq!(command.encode(), bytes(&golden), "{command:?}");
        assert_eq!(MetaCommand::decode(&bytes(&golden)), Ok(command));
    }
    assert_eq!(encode_descriptor(&whole()), bytes(WHOLE));
    assert_eq!(decode_descriptor(&bytes(RIGHT)), Ok(right()));
}

#[test]
fn golden_replies() {
    let table = [
        (MetaReply::Done { revision: 258 }, "01 0201000000000000"),
        (MetaReply::AlreadyFounded { revision: 1 }, "02 0100000000000000"),
        (MetaReply::NotFounded, "03"),
        (MetaReply::OtherStore { known: StoreId(7) }, "04 07000000000000000000000000000000"),
        (MetaReply::Contradiction { shard: ShardId(3) }, "05 0300000000000000"),
        (MetaReply::Allocated { first: 9 }, "06 0900000000000000"),
        (MetaReply::OtherVersion { current: 2 }, "07 02000000"),
        (MetaReply::Unknown, "08"),
    ];
    for (reply, golden) in table {
        let golden = bytes(golden);
        assert_eq!(reply.encode(), golden, "{reply:?}");
        assert_eq!(MetaReply::decode(&golden), Ok(reply));
        for cut in 0..golden.len() {
            assert!(MetaReply::decode(&golden[..cut]).is_err());
        }
        assert!(MetaReply::decode(&[&golden[..], &[0]].concat()).is_err());
    }
}

/// Goal: a change of the layout shows. Method: the whole map after one of every command.
#[test]
fn golden_map() {
    let head = "01 0500000000000000 02000000 0b01000000000000 1f00000000000000 0800000000000000";
    let expected = [
        ("00", head),
        ("01 0000000000000005", NODE),
        ("02 0000000000000004", WHOLE),
        ("02 0000000000000009", RIGHT),
    ];
    let mut map = stored();
    let pairs: Vec<_> = map.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    assert_eq!(pairs, expected.map(|(key, value)| (bytes(key), bytes(value))));
    assert_eq!(MetaMap::revision_of(&mut map), 5);

    let read = MetaMap { revision: 5, ..sample() };
    assert_eq!(MetaMap::read(&mut map), Ok(read.clone()));
    assert_eq!(MetaMap::from_pairs(pairs.iter().map(|(k, v)| (&k[..], &v[..]))), Ok(read));

    let sent = "01 0600000000000000 02000000 01000000";
    let sent = bytes(&format!("{sent} {NODE} 02000000 {WHOLE} {RIGHT}"));
    let checksum = crc32c::crc32c(&sent).to_le_bytes();
    assert_eq!(sample().encode(), [&checksum[..], &sent[..]].concat());
}

#[test]
fn every_flip_and_cut_of_a_map_is_refused() {
    for map in [sample(), MetaMap::default()] {
        let bytes = map.encode();
        assert_eq!(MetaMap::decode(&bytes), Ok(map));
        for at in 0..bytes.len() {
            assert!(MetaMap::decode(&bytes[..at]).is_err());
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(MetaMap::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
        assert!(MetaMap::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}

#[test]
fn sound_checksums_do_not_excuse_senseless_lists() {
    let nodes = vec![record(5, 7, "a"), record(5, 7, "a")];
    let shards = vec![right(), whole()];
    for map in [MetaMap { nodes, ..sample() }, MetaMap { shards, ..sample() }] {
        let refused = MetaError::Malformed("a list that does not ascend by id");
        assert_eq!(MetaMap::decode(&map.encode()), Err(refused));
    }
}

/// Goal: what is too much is refused before there is room made for it. Method: counts at their
/// bounds and beyond, with few bytes behind them.
#[test]
fn bounds_of_what_is_read() {
    let cut = Err(MetaError::CutShort);
    let malformed = |what| Err(MetaError::Malformed(what));
    let many = "more than 65,536 descriptors in a command";
    assert_eq!(MetaCommand::decode(&bytes("03 00000100")), cut);
    assert_eq!(MetaCommand::decode(&bytes("03 01000100")), malformed(many));
    assert_eq!(MetaCommand::decode(&bytes("03 ffffffff")), malformed(many));
    assert_eq!(MetaCommand::decode(&bytes("04 04 00000000")), malformed("unknown kind of id"));
    assert_eq!(MetaCommand::decode(&bytes("06")), malformed("unknown kind of command"));
    assert_eq!(MetaCommand::decode(&bytes("04 01 00000000 00")), malformed("trailing bytes"));

    let mut members = bytes(RIGHT);
    let count = members.len() - 4;
    members[count..].copy_from_slice(&257u32.to_le_bytes());
    let refused = MetaError::Malformed("a shard with more than 256 members");
    assert_eq!(decode_descriptor(&members), Err(refused));
    let long = ShardDescriptor { start: vec![0; 4097].into(), ..whole() };
    let refused = MetaError::Malformed("a bound of a range that is longer than any key");
    assert_eq!(decode_descriptor(&encode_descriptor(&long)), Err(refused));
    let longest = ShardDescriptor { start: vec![0; 4096].into(), ..whole() };
    assert_eq!(decode_descriptor(&encode_descriptor(&longest)), Ok(longest));

    let mut full = record(5, 7, &"a".repeat(255));
    full.services = (0..16).map(|name| (format!("{name:0255}"), "v".repeat(255))).collect();
    assert_eq!((full.check(), NodeRecord::decode(&full.encode())), (Ok(()), Ok(full)));
    let head = format!("02 {:016} {:032} {:016} {:016}", 0, 0, 0, 0);
    let no_text = bytes(&format!("{head} 01000000ff 00"));
    assert_eq!(NodeRecord::decode(&no_text), Err(MetaError::Malformed("text is no UTF-8")));
    let service = "01000000 61 00000000";
    let twice = format!("{head} 00000000 02 {service} {service}");
    let refused = MetaError::Malformed("services that do not ascend by name");
    assert_eq!(NodeRecord::decode(&bytes(&twice)), Err(refused));
}

#[test]
fn what_is_stored_wrongly_is_named() {
    let foreign = node_key(NodeId(6)).to_vec();
    let shard = shard_key(ShardId(4)).to_vec();
    let head_of = |revision: u64| {
        let mut head = stored().0[&KEY_HEAD[..]].clone();
        head[1..9].copy_from_slice(&revision.to_le_bytes());
        head
    };
    let table = [
        (KEY_HEAD.to_vec(), Vec::new()),
        (KEY_HEAD.to_vec(), head_of(0)),
        (KEY_HEAD.to_vec(), head_of(u64::MAX)),
        (vec![0, 0], head_of(1)),
        (foreign, bytes(NODE)),
        (shard, bytes(RIGHT)),
        (vec![1, 2, 3], bytes(NODE)),
        (vec![4], Vec::new()),
        (Vec::new(), Vec::new()),
    ];
    for (key, value) in table {
        let mut map = stored();
        map.put(&key, &value);
        match MetaMap::read(&mut map) {
            Err(MetaError::Stored { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{key:02x?} gave {other:?}"),
        }
    }
    let mut map = stored();
    map.delete(&KEY_HEAD);
    let refused = MetaError::Malformed("no head beside other pairs").under(&KEY_HEAD);
    assert_eq!(MetaMap::read(&mut map), Err(refused));
    assert_eq!(MetaMap::revision_of(&mut map), 0);
    let (key, value) = (node_key(NodeId(5)), bytes(NODE));
    assert!(MetaMap::from_pairs([(&key[..], &value[..]); 2]).is_err(), "a key twice");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8),
        ..ProptestConfig::default()
    })]

    /// Goal: bytes from the wire, the log or the disk never panic, and what is no command changes
    /// nothing. Method: random bytes; commands, maps and stored values with a few bytes changed.
    #[test]
    fn damage_never_panics(
        noise in prop::collection::vec(any::<u8>(), 0..60),
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let damage = |mut bytes: Vec<u8>| {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            bytes
        };
        let all = commands();
        let damaged = damage(which.get(&all).0.encode());
        for bytes in [&noise, &damaged] {
            let mut map = stored();
            let reply = apply_bytes(&mut map, bytes);
            if MetaCommand::decode(bytes).is_err() {
                prop_assert_eq!(reply, MetaReply::Unknown);
                prop_assert_eq!(map, stored());
            }
            let _ = (MetaMap::decode(bytes), MetaReply::decode(bytes), Head::decode(bytes));
            let _ = (decode_descriptor(bytes), NodeRecord::decode(bytes));
        }
        // Damage below a sound checksum, as an error in a writer would make it.
        let mut sent = damage(sample().encode()[4..].to_vec());
        let checksum = crc32c::crc32c(&sent).to_le_bytes();
        sent.splice(0..0, checksum);
        let _ = MetaMap::decode(&sent);

        let mut map = stored();
        let keys: Vec<Vec<u8>> = map.0.keys().cloned().collect();
        let key = which.get(&keys);
        let value = damage(map.0[key].clone());
        map.put(key, &value);
        for (command, _) in &all {
            apply(&mut map, command);
        }
        let _ = (MetaMap::read(&mut map), MetaMap::revision_of(&mut map));
    }
}
