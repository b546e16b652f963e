//! The tree's memory, word by word. All numbers are little-endian.
//!
//! A region is cut into *frames* of 1,024 bytes, which never straddle two map values, and these into
//! *extents* of 64 MiB (one smaller extent in a smaller region). Frame 0 of every extent is its header:
//!
//! | word | |
//! |---|---|
//! | 0 | [`MAGIC`] |
//! | 1 | in extent 0: the [`Root`] word; else 0 |
//! | 2 | number of the extent << 32, version of the layout ([`VERSION`]) |
//! | 3 | bytes of the region |
//!
//! Any other frame is a node, or holds blocks of values, or is free.
//!
//! **Keys as numbers.** A key is the number of 65 bytes whose first 64 are the key's, padded with
//! zeros, and whose last is its length: numbers are ordered as the byte strings are. Words of such
//! numbers, here [`NUMBER_WORDS`] of 8 bytes with zeros behind, are stored most significant first.
//!
//! **Nodes.** 16 lines of 64 bytes.
//!
//! | word | |
//! |---|---|
//! | 0–7 | half-words: the node's generation, then the checks of lines 1 to 15 |
//! | 8 | [`Meta`] |
//! | 9… | low fence: the first `low_words` words of a number, zeros behind |
//! | … | high fence, likewise; no words: there is no upper bound |
//! | `slots`… | `count` slots of two words, sorted: *head* and *info*; `slots` is even |
//! | … | records |
//!
//! All keys below a node have low fence ≤ key < high fence, so they share the first `skip` bytes; a
//! slot's head is the 8 bytes behind those. A slot of an inner node stands for a separator (truncated to
//! what tells its two neighbours apart) and the child with the keys from there on; the first slot's
//! separator is the low fence, its head 0. See [`Child`] and [`Item`] for infos and records.
//!
//! **Blocks of values** have 1 to 4 quarters of a frame. Word 0: check of the words behind and the length
//! in its upper half, the generation in its lower; the value from word 1 on; then zeros to a multiple of 32 bytes.
//!
//! **Generations.** Whatever is written belongs to one publication; its number is the generation of
//! all that it writes, or the number behind it where a place had that very number before, as may be 2^32
//! publications later: numbers come round, and tell no order. A pointer holds the generation of what it points to, and each check includes
//! generation and place: a reader that was overtaken by reuse finds checks that do not fit.

use crate::mica::hash::{Lanes, round};

/// The region that holds the tree.
pub const REGION: u32 = 0;
/// Bytes of a node, and of every frame.
pub const NODE_BYTES: u64 = 1024;
/// Words of a node.
pub const NODE_WORDS: usize = 128;
/// Words of a line.
pub const LINE_WORDS: usize = 8;
/// Lines of a node.
pub const LINES: usize = NODE_WORDS / LINE_WORDS;
/// Bytes of an extent.
pub const EXTENT_BYTES: u64 = 64 << 20;
/// Bytes of a quarter of a frame: the unit of blocks of values.
pub const QUARTER_BYTES: u64 = NODE_BYTES / 4;
/// First word of an extent's header: `NAAMCELL`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"NAAMCELL");
/// Version of the layout.
pub const VERSION: u64 = 1;
/// Byte offset of the root word.
pub const ROOT_AT: u64 = 8;
/// Byte offset of the version, above which the header of extent 0 has its number, 0.
pub const VERSION_AT: u64 = 16;
/// Words of a number.
pub const NUMBER_WORDS: usize = 9;
/// Where a node's meta word stands.
pub const META_AT: usize = 8;
/// Where a node's low fence begins.
pub const FENCES_AT: usize = 9;
/// Most slots of a node.
pub const SLOTS_MAX: usize = (NODE_WORDS - FENCES_AT) / 2;
/// Longest value that stands in its leaf.
pub const INLINE_MAX: usize = 128;
/// Levels of the highest tree.
pub const HEIGHT_MAX: u32 = 12;

