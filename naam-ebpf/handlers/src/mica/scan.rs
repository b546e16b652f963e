//! Looking for a key through its chain of buckets.
//!
//! Two purposes: to *find* the committed entry of a key, and to *check*, while this message's own
//! tentative entry stands at `MINE_AT`, that no other entry has the key.

use naam_abi::limits::VIEW_LARGE;
use naam_handler::{Msg, View1k, bounded};

use super::{
    Code, KEY_MAX,
    layout::{Block, CHAIN_MAX, Entry, ItemHeader, SLOTS, item_words},
    write::{CAS, Count, DELETE, Op, SET, count, end_without_effect, geometry, lengths, set_count, state, store},
};

const VIEW_WORDS: usize = VIEW_LARGE / 8;

/// Begins a scan at the home bucket.
#[inline(always)]
pub(super) fn begin(m: &mut Msg) -> Op {
    set_count(m, Count::Chain, 0);
    m.state[state::EMPTY_AT] = 0;
    enter(m, geometry(m).home(m.state[state::HASH]))
}

#[inline(always)]
fn enter(m: &mut Msg, bucket: u64) -> Op {
    set_count(m, Count::Chain, count(m, Count::Chain) + 1);
    m.state[state::CURSOR] = bucket + 8;
    m.state[state::ENTRY] = 0;
    Op::ReadBucket
}

/// Looks for a candidate from the cursor's slot on; an entry that was judged there and has not
/// changed since is none.
#[inline(always)]
pub(super) fn bucket_read<const KIND: u32>(m: &mut Msg, v: &View1k) -> Op {
    let tag = Entry::tag_of(m.state[state::HASH]);
    let cursor = m.state[state::CURSOR];
    let (bucket, first) = (cursor & !63, cursor >> 3 & 7);
    let (judged, mine_at) = (m.state[state::ENTRY], m.state[state::MINE_AT]);
    let checks = mine_at != 0;
    let mut slot = 1;
    while slot <= SLOTS {
        let entry = v.w[slot as usize];
        let at = bucket + slot * 8;
        if entry & Entry::TAG == tag
            && (checks || !Entry(entry).is_tentative())
            && slot >= first
            && entry != judged
            && at != mine_at
        {
            m.state[state::CURSOR] = at;
            m.state[state::ENTRY] = entry;
            return Op::ReadItem;
        }
        if entry == 0 && m.state[state::EMPTY_AT] == 0 {
            m.state[state::EMPTY_AT] = at;
        }
        slot += 1;
    }
    let next = Block(v.w[0]).offset();
    if next != 0 {
        return enter(m, next);
    }
    if checks {
        return Op::Commit;
    }
    if KIND == SET {
        m.state[state::ENTRY] = 0;
        if m.state[state::EMPTY_AT] == 0 && count(m, Count::Chain) >= CHAIN_MAX && !geometry(m).is_cache() {
            return end_without_effect(m, Code::ChainFull);
        }
        return store(m);
    }
    end_without_effect(m, Code::NotFound)
}

/// Compares the candidate's item. What is read here may be torn or of another time: a match is
/// believed because the entry is exchanged next, a difference because the bucket is read again.
#[inline(always)]
pub(super) fn item_read<const KIND: u32>(m: &mut Msg, v: &View1k) -> Op {
    let block = Entry(m.state[state::ENTRY]).block();
    let header = ItemHeader(v.w[0]);
    let (key_len, _) = lengths(m);
    let words = item_words(header.key_len(), header.value_len());
    if header.generation() != block.generation() && geometry(m).is_cache() {
        // Overwritten: the entry is dead, and may be one of many of this very key.
        return Op::Remove;
    }
    if header.generation() != block.generation()
        || header.key_len() != key_len
        || !header.is_possible()
        || words > block.class() * 8
    {
        return Op::ReadBucket;
    }
    if m.state[state::MINE_AT] == 0 {
        m.state[state::VERSION] = v.w[1];
    }
    let key = item_words(0, header.value_len());
    if words > VIEW_WORDS as u64 {
        m.state[state::NEXT] = key;
        return Op::ReadKey;
    }
    compare::<KIND>(m, v, key)
}

/// The key of an item that is longer than the view.
#[inline(always)]
pub(super) fn key_read<const KIND: u32>(m: &mut Msg, v: &View1k) -> Op {
    compare::<KIND>(m, v, 0)
}

#[inline(always)]
fn compare<const KIND: u32>(m: &mut Msg, v: &View1k, key: u64) -> Op {
    let (key_len, value_len) = lengths(m);
    let mut i = 0;
    while i < KEY_MAX as u64 / 8 && i < key_len.div_ceil(8) {
        match bounded::<VIEW_WORDS>(key + i) {
            Some(at) if v.w[at] == m.arg(item_words(0, value_len) + i) => {}
            _ => return Op::ReadBucket,
        }
        i += 1;
    }
    matched::<KIND>(m)
}

/// The candidate has the key.
#[inline(always)]
fn matched<const KIND: u32>(m: &mut Msg) -> Op {
    if m.state[state::MINE_AT] != 0 {
        return contest(m);
    }
    if KIND == DELETE {
        return Op::Replace;
    }
    if KIND == CAS && m.state[state::VERSION] != m.state[state::EXPECT] {
        return Op::ReadEntry;
    }
    m.state[state::VERSION] = m.state[state::VERSION].wrapping_add(1);
    store(m)
}

/// Another entry has the key while this message's own is tentative.
#[inline(always)]
fn contest(m: &mut Msg) -> Op {
    let other = Entry(m.state[state::ENTRY]);
    if !other.is_tentative() {
        return Op::Withdraw;
    }
    let yields = count(m, Count::Yields);
    if m.state[state::CURSOR] > m.state[state::MINE_AT] || yields != 0 {
        return Op::Remove;
    }
    set_count(m, Count::Yields, yields + 1);
    Op::Withdraw
}
