//! Hash slots, and the engine's keys made from them.

use bytes::{BufMut, Bytes, BytesMut};

/// How many hash slots there are; as Redis Cluster has it.
pub const SLOTS: u16 = 16_384;
/// Bytes of a slot in front of every key in the engine.
pub const SLOT_BYTES: usize = 2;

/// CRC-16/XMODEM: polynomial 0x1021, no reflection, start 0.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The hash slot of a key, in `[0, SLOTS)`: of its tag, if it has one.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let crc = hashed_part(key)
        .iter()
        .fold(0u16, |crc, &byte| crc << 8 ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)]);
    crc % SLOTS
}

/// The text between the first `{` and the next `}`, if it is not empty; else the whole key.
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&byte| byte == b'{') else { return key };
    let tail = &key[open + 1..];
    match tail.iter().position(|&byte| byte == b'}') {
        Some(length) if length > 0 => &tail[..length],
        _ => key,
    }
}

/// Where the keys of `slot` begin in the engine; `SLOTS` gives the end of the last one.
#[must_use]
pub fn slot_start(slot: u16) -> [u8; SLOT_BYTES] {
    slot.to_be_bytes()
}

/// The engine keys that cut all slots into `parts` equal ranges, one fewer than there are parts.
/// Keys outside the slots belong to the first or the last part.
///
/// # Panics
/// If `parts` is not in `[1, SLOTS]`.
#[must_use]
pub fn split_keys(parts: u32) -> Vec<Bytes> {
    let slots = u32::from(SLOTS);
    assert!((1..=slots).contains(&parts), "from 1 to {slots} parts");
    let key = |part: u32| {
        let slot = u16::try_from(slots * part / parts).expect("below the number of slots");
        Bytes::copy_from_slice(&slot_start(slot))
    };
    (1..parts).map(key).collect()
}

/// Makes engine keys: slot, big-endian, then the key. Many share one allocation.
#[derive(Debug, Default)]
pub struct KeyMaker {
    block: BytesMut,
}

/// Large enough to make allocations rare, small enough that one long-lived key wastes little.
const BLOCK_BYTES: usize = 8 << 10;

impl KeyMaker {
    /// The engine's key for a client's key.
    pub fn engine_key(&mut self, key: &[u8]) -> Bytes {
        let length = key.len() + SLOT_BYTES;
        if self.block.capacity() < length {
            self.block = BytesMut::with_capacity(length.max(BLOCK_BYTES));
        }
        self.block.put_u16(slot_of(key));
        self.block.put_slice(key);
        self.block.split().freeze()
    }
}

/// The client's key of an engine key; `None` if it was not made by [`KeyMaker`].
#[must_use]
pub fn client_key(engine_key: &Bytes) -> Option<Bytes> {
    (engine_key.len() >= SLOT_BYTES).then(|| engine_key.slice(SLOT_BYTES..))
}

/// The slot of an engine key; `None` if it was not made by [`KeyMaker`].
#[must_use]
pub fn slot_of_engine_key(engine_key: &[u8]) -> Option<u16> {
    engine_key.first_chunk().map(|slot| u16::from_be_bytes(*slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the same slots as every Redis client computes. Method: values of the specification
    /// (CRC of "123456789" is 0x31c3) and of `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_redis() {
        let table: &[(&[u8], u16)] = &[
            (b"123456789", 0x31c3),
            (b"", 0),
            (b"foo", 12182),
            (b"{foo}bar", 12182),
            (b"bar{foo}", 12182),
            (b"hello", 866),
        ];
        for &(key, slot) in table {
            assert_eq!(slot_of(key), slot, "{key:?}");
        }
        assert_eq!(slot_of(b"{user1000}.following"), slot_of(b"{user1000}.followers"));
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"), "an empty tag is no tag");
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
        assert_eq!(slot_of(b"foo{bar}{zap}"), slot_of(b"bar"));
        assert_ne!(slot_of(b"{foo"), slot_of(b"foo"), "an open tag is no tag");
    }

    /// Goal: the parts are equal up to one slot, and as many as asked for.
    #[test]
    fn slots_are_split_evenly() {
        assert_eq!(split_keys(1), Vec::<Bytes>::new());
        let starts: Vec<_> = split_keys(6).iter().map(|key| slot_of_engine_key(key)).collect();
        assert_eq!(starts, [2_730, 5_461, 8_192, 10_922, 13_653].map(Some));
        let all = split_keys(SLOTS.into());
        assert!((1..SLOTS).map(slot_start).eq(all.iter().map(|key| [key[0], key[1]])));
    }

    #[test]
    fn engine_keys_hold_slot_and_key() {
        let mut maker = KeyMaker::default();
        let keys: Vec<Bytes> = vec![Bytes::from("foo"), Bytes::new(), vec![7; 20_000].into()];
        for key in keys {
            let engine_key = maker.engine_key(&key);
            assert_eq!(slot_of_engine_key(&engine_key), Some(slot_of(&key)));
            assert_eq!(client_key(&engine_key), Some(key));
        }
        assert_eq!(client_key(&Bytes::from_static(b"x")), None);
    }
}
