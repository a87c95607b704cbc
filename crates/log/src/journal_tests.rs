use proptest::prelude::*;

use super::*;

/// A file as RocksDB writes it: each record in as many fragments as its blocks demand.
pub(crate) fn file(records: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    for record in records {
        let mut rest = *record;
        let mut first = true;
        loop {
            let mut room = BLOCK_BYTES - bytes.len() % BLOCK_BYTES;
            if room < HEADER_BYTES {
                bytes.resize(bytes.len() + room, 0);
                room = BLOCK_BYTES;
            }
            if first {
                starts.push(bytes.len());
            }
            let (body, later) = rest.split_at(rest.len().min(room - HEADER_BYTES));
            let kind = match (first, later.is_empty()) {
                (true, true) => 1u8,
                (true, false) => 2,
                (false, false) => 3,
                (false, true) => 4,
            };
            let checked = [&[kind], body].concat();
            let masked = crc32c::crc32c(&checked).rotate_right(15).wrapping_add(MASK_DELTA);
            bytes.extend(masked.to_le_bytes());
            bytes.extend(u16::try_from(body.len()).expect("within a block").to_le_bytes());
            bytes.extend(checked);
            (rest, first) = (later, false);
            if rest.is_empty() {
                break;
            }
        }
    }
    (bytes, starts)
}

fn scan(bytes: &[u8]) -> Option<Damage> {
    let mut scan = Scan::default();
    bytes.chunks(BLOCK_BYTES).for_each(|block| scan.take_block(block));
    scan.finish()
}

/// Bytes without zeroes, so that every hole shows.
pub(crate) fn record(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) | 1).collect()
}

/// Goal: the sizes at which fragments, headers and paddings meet the end of a block.
#[test]
fn whole_files_are_whole() {
    for length in BLOCK_BYTES - 30..BLOCK_BYTES + 30 {
        let records = [record(length, 1), record(10, 2), record(3 * length, 3), Vec::new()];
        let (bytes, _) = file(&records.each_ref().map(|record| &record[..]));
        assert_eq!(scan(&bytes), None, "{length}");
    }
    assert_eq!(scan(&[]), None);
}

/// Goal: a write that the power cut short, by its end or by a hole, is found where it begins.
#[test]
fn what_the_last_record_lost_has_no_follower() {
    for last in [10, 600, BLOCK_BYTES, 100_000] {
        let records = [record(40_000, 1), record(500, 2), record(last, 3)];
        let (bytes, starts) = file(&records.each_ref().map(|record| &record[..]));
        let expected = Some(Damage { at: starts[2] as u64, follower: None });
        for place in [0, 1, 4, 6, 7, last / 2, last - 1] {
            let at = starts[2] + place;
            if place > 0 {
                assert_eq!(scan(&bytes[..at]), expected, "{last} ends at {place}");
            }
            let mut holed = bytes.clone();
            let until = bytes.len().min(at + 512);
            holed[at..until].fill(0);
            assert_eq!(scan(&holed), expected, "{last} has a hole at {place}");
        }
    }
}

/// Goal: whatever one bit of a record with a successor is flipped, the successor is seen; also when
/// only its first block came to the disk.
#[test]
fn damage_in_a_synced_record_has_a_follower() {
    let records = [record(300, 1), record(33_000, 2), record(90_000, 3)];
    let (bytes, starts) = file(&records.each_ref().map(|record| &record[..]));
    let end_of_block = starts[2].next_multiple_of(BLOCK_BYTES);
    for at in (0..starts[2]).step_by(97).chain(0..8).chain(starts[1]..starts[1] + 8) {
        for kept in [bytes.len(), end_of_block] {
            let mut flipped = bytes[..kept].to_vec();
            flipped[at] ^= 0x10;
            let found = scan(&flipped).expect("damage");
            let begins = if at < starts[1] { starts[0] } else { starts[1] };
            assert_eq!(found.at, begins as u64, "a bit at {at} of {kept}");
            assert!(found.follower.is_some(), "a bit at {at} of {kept}: {found:?}");
        }
    }
}

/// Goal: once the last fragment of the damaged record was seen, anything behind it is a successor,
/// even if nothing of that verifies.
#[test]
fn rubbish_behind_the_end_of_the_damaged_record_is_a_follower() {
    let record = record(50_000, 1);
    let (mut bytes, _) = file(&[&record]);
    bytes[100] ^= 1;
    assert_eq!(scan(&bytes), Some(Damage { at: 0, follower: None }));
    let end = bytes.len();
    bytes.extend([0; 20]);
    assert_eq!(scan(&bytes), Some(Damage { at: 0, follower: Some(end as u64) }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3 * BLOCK_BYTES)) {
        if let Some(damage) = scan(&bytes) {
            prop_assert!(damage.at < bytes.len() as u64);
            prop_assert!(damage.follower.is_none_or(|follower| follower > damage.at));
        }
    }

    /// Cutting at the damage leaves a whole file.
    #[test]
    fn a_cut_file_is_whole(
        lengths in proptest::collection::vec(1usize..50_000, 1..5),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let records: Vec<_> = lengths.iter().map(|length| record(*length, 7)).collect();
        let (mut bytes, _) = file(&records.iter().map(|record| &record[..]).collect::<Vec<_>>());
        for (place, byte) in changes {
            let at = place.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(damage) = scan(&bytes) {
            prop_assert_eq!(scan(&bytes[..usize::try_from(damage.at).unwrap()]), None);
        }
    }
}
