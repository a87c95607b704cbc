//! The keys of the data store, and how each space's keys are told apart from all others.
//!
//! A space is everything that one replica has: its applied record, and its users' keys. Both lie
//! under the space's number, so that a table of a snapshot holds a whole replica and nothing of any
//! other, and two spaces never share a record. Big-endian, so that a space's keys are neighbours:
//!
//! ```text
//! 2 * space        u64             the applied record of the space
//! 2 * space + 1    u64, then key   a user's key
//! 0                u64, then 1 u8  the identity of the store
//! ```

use std::ops::Range;

use quorate_types::SpaceId;

/// The space of what belongs to the store itself; never given to a replica.
pub(crate) const STORE_SPACE: SpaceId = SpaceId(0);
/// Bytes before a user's key.
pub(crate) const PREFIX_BYTES: usize = 8;

/// What every user's key of `space` begins with.
pub(crate) fn prefix(space: SpaceId) -> [u8; PREFIX_BYTES] {
    number(space, 1).to_be_bytes()
}

/// Key of the applied record of `space`: the first of all its keys.
pub(crate) fn record_key(space: SpaceId) -> [u8; PREFIX_BYTES] {
    number(space, 0).to_be_bytes()
}

/// Key of the identity: in no replica's space.
pub(crate) fn identity_key() -> [u8; PREFIX_BYTES + 1] {
    let mut key = [1; PREFIX_BYTES + 1];
    key[..PREFIX_BYTES].copy_from_slice(&record_key(STORE_SPACE));
    key
}

/// All keys of `space`, the record included.
pub(crate) fn whole(space: SpaceId) -> Range<[u8; PREFIX_BYTES]> {
    record_key(space)..number(space, 2).to_be_bytes()
}

/// The store's key for `key` of `space`.
pub(crate) fn user_key(space: SpaceId, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(PREFIX_BYTES + key.len());
    full.extend_from_slice(&prefix(space));
    full.extend_from_slice(key);
    full
}

/// The store's key for `end` of `space`; without one, the end of the space.
pub(crate) fn end_of(space: SpaceId, end: Option<&[u8]>) -> Vec<u8> {
    match end {
        Some(end) => user_key(space, end),
        None => whole(space).end.to_vec(),
    }
}

/// The space that `key` lies in; `None` if it is too short to be any key of this store.
pub(crate) fn space_of(key: &[u8]) -> Option<SpaceId> {
    let (number, _) = key.split_first_chunk::<PREFIX_BYTES>()?;
    Some(SpaceId(u64::from_be_bytes(*number) >> 1))
}

/// As [`user_key`], but without an allocation for keys of a usual length.
pub(crate) fn with_user_key<T>(space: SpaceId, key: &[u8], run: impl FnOnce(&[u8]) -> T) -> T {
    let mut small = [0; 128];
    if PREFIX_BYTES + key.len() > small.len() {
        return run(&user_key(space, key));
    }
    small[..PREFIX_BYTES].copy_from_slice(&prefix(space));
    small[PREFIX_BYTES..PREFIX_BYTES + key.len()].copy_from_slice(key);
    run(&small[..PREFIX_BYTES + key.len()])
}

/// Spaces come from a counter that starts at 1, so half of its range is never used up.
fn number(space: SpaceId, offset: u64) -> u64 {
    assert!(space.0 < u64::MAX / 2, "space {space} is beyond the numbers of spaces");
    space.0 * 2 + offset
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the bytes are fixed, and everything of a space lies within it and nothing else does.
    #[test]
    fn golden_bytes_of_keys() {
        let space = SpaceId(0x0102);
        assert_eq!(record_key(space), [0, 0, 0, 0, 0, 0, 2, 4]);
        assert_eq!(user_key(space, b"k"), [0, 0, 0, 0, 0, 0, 2, 5, b'k']);
        assert_eq!(end_of(space, None), [0, 0, 0, 0, 0, 0, 2, 6]);
        assert_eq!(end_of(space, Some(b"z")), [0, 0, 0, 0, 0, 0, 2, 5, b'z']);
        assert_eq!(identity_key(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let Range { start, end } = whole(space);
        for key in [&[][..], &[0], &[0xff; 200]] {
            let full = user_key(space, key);
            assert!(start[..] < full[..] && full[..] < end[..]);
            assert_eq!(space_of(&full), Some(space));
            with_user_key(space, key, |short| assert_eq!(short, full));
        }
        assert_eq!(space_of(&record_key(space)), Some(space));
        assert_eq!(space_of(&identity_key()), Some(STORE_SPACE));
        assert_eq!(space_of(&[0; 7]), None);
        assert_eq!(whole(SpaceId(7)).end, whole(SpaceId(8)).start);
    }
}
