//! Keys as numbers of 65 bytes, see [`naam_handlers::cell::layout`].

use naam_handlers::cell::KEY_MAX;
use naam_handlers::cell::layout::NUMBER_WORDS;

/// Bytes of a number that can be other than 0.
pub const NUMBER_BYTES: usize = KEY_MAX + 1;

/// A key, a separator or a fence. Ordered as the keys' bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub [u64; NUMBER_WORDS]);

impl Number {
    /// Not above any key.
    pub const ZERO: Self = Self([0; NUMBER_WORDS]);

    /// The number of a key of at most 64 bytes.
    pub fn of_key(key: &[u8]) -> Self {
        debug_assert!(key.len() <= KEY_MAX);
        let mut words = [0; NUMBER_WORDS];
        for (word, bytes) in words.iter_mut().zip(key.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_be_bytes(padded);
        }
        words[NUMBER_WORDS - 1] = (key.len() as u64) << 56;
        Self(words)
    }

    /// Bytes of the key that the number was made of.
    pub fn key_len(&self) -> usize {
        (self.0[NUMBER_WORDS - 1] >> 56) as usize
    }

    /// Appends the key that the number was made of.
    pub fn push_key(&self, to: &mut Vec<u8>) {
        let end = to.len() + self.key_len();
        to.extend(self.0[..KEY_MAX / 8].iter().flat_map(|word| word.to_be_bytes()));
        to.truncate(end);
    }

    /// The key that the number was made of.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(KEY_MAX);
        self.push_key(&mut key);
        key
    }

    /// Words up to the last that is not 0.
    pub fn words(&self) -> usize {
        NUMBER_WORDS - self.0.iter().rev().take_while(|&&word| word == 0).count()
    }

    /// Bytes up to the last that is not 0.
    pub fn bytes(&self) -> usize {
        match self.words() {
            0 => 0,
            words => words * 8 - self.0[words - 1].trailing_zeros() as usize / 8,
        }
    }

    /// Bytes that both begin with, at most 64.
    pub fn common(&self, other: &Self) -> usize {
        let differs = self.0.iter().zip(&other.0).position(|(a, b)| a != b);
        let Some(word) = differs else { return KEY_MAX };
        word * 8 + (self.0[word] ^ other.0[word]).leading_zeros() as usize / 8
    }

    /// The first `bytes` bytes, zeros behind.
    pub fn truncated(&self, bytes: usize) -> Self {
        let mut words = self.0;
        for (at, word) in words.iter_mut().enumerate() {
            let keep = bytes.saturating_sub(at * 8);
            if keep < 8 {
                *word &= !(u64::MAX >> (keep * 8));
            }
        }
        Self(words)
    }

    /// The 8 bytes from byte `at` on.
    pub fn head(&self, at: usize) -> u64 {
        let word = |index: usize| self.0.get(index).copied().unwrap_or(0);
        let shift = at % 8 * 8;
        word(at / 8) << shift | word(at / 8 + 1) >> 1 >> (63 - shift)
    }

    /// The least number above all that begin with this one's first `bytes` bytes, or more of them if those
    /// are the last there are.
    pub fn after(&self, bytes: usize) -> Self {
        for bytes in bytes.clamp(1, NUMBER_BYTES)..=NUMBER_BYTES {
            let mut words = self.truncated(bytes).0;
            let (word, shift) = ((bytes - 1) / 8, 56 - (bytes - 1) % 8 * 8);
            let (sum, mut carry) = words[word].overflowing_add(1 << shift);
            words[word] = sum;
            for word in words[..word].iter_mut().rev() {
                let (sum, overflow) = word.overflowing_add(u64::from(carry));
                (*word, carry) = (sum, overflow);
            }
            if !carry {
                return Self(words);
            }
        }
        unreachable!("the last byte of a key's number is at most {KEY_MAX}")
    }

    /// The shortest number above `left` that is not above `right`.
    pub fn between(left: &Self, right: &Self) -> Self {
        debug_assert!(left < right);
        right.truncated(left.common(right) + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0u8), Just(255), Just(b'a'), any::<u8>()];
        prop::collection::vec(byte, 0..=KEY_MAX)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn numbers_are_ordered_as_keys(a in key(), b in key(), cut in 0..=KEY_MAX) {
            let (x, y) = (Number::of_key(&a), Number::of_key(&b));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.key(), a.clone());
            // A key and one that begins with it.
            let short = &a[..cut.min(a.len())];
            prop_assert_eq!(Number::of_key(short).cmp(&x), short.cmp(&a[..]));
        }

        #[test]
        fn separators_separate_and_bounds_bound(a in key(), b in key(), keep in 0..80usize) {
            prop_assume!(a != b);
            let (left, right) = (Number::of_key(&a).min(Number::of_key(&b)), Number::of_key(&a).max(Number::of_key(&b)));
            let separator = Number::between(&left, &right);
            prop_assert!(left < separator && separator <= right);
            prop_assert!(separator.truncated(separator.bytes().saturating_sub(1)) <= left);
            prop_assert!(left.after(keep) > left);
            prop_assert!(left.truncated(keep) <= left);
            prop_assert!(left.truncated(keep).bytes() <= keep);
            prop_assert!(left.words() * 8 >= left.bytes() && left.words() * 8 < left.bytes() + 8);
        }

        #[test]
        fn heads_are_the_bytes_at_a_place(a in key(), at in 0..=KEY_MAX) {
            let mut bytes = a.clone();
            bytes.resize(KEY_MAX, 0);
            bytes.push(a.len() as u8);
            bytes.resize(KEY_MAX + 80, 0);
            let expected = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            prop_assert_eq!(Number::of_key(&a).head(at), expected);
        }
    }
}
