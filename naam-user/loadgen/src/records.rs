//! Keys and values by number: what record `n` is called, what its value is in version `v`, and whether a value read
//! back is one that was written.

use std::sync::Arc;

use crate::table::KeyTable;
use crate::zipf::fnv64;

/// Longest key, bytes.
pub const KEY_BYTES_MAX: usize = 64;
/// Longest value, bytes.
pub const VALUE_BYTES_MAX: usize = 1_000;
/// Values of at least this many bytes carry their version; shorter ones depend on the record alone.
pub const VERSIONED_BYTES_MIN: usize = 16;

/// Version of a record as it was loaded.
pub const VERSION_LOADED: u64 = 0;

/// Sizes of generated values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueSize {
    /// All values have this many bytes.
    Constant(u16),
    /// Uniform from `min` to `max`, both included; decided by the record, so that an update keeps it.
    Uniform {
        /// Smallest size, bytes.
        min: u16,
        /// Largest size, bytes.
        max: u16,
    },
}

impl ValueSize {
    /// Bytes of the values of `record`; never above [`VALUE_BYTES_MAX`].
    #[inline]
    pub fn of(self, record: u64) -> usize {
        let bytes = match self {
            Self::Constant(bytes) => usize::from(bytes),
            Self::Uniform { min, max } => {
                let span = u64::from(max.saturating_sub(min)) + 1;
                let draw = (u128::from(seed(record, VERSION_LOADED)) * u128::from(span)) >> 64;
                usize::from(min) + draw as usize
            }
        };
        bytes.min(VALUE_BYTES_MAX)
    }
}

/// The records of a run.
#[derive(Debug, Clone)]
pub enum Records {
    /// YCSB's: key "user" and the hashed record number, generated values.
    Generated(ValueSize),
    /// Those of a data file, with the file's values until they are updated (an update keeps the size of the file's
    /// value); records behind the file's end are generated with the given size.
    Table(Arc<KeyTable>, ValueSize),
}

impl Records {
    /// Replaces `out` by the key of `record`.
    #[inline]
    pub fn key(&self, record: u64, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Table(table, _) if record < table.len() => out.extend_from_slice(table.key(record)),
            _ => generated_key(record, out),
        }
    }

    /// Replaces `out` by the generated value of `record` in `version`.
    #[inline]
    pub fn value(&self, record: u64, version: u64, out: &mut Vec<u8>) {
        out.clear();
        let bytes = self.value_bytes(record);
        out.resize(bytes, 0);
        let (first, rest) = out.split_at_mut(version_bytes(bytes));
        first.copy_from_slice(&version.to_le_bytes()[..first.len()]);
        let mut words = Words::new(record, if first.is_empty() { VERSION_LOADED } else { version });
        let mut chunks = rest.chunks_exact_mut(8);
        for chunk in &mut chunks {
            chunk.copy_from_slice(&words.next().to_le_bytes());
        }
        let tail = chunks.into_remainder();
        let word = words.next().to_le_bytes();
        tail.copy_from_slice(&word[..tail.len()]);
    }

    /// Whether `value` is one that `record` may hold: the value loaded, or a generated one of whatever version.
    #[inline]
    pub fn holds(&self, record: u64, value: &[u8]) -> bool {
        if let Self::Table(table, _) = self
            && record < table.len()
            && table.loaded_value_is(record, value)
        {
            return true;
        }
        self.generated_version(record, value).is_some()
    }

    /// The version of a generated value of `record`, [`VERSION_LOADED`] for one too short to carry it; `None` if
    /// the bytes are not such a value.
    pub fn generated_version(&self, record: u64, value: &[u8]) -> Option<u64> {
        let (first, rest) = value.split_at(version_bytes(value.len()));
        let version = first.try_into().map_or(VERSION_LOADED, u64::from_le_bytes);
        if value.len() != self.value_bytes(record) {
            return None;
        }
        let mut words = Words::new(record, version);
        let chunks = rest.chunks_exact(8);
        let tail = chunks.remainder();
        let same = chunks.fold(true, |same, chunk| same & (chunk == words.next().to_le_bytes()))
            && *tail == words.next().to_le_bytes()[..tail.len()];
        same.then_some(version)
    }

    #[inline]
    fn value_bytes(&self, record: u64) -> usize {
        match self {
            Self::Table(table, _) if record < table.len() => table.value_bytes(record),
            Self::Generated(size) | Self::Table(_, size) => size.of(record),
        }
    }
}

