//! Scan: down to the leaf with the key, then along the leaves that its parent told; behind the last of
//! those, down from the same root again.

use naam_abi::limits::REPLY_BYTES;
use naam_handler::{Msg, Step, View1k, forget, opaque};

use super::{
    Code, SCAN_KEYS_MAX, args,
    layout::{Child, FENCES_AT, Item, NUMBER_WORDS, NodePtr, Root},
    node::{
        Node, Order, Part, SIBLINGS, Side, header_read, is_all_certain, is_last_step, part, phase, read_header,
        read_node, restart, set_part, state, take_key, word,
    },
};

const REPLY_WORDS: u64 = REPLY_BYTES as u64 / 8;

/// One step of `cell_scan`.
#[inline(always)]
pub fn step(m: &mut Msg, v: &View1k) -> Step {
    match part(m, Part::Phase) {
        phase::START => {
            if !take_key(m) {
                return m.fail(Code::BadArguments as u32);
            }
            read_header(m)
        }
        phase::HEADER => match header_read(m, v) {
            Some(root) => {
                set_part(m, Part::Exclusive, m.args[0] >> 16 & args::EXCLUSIVE);
                set_part(m, Part::Words, 1);
                read_next(m, root, phase::NODE)
            }
            None => m.fail(Code::NoTree as u32),
        },
        _ => node_read(m, v),
    }
}

#[inline(always)]
fn node_read(m: &mut Msg, v: &View1k) -> Step {
    let Some(node) = Node::new(m, v) else { return restart(m) };
    let mut node = node;
    if part(m, Part::Phase) == phase::NODE {
        let side = node.side(m, v);
        let is_root = Root(m.state[state::ROOT]).node().0 == m.state[state::NODE];
        if side != Side::Within && !is_root {
            return restart(m);
        }
        if side == Side::Above {
            return finish(m, false);
        }
        if side == Side::Below {
            // Before all keys: from the first on.
            to_fence(m, v, 0, node.meta.low_words());
            set_part(m, Part::Exclusive, 0);
            node.head = node.key_head(m);
        }
        if node.meta.level() != 0 {
            let Some(slot) = node.child(m, v, SIBLINGS) else { return restart(m) };
            take_siblings(m, v, node, slot);
            return read_next(m, Child(node.info_of(v, slot)).node(), phase::NODE);
        }
    }
    leaf_read(m, v, node)
}

/// Makes a fence the key.
#[inline(always)]
fn to_fence(m: &mut Msg, v: &View1k, from: u64, words: u64) {
    let mut i = 0;
    while i < NUMBER_WORDS {
        let fence = word(v, FENCES_AT as u64 + from + i as u64);
        m.state[state::KEY + i] = if (i as u64) < words { opaque(fence) } else { opaque(0) };
        i += 1;
    }
}

/// Keeps the children behind `slot`: leaves, if this is the last level above them.
#[inline(always)]
fn take_siblings(m: &mut Msg, v: &View1k, node: Node, slot: u64) {
    let behind = node.meta.count() - 1 - slot;
    let siblings = if node.meta.level() != 1 {
        0
    } else if behind < SIBLINGS {
        behind
    } else {
        SIBLINGS
    };
    set_part(m, Part::Siblings, siblings);
    let mut i = 0;
    while i < SIBLINGS {
        m.state[state::NEXT + i as usize] = opaque(Child(node.info_of(v, slot + 1 + i)).node().0);
        i += 1;
    }
}

/// Asks for a node if a step is left to answer with, else ends with what is there.
#[inline(always)]
fn read_next(m: &mut Msg, node: NodePtr, phase: u64) -> Step {
    if is_last_step(m) {
        if part(m, Part::Keys) == 0 {
            return m.done(Code::Retry as u32, 0);
        }
        return finish(m, true);
    }
    read_node(m, node, phase)
}

/// Puts the leaf's keys into the reply, from the key on or, of a sibling, all: a word in each turn.
#[inline(always)]
fn leaf_read(m: &mut Msg, v: &View1k, node: Node) -> Step {
    if !is_all_certain(v, node.seed) {
        return restart(m);
    }
    // 0, but unknown to those who follow all paths: what a turn leaves behind is forgotten, and one turn is
    // as the next.
    let unknown = forget(0, v.w[0]);
    let slot = if part(m, Part::Phase) == phase::NODE { first_slot(m, v, node) } else { 0 };
    let mut slot = slot ^ unknown;
    let mut keys = part(m, Part::Keys) ^ unknown;
    let mut at = part(m, Part::Words) ^ unknown;
    let mut put = unknown;
    let mut entry = Entry { words: put, ..Entry::new(m, v, node, slot, unknown) };
    let mut turn = 0;
    // The first word is not a turn's: it is put in the end.
    while turn < REPLY_WORDS - 1 {
        if put == entry.words {
            let wanted = m.args[0] >> 32;
            if slot >= node.meta.count() || keys >= wanted || keys >= SCAN_KEYS_MAX {
                break;
            }
            entry = Entry::new(m, v, node, slot, unknown);
            let end = at + 1 + entry.words;
            if end > REPLY_WORDS || end * 8 > u64::from(m.reply_max) {
                break;
            }
            set_reply(m, at, entry.header);
            slot += 1;
            keys += 1;
            put = 0;
        } else {
            set_reply(m, at, entry.word(v, put));
            put += 1;
        }
        slot ^= unknown;
        keys ^= unknown;
        put ^= unknown;
        at = (at + 1) ^ unknown;
        turn += 1;
    }
    set_part(m, Part::Words, at);
    set_part(m, Part::Keys, keys);
    let has_all = keys >= m.args[0] >> 32 || keys >= SCAN_KEYS_MAX;
    if slot >= node.meta.count() && !has_all {
        return next_leaf(m, v, node);
    }
    if keys == 0 && !has_all { m.done(Code::NoRoom as u32, 0) } else { finish(m, true) }
}

