//! SipHash-2-4 with a 64-bit result, fed by 64-bit little-endian words.
//!
//! Datagrams are whole words long, so the last block holds nothing but the length byte. The shell
//! runs the same rounds over packet words; see `wire` for what the tag covers.

/// A key of 128 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Key {
    /// First 64 bits, little-endian.
    pub k0: u64,
    /// Last 64 bits, little-endian.
    pub k1: u64,
}

/// The key of `auth = none`: everybody knows it, so the tag proves integrity and nothing else.
pub const PUBLIC_KEY: Key = Key { k0: 0x6e61_616d_2d70_7562, k1: 0x6c69_632d_6b65_7931 };

/// The running state.
#[derive(Clone, Copy, Debug)]
pub struct SipHash {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipHash {
    /// A state that has seen nothing.
    #[inline(always)]
    pub const fn new(key: Key) -> Self {
        Self {
            v0: key.k0 ^ 0x736f_6d65_7073_6575,
            v1: key.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: key.k0 ^ 0x6c79_6765_6e65_7261,
            v3: key.k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    const fn round(mut self) -> Self {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
        self
    }

    /// Adds one word.
    #[inline(always)]
    #[must_use]
    pub const fn word(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round().round();
        self.v0 ^= word;
        self
    }

    /// The hash of `bytes` bytes (a multiple of 8) already added.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self, bytes: usize) -> u64 {
        let mut end = self.word((bytes as u64) << 56);
        end.v2 ^= 0xff;
        end = end.round().round().round().round();
        end.v0 ^ end.v1 ^ end.v2 ^ end.v3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation (key 00..0f, message 00 01 02 …) whose length is a
    /// multiple of eight.
    #[test]
    fn agrees_with_the_reference_vectors() {
        let key = Key { k0: 0x0706_0504_0302_0100, k1: 0x0f0e_0d0c_0b0a_0908 };
        let word = |i: u64| u64::from_le_bytes(core::array::from_fn(|b| (i * 8 + b as u64) as u8));
        for (words, expected) in
            [(0, 0x726f_db47_dd0e_0e31_u64), (1, 0x93f5_f579_9a93_2462), (2, 0x3f2a_cc7f_57c2_9bdb)]
        {
            let state = (0..words).fold(SipHash::new(key), |s, i| s.word(word(i)));
            assert_eq!(state.finish(words as usize * 8), expected, "{words} words");
        }
    }
}