/// Appends YCSB's key of a record: "user" and [`fnv64`] of the number, in decimal without padding.
#[inline]
pub fn generated_key(record: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"user");
    out.extend_from_slice(itoa::Buffer::new().format(fnv64(record)).as_bytes());
}

#[inline]
fn version_bytes(len: usize) -> usize {
    if len >= VERSIONED_BYTES_MIN { 8 } else { 0 }
}

/// The finalizer of SplitMix64.
#[inline]
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[inline]
fn seed(record: u64, version: u64) -> u64 {
    mix(mix(record.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ version)
}

/// The words of a value: a Weyl sequence, one multiplication each, so that no word waits for the one before it.
struct Words {
    state: u64,
}

impl Words {
    #[inline]
    fn new(record: u64, version: u64) -> Self {
        Self { state: seed(record, version) }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let product = self.state.wrapping_mul(0xd6e8_feb8_6659_fd93);
        product ^ (product >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(record: u64) -> String {
        let mut out = Vec::new();
        Records::Generated(ValueSize::Constant(100)).key(record, &mut out);
        String::from_utf8(out).expect("generated keys are ASCII")
    }

    /// The first three keys that YCSB loads.
    #[test]
    fn keys_are_those_of_ycsb() {
        assert_eq!(key(0), "user6284781860667377211");
        assert_eq!(key(1), "user8517097267634966620");
        assert_eq!(key(2), "user1820151046732198393");
    }

    proptest! {
        #[test]
        fn keys_are_the_decimal_hash(record: u64) {
            prop_assert_eq!(key(record), format!("user{}", fnv64(record)));
        }

        #[test]
        fn written_values_are_held(record: u64, version: u64, size in 0u16..=1_000) {
            let records = Records::Generated(ValueSize::Constant(size));
            let mut value = Vec::new();
            records.value(record, version, &mut value);
            prop_assert_eq!(value.len(), usize::from(size));
            prop_assert!(records.holds(record, &value));
            let carried = if usize::from(size) >= VERSIONED_BYTES_MIN { version } else { VERSION_LOADED };
            prop_assert_eq!(records.generated_version(record, &value), Some(carried));
        }

        #[test]
        fn a_flipped_bit_is_seen(record: u64, version: u64, size in 1u16..=1_000, bit: prop::sample::Index) {
            let records = Records::Generated(ValueSize::Constant(size));
            let mut value = Vec::new();
            records.value(record, version, &mut value);
            let bit = bit.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!records.holds(record, &value));
        }

        #[test]
        fn another_length_is_seen(record: u64, version: u64, cut in 1usize..100) {
            let records = Records::Generated(ValueSize::Constant(100));
            let mut value = Vec::new();
            records.value(record, version, &mut value);
            value.truncate(100 - cut);
            prop_assert!(!records.holds(record, &value));
        }

        #[test]
        fn another_records_value_is_seen(a: u64, b: u64, version: u64) {
            prop_assume!(a != b);
            let records = Records::Generated(ValueSize::Constant(32));
            let mut value = Vec::new();
            records.value(a, version, &mut value);
            prop_assert!(!records.holds(b, &value));
        }

        #[test]
        fn uniform_sizes_are_in_range_and_verified(record: u64, version: u64, min in 0u16..500, span in 0u16..500) {
            let records = Records::Generated(ValueSize::Uniform { min, max: min + span });
            let mut value = Vec::new();
            records.value(record, version, &mut value);
            prop_assert!((usize::from(min)..=usize::from(min + span)).contains(&value.len()));
            prop_assert!(records.holds(record, &value));
        }
    }

    #[test]
    fn uniform_sizes_reach_both_ends() {
        let size = ValueSize::Uniform { min: 3, max: 6 };
        let mut counts = [0u32; 8];
        (0..4_000).for_each(|record| counts[size.of(record)] += 1);
        assert!(counts[3..=6].iter().all(|&count| (850..1_150).contains(&count)), "{counts:?}");
        assert_eq!(counts.iter().sum::<u32>(), 4_000);
    }
}
