//! The store's memory, word by word. All numbers are little-endian.
//!
//! ```text
//! 0       9,216         9,216 + 64 << log2                          heap end
//! | lines | buckets      | heap: blocks, and buckets of longer chains |
//! ```
//!
//! **Lines.** 18 rows of 8 lines of 64 bytes. Row 0: the geometry word at byte 0, the heap's *mark* at
//! byte 64: where the part of the heap begins that was never used. Rows 1 to 17 belong to the block
//! sizes: word 0 of a line is a copy of the geometry word, words 1 to 7 are heads of lists of free
//! blocks. A key's hash says which of the 56 lists its blocks come from and go to, so that the
//! messages of a datagram, which run side by side, seldom want the same word.
//!
//! **Buckets.** Word 0: block number of the chain's next bucket, 0 if this is the last; words 1 to 7:
//! [`Entry`] words, 0 if empty.
//!
//! **Blocks.** `class` × 64 bytes, from 64 to 1,088. An item:
//!
//! | word | |
//! |---|---|
//! | 0 | generation (20 bits), zeros (12), value length (16), key length (16) |
//! | 1 | version, different after each change of the key's value |
//! | 2 | checksum of all other words |
//! | 3… | value, padded with zeros to a word |
//! | … | key, padded likewise; then zeros to a multiple of 32 bytes |
//!
//! A free block keeps its item; but word 1 is the next block's [`Block`] word if the list goes on.
//!
//! **A cache** has no lists of free blocks and no longer chains. The heap is a ring: its mark goes
//! round, a block's generation is the number of its lap, and what lies ahead of the mark is lost. In a
//! full bucket the oldest entry makes way.

use naam_abi::limits::{REGION_BYTES_MAX, REGION_VALUE_MAX};

use super::{KEY_MAX, VALUE_MAX};

/// The region that holds the store.
pub const REGION: u32 = 0;
/// Bytes of a line, a bucket, and the unit of blocks.
pub const LINE_BYTES: u64 = 64;
/// Lines of a row.
pub const LINES: u64 = 8;
/// Largest block size in lines; sizes count from 1.
pub const CLASS_MAX: u64 = 17;
/// Byte offset of the heap's mark.
pub const MARK: u64 = LINE_BYTES;
/// Byte offset of the first bucket.
pub const BUCKETS: u64 = (1 + CLASS_MAX) * LINES * LINE_BYTES;
/// Entries of a bucket.
pub const SLOTS: u64 = 7;
/// Buckets of a chain.
pub const CHAIN_MAX: u64 = 4;
/// Words of an item before its value.
pub const ITEM_HEADER_WORDS: u64 = 3;
/// Most words of an item.
pub const ITEM_WORDS_MAX: u64 = item_words(KEY_MAX as u64, VALUE_MAX as u64);

/// Words of an item, without the zeros behind the key.
#[inline(always)]
pub const fn item_words(key_len: u64, value_len: u64) -> u64 {
    ITEM_HEADER_WORDS + value_len.div_ceil(8) + key_len.div_ceil(8)
}

/// Size class of the blocks for items of `words` words.
#[inline(always)]
pub const fn class_of(words: u64) -> u64 {
    words.div_ceil(LINE_BYTES / 8)
}

/// Byte offset of a line; `row` is a class.
#[inline(always)]
pub const fn line(row: u64, line: u64) -> u64 {
    (row * LINES + line % LINES) * LINE_BYTES
}

/// Which line of every row, and which of its heads (1 to 7), belong to `hash`.
#[inline(always)]
pub const fn list_of(hash: u64) -> (u64, u64) {
    (hash >> 40 & (LINES - 1), 1 + (((hash >> 43 & 0xff) * SLOTS) >> 8))
}

/// A block and its generation: bits 0–25 offset / 64, 26–30 class, 31–50 generation. Bit 51 in a list
/// of free blocks: the block's word 1 names another. 0 is no block.
///
/// The generation grows each time a block is taken, so that a word never means two things, unless
/// one message saw a million others use the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block(pub u64);

const NUMBER_BITS: u32 = 26;
const CLASS_SHIFT: u32 = NUMBER_BITS;
const GENERATION_SHIFT: u32 = CLASS_SHIFT + 5;
const GENERATION_BITS: u32 = 20;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;
const BLOCK_BITS: u32 = GENERATION_SHIFT + GENERATION_BITS;
const BLOCK_MASK: u64 = (1 << BLOCK_BITS) - 1;

impl Block {
    /// No block.
    pub const NONE: Self = Self(0);

    /// The block at byte `offset`.
    #[inline(always)]
    pub const fn new(offset: u64, class: u64, generation: u64) -> Self {
        Self((offset / LINE_BYTES) | (class << CLASS_SHIFT) | ((generation & GENERATION_MASK) << GENERATION_SHIFT))
    }

    /// Byte offset.
    #[inline(always)]
    pub const fn offset(self) -> u64 {
        (self.0 & ((1 << NUMBER_BITS) - 1)) * LINE_BYTES
    }

