use proptest::prelude::*;
use quorate_raft::Member;

use super::*;

const SHARD: ShardId = ShardId(5);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn membership() -> Membership {
    Membership::of_voters([Member { replica: ReplicaId(0x21), node: NodeId(0x22) }])
}

fn replica_record() -> ReplicaRecord {
    ReplicaRecord {
        replica: ReplicaId(0x11),
        space: SpaceId(0x12),
        tombstone: true,
        base: LogId::new(Term(0x13), Index(0x14)),
        base_membership: membership(),
    }
}

/// Goal: a change of the format must show. Method: every kind of body, in full.
#[test]
fn golden_bodies() {
    assert_eq!(
        hex(&encode_identity(ClusterId(0x01), NodeId(0x02), StoreId(0x03))),
        "01000000000000000000000000000000".to_owned()
            + "0200000000000000"
            + "03000000000000000000000000000000"
    );
    assert_eq!(hex(&Family::Dedicated(ShardId(7)).encode()), "000700000000000000");
    assert_eq!(hex(&Family::Pooled(3).encode()), "010300000000000000");
    assert_eq!(
        hex(&replica_record().encode()),
        "1100000000000000".to_owned()
            + "1200000000000000"
            + "01"
            + "1300000000000000"
            + "1400000000000000"
            + "010100"
            + "2100000000000000"
            + "2200000000000000"
            + "00000000"
    );
    assert_eq!(
        hex(&encode_damage(ReplicaId(0x41), "lost a vote")),
        "4100000000000000".to_owned() + &hex(b"lost a vote")
    );
    let voted = HardState { term: Term(9), vote: Some(ReplicaId(0x31)), committed: Index(0x0102) };
    assert_eq!(
        hex(&encode_hard_state(&voted)),
        "0900000000000000".to_owned() + "01" + "3100000000000000" + "0201000000000000"
    );
    let not_voted = HardState { vote: None, ..voted };
    assert_eq!(
        hex(&encode_hard_state(&not_voted)),
        "0900000000000000".to_owned() + "00" + "0000000000000000" + "0201000000000000"
    );
}

/// Goal: the envelope is part of the format. Method: one record in full, its checksum computed
/// here from the parts that it must cover.
#[test]
fn golden_envelope() {
    let bytes = seal(RecordKey::Incarnation, &6u64.to_le_bytes());
    let checksum = crc32c::crc32c(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(hex(&bytes), "01".to_owned() + "0600000000000000" + &hex(&checksum.to_le_bytes()));
    assert_eq!(unseal(RecordKey::Incarnation, &bytes), Ok(&6u64.to_le_bytes()[..]));
}

#[test]
fn a_sound_record_under_another_key_is_refused() {
    let bytes = seal(RecordKey::HardState(SHARD), &encode_hard_state(&HardState::default()));
    assert!(unseal(RecordKey::HardState(SHARD), &bytes).is_ok());
    let elsewhere = unseal(RecordKey::HardState(ShardId(6)), &bytes);
    assert!(matches!(elsewhere, Err(RecordError::Checksum { .. })));
}

#[test]
fn bodies_survive_and_every_cut_is_refused() {
    let record = replica_record().encode();
    assert_eq!(ReplicaRecord::decode(&record), Ok(replica_record()));
    for cut in 0..record.len() {
        assert!(ReplicaRecord::decode(&record[..cut]).is_err());
    }
    for family in [Family::Dedicated(SHARD), Family::Pooled(2)] {
        assert_eq!(Family::decode(&family.encode()), Ok(family));
    }
    let damage = encode_damage(ReplicaId(7), "hole at 3");
    assert_eq!(decode_damage(&damage), Ok((ReplicaId(7), "hole at 3".to_owned())));
    assert!(decode_damage(&damage[..7]).is_err());
    assert!(decode_damage(&[&damage[..], &[0xff]].concat()).is_err());
    let identity = (ClusterId(u128::MAX - 1), NodeId(2), StoreId(3));
    let body = encode_identity(identity.0, identity.1, identity.2);
    assert_eq!(decode_identity(&body), Ok(identity));
    for cut in 0..body.len() {
        assert!(decode_identity(&body[..cut]).is_err());
    }
}

proptest! {
    #[test]
    fn hard_states_survive(
        term in any::<u64>(), vote in any::<Option<u64>>(), committed in any::<u64>(),
    ) {
        let (term, vote, committed) = (Term(term), vote.map(ReplicaId), Index(committed));
        let state = HardState { term, vote, committed };
        prop_assert_eq!(decode_hard_state(&encode_hard_state(&state)), Ok(state));
    }

    /// Garbage is refused, also behind a sound envelope; whatever a decoder accepts is exactly
    /// what its encoder writes.
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let key = RecordKey::HardState(SHARD);
        prop_assert!(unseal(key, &bytes).is_err());
        let sealed = seal(key, &bytes);
        let body = unseal(key, &sealed).expect("sealed just now");
        if let Ok(state) = decode_hard_state(body) {
            prop_assert_eq!(&encode_hard_state(&state)[..], body);
        }
        if let Ok(record) = ReplicaRecord::decode(body) {
            prop_assert_eq!(&record.encode()[..], body);
        }
        if let Ok(family) = Family::decode(body) {
            prop_assert_eq!(&family.encode()[..], body);
        }
        if let Ok((replica, what)) = decode_damage(body) {
            prop_assert_eq!(&encode_damage(replica, &what)[..], body);
        }
        let _decoded = (decode_identity(body), decode_u64(body), decode_u32(body));
    }

    #[test]
    fn any_flipped_bit_is_refused(at in 0usize..30, bit in 0u8..8) {
        let key = RecordKey::HardState(SHARD);
        let mut bytes = seal(key, &encode_hard_state(&HardState::default()));
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1 << bit;
        prop_assert!(unseal(key, &bytes).is_err());
    }
}
