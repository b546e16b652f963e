//! Steps that both functions share: the way down from the root, and what makes a node believable.
//!
//! A view is a private copy, but of memory that may have been written meanwhile. The search runs over words that
//! nobody has checked; then the lines are checked that prove its outcome: the header (fences, number of
//! slots), and the slots left and right of the key. How the search came there does not matter.

use naam_abi::limits::{STATE_BYTES, STEPS_MAX};
use naam_handler::{Msg, Step, View1k, forget, opaque};

use super::{
    Code, KEY_MAX,
    layout::{
        Child, FENCES_AT, Item, LINE_WORDS, LINES, MAGIC, META_AT, Meta, NODE_BYTES, NODE_WORDS, NUMBER_WORDS, NodePtr,
        REGION, Root, SLOTS_MAX, VERSION, VERSION_AT, line_check, stored_check,
    },
};

/// Bytes of state in use between steps.
pub const STATE_LEN: usize = STATE_BYTES;

/// Words of state.
pub(super) mod state {
    /// Bits 0–7 phase, 8–15 restarts, 16–23 keys in the reply, 24–31 siblings in hand, 32–39 words of the
    /// reply, 40 whether the key itself is excluded.
    pub const PROGRESS: usize = 0;
    /// The tree that the message reads.
    pub const ROOT: usize = 1;
    /// The node that was asked for; or a value's block.
    pub const NODE: usize = 2;
    /// Scan: the leaves behind it, as far as its parent told. GET: the length of the value in the block.
    pub const NEXT: usize = 3;
    /// The key as a number.
    pub const KEY: usize = 7;
}

/// Siblings that state has room for.
pub(super) const SIBLINGS: u64 = 4;

/// Parts of [`state::PROGRESS`], by their shift; 8 bits each.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Part {
    Phase = 0,
    Restarts = 8,
    Keys = 16,
    Siblings = 24,
    Words = 32,
    Exclusive = 40,
}

#[inline(always)]
pub(super) fn part(m: &Msg, which: Part) -> u64 {
    m.state[state::PROGRESS] >> which as u32 & 0xff
}

#[inline(always)]
pub(super) fn set_part(m: &mut Msg, which: Part, number: u64) {
    let others = m.state[state::PROGRESS] & !(0xff << which as u32);
    m.state[state::PROGRESS] = others | (number & 0xff) << which as u32;
}

/// Times that a message began again, as its state tells.
pub fn restarts(m: &Msg) -> u64 {
    part(m, Part::Restarts)
}

/// What the view holds.
pub(super) mod phase {
    /// Nothing yet.
    pub const START: u64 = 0;
    /// The region's header.
    pub const HEADER: u64 = 1;
    /// A node on the way down.
    pub const NODE: u64 = 2;
    /// Scan: a leaf that a parent told.
    pub const SIBLING: u64 = 3;
    /// GET: a block with a value.
    pub const VALUE: u64 = 4;
}

/// Bits of the arguments' first word that hold the key's length.
const KEY_LEN: u64 = 0xffff;

/// Makes a number of the arguments' key; false if they are malformed.
#[inline(always)]
pub(super) fn take_key(m: &mut Msg) -> bool {
    let key_len = m.args[0] & KEY_LEN;
    let words = key_len.div_ceil(8);
    if m.arg_len < 8 || key_len > KEY_MAX as u64 || u64::from(m.arg_len) != 8 + words * 8 {
        return false;
    }
    let mut last = 0;
    let mut i = 0;
    while i < KEY_MAX / 8 {
        let word = if (i as u64) < words { m.args[1 + i] } else { 0 };
        if (i as u64) < words {
            last = word;
        }
        m.state[state::KEY + i] = opaque(word).swap_bytes();
        i += 1;
    }
    m.state[state::KEY + KEY_MAX / 8] = key_len << 56;
    // One key, one encoding.
    key_len.is_multiple_of(8) || last >> (key_len % 8 * 8) == 0
}

/// Asks for the region's header, from which everything begins.
#[inline(always)]
pub(super) fn read_header(m: &mut Msg) -> Step {
    set_part(m, Part::Phase, phase::HEADER);
    m.read(REGION, 0, VERSION_AT as u32 + 8)
}

