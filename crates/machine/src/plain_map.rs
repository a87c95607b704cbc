//! An [`OrderedMap`] in memory, for tests.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::state_machine::OrderedMap;

/// Keys to values in memory; comparable, so that tests can say that two histories end alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlainMap(pub(crate) BTreeMap<Vec<u8>, Vec<u8>>);

impl OrderedMap for PlainMap {
    fn get(&mut self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).map(|value| Bytes::copy_from_slice(value))
    }
    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key.to_vec(), value.to_vec());
    }
    fn delete(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        self.0.retain(|key, _| !(start <= &key[..] && &key[..] < end));
    }
    fn scan(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        for (key, value) in self.0.range(start.to_vec()..) {
            if end.is_some_and(|end| &key[..] >= end) || !visit(key, value) {
                return;
            }
        }
    }
}
