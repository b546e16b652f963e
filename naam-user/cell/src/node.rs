//! Nodes as the owner handles them: decoded, changed, encoded anew.

use naam_handlers::cell::layout::{
    Child, FENCES_AT, INLINE_MAX, Item, LINES, META_AT, Meta, NODE_WORDS, NUMBER_WORDS, NodePtr, ValuePtr, line_check,
    rest_words, stored_check,
};

use crate::CellError;
use crate::number::Number;

/// Words of a node as they stand in the region.
pub type Frame = [u64; NODE_WORDS];

/// What a slot stands for.
pub trait Entry: Copy {
    /// Whether it stands in leaves.
    const LEAF: bool;
    /// What the node is sorted by.
    fn number(&self) -> Number;
    /// The fence between two neighbours.
    fn boundary(left: &Self, right: &Self) -> Number;
    /// Words of its record, in a node that skips `skip` bytes.
    fn record_words(&self, skip: usize, is_first: bool) -> usize;
    /// Puts its record to word `at`; head and info.
    fn put(&self, frame: &mut Frame, at: usize, skip: usize, is_first: bool) -> (u64, u64);
    /// Takes it out of a node whose first bytes are those of `low`.
    fn take(frame: &Frame, meta: Meta, low: &Number, slot: usize) -> Option<Self>;
}

/// A value as a leaf knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// In the leaf.
    Inline {
        /// Bytes.
        len: u16,
        /// As they are, padded with zeros.
        words: [u64; INLINE_MAX / 8],
    },
    /// In a block.
    Block {
        /// Bytes.
        len: u16,
        /// Where.
        block: ValuePtr,
    },
}

impl Value {
    /// A value of at most [`INLINE_MAX`] bytes.
    pub fn inline(bytes: &[u8]) -> Self {
        let mut words = [0; INLINE_MAX / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks(8)) {
            *word = padded(bytes);
        }
        Self::Inline { len: bytes.len() as u16, words }
    }

    fn item(&self, at: usize, key_len: usize) -> Item {
        match *self {
            Self::Inline { len, .. } => Item::new(at, key_len, len.into(), false),
            Self::Block { len, .. } => Item::new(at, key_len, len.into(), true),
        }
    }
}

/// Up to 8 bytes as a word.
pub fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// A key and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Number,
    /// The value.
    pub value: Value,
}

impl Entry for Pair {
    const LEAF: bool = true;

    fn number(&self) -> Number {
        self.key
    }

    fn boundary(left: &Self, right: &Self) -> Number {
        Number::between(&left.key, &right.key)
    }

    fn record_words(&self, skip: usize, _: bool) -> usize {
        let item = self.value.item(0, self.key.key_len());
        (item.rest_words(skip as u64) + item.inline_words()) as usize
    }

    fn put(&self, frame: &mut Frame, at: usize, skip: usize, _: bool) -> (u64, u64) {
        let item = self.value.item(at, self.key.key_len());
        let rest = item.rest_words(skip as u64) as usize;
        for i in 0..rest {
            frame[at + i] = self.key.0[skip / 8 + 1 + i].swap_bytes();
        }
        match &self.value {
            Value::Inline { words, .. } => {
                let words = &words[..item.inline_words() as usize];
                frame[at + rest..at + rest + words.len()].copy_from_slice(words);
            }
            Value::Block { block, .. } => frame[at + rest] = block.0,
        }
        (self.key.head(skip), item.0)
    }

    fn take(frame: &Frame, meta: Meta, low: &Number, slot: usize) -> Option<Self> {
        let slot_at = meta.slots() as usize + slot * 2;
        let (head, item) = (*frame.get(slot_at)?, Item(*frame.get(slot_at + 1)?));
        let before = meta.skip() as usize / 8;
        let key_len = item.key_len() as usize;
        let rest = rest_words(item.key_len(), meta.skip()) as usize;
        let record = frame.get(item.at() as usize..)?;
        let mut key = Number::ZERO;
        key.0.get_mut(..before)?.copy_from_slice(low.0.get(..before)?);
        *key.0.get_mut(before)? = head;
        for i in 0..rest {
            *key.0.get_mut(before + 1 + i)? = record.get(i)?.swap_bytes();
        }
        key.0[NUMBER_WORDS - 1] = (key_len as u64) << 56;
        let values = record.get(rest..rest + item.inline_words() as usize)?;
        let len = item.value_len() as u16;
        let value = if item.is_block() {
            Value::Block { len, block: ValuePtr(*values.first()?) }
        } else {
            let mut words = [0; INLINE_MAX / 8];
            words.get_mut(..values.len())?.copy_from_slice(values);
            Value::Inline { len, words }
        };
        Some(Self { key, value })
    }
}

/// A separator and the child behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The least number that can be below the child.
    pub from: Number,
    /// The child.
    pub node: NodePtr,
}

impl Branch {
    fn rest_words(&self, skip: usize, is_first: bool) -> usize {
        if is_first { 0 } else { self.from.bytes().saturating_sub(skip + 8).div_ceil(8) }
    }
}

impl Entry for Branch {
    const LEAF: bool = false;

    fn number(&self) -> Number {
        self.from
    }

    fn boundary(_: &Self, right: &Self) -> Number {
        right.from
    }

    fn record_words(&self, skip: usize, is_first: bool) -> usize {
        self.rest_words(skip, is_first)
    }

    fn put(&self, frame: &mut Frame, at: usize, skip: usize, is_first: bool) -> (u64, u64) {
        let rest = self.rest_words(skip, is_first);
        for i in 0..rest {
            frame[at + i] = self.from.head(skip + 8 + i * 8).swap_bytes();
        }
        let head = if is_first { 0 } else { self.from.head(skip) };
        (head, Child::new(self.node, at, rest).0)
    }

