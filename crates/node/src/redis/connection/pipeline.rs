//! Decides which commands of one connection may run at the same time.
//!
//! Commands of one connection on the same key take effect in their order, as with one Redis
//! thread; all others overlap. A command starts only if it touches no key of an unfinished earlier
//! one. Writes of the same key that arrive together don't wait for each other: they become one
//! entry of the log, which keeps their order.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use crate::redis::commands::command::{Command, SingleWrite};

/// Commands with more keys than this run alone, so that a footprint stays small.
const FOOTPRINT_KEYS_MAX: usize = 64;

/// The keys that a running command touches, by hash: keys with equal hashes only lose overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Footprint {
    /// One key.
    Key {
        /// Hash of the key.
        hash: u64,
        /// Whether it may change.
        writes: bool,
    },
    /// Several keys.
    Keys {
        /// Hashes of the keys.
        hashes: Vec<u64>,
        /// Whether they may change.
        writes: bool,
    },
    /// Any key.
    Everything {
        /// Whether they may change.
        writes: bool,
    },
}

impl Footprint {
    /// The footprint of `command`.
    #[must_use]
    pub(super) fn of(command: &Command) -> Footprint {
        match command {
            Command::Get(key) => Footprint::Key { hash: hash(key), writes: false },
            Command::Write(write) => Footprint::Key { hash: hash(write.key()), writes: true },
            Command::GetMany(keys) | Command::Exists(keys) => many(keys.iter(), false),
            Command::DeleteMany(keys) => many(keys.iter(), true),
            Command::SetMany(pairs) => many(pairs.iter().map(|(key, _)| key), true),
            Command::CountKeys | Command::Scan(_) | Command::Local(_) => {
                Footprint::Everything { writes: false }
            }
        }
    }

    /// True if a client could see the order of the two.
    #[must_use]
    pub(super) fn conflicts(&self, other: &Footprint) -> bool {
        if !self.writes() && !other.writes() {
            return false;
        }
        match (self.hashes(), other.hashes()) {
            (Some(own), Some(others)) => own.iter().any(|hash| others.contains(hash)),
            _ => true,
        }
    }

    fn writes(&self) -> bool {
        match self {
            Footprint::Key { writes, .. }
            | Footprint::Keys { writes, .. }
            | Footprint::Everything { writes } => *writes,
        }
    }

    fn hashes(&self) -> Option<&[u64]> {
        match self {
            Footprint::Key { hash, .. } => Some(std::slice::from_ref(hash)),
            Footprint::Keys { hashes, .. } => Some(hashes),
            Footprint::Everything { .. } => None,
        }
    }
}

fn many<'a>(keys: impl ExactSizeIterator<Item = &'a bytes::Bytes>, writes: bool) -> Footprint {
    if keys.len() > FOOTPRINT_KEYS_MAX {
        return Footprint::Everything { writes };
    }
    Footprint::Keys { hashes: keys.map(hash).collect(), writes }
}

fn hash(key: &bytes::Bytes) -> u64 {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Most writes of one key that become one entry.
const MERGED_WRITES_MAX: usize = 256;
/// Most bytes of writes of one key that become one entry.
const MERGED_BYTES_MAX: usize = 1 << 20;

/// A command, or writes of one key, about to start.
#[derive(Debug)]
pub(super) struct Planned {
    /// The keys that it touches.
    pub(super) footprint: Footprint,
    /// The places of its replies, in the order of its commands.
    pub(super) places: Vec<u64>,
    /// The work to run.
    pub(super) work: Work,
    /// Bytes that its replies may hold together.
    pub(super) reply_bytes: usize,
}

/// The work of a [`Planned`].
#[derive(Debug)]
pub(super) enum Work {
    /// Any command but a write of one key.
    Command(Command),
    /// Writes of one key.
    Writes(Vec<SingleWrite>),
}

impl Planned {
    /// A command whose reply goes to `place`, and may hold `reply_bytes`.
    #[must_use]
    pub(super) fn new(command: Command, place: u64, reply_bytes: usize) -> Planned {
        let footprint = Footprint::of(&command);
        let work = match command {
            Command::Write(write) => Work::Writes(vec![write]),
            other => Work::Command(other),
        };
        Planned { footprint, places: vec![place], work, reply_bytes }
    }

    /// As [`Command::is_walk`].
    #[must_use]
    pub(super) fn is_walk(&self) -> bool {
        matches!(&self.work, Work::Command(command) if command.is_walk())
    }

    /// Merges a later write of the same key into this one; returns the command if it has to wait
    /// for this one instead. Only for commands that have not started.
    pub(super) fn merge(
        &mut self,
        command: Command,
        place: u64,
        reply_bytes: usize,
    ) -> Option<Command> {
        let (Work::Writes(writes), Command::Write(write)) = (&mut self.work, &command) else {
            return Some(command);
        };
        let bytes: usize = writes.iter().map(SingleWrite::len_bytes).sum();
        // Equal hashes are not enough: the entry must not leave its shard.
        if writes[0].key() != write.key()
            || writes.len() >= MERGED_WRITES_MAX
            || bytes + write.len_bytes() > MERGED_BYTES_MAX
        {
            return Some(command);
        }
        if let Command::Write(write) = command {
            writes.push(write);
            self.places.push(place);
            self.reply_bytes += reply_bytes;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn get(key: &'static str) -> Command {
        Command::Get(Bytes::from(key))
    }

    fn set(key: &'static str) -> Command {
        Command::Write(SingleWrite::Set { key: Bytes::from(key), value: Bytes::new() })
    }

    /// Goal: exactly the pairs whose order can be seen conflict. Method: a table.
    #[test]
    fn order_is_kept_where_it_shows() {
        let keys = |keys: &[&'static str]| keys.iter().map(|&key| Bytes::from(key)).collect();
        let many: Vec<Bytes> = (0..1_000).map(|n| Bytes::from(n.to_string())).collect();
        let table = [
            (get("a"), get("a"), false),
            (get("a"), set("a"), true),
            (set("a"), set("a"), true),
            (set("a"), set("b"), false),
            (Command::GetMany(keys(&["a", "b"])), set("b"), true),
            (Command::GetMany(keys(&["a", "b"])), set("c"), false),
            (Command::CountKeys, set("a"), true),
            (Command::CountKeys, get("a"), false),
            (Command::DeleteMany(many), get("x"), true),
        ];
        for (first, second, expected) in table {
            let (first_print, second_print) = (Footprint::of(&first), Footprint::of(&second));
            assert_eq!(first_print.conflicts(&second_print), expected, "{first:?} {second:?}");
            assert_eq!(second_print.conflicts(&first_print), expected);
        }
    }

    #[test]
    fn writes_of_one_key_become_one_entry() {
        let mut planned = Planned::new(set("a"), 0, 5);
        assert_eq!(planned.merge(set("a"), 3, 6), None);
        assert_eq!(planned.merge(set("b"), 4, 6), Some(set("b")));
        assert_eq!(planned.merge(get("a"), 5, 6), Some(get("a")));
        assert_eq!((&planned.places[..], planned.reply_bytes), (&[0, 3][..], 11));
        for place in 0..1_000 {
            drop(planned.merge(set("a"), place, 0));
        }
        assert_eq!(planned.places.len(), MERGED_WRITES_MAX);
    }
}