/// Begins again: something did not fit.
#[inline(always)]
pub(super) fn restart(m: &mut Msg) -> Step {
    let restarts = part(m, Part::Restarts);
    let height = Root(m.state[state::ROOT]).height();
    m.reply_len = 0;
    m.state[state::PROGRESS] = 0;
    set_part(m, Part::Restarts, if restarts < 255 { restarts + 1 } else { 255 });
    // This step, the header, and a node of each level; the tree is as high as it was, or little higher.
    if m.step + 2 + height > STEPS_MAX || !take_key(m) {
        return m.done(Code::Retry as u32, 0);
    }
    read_header(m)
}

/// Whether this is the visit's last step: what it asks for would never be seen.
#[inline(always)]
pub(super) fn is_last_step(m: &Msg) -> bool {
    m.step >= STEPS_MAX - 1
}

/// The header was read: goes on to the root, `None` if there is no tree, or one of another layout.
#[inline(always)]
pub(super) fn header_read(m: &mut Msg, v: &View1k) -> Option<NodePtr> {
    if v.w[0] != MAGIC || v.w[2] != VERSION {
        return None;
    }
    m.state[state::ROOT] = v.w[1];
    Some(Root(v.w[1]).node())
}

/// Asks for a node.
#[inline(always)]
pub(super) fn read_node(m: &mut Msg, node: NodePtr, phase: u64) -> Step {
    set_part(m, Part::Phase, phase);
    m.state[state::NODE] = node.0;
    m.read(REGION, node.offset(), NODE_BYTES as u32)
}

// Indices are masked, not compared: a compare is a fork of paths for the kernel's verifier. Of words that are
// certain none lies outside.

/// The view's word `at`.
#[inline(always)]
pub(super) fn word(v: &View1k, at: u64) -> u64 {
    v.w[opaque(at) as usize % NODE_WORDS]
}

/// Word `index` of the key's number.
#[inline(always)]
pub(super) fn key_word(m: &Msg, index: u64) -> u64 {
    m.state[opaque(state::KEY as u64 + index) as usize % (STATE_BYTES / 8)]
}

/// The 8 bytes of the key's number from byte `at` on.
#[inline(always)]
fn key_bytes(m: &Msg, at: u64) -> u64 {
    let shift = at % 8 * 8;
    key_word(m, at / 8) << shift | key_word(m, at / 8 + 1) >> 1 >> (63 - shift)
}

/// Whether `line` is one of the node's that the message asked for.
#[inline(always)]
pub(super) fn is_certain(v: &View1k, line: u64, seed: u64) -> bool {
    let line = opaque(line) as usize % LINES;
    line_check(&v.w, line, seed) == stored_check(&v.w, line)
}

/// Whether the lines of words `first` to `last` are. At most `LINES_MAX` lines are looked at.
#[inline(always)]
pub(super) fn are_certain<const LINES_MAX: u64>(v: &View1k, first: u64, last: u64, seed: u64) -> bool {
    const WORDS: u64 = LINE_WORDS as u64;
    let line = first / WORDS;
    let mut i = 0;
    while i < LINES_MAX && line + i <= last / WORDS {
        if !is_certain(v, line + i, seed) {
            return false;
        }
        i = opaque(i + 1);
    }
    line + LINES_MAX > last / WORDS
}

/// Whether all lines that count are.
#[inline(always)]
pub(super) fn is_all_certain(v: &View1k, seed: u64) -> bool {
    let mut line = 1;
    while line < LINES as u64 {
        if !is_certain(v, line, seed) {
            return false;
        }
        line += 1;
    }
    true
}

/// Where the key lies.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Side {
    Below,
    Within,
    Above,
}

/// How a slot's key compares with the key.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Order {
    Below,
    Equal,
    Above,
}

/// A node whose header is certain.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub meta: Meta,
    pub seed: u64,
    /// The key's bytes behind those that the node skips.
    pub head: u64,
}

impl Node {
    /// The node in the view, if its header is the one that was asked for.
    #[inline(always)]
    pub fn new(m: &Msg, v: &View1k) -> Option<Self> {
        let seed = NodePtr(m.state[state::NODE]).seed();
        let meta = Meta(v.w[META_AT]);
        let end = FENCES_AT as u64 + meta.low_words() + meta.high_words();
        if !are_certain::<5>(v, META_AT as u64, end - 1, seed) {
            return None;
        }
        Some(Self { meta, seed, head: key_bytes(m, meta.skip()) })
    }

    /// The key's bytes behind those that the node skips.
    #[inline(always)]
    pub fn key_head(self, m: &Msg) -> u64 {
        key_bytes(m, self.meta.skip())
    }

