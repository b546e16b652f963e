//! Blocks: taken from a list of free ones or from the heap's unused part, and freed.

use naam_abi::limits::{REGION_VALUE_MAX, STEPS_MAX};
use naam_handler::{Msg, View1k};

use super::{
    Code,
    layout::{Block, CLASS_MAX, Geometry, LINE_BYTES, LINES, SLOTS, line, list_of},
    write::{Count, LATE, Op, class_wanted, count, end_without_effect, geometry, set_count, state},
};

/// A line of heads was read: the first tells the store's geometry too.
#[inline(always)]
pub(super) fn line_read(m: &mut Msg, v: &View1k) -> Op {
    let geometry = Geometry(v.w[0]);
    if !geometry.is_valid() {
        return Op::NoStore;
    }
    let (_, own) = list_of(m.state[state::HASH]);
    let mut list = own;
    let mut head = 0;
    let mut i = 1;
    while i <= SLOTS {
        let word = v.w[i as usize];
        if word != 0 && (head == 0 || i == own) {
            head = word;
            list = i;
        }
        i += 1;
    }
    m.state[state::HEAD] = head;
    m.state[state::HEAD_AT] = m.op_offset + list * 8;
    if m.state[state::GEOMETRY] == 0 {
        m.state[state::GEOMETRY] = geometry.0;
        return Op::Scan;
    }
    if head == 0 && count(m, Count::Lines) != 0 { search(m) } else { take(m) }
}

/// Goes on to the next line, now that the heap has no unused part.
#[inline(always)]
fn search(m: &mut Msg) -> Op {
    let lines = count(m, Count::Lines);
    if lines >= LINES {
        return end_without_effect(m, Code::StoreFull);
    }
    set_count(m, Count::Lines, lines + 1);
    Op::ReadLine
}

/// Takes a block: the first of the list in hand, or else one that was never used.
#[inline(always)]
pub(super) fn take(m: &mut Msg) -> Op {
    let head = Block(m.state[state::HEAD]);
    if head.0 == 0 || geometry(m).is_cache() {
        return Op::Mark;
    }
    if head.has_next() {
        return Op::ReadNext;
    }
    m.state[state::NEXT] = 0;
    Op::Take
}

/// It is known which block follows the first. If that has been taken meanwhile, so has the first,
/// and the exchange fails.
#[inline(always)]
pub(super) fn next_read(m: &mut Msg, v: &View1k) -> Op {
    m.state[state::NEXT] = v.w[0];
    Op::Take
}

#[inline(always)]
pub(super) fn taken(m: &mut Msg) -> Op {
    let block = Block(m.state[state::HEAD]).taken();
    if m.exchanged() {
        m.state[state::HEAD] = m.state[state::NEXT];
        return use_block(m, block);
    }
    m.state[state::HEAD] = m.found();
    if m.found() == 0 && count(m, Count::Lines) != 0 { search(m) } else { take(m) }
}

/// The heap's mark was moved: what lay behind it is this message's.
#[inline(always)]
pub(super) fn marked(m: &mut Msg) -> Op {
    let (at, class) = (m.found(), class_wanted(m));
    if geometry(m).is_cache() {
        return lap(m, at, class);
    }
    let (last, end) = (at.wrapping_add(class * LINE_BYTES - 1), geometry(m).heap_end());
    if at >= end || last >= end {
        set_count(m, Count::Lines, 0);
        return search(m);
    }
    // The runtime maps a large region in pieces, and no op may touch two.
    if at / REGION_VALUE_MAX != last / REGION_VALUE_MAX {
        return Op::Mark;
    }
    use_block(m, Block::new(at, class, 1))
}

/// The mark of a cache: where on the ring it stands, and in which lap.
#[inline(always)]
fn lap(m: &mut Msg, mark: u64, class: u64) -> Op {
    let (start, end) = (geometry(m).heap_start(), geometry(m).heap_end());
    let len = end.wrapping_sub(start);
    if len == 0 {
        return Op::NoStore;
    }
    let way = mark.wrapping_sub(start);
    let at = start.wrapping_add(way % len);
    let last = at.wrapping_add(class * LINE_BYTES - 1);
    if last >= end || at / REGION_VALUE_MAX != last / REGION_VALUE_MAX {
        return Op::Mark;
    }
    use_block(m, Block::new(at, class, 1 + way / len))
}

#[inline(always)]
fn use_block(m: &mut Msg, block: Block) -> Op {
    if !is_in_heap(m, block) || block.class() != class_wanted(m) {
        return Op::NoStore;
    }
    if count(m, Count::Bucket) != 0 {
        m.state[state::SPARE] = block.0;
        return Op::WriteBucket;
    }
    m.state[state::BLOCK] = block.0;
    Op::WriteItem
}

#[inline(always)]
fn is_in_heap(m: &Msg, block: Block) -> bool {
    let geometry = geometry(m);
    let end = block.offset() + block.class() * LINE_BYTES;
    block.offset() >= geometry.heap_start() && end <= geometry.heap_end() && block.class() <= CLASS_MAX
}

/// The block that is to be freed next: a bucket's that could not be linked, or at the end the one
/// that is not needed any more.
#[inline(always)]
pub(super) fn loose(m: &Msg) -> Block {
    let spare = m.state[state::SPARE];
    if spare != 0 {
        return Block(spare);
    }
    if count(m, Count::Result) == 0 { Block::NONE } else { Block(m.state[state::LOOSE]) }
}

/// Frees what is loose; if nothing is, the message ends or scans again.
#[inline(always)]
pub(super) fn settle(m: &mut Msg) -> Op {
    let block = loose(m);
    let end = if count(m, Count::Result) == 0 { Op::Scan } else { Op::Settle };
    if block.0 == 0 || geometry(m).is_cache() || !is_in_heap(m, block) {
        return end;
    }
    // The list in hand is as good as any of the same class.
    if m.state[state::HEAD_AT] / (LINES * LINE_BYTES) != block.class() {
        let (number, list) = list_of(m.state[state::HASH]);
        m.state[state::HEAD_AT] = line(block.class(), number) + list * 8;
        m.state[state::HEAD] = 0;
    }
    // Messages of one key, side by side, all have the same in hand; their blocks lead them to others, and on from there.
    let crowded = count(m, Count::Crowded);
    let (number, list) = list_of((block.number() + crowded).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let other = line(block.class(), number) + list * 8;
    if (crowded != 0 || m.step >= LATE) && m.state[state::HEAD_AT] != other {
        m.state[state::HEAD_AT] = other;
        m.state[state::HEAD] = 0;
    }
    // The last step can do nothing but end; to free takes an op before it, or two. The block is lost otherwise.
    let ops = if m.state[state::HEAD] == 0 { 1 } else { 2 };
    if m.step + ops >= STEPS_MAX {
        return end;
    }
    if m.state[state::HEAD] == 0 { Op::Free } else { Op::WriteNext }
}

#[inline(always)]
pub(super) fn freed(m: &mut Msg) -> Op {
    if !m.exchanged() {
        // To have taken a list in use for an empty one is no sign of others.
        if m.state[state::HEAD] != 0 {
            set_count(m, Count::Crowded, count(m, Count::Crowded) + 1);
        }
        m.state[state::HEAD] = m.found();
        return Op::Settle;
    }
    let has_next = if m.state[state::HEAD] == 0 { 0 } else { Block::HAS_NEXT };
    m.state[state::HEAD] = loose(m).0 | has_next;
    if m.state[state::SPARE] != 0 {
        m.state[state::SPARE] = 0;
    } else {
        m.state[state::LOOSE] = 0;
    }
    Op::Settle
}