    fn take(frame: &Frame, meta: Meta, low: &Number, slot: usize) -> Option<Self> {
        let slot_at = meta.slots() as usize + slot * 2;
        let (head, child) = (*frame.get(slot_at)?, Child(*frame.get(slot_at + 1)?));
        if slot == 0 {
            return Some(Self { from: *low, node: child.node() });
        }
        let mut from = low.truncated(meta.skip() as usize);
        let mut put = |at: usize, bytes: u64| {
            let shift = at % 8 * 8;
            from.0.get_mut(at / 8).map(|word| *word |= bytes >> shift)?;
            // Behind the last word a number has nothing but zeros.
            if let Some(word) = from.0.get_mut(at / 8 + 1) {
                *word |= bytes << 1 << (63 - shift);
            }
            Some(())
        };
        let skip = meta.skip() as usize;
        put(skip, head)?;
        for i in 0..child.rest_words() as usize {
            put(skip + 8 + i * 8, frame.get(child.rest_at() as usize + i)?.swap_bytes())?;
        }
        Some(Self { from, node: child.node() })
    }
}

/// A node that can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<E> {
    /// Above the leaves.
    pub level: u32,
    /// No key below it is less.
    pub low: Number,
    /// All keys below it are less, if there is a bound.
    pub high: Option<Number>,
    /// Sorted.
    pub entries: Vec<E>,
}

/// Bytes that all numbers between two fences begin with, as far as heads leave them out.
fn skip<E: Entry>(low: &Number, high: Option<&Number>) -> usize {
    let common = high.map_or(0, |high| low.common(high));
    if E::LEAF { common & !7 } else { common }
}

/// Words that `entries` take between two fences.
pub fn size<E: Entry>(entries: &[E], low: &Number, high: Option<&Number>) -> usize {
    let skip = skip::<E>(low, high);
    let header = Meta::new(0, 0, low.words(), high.map_or(0, Number::words), 0).slots() as usize;
    let words = |(at, entry): (usize, &E)| 2 + entry.record_words(skip, at == 0);
    header + entries.iter().enumerate().map(words).sum::<usize>()
}

impl<E: Entry> Node<E> {
    /// Words that the node takes; it fits if they are at most [`NODE_WORDS`].
    pub fn size(&self) -> usize {
        size(&self.entries, &self.low, self.high.as_ref())
    }

    /// The node as words for the place `ptr`, which it fits.
    pub fn encode(&self, ptr: NodePtr) -> Frame {
        let mut frame = [0; NODE_WORDS];
        let skip = skip::<E>(&self.low, self.high.as_ref());
        let low = &self.low.0[..self.low.words()];
        let high = self.high.as_ref().map_or(&[][..], |high| &high.0[..high.words()]);
        let meta = Meta::new(self.entries.len(), skip, low.len(), high.len(), self.level);
        frame[META_AT] = meta.0;
        frame[FENCES_AT..FENCES_AT + low.len()].copy_from_slice(low);
        frame[FENCES_AT + low.len()..FENCES_AT + low.len() + high.len()].copy_from_slice(high);
        let slots = meta.slots() as usize;
        let mut at = slots + self.entries.len() * 2;
        for (slot, entry) in self.entries.iter().enumerate() {
            let words = entry.record_words(skip, slot == 0);
            let (head, info) = entry.put(&mut frame, if words == 0 { 0 } else { at }, skip, slot == 0);
            frame[slots + slot * 2] = head;
            frame[slots + slot * 2 + 1] = info;
            at += words;
        }
        seal(&mut frame, ptr);
        frame
    }

    /// The node that `ptr` names, if the words are that node's.
    ///
    /// # Errors
    /// [`CellError::Damaged`]
    pub fn decode(frame: &Frame, ptr: NodePtr, level: u32) -> Result<Self, CellError> {
        let damaged = |what| CellError::Damaged { what, offset: ptr.offset() };
        if !(1..LINES).all(|line| line_check(frame, line, ptr.seed()) == stored_check(frame, line)) {
            return Err(damaged("a line whose check differs"));
        }
        let meta = Meta(frame[META_AT]);
        if meta.level() != u64::from(level) {
            return Err(damaged("a node of another level"));
        }
        let decode = || {
            let number = |at: usize, words: u64| {
                let mut number = Number::ZERO;
                number.0.get_mut(..words as usize)?.copy_from_slice(frame.get(at..at + words as usize)?);
                Some(number)
            };
            let low = number(FENCES_AT, meta.low_words())?;
            let high = number(FENCES_AT + meta.low_words() as usize, meta.high_words())?;
            let entries = (0..meta.count() as usize).map(|slot| E::take(frame, meta, &low, slot));
            let entries = entries.collect::<Option<Vec<E>>>()?;
            Some(Self { level, low, high: (meta.high_words() != 0).then_some(high), entries })
        };
        decode().ok_or_else(|| damaged("a node whose fields contradict each other"))
    }
}

/// Puts generation and checks into a node for the place `ptr`.
fn seal(frame: &mut Frame, ptr: NodePtr) {
    let seed = ptr.seed();
    frame[0] = u64::from(ptr.generation());
    for line in 1..LINES {
        let check = u64::from(line_check(frame, line, seed));
        frame[line / 2] |= check << (line % 2 * 32);
    }
}

/// The level that a node says it has.
pub fn level(frame: &Frame) -> u32 {
    Meta(frame[META_AT]).level() as u32
}