    /// Offset / 64: what links a chain.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }

    /// Size in lines; up to 31 if memory is damaged.
    #[inline(always)]
    pub const fn class(self) -> u64 {
        self.0 >> CLASS_SHIFT & 31
    }

    /// The generation.
    #[inline(always)]
    pub const fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT & GENERATION_MASK
    }

    /// The block as the next to take it names it.
    #[inline(always)]
    pub const fn taken(self) -> Self {
        let generation = ((self.0 >> GENERATION_SHIFT) + 1) & GENERATION_MASK;
        Self(self.0 & ((1 << GENERATION_SHIFT) - 1) | generation << GENERATION_SHIFT)
    }

    /// In a cache: how far `self` was taken from the heap behind `other`, in lines. Generations count
    /// the heap's laps there.
    #[inline(always)]
    pub const fn lines_behind(self, other: Self) -> u64 {
        const MASK: u64 = (1 << (NUMBER_BITS + GENERATION_BITS)) - 1;
        let place = (self.generation() << NUMBER_BITS) | self.number();
        let other = (other.generation() << NUMBER_BITS) | other.number();
        place.wrapping_sub(other) & MASK
    }

    /// Whether the list of free blocks goes on behind this one.
    #[inline(always)]
    pub const fn has_next(self) -> bool {
        self.0 & Self::HAS_NEXT != 0
    }

    /// See [`Self::has_next`].
    pub const HAS_NEXT: u64 = 1 << BLOCK_BITS;
}

/// An entry of a bucket: a [`Block`] word, bit 51 *tentative*, bits 52–63 the tag. 0 is empty; entries
/// have a tag other than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// The slot is empty.
    pub const EMPTY: Self = Self(0);
    /// The entry is being made and does not count yet.
    pub const TENTATIVE: u64 = 1 << BLOCK_BITS;
    /// The tag's bits.
    pub const TAG: u64 = !0 << (BLOCK_BITS + 1);

    /// The tag of keys with this hash, in its place.
    #[inline(always)]
    pub const fn tag_of(hash: u64) -> u64 {
        const LOWEST: u64 = 1 << (BLOCK_BITS + 1);
        let tag = hash & Self::TAG;
        if tag == 0 { LOWEST } else { tag }
    }

    /// The item's block.
    #[inline(always)]
    pub const fn block(self) -> Block {
        Block(self.0 & BLOCK_MASK)
    }

    /// Whether it does not count yet.
    #[inline(always)]
    pub const fn is_tentative(self) -> bool {
        self.0 & Self::TENTATIVE != 0
    }
}

/// Word 0 of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemHeader(pub u64);

const ITEM_GENERATION_SHIFT: u32 = 64 - GENERATION_BITS;

impl ItemHeader {
    /// An item's header.
    #[inline(always)]
    pub const fn new(generation: u64, key_len: u64, value_len: u64) -> Self {
        Self(generation << ITEM_GENERATION_SHIFT | value_len << 16 | key_len)
    }

    /// The generation of its block.
    #[inline(always)]
    pub const fn generation(self) -> u64 {
        self.0 >> ITEM_GENERATION_SHIFT
    }

    /// Bytes of the key, 1 to 64.
    #[inline(always)]
    pub const fn key_len(self) -> u64 {
        self.0 & 0xffff
    }

    /// Bytes of the value, 0 to 1,000.
    #[inline(always)]
    pub const fn value_len(self) -> u64 {
        self.0 >> 16 & 0xffff
    }

    /// Whether an item can have these lengths.
    #[inline(always)]
    pub const fn is_possible(self) -> bool {
        self.key_len() >= 1 && self.key_len() <= KEY_MAX as u64 && self.value_len() <= VALUE_MAX as u64
    }
}

/// Where things are in a store: its geometry word.
///
/// Bits 0–26 heap end / 64, 32–37 log2 of the buckets, 44 whether it is a cache, 48–63
/// [`Geometry::MAGIC`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry(pub u64);

impl Geometry {
    /// Marks a geometry word.
    pub const MAGIC: u64 = 0x4d43;
    const CACHE: u64 = 1 << 44;
    /// Most buckets, as log2.
    pub const LOG2_BUCKETS_MAX: u32 = 25;

    /// Whether the word is a geometry word.
    #[inline(always)]
    pub const fn is_valid(self) -> bool {
        self.0 >> 48 == Self::MAGIC
    }

    /// log2 of the number of buckets.
    #[inline(always)]
    pub const fn log2_buckets(self) -> u64 {
        self.0 >> 32 & 63
    }

    /// The same store as a cache.
    #[must_use]
    pub const fn cache(self) -> Self {
        Self(self.0 | Self::CACHE)
    }

    /// Whether the oldest items make way for new ones.
    #[inline(always)]
    pub const fn is_cache(self) -> bool {
        self.0 & Self::CACHE != 0
    }