const INDEX_BITS: u32 = 22;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u64 = 0xffff_ffff << 32;

/// A node and its generation: bits 0–21 number of the frame, 32–63 generation. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodePtr(pub u64);

impl NodePtr {
    /// The node in frame `index`, written by publication `generation`.
    pub const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// Number of its frame.
    #[inline(always)]
    pub const fn index(self) -> u64 {
        self.0 & INDEX_MASK
    }

    /// Its generation.
    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Byte offset.
    #[inline(always)]
    pub const fn offset(self) -> u64 {
        self.index() * NODE_BYTES
    }

    /// What its checks begin with.
    #[inline(always)]
    pub const fn seed(self) -> u64 {
        round(self.0, 1)
    }
}

/// The root word: a [`NodePtr`] and in bits 24–31 the tree's height in levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// A tree of `height` levels.
    pub const fn new(node: NodePtr, height: u32) -> Self {
        Self(node.0 | (height as u64) << 24)
    }

    /// The root node.
    #[inline(always)]
    pub const fn node(self) -> NodePtr {
        NodePtr(self.0 & (GENERATION_MASK | INDEX_MASK))
    }

    /// Levels, leaves included.
    pub const fn height(self) -> u32 {
        (self.0 >> 24) as u32 & 0xff
    }
}

/// Word 8 of a node: bits 0–7 slots in use, 8–15 skip, 16–19 words of the low fence, 20–23 of the high
/// fence, 24–31 word of the first slot, 32–39 level (0 is a leaf).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta(pub u64);

impl Meta {
    /// Puts the fields together.
    pub const fn new(count: usize, skip: usize, low_words: usize, high_words: usize, level: u32) -> Self {
        let slots = (FENCES_AT + low_words + high_words).next_multiple_of(2);
        Self(
            count as u64
                | (skip as u64) << 8
                | (low_words as u64) << 16
                | (high_words as u64) << 20
                | (slots as u64) << 24
                | (level as u64) << 32,
        )
    }

    /// Slots in use.
    #[inline(always)]
    pub const fn count(self) -> u64 {
        self.0 & 0xff
    }

    /// Bytes that all numbers below share and heads leave out; a multiple of 8 in a leaf.
    #[inline(always)]
    pub const fn skip(self) -> u64 {
        self.0 >> 8 & 0xff
    }

    /// Words of the low fence.
    #[inline(always)]
    pub const fn low_words(self) -> u64 {
        self.0 >> 16 & 15
    }

    /// Words of the high fence; 0: there is none.
    #[inline(always)]
    pub const fn high_words(self) -> u64 {
        self.0 >> 20 & 15
    }

    /// Word of the first slot.
    #[inline(always)]
    pub const fn slots(self) -> u64 {
        self.0 >> 24 & 0xff
    }

    /// Level above the leaves.
    #[inline(always)]
    pub const fn level(self) -> u64 {
        self.0 >> 32 & 0xff
    }
}

/// Info of an inner node's slot: a [`NodePtr`]; bits 22–24 words of the separator's rest less 1, bits
/// 25–31 the word where that rest stands, 0: the head is the whole separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child(pub u64);

impl Child {
    /// A child whose separator has `rest_words` words behind the head, at word `at`.
    pub const fn new(node: NodePtr, at: usize, rest_words: usize) -> Self {
        if rest_words == 0 {
            return Self(node.0);
        }
        Self(node.0 | (rest_words as u64 - 1) << INDEX_BITS | (at as u64) << 25)
    }

    /// The child.
    #[inline(always)]
    pub const fn node(self) -> NodePtr {
        NodePtr(self.0 & (GENERATION_MASK | INDEX_MASK))
    }

    /// Where the separator goes on; 0: nowhere.
    #[inline(always)]
    pub const fn rest_at(self) -> u64 {
        self.0 >> 25 & 127
    }

    /// In how many words.
    #[inline(always)]
    pub const fn rest_words(self) -> u64 {
        if self.rest_at() == 0 { 0 } else { (self.0 >> INDEX_BITS & 7) + 1 }
    }
}

