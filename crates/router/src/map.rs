//! The route map: descriptors that never overlap, sorted by their start keys.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::{Epoch, ShardId};

use crate::descriptor::{ShardDescriptor, is_before};

/// What [`RouteMap::update`] did with a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Updated {
    /// The map knew something newer about the shard or its keys, and kept it.
    Stale,
    /// The map already held exactly this.
    Unchanged,
    /// The map now holds the descriptor.
    Changed {
        /// Other shards whose older descriptors overlapped it and were dropped, in key order. The
        /// owners of their keys outside of the new range are unknown until newer descriptors come.
        evicted: Vec<ShardId>,
    },
}

/// A descriptor that can't be true, alone or together with what the map holds. The map is left as
/// it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The range holds no key.
    #[error("shard {shard}: the range is empty, its end is not after its start; drop it")]
    EmptyRange {
        /// The shard.
        shard: ShardId,
    },
    /// One shard has one range at one version and one list of members at one epoch; two epochs of
    /// which each is newer in one part never follow from one log.
    #[error(
        "shard {shard} at {found:?} contradicts what is known at {known:?}; \
         one of them is corrupt: reload the map from the meta shard"
    )]
    Contradiction {
        /// The shard.
        shard: ShardId,
        /// Epoch in the map.
        known: Epoch,
        /// Epoch of the refused descriptor.
        found: Epoch,
    },
    /// Two shards claim a key at the same version. A split raises the version of both halves, so of
    /// two shards that share a key one always has the higher version.
    #[error(
        "shards {shard} and {other} both own keys from {key:?} at version {version}; \
         one of them is corrupt: reload the map from the meta shard"
    )]
    Overlap {
        /// The refused shard.
        shard: ShardId,
        /// The shard in the map.
        other: ShardId,
        /// First key that both claim.
        key: Bytes,
        /// Version of both.
        version: u64,
    },
    /// A list that should hold each shard once, and each key at most once, does not.
    #[error("shard {shard} is out of date beside shard {other} in the same list; reload the list")]
    Mixed {
        /// The older one.
        shard: ShardId,
        /// The newer one; the same id if one shard is listed twice.
        other: ShardId,
    },
}

/// Which shard owns which keys: descriptors without overlap, gaps allowed.
///
/// A look-up is a binary search over the first 8 bytes of the start keys, held side by side: most
/// steps then stay in a few cache lines and never follow a pointer. An update moves the tails of
/// two vectors; updates are rare (splits, moves), look-ups are one per request.
#[derive(Clone, Debug, Default)]
pub struct RouteMap {
    /// [`prefix`] of each descriptor's start, in the order of `descriptors`.
    prefixes: Vec<u64>,
    /// Ascending by start, pairwise without overlap.
    descriptors: Vec<ShardDescriptor>,
    /// Where each shard starts.
    starts: BTreeMap<ShardId, Bytes>,
}

impl RouteMap {
    /// A map that knows nothing.
    #[must_use]
    pub fn new() -> RouteMap {
        RouteMap::default()
    }

    /// A map of exactly these descriptors, in any order.
    ///
    /// # Errors
    /// [`UpdateError`] if a range is empty, a shard is listed twice, or two ranges overlap. A list
    /// describes one moment, so here an overlap is an error even between different versions.
    pub fn from_descriptors(
        descriptors: impl IntoIterator<Item = ShardDescriptor>,
    ) -> Result<RouteMap, UpdateError> {
        let mut map = RouteMap::new();
        map.descriptors = descriptors.into_iter().collect();
        map.descriptors.sort_by(|a, b| a.start.cmp(&b.start));
        for descriptor in &map.descriptors {
            check_range(descriptor)?;
            map.prefixes.push(prefix(&descriptor.start));
            let twice = map.starts.insert(descriptor.shard, descriptor.start.clone());
            if twice.is_some() {
                let shard = descriptor.shard;
                return Err(UpdateError::Mixed { shard, other: shard });
            }
        }
        for pair in map.descriptors.windows(2) {
            let [left, right] = pair else { continue };
            if is_before(&right.start, left.end.as_deref()) {
                return Err(overlap_in_list(left, right));
            }
        }
        Ok(map)
    }

    /// The shard that owns `key`, if the map knows it. O(log shards), no allocation.
    #[must_use]
    pub fn lookup(&self, key: &[u8]) -> Option<&ShardDescriptor> {
        let after = self.first_starting_after(key);
        let candidate = self.descriptors.get(after.checked_sub(1)?)?;
        is_before(key, candidate.end.as_deref()).then_some(candidate)
    }

    /// The descriptor of `shard`, if the map knows it.
    #[must_use]
    pub fn get(&self, shard: ShardId) -> Option<&ShardDescriptor> {
        self.lookup(self.starts.get(&shard)?)
    }

