//! The slots of a host's shards. A shard keeps its slot while other shards come and go.

use std::ops::{Index, IndexMut};

use quorate_types::ShardId;
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::shard::Shard;

/// A shard's place in its host. Once the replica there was given up, another shard may take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(usize);

/// The shards by their places, and the places by their shards.
#[derive(Default)]
pub(crate) struct Slots {
    shards: Slab<Shard>,
    /// Looked up, never iterated: hash order must not reach any output.
    by_id: FxHashMap<ShardId, Slot>,
    /// One more than the last place that was ever taken.
    end: usize,
    /// Where [`Slots::next_around`] continues.
    around: usize,
}

impl Slots {
    /// The place of a shard that is hosted here.
    pub(crate) fn find(&self, shard: ShardId) -> Option<Slot> {
        self.by_id.get(&shard).copied()
    }

    /// The shard that has the place now, if any does.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Shard> {
        self.shards.get_mut(slot.0)
    }

    /// Gives a shard a place.
    ///
    /// # Panics
    /// If the shard has one already.
    pub(crate) fn insert(&mut self, shard: Shard) -> Slot {
        let id = shard.id;
        let slot = Slot(self.shards.insert(shard));
        let clash = self.by_id.insert(id, slot);
        assert!(clash.is_none(), "shard {id} is hosted already");
        self.end = self.end.max(slot.0 + 1);
        slot
    }

    /// Frees a place.
    ///
    /// # Panics
    /// If no shard has it.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let shard = self.shards.remove(slot.0);
        self.by_id.remove(&shard.id);
    }

    /// How many shards are hosted here.
    pub(crate) fn len(&self) -> usize {
        self.shards.len()
    }

    /// Their places, in order.
    pub(crate) fn all(&self) -> Vec<Slot> {
        self.shards.iter().map(|(slot, _)| Slot(slot)).collect()
    }

    /// The shards, in the order of their places.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(|(_, shard)| shard)
    }

    /// The next shard, around all of them without end; `None` if there is none.
    pub(crate) fn next_around(&mut self) -> Option<Slot> {
        for _ in 0..self.end {
            let slot = self.around % self.end;
            self.around = slot + 1;
            if self.shards.contains(slot) {
                return Some(Slot(slot));
            }
        }
        None
    }
}

/// Panics if no shard has the place.
impl Index<Slot> for Slots {
    type Output = Shard;

    fn index(&self, slot: Slot) -> &Shard {
        &self.shards[slot.0]
    }
}

/// Panics if no shard has the place.
impl IndexMut<Slot> for Slots {
    fn index_mut(&mut self, slot: Slot) -> &mut Shard {
        &mut self.shards[slot.0]
    }
}