/// All bits set if `a` is below `b`, both small: a compare without a branch.
#[inline(always)]
fn below(a: u64, b: u64) -> u64 {
    (opaque(a.wrapping_sub(b)) as i64 >> 63) as u64
}

/// `a` where `mask` has all bits set, else `b`.
#[inline(always)]
fn select(mask: u64, a: u64, b: u64) -> u64 {
    b ^ ((a ^ b) & mask)
}

/// Sets a word of the reply that has room for it.
#[inline(always)]
fn set_reply(m: &mut Msg, at: u64, word: u64) {
    m.reply[opaque(at) as usize % (REPLY_BYTES / 8)] = word;
}

/// An entry of the reply that is being written: words that all keys of the leaf share, the head, the
/// record with the rest of the key and the value.
#[derive(Clone, Copy)]
struct Entry {
    /// Its first word.
    header: u64,
    /// Words behind the first.
    words: u64,
    /// Of these, how many all keys share,
    shared: u64,
    /// and how many are numbers: the shared ones and the head.
    numbers: u64,
    /// Where the head stands.
    head_at: u64,
    /// Where the record stands, less `numbers`.
    record_at: u64,
    /// Words of the low fence, in which the shared ones stand; zeros follow.
    low_words: u64,
}

impl Entry {
    #[inline(always)]
    fn new(m: &Msg, v: &View1k, node: Node, slot: u64, unknown: u64) -> Self {
        let item = Item(node.info_of(v, slot));
        let without = (m.args[0] >> 17 | item.0 >> 26) & 1;
        let key_words = item.key_len().div_ceil(8);
        let value_words = item.value_len().div_ceil(8) & without.wrapping_sub(1);
        let before = node.meta.skip() / 8;
        let has_head = below(before, key_words);
        let shared = select(has_head, before, key_words);
        let numbers = shared + (has_head & 1);
        Self {
            header: item.lengths() | without << args::WITHOUT_VALUE.trailing_zeros(),
            words: (key_words + value_words) ^ unknown,
            shared: shared ^ unknown,
            numbers: numbers ^ unknown,
            head_at: node.slot_at(slot),
            record_at: item.at().wrapping_sub(numbers) ^ unknown,
            low_words: node.meta.low_words(),
        }
    }

    /// Word `index` behind the first.
    #[inline(always)]
    fn word(self, v: &View1k, index: u64) -> u64 {
        let (is_shared, is_number) = (below(index, self.shared), below(index, self.numbers));
        let at = select(is_number, self.head_at, self.record_at.wrapping_add(index));
        let at = select(is_shared, FENCES_AT as u64 + index, at);
        let word = word(v, at);
        // As bytes, or nothing behind the end of the low fence.
        let word = select(is_number, word.swap_bytes(), word);
        word & !(is_shared & !below(index, self.low_words))
    }
}

#[inline(always)]
fn next_leaf(m: &mut Msg, v: &View1k, node: Node) -> Step {
    let siblings = part(m, Part::Siblings);
    m.reply_len = part(m, Part::Words) as u32 * 8;
    if siblings != 0 {
        let next = NodePtr(m.state[state::NEXT]);
        m.state[state::NEXT] = m.state[state::NEXT + 1];
        m.state[state::NEXT + 1] = m.state[state::NEXT + 2];
        m.state[state::NEXT + 2] = m.state[state::NEXT + 3];
        set_part(m, Part::Siblings, siblings - 1);
        return read_next(m, next, phase::SIBLING);
    }
    if node.meta.high_words() == 0 {
        return finish(m, false);
    }
    to_fence(m, v, node.meta.low_words(), node.meta.high_words());
    set_part(m, Part::Exclusive, 0);
    read_next(m, Root(m.state[state::ROOT]).node(), phase::NODE)
}

/// The first slot whose key is not below the key, nor excluded.
#[inline(always)]
fn first_slot(m: &Msg, v: &View1k, node: Node) -> u64 {
    let slot = node.search::<true>(m, v);
    match node.order::<true>(m, v, slot) {
        Order::Below => slot + 1,
        Order::Equal => slot + part(m, Part::Exclusive),
        Order::Above => slot,
    }
}

/// Ends the message with the keys that are in the reply.
#[inline(always)]
fn finish(m: &mut Msg, has_more: bool) -> Step {
    let words = part(m, Part::Words);
    let more = if has_more { args::MORE } else { 0 };
    let generation = u64::from(Root(m.state[state::ROOT]).node().generation());
    m.reply[0] = part(m, Part::Keys) | more | generation << 32;
    m.done(Code::Ok as u32, words as u32 * 8)
}
