//! The hash of keys and the checksum of items.
//!
//! Both are made of one round over 64-bit words. For clients in other languages:
//!
//! ```text
//! round(x, w) = y ^ (y >> 29)   where y = (x ^ w) * 0x9e3779b97f4a7c15 mod 2^64
//! hash(key)   = round(round(… round(key_len, k0) …, kn), 0)
//! ```
//!
//! `k0 … kn` are the key's bytes as little-endian words, the last padded with zeros. The hash is
//! not keyed: whoever may write to a store may fill one of its chains.

/// An odd constant without structure: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes `word` into `state`. A one-to-one function of either.
#[inline(always)]
pub const fn round(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 29)
}

/// The hash of a key.
pub fn hash(key: &[u8]) -> u64 {
    let word = |bytes: &[u8]| {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(padded)
    };
    round(key.chunks(8).fold(key.len() as u64, |state, bytes| round(state, word(bytes))), 0)
}

/// A checksum at work: four lanes, so that a processor can mix four words at a time.
#[derive(Clone, Copy, Debug)]
pub struct Lanes(pub [u64; 4]);

impl Lanes {
    /// Before the first word.
    pub const START: Self = Self([1, 2, 3, 4]);

    /// Takes in the next four words.
    #[inline(always)]
    pub fn take(&mut self, words: [u64; 4]) {
        self.0[0] = round(self.0[0], words[0]);
        self.0[1] = round(self.0[1], words[1]);
        self.0[2] = round(self.0[2], words[2]);
        self.0[3] = round(self.0[3], words[3]);
    }

    /// The checksum of the words taken in.
    #[inline(always)]
    pub const fn checksum(self) -> u64 {
        // The same change in two lanes must not cancel out: a round between any two.
        round(round(round(round(self.0[0], 0), self.0[1]), self.0[2]), self.0[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_vectors_for_other_languages() {
        assert_eq!(round(0, 1), MULTIPLIER ^ (MULTIPLIER >> 29));
        for (key, expected) in VECTORS {
            assert_eq!(hash(key.as_bytes()), *expected, "{key}: {:#018x}", hash(key.as_bytes()));
        }
    }

    const VECTORS: &[(&str, u64)] = &[
        ("a", 0xc27d_0280_a2a7_0bd4),
        ("naam", 0x798e_0ddb_c6fa_98d1),
        ("12345678", 0x19e4_a71e_ec87_251b),
        ("user6284781860667377211", 0x8140_b063_fce8_857e),
    ];

    #[test]
    fn hashes_spread_over_buckets_and_tags() {
        let mut buckets = [0u32; 256];
        let mut tags = [0u32; 256];
        for i in 0u64..65_536 {
            let hash = hash(&i.to_le_bytes());
            buckets[hash as usize & 255] += 1;
            tags[(hash >> 56) as usize] += 1;
        }
        for (name, counts) in [("buckets", buckets), ("tags", tags)] {
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least > 180 && *most < 340, "{name}: {least} to {most} of 256 expected");
        }
    }

    #[test]
    fn a_checksum_tells_words_of_two_items_apart() {
        let of = |words: [u64; 8]| {
            let mut lanes = Lanes::START;
            lanes.take([words[0], words[1], words[2], words[3]]);
            lanes.take([words[4], words[5], words[6], words[7]]);
            lanes.checksum()
        };
        let sign = 1 << 63;
        let (old, new) = ([1, 2, 3, 4, 5, 6, 7, 8], [1 | sign, 2 | sign, 3, 4, 5 | sign, 6 | sign, 7, 8]);
        let mut seen = std::collections::HashSet::new();
        for mix in 0..256 {
            let words: [u64; 8] = std::array::from_fn(|i| if mix >> i & 1 == 0 { old[i] } else { new[i] });
            seen.insert((words, of(words)));
        }
        let checksums: std::collections::HashSet<_> = seen.iter().map(|(_, checksum)| checksum).collect();
        assert_eq!((seen.len(), checksums.len()), (16, 16));
    }
}
