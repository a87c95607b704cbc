//! The writes of an entry under way: in their order for the store, and by key for its own reads.
//!
//! An entry may be a batch of 65,536 commands that each read what those before them wrote, so a read has
//! to find its key without scanning the writes. The index is ordered, because it serves range deletes
//! and scans; it orders keys themselves, not hashes, because clients choose the keys. It is built at the
//! first read: most entries read none of their own writes.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::ops::Range;

type Key = Box<[u8]>;
/// Where a value lies in `Staged::bytes`; `None` if the key was deleted.
type Word = Option<Range<usize>>;

/// A write; ranges of `Staged::bytes`.
enum Write {
    Put { key: Range<usize>, value: Range<usize> },
    Delete { key: Range<usize> },
    DeleteRange { start: Range<usize>, end: Range<usize> },
}

/// A write, as it is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Staging<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    DeleteRange { start: &'a [u8], end: &'a [u8] },
}

/// The writes of one entry that are not in the store yet.
#[derive(Default)]
pub(crate) struct Staged {
    bytes: Vec<u8>,
    writes: Vec<Write>,
    /// How many of `writes`, from the first, are in the index.
    indexed: usize,
    /// The newest write of each key that was written since it was last in a deleted range.
    words: BTreeMap<Key, Word>,
    /// Deleted ranges by their starts, with their ends; disjoint and not adjacent.
    gone: BTreeMap<Key, Key>,
}

impl Staged {
    /// The key is passed in two parts, so that callers need not join them.
    pub(crate) fn put(&mut self, key: [&[u8]; 2], value: &[u8]) {
        let (key, value) = (self.push(key), self.push([value, &[]]));
        self.writes.push(Write::Put { key, value });
    }

    pub(crate) fn delete(&mut self, key: [&[u8]; 2]) {
        let key = self.push(key);
        self.writes.push(Write::Delete { key });
    }

    /// Deletes `[start, end)`, which may be empty.
    pub(crate) fn delete_range(&mut self, start: [&[u8]; 2], end: [&[u8]; 2]) {
        let (start, end) = (self.push(start), self.push(end));
        if self.bytes[start.clone()] < self.bytes[end.clone()] {
            self.writes.push(Write::DeleteRange { start, end });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The newest write of `key`: `None` if there is none.
    pub(crate) fn get(&mut self, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.is_empty() {
            return None;
        }
        self.index();
        match self.words.get(key) {
            Some(word) => Some(word.clone().map(|value| &self.bytes[value])),
            None => self.is_gone(key).then_some(None),
        }
    }

    /// A store's pairs in `[start, end)`, merged with the staged writes.
    pub(crate) fn over(&mut self, start: &[u8], end: &[u8]) -> Over<'_> {
        self.index();
        // A map panics when it is asked for a range that ends before it starts.
        let range = (Included(start), Excluded(end.max(start)));
        Over { staged: self, words: self.words.range::<[u8], _>(range).peekable() }
    }

    /// Passes every write to `take`, in order, and forgets them all.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Staging<'_>)) {
        let bytes = &self.bytes;
        for write in self.writes.drain(..) {
            take(match write {
                Write::Put { key, value } => {
                    Staging::Put { key: &bytes[key], value: &bytes[value] }
                }
                Write::Delete { key } => Staging::Delete { key: &bytes[key] },
                Write::DeleteRange { start, end } => {
                    Staging::DeleteRange { start: &bytes[start], end: &bytes[end] }
                }
            });
        }
        self.bytes.clear();
        if std::mem::take(&mut self.indexed) > 0 {
            self.words.clear();
            self.gone.clear();
        }
    }

    fn push(&mut self, parts: [&[u8]; 2]) -> Range<usize> {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        start..self.bytes.len()
    }

    /// Brings the index up to date with the newest write.
    fn index(&mut self) {
        for write in &self.writes[self.indexed..] {
            match write {
                Write::Put { key, value } => {
                    self.words.insert(self.bytes[key.clone()].into(), Some(value.clone()));
                }
                Write::Delete { key } => {
                    self.words.insert(self.bytes[key.clone()].into(), None);
                }
                Write::DeleteRange { start, end } => {
                    let (start, end) = (&self.bytes[start.clone()], &self.bytes[end.clone()]);
                    remove_range(&mut self.words, start, end);
                    add_range(&mut self.gone, start, end);
                }
            }
        }
        self.indexed = self.writes.len();
    }

