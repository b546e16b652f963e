//! The keys of a data file in memory, compactly, with what is needed to know their values again.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Keys in the order of their first appearance; per key about its own bytes and 50 more, the index included.
///
/// Values are not kept: 64 bits of hash and the length recognise them. The hash is keyed at random for each table,
/// so that no file can be made whose wrong values pass.
#[derive(Debug)]
pub struct KeyTable {
    bytes: Vec<u8>,
    /// End of each key in `bytes`.
    ends: Vec<u64>,
    values: Vec<(u64, u16)>,
    /// Records by hash of their key; of two keys with one hash the later is under the next free number.
    index: HashMap<u64, u64>,
    hasher: RandomState,
    duplicates: u64,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyTable {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            values: Vec::new(),
            index: HashMap::new(),
            hasher: RandomState::new(),
            duplicates: 0,
        }
    }

    /// Adds a pair and gives its record number. A key that is there already keeps its number and takes the new
    /// value: the last one wins.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) -> u64 {
        let entry = (self.hash(value), value.len() as u16);
        let slot = match self.find(key) {
            Ok(record) => {
                self.values[record as usize] = entry;
                self.duplicates += 1;
                return record;
            }
            Err(slot) => slot,
        };
        let record = self.len();
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len() as u64);
        self.values.push(entry);
        self.index.insert(slot, record);
        record
    }

    /// Number of distinct keys.
    pub fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Pairs whose key was there already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// The key of a record below [`KeyTable::len`].
    #[inline]
    pub fn key(&self, record: u64) -> &[u8] {
        let record = record as usize;
        let start = if record == 0 { 0 } else { self.ends[record - 1] };
        &self.bytes[start as usize..self.ends[record] as usize]
    }

    /// The record of a key.
    pub fn record(&self, key: &[u8]) -> Option<u64> {
        self.find(key).ok()
    }

    /// Bytes of the value loaded for a record below [`KeyTable::len`].
    #[inline]
    pub fn value_bytes(&self, record: u64) -> usize {
        usize::from(self.values[record as usize].1)
    }

    /// Whether `value` is the one loaded for a record below [`KeyTable::len`].
    #[inline]
    pub fn loaded_value_is(&self, record: u64, value: &[u8]) -> bool {
        let (hash, len) = self.values[record as usize];
        usize::from(len) == value.len() && hash == self.hash(value)
    }

    /// The record of a key, or the index slot where it belongs.
    fn find(&self, key: &[u8]) -> Result<u64, u64> {
        let mut slot = self.hash(key);
        while let Some(&record) = self.index.get(&slot) {
            if self.key(record) == key {
                return Ok(record);
            }
            slot = slot.wrapping_add(1);
        }
        Err(slot)
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_value_wins_and_is_counted() {
        let mut table = KeyTable::new();
        assert_eq!(table.insert(b"a", b"1"), 0);
        assert_eq!(table.insert(b"bb", b""), 1);
        assert_eq!(table.insert(b"a", b"222"), 0);
        assert_eq!((table.len(), table.duplicates(), table.is_empty()), (2, 1, false));
        assert_eq!((table.key(0), table.key(1)), (&b"a"[..], &b"bb"[..]));
        assert_eq!((table.record(b"bb"), table.record(b"c")), (Some(1), None));
        assert!(table.loaded_value_is(0, b"222") && !table.loaded_value_is(0, b"1"));
        assert!(table.loaded_value_is(1, b"") && !table.loaded_value_is(1, b"x"));
        assert_eq!(table.value_bytes(0), 3);
    }
}