/// Info of a leaf's slot: bits 0–6 bytes of the key, 8–14 word of the record, 16–25 bytes of the value,
/// 26 whether the value stands in a block of its own.
///
/// The record: the key's words behind the head, then the value's words, both as the bytes are; or
/// the value's [`ValuePtr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item(pub u64);

impl Item {
    /// Puts the fields together.
    pub const fn new(at: usize, key_len: usize, value_len: usize, is_block: bool) -> Self {
        Self(key_len as u64 | (at as u64) << 8 | (value_len as u64) << 16 | (is_block as u64) << 26)
    }

    /// Word of the record.
    #[inline(always)]
    pub const fn at(self) -> u64 {
        self.0 >> 8 & 127
    }

    /// Bytes of the key.
    #[inline(always)]
    pub const fn key_len(self) -> u64 {
        self.0 & 127
    }

    /// Bytes of the value.
    #[inline(always)]
    pub const fn value_len(self) -> u64 {
        self.0 >> 16 & 0x3ff
    }

    /// Both lengths, in bits 0–15 and 16–31.
    #[inline(always)]
    pub const fn lengths(self) -> u64 {
        self.0 & (0x3ff << 16 | 127)
    }

    /// Whether the value stands in a block.
    #[inline(always)]
    pub const fn is_block(self) -> bool {
        self.0 >> 26 & 1 != 0
    }

    /// Words that the value has in the leaf.
    #[inline(always)]
    pub const fn inline_words(self) -> u64 {
        if self.is_block() { 1 } else { self.value_len().div_ceil(8) }
    }

    /// Words of the record's key, in a leaf that skips `skip` bytes.
    #[inline(always)]
    pub const fn rest_words(self, skip: u64) -> u64 {
        rest_words(self.key_len(), skip)
    }
}

/// Words of a key of `key_len` bytes behind its head, in a leaf that skips `skip` bytes.
#[inline(always)]
pub const fn rest_words(key_len: u64, skip: u64) -> u64 {
    key_len.div_ceil(8).saturating_sub(skip / 8 + 1)
}

/// A block of a value: bits 0–23 number of its first quarter, 24–26 quarters, 32–63 generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValuePtr(pub u64);

impl ValuePtr {
    /// A block of `quarters` quarters.
    pub const fn new(first: u32, quarters: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | (quarters as u64) << 24 | first as u64)
    }

    /// Number of its first quarter.
    #[inline(always)]
    pub const fn first(self) -> u64 {
        self.0 & 0xff_ffff
    }

    /// Its quarters.
    #[inline(always)]
    pub const fn quarters(self) -> u64 {
        self.0 >> 24 & 7
    }

    /// Its generation.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Byte offset.
    #[inline(always)]
    pub const fn offset(self) -> u64 {
        self.first() * QUARTER_BYTES
    }

    /// The check at work, before the block's first four words; word 0 counts as 0.
    #[inline(always)]
    pub fn lanes(self, value_len: u64) -> Lanes {
        let mut lanes = Lanes::START;
        lanes.take([self.0, value_len, 0, 0]);
        lanes
    }
}

/// Words of a value's block that count: header and value, padded to 4 words.
#[inline(always)]
pub const fn block_words(value_len: u64) -> u64 {
    (1 + value_len.div_ceil(8)).next_multiple_of(4)
}

/// The check of a line: of its words, its number, and the node's place and generation.
///
/// Every round is one-to-one in both of its inputs, so a line of which one word differs has
/// another 64-bit state; 32 bits of it are kept.
#[inline(always)]
pub fn line_check(words: &[u64; NODE_WORDS], line: usize, seed: u64) -> u32 {
    let at = line * LINE_WORDS;
    let mut even = seed.wrapping_add(line as u64);
    let mut odd = !even;
    even = round(even, words[at]);
    odd = round(odd, words[at + 1]);
    even = round(even, words[at + 2]);
    odd = round(odd, words[at + 3]);
    even = round(even, words[at + 4]);
    odd = round(odd, words[at + 5]);
    even = round(even, words[at + 6]);
    odd = round(odd, words[at + 7]);
    (round(round(even, 0), odd) >> 32) as u32
}