    fn is_gone(&self, key: &[u8]) -> bool {
        let before = self.gone.range::<[u8], _>((Unbounded, Included(key))).next_back();
        before.is_some_and(|(_, end)| *key < **end)
    }
}

/// Amortised by writes: each key is removed once, and was added by a write of its own.
fn remove_range(words: &mut BTreeMap<Key, Word>, start: &[u8], end: &[u8]) {
    while let Some((key, _)) = words.range::<[u8], _>((Included(start), Excluded(end))).next() {
        let key = key.clone();
        words.remove(&key);
    }
}

/// Joins `[start, end)` with the ranges that it meets; each is removed once, as it was added once.
fn add_range(gone: &mut BTreeMap<Key, Key>, start: &[u8], end: &[u8]) {
    let (mut from, mut to): (Key, Key) = (start.into(), end.into());
    loop {
        let touching = gone.range::<[u8], _>((Unbounded, Included(&*to))).next_back();
        match touching {
            Some((first, last)) if *last >= from => {
                let first = first.clone();
                let last = gone.remove(&first).expect("just found");
                from = from.min(first);
                to = to.max(last);
            }
            _ => break,
        }
    }
    gone.insert(from, to);
}

/// Merges a store's pairs, passed in order, with what is staged.
pub(crate) struct Over<'a> {
    staged: &'a Staged,
    words: Peekable<btree_map::Range<'a, Key, Word>>,
}

impl Over<'_> {
    /// Shows what is staged before the store's pair, and the pair itself if it still exists. False
    /// once `visit` has returned false.
    pub(crate) fn pair(
        &mut self,
        key: &[u8],
        value: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> bool {
        if !self.show_staged(Some(key), visit) {
            return false;
        }
        match self.words.next_if(|(at, _)| ***at == *key) {
            Some((_, Some(newer))) => visit(key, &self.staged.bytes[newer.clone()]),
            Some((_, None)) => true,
            None => self.staged.is_gone(key) || visit(key, value),
        }
    }

    /// Shows what is staged after the store's last pair.
    pub(crate) fn finish(mut self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        self.show_staged(None, visit);
    }

    fn show_staged(
        &mut self,
        before: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> bool {
        let is_before = |at: &[u8]| before.is_none_or(|key| at < key);
        while let Some((key, word)) = self.words.next_if(|(at, _)| is_before(at)) {
            if let Some(value) = word
                && !visit(key, &self.staged.bytes[value.clone()])
            {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(staged: &Staged) -> Vec<(&[u8], &[u8])> {
        staged.gone.iter().map(|(start, end)| (&**start, &**end)).collect()
    }

    /// Goal: deleted ranges stay disjoint whatever they meet, so that a look-up finds one. Method:
    /// ranges that are apart, adjacent, overlapping and nested; and one that is empty.
    #[test]
    fn deleted_ranges_are_joined() {
        let mut staged = Staged::default();
        let mut delete = |start: &str, end: &str| {
            staged.delete_range([start.as_bytes(), b""], [end.as_bytes(), b""]);
            assert_eq!(staged.get(b"zzz"), None);
        };
        for (start, end) in [("c", "e"), ("k", "m"), ("e", "f"), ("p", "p"), ("b", "d")] {
            delete(start, end);
        }
        assert_eq!(gone(&staged), [(&b"b"[..], &b"f"[..]), (b"k", b"m")]);
        for (key, is_gone) in [(b"a", false), (b"b", true), (b"e", true), (b"f", false)] {
            assert_eq!(staged.get(key), is_gone.then_some(None));
        }
        staged.delete_range([b"e", b""], [b"l", b""]);
        staged.put([b"k", b"1"], b"v");
        assert_eq!(staged.get(b"k1"), Some(Some(&b"v"[..])));
        assert_eq!(gone(&staged), [(&b"b"[..], &b"m"[..])]);
        staged.delete_range([b"a", b""], [b"z", b""]);
        assert_eq!(staged.get(b"k1"), Some(None), "the range came after it");
        assert_eq!(gone(&staged), [(&b"a"[..], &b"z"[..])]);
        let mut writes = 0;
        staged.drain(|_| writes += 1);
        assert_eq!((writes, staged.get(b"k1")), (7, None));
    }
}
