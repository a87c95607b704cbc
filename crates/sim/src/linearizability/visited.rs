//! The configurations that the search has visited: which operations are linearized, the value, and
//! whether an open operation came last (Lowe 2017, section 4). They are compared exactly: by a hash
//! alone the search could confuse two configurations, and so miss the only order.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::operation::Value;

const WORD_BITS: usize = u64::BITS as usize;

/// A set of operation numbers.
#[derive(Clone)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(numbers: usize) -> Bits {
        Bits(vec![0; numbers.div_ceil(WORD_BITS)])
    }

    fn flip(&mut self, number: usize) {
        self.0[number / WORD_BITS] ^= 1 << (number % WORD_BITS);
    }

    fn contains(&self, number: usize) -> bool {
        self.0[number / WORD_BITS] & (1 << (number % WORD_BITS)) != 0
    }
}

/// The operations linearized so far. Numbers are positions in the lists of `Prepared`.
pub(super) struct Linearized {
    open: Bits,
    completed: Bits,
    completed_count: usize,
    /// All words of `completed` before this one are full.
    full_words: usize,
}

impl Linearized {
    pub(super) fn new(completed: usize, open: usize) -> Linearized {
        let (open, completed) = (Bits::new(open), Bits::new(completed));
        Linearized { open, completed, completed_count: 0, full_words: 0 }
    }

    pub(super) fn completed_count(&self) -> usize {
        self.completed_count
    }

    pub(super) fn contains_open(&self, number: usize) -> bool {
        self.open.contains(number)
    }

    pub(super) fn flip_open(&mut self, number: usize) {
        self.open.flip(number);
    }

    pub(super) fn insert_completed(&mut self, number: usize) {
        self.completed.flip(number);
        self.completed_count += 1;
        while self.completed.0.get(self.full_words) == Some(&u64::MAX) {
            self.full_words += 1;
        }
    }

    pub(super) fn remove_completed(&mut self, number: usize) {
        self.completed.flip(number);
        self.completed_count -= 1;
        self.full_words = self.full_words.min(number / WORD_BITS);
    }
}

/// The part of a configuration that has to be equal: the value, how many words of the completed
/// operations are full, and those after them up to the last one that is not empty. Completed
/// operations are numbered by invocation, so few words are neither full nor empty.
type Words = SmallVec<[u64; 4]>;

/// The part that may be a subset: bit 0 of the first word says that an open operation came last,
/// the other words are the open operations taken.
type Spent = SmallVec<[u64; 3]>;

/// The visited configurations. One that spent no more than another, all else equal, allows every
/// order that the other allows. So the other need not be tried after it, which spares the search
/// the many subsets of open operations.
#[derive(Default)]
pub(super) struct Visited {
    /// A small number for each value.
    values: FxHashMap<Value, u64>,
    configurations: FxHashMap<Words, SmallVec<[Spent; 1]>>,
}

impl Visited {
    /// False if the search has visited this configuration, or one that spent less.
    pub(super) fn insert(&mut self, at: &Linearized, value: &Value, is_after_open: bool) -> bool {
        let unused = self.values.len() as u64;
        let number = match self.values.get(value) {
            Some(number) => *number,
            None => *self.values.entry(value.clone()).or_insert(unused),
        };
        let mut words = Words::from_slice(&[number, at.full_words as u64]);
        let mut left = at.completed_count - at.full_words * WORD_BITS;
        for word in &at.completed.0[at.full_words..] {
            if left == 0 {
                break;
            }
            left -= word.count_ones() as usize;
            words.push(*word);
        }
        let mut spent = Spent::from_slice(&[u64::from(is_after_open)]);
        spent.extend_from_slice(&at.open.0);
        let before = self.configurations.entry(words).or_default();
        let is_less = |less: &Spent| less.iter().zip(&spent).all(|(less, more)| less & !more == 0);
        let is_new = !before.iter().any(is_less);
        if is_new {
            before.push(spent);
        }
        is_new
    }
}