/// The check that the node holds for a line.
#[inline(always)]
pub fn stored_check(words: &[u64; NODE_WORDS], line: usize) -> u32 {
    (words[line / 2 % LINE_WORDS] >> (line % 2 * 32)) as u32
}

const _: () = {
    use naam_abi::limits::{REGION_BYTES_MAX, REGION_VALUE_MAX, VIEW_LARGE};
    assert!(NODE_BYTES as usize == VIEW_LARGE && NODE_WORDS * 8 == VIEW_LARGE);
    assert!(REGION_VALUE_MAX.is_multiple_of(EXTENT_BYTES));
    assert!(REGION_BYTES_MAX / NODE_BYTES <= 1 << INDEX_BITS);
    assert!(REGION_BYTES_MAX / QUARTER_BYTES <= 1 << 24);
    assert!(block_words(super::VALUE_MAX as u64) * 8 <= NODE_BYTES);
    assert!(NUMBER_WORDS * 8 > super::KEY_MAX && NUMBER_WORDS < 16);
    assert!(SLOTS_MAX < 64);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_word_place_or_generation_changes_a_check() {
        let words: [u64; NODE_WORDS] = std::array::from_fn(|i| (i as u64).wrapping_mul(0x0101_0101_0101));
        let node = NodePtr::new(77, 9);
        let check = line_check(&words, 3, node.seed());
        assert_ne!(check, line_check(&words, 4, node.seed()));
        assert_ne!(check, line_check(&words, 3, NodePtr::new(78, 9).seed()));
        assert_ne!(check, line_check(&words, 3, NodePtr::new(77, 10).seed()));
        for word in 24..32 {
            for bit in 0..64 {
                let mut other = words;
                other[word] ^= 1 << bit;
                assert_ne!(check, line_check(&other, 3, node.seed()), "bit {bit} of word {word}");
            }
        }
    }

    #[test]
    fn changes_of_two_words_do_not_cancel_out() {
        let words = [0u64; NODE_WORDS];
        let check = line_check(&words, 1, 5);
        for (first, second) in (8..16).flat_map(|a| (a + 1..16).map(move |b| (a, b))) {
            for bit in 0..64 {
                let mut other = words;
                other[first] ^= 1 << bit;
                other[second] ^= 1 << bit;
                assert_ne!(check, line_check(&other, 1, 5), "bit {bit} of words {first} and {second}");
            }
        }
    }

    #[test]
    fn fields_do_not_touch_each_other() {
        let node = NodePtr::new(INDEX_MASK as u32, u32::MAX);
        let child = Child::new(node, 127, 8);
        assert_eq!((child.node(), child.rest_at(), child.rest_words()), (node, 127, 8));
        assert_eq!((Child::new(node, 0, 0).node(), Child::new(node, 0, 0).rest_words()), (node, 0));
        let root = Root::new(node, 255);
        assert_eq!((root.node(), root.height()), (node, 255));
        let item = Item::new(127, 64, 1000, true);
        assert_eq!((item.at(), item.key_len(), item.value_len(), item.is_block()), (127, 64, 1000, true));
        assert_eq!((item.rest_words(0), item.rest_words(64), Item::new(0, 3, 0, false).rest_words(0)), (7, 0, 0));
        let value = ValuePtr::new(0xff_ffff, 4, u32::MAX);
        assert_eq!((value.first(), value.quarters(), value.generation()), (0xff_ffff, 4, u32::MAX));
        let meta = Meta::new(59, 64, 9, 9, 12);
        assert_eq!((meta.count(), meta.skip(), meta.low_words(), meta.high_words()), (59, 64, 9, 9));
        assert_eq!((meta.slots(), meta.level()), (28, 12));
    }
}
