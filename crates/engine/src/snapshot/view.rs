//! What a snapshot is read from while it is sent: the engine's data store, or the state machine's own.

use quorate_machine::{StoreFault, StoreSnapshot};
use quorate_types::limits;

use crate::store::data_store::DataStore;
use crate::store::own_chunks::{key_of, put_chunk, put_end};
use crate::store::space_view::{Pairs, SpaceView};

/// A state that stays as it was.
pub(super) enum View<'a> {
    /// A space of this data store.
    Space(&'a DataStore, SpaceView<'a>),
    /// A state machine's own store.
    Own(OwnView),
}

/// The chunks of an own store, and how many were read.
pub(super) struct OwnView {
    snapshot: Box<dyn StoreSnapshot>,
    read: u64,
}

impl View<'_> {
    /// The pairs from the key `start` on, which is where the last ones ended: about a chunk of them.
    /// Blocks for the disk.
    pub(super) fn pairs(&mut self, start: &[u8]) -> Result<Pairs, StoreFault> {
        match self {
            View::Space(data, space) => space
                .pairs(start, limits::SNAPSHOT_CHUNK_BYTES_MAX)
                .map_err(|error| data.fault_of(&error)),
            View::Own(own) => own.pairs(),
        }
    }
}

impl OwnView {
    pub(super) fn new(snapshot: Box<dyn StoreSnapshot>) -> OwnView {
        OwnView { snapshot, read: 0 }
    }

    /// A store may give small chunks: they are sent together, until a part is half full, so that the
    /// next one may have as much as the store was promised.
    fn pairs(&mut self) -> Result<Pairs, StoreFault> {
        let mut pairs = Pairs::default();
        while pairs.bytes.len() < limits::SNAPSHOT_CHUNK_BYTES_MAX / 2 {
            let bytes_max = limits::SNAPSHOT_CHUNK_BYTES_MAX - pairs.bytes.len();
            let Some(chunk) = self.snapshot.next_chunk(bytes_max)? else {
                put_end(&mut pairs, self.read);
                return Ok(pairs);
            };
            if chunk.is_empty() || chunk.len() > bytes_max {
                let bytes = chunk.len();
                return Err(StoreFault::Failed(format!(
                    "it gave a chunk of {bytes} bytes where 1 to {bytes_max} were asked for"
                )));
            }
            put_chunk(&mut pairs, self.read, &chunk);
            self.read += 1;
        }
        pairs.next = Some(key_of(self.read).to_vec());
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_types::ByteReader;

    use super::*;
    use crate::store::space_view::next_pair;

    const CHUNK: usize = limits::SNAPSHOT_CHUNK_BYTES_MAX;

    /// Gives chunks of these lengths.
    struct Lengths(Vec<usize>);

    impl StoreSnapshot for Lengths {
        fn bytes_estimate(&self) -> u64 {
            0
        }

        fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, StoreFault> {
            assert!(bytes_max >= 1 << 20, "a store was promised as much");
            Ok(if self.0.is_empty() { None } else { Some(vec![7; self.0.remove(0)].into()) })
        }
    }

    /// The lengths of the values, part by part.
    fn parts(lengths: Vec<usize>) -> Result<Vec<Vec<usize>>, StoreFault> {
        let mut view = View::Own(OwnView::new(Box::new(Lengths(lengths))));
        let (mut parts, mut next, mut last) = (Vec::new(), Some(Vec::new()), Vec::new());
        while let Some(start) = next {
            let pairs = view.pairs(&start)?;
            let mut reader = ByteReader::new(&pairs.bytes[..]);
            let mut part = Vec::new();
            while let Some((key, value)) = next_pair(&mut reader).expect("sound") {
                assert!(last[..] < *key, "keys ascend over all parts");
                last = key.to_vec();
                part.push(value.len());
            }
            assert_eq!(part.len() as u64, pairs.count);
            parts.push(part);
            next = pairs.next;
        }
        Ok(parts)
    }

    /// Goal: small chunks share a part, a large one has its own, and the end comes after the last one.
    #[test]
    fn chunks_are_sent_in_parts_of_about_a_chunk() {
        assert_eq!(parts(Vec::new()), Ok(vec![vec![8]]));
        assert_eq!(parts(vec![1, 2, 3]), Ok(vec![vec![1, 2, 3, 8]]));
        assert_eq!(parts(vec![CHUNK, 5]), Ok(vec![vec![CHUNK], vec![5, 8]]));
        let half = CHUNK / 2;
        assert_eq!(parts(vec![half, half, 9]), Ok(vec![vec![half], vec![half], vec![9, 8]]));
    }

    /// Goal: a store that does not keep to what it was asked for sends nothing.
    #[test]
    fn chunks_that_are_empty_or_too_long_are_refused() {
        for length in [0, CHUNK + 1] {
            assert!(matches!(parts(vec![3, length]), Err(StoreFault::Failed(_))), "{length}");
        }
    }
}
