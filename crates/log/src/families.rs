//! Chooses the RocksDB family that holds a shard's runs. Only this module knows the choice: every
//! key begins with its shard in all families, so the rest of the crate asks for a name and uses it.
//!
//! In a dedicated family, a shard's purged runs are dropped with their memtable. But each family
//! costs memory and time at start (10,000: 23 s to open, about 1 GB), so only the first shards get
//! one and the others share a few. A shard stays where it was placed: the map is durable.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::Options;
use rustc_hash::FxHashSet;

use quorate_types::{SPREAD, ShardId};

use crate::options::LogOptions;
use crate::record::Family;
use crate::settings::Db;

/// The family of records. Every RocksDB has this one from its creation, so that records always have
/// a place.
pub(crate) const RECORDS_FAMILY: &str = "default";

/// Every shard's place, and the rule for new ones.
pub(crate) struct Families {
    placed: BTreeMap<ShardId, Family>,
    /// Names that exist in RocksDB; after a crash during a placement, some may hold no shard.
    existing: FxHashSet<String>,
    dedicated: usize,
    dedicated_max: usize,
    pooled: u64,
    settings: Options,
}

impl Families {
    pub(crate) fn new(
        placed: BTreeMap<ShardId, Family>,
        existing: impl IntoIterator<Item = String>,
        options: &LogOptions,
        settings: Options,
    ) -> Families {
        let is_dedicated = |family: &&Family| matches!(family, Family::Dedicated(_));
        Families {
            dedicated: placed.values().filter(is_dedicated).count(),
            placed,
            existing: existing.into_iter().collect(),
            dedicated_max: options.families_dedicated_max,
            pooled: options.families_pooled.max(1) as u64,
            settings,
        }
    }

    /// Where `shard` was placed.
    pub(crate) fn of(&self, shard: ShardId) -> Option<Family> {
        self.placed.get(&shard).copied()
    }

    /// A placed shard's family that RocksDB does not have, if there is one: damage.
    pub(crate) fn missing(&self) -> Option<(ShardId, Family)> {
        let mut placed = self.placed.iter().map(|(shard, family)| (*shard, *family));
        placed.find(|(_, family)| !self.existing.contains(&family.name()))
    }

    /// The shards that were placed in the family `name`, ascending.
    pub(crate) fn shards_in(&self, name: &str) -> Vec<ShardId> {
        let placed = self.placed.iter().filter(|(_, family)| family.name() == name);
        placed.map(|(shard, _)| *shard).collect()
    }

    /// The families that hold runs.
    pub(crate) fn in_use(&self) -> BTreeSet<String> {
        self.placed.values().map(|family| family.name()).collect()
    }

    /// The families of runs that hold no shard: what a placement or a move left that a crash cut
    /// short.
    pub(crate) fn unused(&self) -> Vec<&str> {
        let in_use = self.in_use();
        let of_runs = self.existing.iter().filter(|name| *name != RECORDS_FAMILY);
        of_runs.filter(|name| !in_use.contains(*name)).map(String::as_str).collect()
    }

    /// Families that no shard is in and that no placement chooses, to move shards into.
    pub(crate) fn spares(&self) -> impl Iterator<Item = Family> + use<> {
        let numbers = self.placed.values().filter_map(|family| match family {
            Family::Pooled(number) => Some(number + 1),
            Family::Dedicated(_) => None,
        });
        let first = numbers.max().unwrap_or(0).max(self.pooled);
        (first..).map(Family::Pooled)
    }

    /// What the families are created with.
    pub(crate) fn settings(&self) -> &Options {
        &self.settings
    }

    /// True if no shard was placed and no family was made yet.
    pub(crate) fn is_new(&self) -> bool {
        self.placed.is_empty() && self.existing.iter().all(|name| name == RECORDS_FAMILY)
    }

    /// Places every shard that has no place yet and makes all families needed in one call: each
    /// call makes RocksDB rewrite its file of options, so one by one is quadratic. Returns the new
    /// places, which the caller makes durable.
    pub(crate) fn place(
        &mut self,
        db: &Db,
        shards: impl IntoIterator<Item = ShardId>,
    ) -> Result<Vec<(ShardId, Family)>, rocksdb::Error> {
        let mut new = Vec::new();
        let mut names = Vec::new();
        for shard in shards {
            if self.placed.contains_key(&shard) {
                continue;
            }
            let family = self.choose(shard);
            self.placed.insert(shard, family);
            new.push((shard, family));
            if self.existing.insert(family.name()) {
                names.push(family.name());
            }
        }
        if !names.is_empty() {
            db.create_cfs(&names, &self.settings)?;
        }
        Ok(new)
    }

    fn choose(&mut self, shard: ShardId) -> Family {
        if self.dedicated < self.dedicated_max {
            self.dedicated += 1;
            return Family::Dedicated(shard);
        }
        // Fibonacci hashing: shard ids come in sequences, often with a stride.
        let hash = shard.0.wrapping_mul(SPREAD) >> 32;
        Family::Pooled(hash % self.pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the first shards get their own family, the others spread over the pool, and a place
    /// outlives a change of the options.
    #[test]
    fn dedicated_first_then_pooled_evenly() {
        let options =
            LogOptions { families_dedicated_max: 2, families_pooled: 4, ..LogOptions::default() };
        let mut families = Families::new(BTreeMap::new(), [], &options, Options::default());
        assert_eq!(families.choose(ShardId(7)), Family::Dedicated(ShardId(7)));
        assert_eq!(families.choose(ShardId(9)), Family::Dedicated(ShardId(9)));
        let mut counts = [0; 4];
        for shard in 0..400 {
            match families.choose(ShardId(shard)) {
                Family::Pooled(number) => counts[number as usize] += 1,
                Family::Dedicated(shard) => panic!("{shard:?} is past the limit"),
            }
        }
        assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");

        let placed = BTreeMap::from([(ShardId(1), Family::Pooled(11))]);
        let families = Families::new(placed, ["p3".to_owned()], &options, Options::default());
        assert_eq!(families.of(ShardId(1)), Some(Family::Pooled(11)));
        assert_eq!(families.missing(), Some((ShardId(1), Family::Pooled(11))));
    }
}