    /// The descriptors that share a key with `[start, end)`, in key order; an `end` of `None` is
    /// the end of the key space. Gaps are skipped silently: a caller that needs every key compares
    /// each descriptor's start with the end of the one before.
    pub fn range<'a>(
        &'a self,
        start: &[u8],
        end: Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a ShardDescriptor> + use<'a> {
        let empty = !is_before(start, end);
        let first = self.first_overlapping(start);
        let from = if empty { &[] } else { &self.descriptors[first..] };
        from.iter().take_while(move |descriptor| is_before(&descriptor.start, end))
    }

    /// All descriptors in key order.
    pub fn iter(&self) -> impl Iterator<Item = &ShardDescriptor> {
        self.descriptors.iter()
    }

    /// How many shards the map knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// True if the map knows no shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// Takes in a descriptor of a shard, from any source.
    ///
    /// Of the same shard the higher epoch wins. Of different shards that share a key the higher
    /// version wins, because each split gives both halves a version above their parent's: along
    /// the history of any one key, versions only rise.
    ///
    /// # Errors
    /// [`UpdateError`] if the descriptor can't be true beside what the map holds; the map then
    /// stays as it was.
    pub fn update(&mut self, descriptor: ShardDescriptor) -> Result<Updated, UpdateError> {
        check_range(&descriptor)?;
        if let Some(known) = self.get(descriptor.shard) {
            match descriptor.compare(known) {
                Some(Ordering::Less) => return Ok(Updated::Stale),
                Some(Ordering::Equal) => return Ok(Updated::Unchanged),
                Some(Ordering::Greater) => {}
                None => {
                    let (shard, found) = (descriptor.shard, descriptor.epoch);
                    return Err(UpdateError::Contradiction { shard, known: known.epoch, found });
                }
            }
        }
        let mut evicted = Vec::new();
        let mut stale = false;
        for other in self.range(&descriptor.start, descriptor.end.as_deref()) {
            if other.shard == descriptor.shard {
                continue;
            }
            match other.epoch.version.cmp(&descriptor.epoch.version) {
                Ordering::Less => evicted.push(other.shard),
                Ordering::Equal => return Err(overlap(&descriptor, other)),
                Ordering::Greater => stale = true,
            }
        }
        if stale {
            return Ok(Updated::Stale);
        }
        self.remove(descriptor.shard);
        for &shard in &evicted {
            self.remove(shard);
        }
        self.insert(descriptor);
        Ok(Updated::Changed { evicted })
    }

    fn insert(&mut self, descriptor: ShardDescriptor) {
        let at = self.first_starting_after(&descriptor.start);
        self.starts.insert(descriptor.shard, descriptor.start.clone());
        self.prefixes.insert(at, prefix(&descriptor.start));
        self.descriptors.insert(at, descriptor);
    }

    fn remove(&mut self, shard: ShardId) {
        let Some(start) = self.starts.remove(&shard) else { return };
        let at = self.first_starting_after(&start) - 1;
        assert_eq!(self.descriptors[at].shard, shard, "the index by shard is out of step");
        self.prefixes.remove(at);
        self.descriptors.remove(at);
    }

    /// Position of the first descriptor whose start is greater than `key`.
    fn first_starting_after(&self, key: &[u8]) -> usize {
        // Zero padding keeps the order weakly: a smaller prefix means a smaller key, a greater one
        // a greater key, and only keys with equal prefixes must be compared whole.
        let wanted = prefix(key);
        let low = self.prefixes.partition_point(|&prefix| prefix < wanted);
        if self.prefixes.get(low) != Some(&wanted) {
            return low;
        }
        let same = self.prefixes[low..].partition_point(|&prefix| prefix == wanted);
        let same = &self.descriptors[low..low + same];
        low + same.partition_point(|descriptor| descriptor.start <= key)
    }

    /// Position of the first descriptor that holds `key` or starts after it.
    fn first_overlapping(&self, key: &[u8]) -> usize {
        let after = self.first_starting_after(key);
        match after.checked_sub(1) {
            Some(before) if self.descriptors[before].contains(key) => before,
            _ => after,
        }
    }
}

/// The first 8 bytes as a big-endian number, shorter keys padded with zeros.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = key.len().min(8);
    bytes[..len].copy_from_slice(&key[..len]);
    u64::from_be_bytes(bytes)
}

fn check_range(descriptor: &ShardDescriptor) -> Result<(), UpdateError> {
    if descriptor.is_range_empty() {
        Err(UpdateError::EmptyRange { shard: descriptor.shard })
    } else {
        Ok(())
    }
}

fn overlap(refused: &ShardDescriptor, held: &ShardDescriptor) -> UpdateError {
    UpdateError::Overlap {
        shard: refused.shard,
        other: held.shard,
        key: refused.start.clone().max(held.start.clone()),
        version: held.epoch.version,
    }
}

fn overlap_in_list(left: &ShardDescriptor, right: &ShardDescriptor) -> UpdateError {
    match left.epoch.version.cmp(&right.epoch.version) {
        Ordering::Equal => overlap(left, right),
        Ordering::Less => UpdateError::Mixed { shard: left.shard, other: right.shard },
        Ordering::Greater => UpdateError::Mixed { shard: right.shard, other: left.shard },
    }
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
