//! GET: a READ for the header, one a level, and one for a value in a block.

use naam_handler::{Msg, Step, View1k, opaque};

use super::{
    Code, VALUE_MAX,
    layout::{Child, INLINE_MAX, Item, NODE_WORDS, NodePtr, REGION, Root, ValuePtr, block_words},
    node::{
        Node, Order, Part, Side, are_certain, header_read, is_all_certain, is_last_step, part, phase, read_header,
        read_node, restart, set_part, state, take_key, word,
    },
};

/// One step of `cell_get`.
#[inline(always)]
pub fn step(m: &mut Msg, v: &View1k) -> Step {
    match part(m, Part::Phase) {
        phase::START => {
            if m.args[0] == 0 || !take_key(m) {
                return m.fail(Code::BadArguments as u32);
            }
            read_header(m)
        }
        phase::HEADER => match header_read(m, v) {
            Some(root) => read_next(m, root),
            None => m.fail(Code::NoTree as u32),
        },
        phase::VALUE => value_read(m, v),
        _ => node_read(m, v),
    }
}

/// Asks for a node if a step is left to look at it.
#[inline(always)]
fn read_next(m: &mut Msg, node: NodePtr) -> Step {
    if is_last_step(m) {
        return m.done(Code::Retry as u32, 0);
    }
    read_node(m, node, phase::NODE)
}

#[inline(always)]
fn node_read(m: &mut Msg, v: &View1k) -> Step {
    let Some(node) = Node::new(m, v) else { return restart(m) };
    let side = node.side(m, v);
    if side != Side::Within {
        // Only the root may leave a key out: its fences are where the whole tree ends.
        let is_root = Root(m.state[state::ROOT]).node().0 == m.state[state::NODE];
        return if is_root { m.done(Code::NotFound as u32, 0) } else { restart(m) };
    }
    if node.meta.level() == 0 {
        return leaf_read(m, v, node);
    }
    match node.child(m, v, 1) {
        Some(slot) => read_next(m, Child(node.info_of(v, slot)).node()),
        None => restart(m),
    }
}

/// A hit is proved by the slot and its record, a miss by all lines.
#[inline(always)]
fn leaf_read(m: &mut Msg, v: &View1k, node: Node) -> Step {
    let slot = node.search::<true>(m, v);
    if slot < node.meta.count() && node.order::<true>(m, v, slot) == Order::Equal {
        return hit(m, v, node, slot, Item(node.info_of(v, slot)));
    }
    if is_all_certain(v, node.seed) { m.done(Code::NotFound as u32, 0) } else { restart(m) }
}

/// Copies the value to the reply, or goes on to its block.
#[inline(always)]
fn hit(m: &mut Msg, v: &View1k, node: Node, slot: u64, item: Item) -> Step {
    let value_at = item.at() + item.rest_words(node.meta.skip());
    let words = item.inline_words();
    let end = value_at + words;
    let slot_at = node.slot_at(slot);
    // A record has at most 8 words of the key and 16 of the value: 4 lines.
    if !are_certain::<1>(v, slot_at, slot_at + 1, node.seed)
        || (end > item.at() && !are_certain::<4>(v, item.at(), end - 1, node.seed))
        || words > INLINE_MAX as u64 / 8
    {
        return restart(m);
    }
    if item.is_block() {
        if is_last_step(m) {
            return m.done(Code::Retry as u32, 0);
        }
        let block = ValuePtr(word(v, value_at));
        m.state[state::NODE] = block.0;
        m.state[state::NEXT] = item.value_len();
        set_part(m, Part::Phase, phase::VALUE);
        return m.read(REGION, block.offset(), block_words(item.value_len()) as u32 * 8);
    }
    let mut i = 0;
    while i < INLINE_MAX / 8 && (i as u64) < words {
        m.reply[i] = opaque(word(v, value_at + i as u64));
        i += 1;
    }
    m.done(Code::Ok as u32, item.value_len() as u32)
}

/// A block was read: its words go to the reply while they are checked.
#[inline(always)]
fn value_read(m: &mut Msg, v: &View1k) -> Step {
    const CHUNK: usize = 4;
    let value_len = m.state[state::NEXT];
    let mut lanes = ValuePtr(m.state[state::NODE]).lanes(value_len);
    lanes.take([0, v.w[1], v.w[2], v.w[3]]);
    m.reply[0] = v.w[1];
    m.reply[1] = v.w[2];
    m.reply[2] = v.w[3];
    let mut at = CHUNK;
    while at < NODE_WORDS && (at as u64) < block_words(value_len) {
        let words = [opaque(v.w[at]), opaque(v.w[at + 1]), opaque(v.w[at + 2]), opaque(v.w[at + 3])];
        lanes.take(words);
        m.reply[at - 1] = words[0];
        m.reply[at] = words[1];
        m.reply[at + 1] = words[2];
        m.reply[at + 2] = words[3];
        at += CHUNK;
    }
    if value_len > VALUE_MAX as u64 || lanes.checksum() >> 32 != v.w[0] >> 32 {
        return restart(m);
    }
    m.done(Code::Ok as u32, value_len as u32)
}