    /// Byte offset behind the heap.
    #[inline(always)]
    pub const fn heap_end(self) -> u64 {
        (self.0 & 0x7ff_ffff) * LINE_BYTES
    }

    /// Byte offset of the heap.
    #[inline(always)]
    pub const fn heap_start(self) -> u64 {
        BUCKETS + (LINE_BYTES << self.log2_buckets())
    }

    /// Byte offset of the bucket of keys with this hash.
    #[inline(always)]
    pub const fn home(self, hash: u64) -> u64 {
        home(self.log2_buckets(), hash)
    }
}

/// Byte offset of the bucket of `hash` among `1 << log2_buckets`.
#[inline(always)]
pub const fn home(log2_buckets: u64, hash: u64) -> u64 {
    let mask = (1 << (log2_buckets & 63)) - 1;
    // A client may claim more buckets than an address can name.
    (hash & mask).wrapping_mul(LINE_BYTES).wrapping_add(BUCKETS)
}

/// Why a store cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// The region is no multiple of 64 bytes, or larger than regions are.
    RegionSize {
        /// Its bytes.
        region_bytes: u64,
    },
    /// No block is left behind the buckets.
    NoHeap {
        /// Bytes of the region.
        region_bytes: u64,
        /// log2 of the buckets asked for.
        log2_buckets: u32,
    },
}

impl core::fmt::Display for FormatError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::RegionSize { region_bytes } => write!(
                f,
                "a store cannot fill a region of {region_bytes} bytes: take a multiple of 64, at most {REGION_BYTES_MAX}"
            ),
            Self::NoHeap { region_bytes, log2_buckets } => write!(
                f,
                "a region of {region_bytes} bytes has no room for 2^{log2_buckets} buckets of 64 bytes and items: take a larger region or fewer buckets"
            ),
        }
    }
}

impl core::error::Error for FormatError {}

impl Geometry {
    /// A store in a region of `region_bytes` with `1 << log2_buckets` buckets of 7 entries.
    ///
    /// # Errors
    /// When there is no room for that.
    pub const fn new(region_bytes: u64, log2_buckets: u32) -> Result<Self, FormatError> {
        if !region_bytes.is_multiple_of(LINE_BYTES) || region_bytes > REGION_BYTES_MAX {
            return Err(FormatError::RegionSize { region_bytes });
        }
        let word = Self::MAGIC << 48 | (log2_buckets as u64) << 32 | (region_bytes / LINE_BYTES);
        if log2_buckets > Self::LOG2_BUCKETS_MAX || Self(word).heap_start() + CLASS_MAX * LINE_BYTES > region_bytes {
            return Err(FormatError::NoHeap { region_bytes, log2_buckets });
        }
        Ok(Self(word))
    }

    /// A store whose buckets suit as many items of `key_len` and `value_len` bytes as the region holds.
    /// A bucket then has 2 to 4 of them, and chains hardly ever grow.
    ///
    /// # Errors
    /// When the region is too small for a store.
    pub const fn plan(region_bytes: u64, key_len: u64, value_len: u64) -> Result<Self, FormatError> {
        const ITEMS_PER_BUCKET: u64 = 4;
        let block = class_of(item_words(key_len, value_len)) * LINE_BYTES;
        let items = region_bytes.saturating_sub(BUCKETS) / (block + LINE_BYTES / ITEMS_PER_BUCKET);
        let buckets = items.div_ceil(ITEMS_PER_BUCKET);
        // A power of two may cost a part of the items; half the buckets may fill the chains.
        Self::new(region_bytes, buckets.next_power_of_two().trailing_zeros())
    }

    /// The words that make a region an empty store, as (byte offset, word), in an order in which no
    /// handler takes an unfinished store for one. The heap may hold anything.
    pub fn words(self) -> impl Iterator<Item = (u64, u64)> {
        let unmarked = (0..BUCKETS).step_by(8).map(|at| (at, 0));
        let buckets = (BUCKETS..self.heap_start()).step_by(8).map(|at| (at, 0));
        let mark = core::iter::once((MARK, self.heap_start()));
        let lines = (1..=CLASS_MAX).flat_map(|row| (0..LINES).map(move |number| line(row, number)));
        let geometry = lines.chain(core::iter::once(0)).map(move |at| (at, self.0));
        unmarked.chain(buckets).chain(mark).chain(geometry)
    }

    /// Makes an empty store with `write`, which sets the word at a byte offset.
    pub fn format(self, mut write: impl FnMut(u64, u64)) {
        self.words().for_each(|(at, word)| write(at, word));
    }
}

const _: () = {
    assert!(ITEM_WORDS_MAX == 136);
    assert!(class_of(ITEM_WORDS_MAX) == CLASS_MAX);
    assert!(REGION_BYTES_MAX / LINE_BYTES <= 1 << NUMBER_BITS);
    assert!(REGION_VALUE_MAX.is_power_of_two());
    assert!(BLOCK_BITS == 51);
};