    /// Compares the key with the fences.
    #[inline(always)]
    pub fn side(self, m: &Msg, v: &View1k) -> Side {
        let (low, high) = (self.meta.low_words(), self.meta.high_words());
        let mut i = 0;
        while i < NUMBER_WORDS && (i as u64) < low {
            let (key, fence) = (m.state[state::KEY + i], v.w[FENCES_AT + i]);
            if key < fence {
                return Side::Below;
            }
            if key > fence {
                break;
            }
            i += 1;
        }
        if high == 0 {
            return Side::Within;
        }
        let mut i = 0;
        while i < NUMBER_WORDS && (i as u64) < high {
            let (key, fence) = (m.state[state::KEY + i], word(v, FENCES_AT as u64 + low + i as u64));
            if key < fence {
                return Side::Within;
            }
            if key > fence {
                break;
            }
            i += 1;
        }
        Side::Above
    }

    #[inline(always)]
    pub fn slot_at(self, slot: u64) -> u64 {
        self.meta.slots() + slot * 2
    }

    #[inline(always)]
    pub fn head_of(self, v: &View1k, slot: u64) -> u64 {
        word(v, self.slot_at(slot))
    }

    #[inline(always)]
    pub fn info_of(self, v: &View1k, slot: u64) -> u64 {
        word(v, self.slot_at(slot) + 1)
    }

    /// How the key of a slot compares with the key. Only where heads are equal the record is looked at.
    #[inline(always)]
    pub fn order<const LEAF: bool>(self, m: &Msg, v: &View1k, slot: u64) -> Order {
        let head = self.head_of(v, slot);
        if head != self.head {
            return if head < self.head { Order::Below } else { Order::Above };
        }
        let info = self.info_of(v, slot);
        let from = self.meta.skip() + 8;
        let (at, words) = if LEAF {
            (Item(info).at(), Item(info).rest_words(self.meta.skip()))
        } else {
            (Child(info).rest_at(), Child(info).rest_words())
        };
        let mut i = 0;
        while i < KEY_MAX as u64 / 8 && i < words {
            let rest = word(v, at + i).swap_bytes();
            let key = if LEAF { key_word(m, from / 8 + i) } else { key_bytes(m, from + i * 8) };
            if rest != key {
                return if rest < key { Order::Below } else { Order::Above };
            }
            i = opaque(i + 1);
        }
        if !LEAF {
            // The key goes on behind the separator, if only with zeros.
            return Order::Equal;
        }
        // The key may have more words; then it is the longer one.
        let (len, key_len) = (Item(info).key_len(), m.state[state::KEY + KEY_MAX / 8] >> 56);
        if len < key_len {
            Order::Below
        } else if len == key_len {
            Order::Equal
        } else {
            Order::Above
        }
    }

    /// The last slot that is not above the key; slot 0 if all are.
    #[inline(always)]
    pub fn search<const LEAF: bool>(self, m: &Msg, v: &View1k) -> u64 {
        let mut low = 0;
        let mut size = self.meta.count();
        let mut turn = 0;
        while turn < u64::BITS - (SLOTS_MAX as u64).leading_zeros() {
            let half = size / 2;
            if self.order::<LEAF>(m, v, low + half) != Order::Above {
                low += half;
            }
            low = forget(low, v.w[0]);
            size -= half;
            turn += 1;
        }
        low
    }

    /// The slot of the child with the key, certain; `None` if lines do not fit. The `behind` slots behind it
    /// are certain too, as far as there are so many.
    #[inline(always)]
    pub fn child(self, m: &Msg, v: &View1k, behind: u64) -> Option<u64> {
        let slot = self.search::<false>(m, v);
        let count = self.meta.count();
        let (left, right) = (self.head_of(v, slot), self.head_of(v, slot + 1));
        let has_rest = Child(self.info_of(v, slot)).rest_at() != 0;
        let is_left = slot == 0 || left < self.head || (left == self.head && !has_rest);
        let is_right = slot + 1 >= count || right > self.head;
        if !is_left || !is_right {
            // Records decided.
            return if slot < count && is_all_certain(v, self.seed) { Some(slot) } else { None };
        }
        let last = if slot + behind < count { slot + behind } else { count.wrapping_sub(1) };
        if slot >= count || !are_certain::<3>(v, self.slot_at(slot), self.slot_at(last) + 1, self.seed) {
            return None;
        }
        Some(slot)
    }
}
