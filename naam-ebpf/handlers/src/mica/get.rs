//! GET: two READs when the key is where it is expected, bucket and item.

use naam_abi::limits::{STEPS_MAX, VIEW_LARGE};
use naam_handler::{Msg, Step, View1k, bounded, opaque};

use super::{
    Code, KEY_MAX,
    hash::Lanes,
    layout::{Block, Entry, ItemHeader, LINE_BYTES, REGION, SLOTS, home, item_words},
};

/// Bytes of state in use between steps.
pub const STATE_LEN: usize = 10 * 8;

/// What the view holds.
const PHASE: usize = 0;
const BUCKET: u64 = 1;
const ITEM: u64 = 2;
const TAIL: u64 = 3;
/// Offset of the bucket.
const AT: usize = 1;
/// The slot whose item was read.
const SLOT: usize = 2;
/// Its entry.
const ENTRY: usize = 3;
/// Of an item whose rest is being read: its words, its checksum, the lanes so far.
const WORDS: usize = 4;
const CHECKSUM: usize = 5;
const LANES: usize = 6;

const CHUNK: usize = 4;
const VIEW_WORDS: u64 = VIEW_LARGE as u64 / 8;
/// Where the second READ of an item begins that is longer than the view: before the first key word.
const TAIL_WORD: u64 = 120;
const TAIL_WORDS: u64 = 16;

/// One step of `mica_get`.
#[inline(always)]
pub fn step(m: &mut Msg, v: &View1k) -> Step {
    match m.state[PHASE] {
        BUCKET => bucket(m, v),
        ITEM => item(m, v),
        TAIL => tail(m, v),
        _ => start(m),
    }
}

#[inline(always)]
fn key_words(m: &Msg) -> u64 {
    (m.args[1] & 0xff).div_ceil(8)
}

#[inline(always)]
fn start(m: &mut Msg) -> Step {
    let key_len = m.args[1] & 0xff;
    if key_len == 0 || key_len > KEY_MAX as u64 || u64::from(m.arg_len) != 16 + key_len.div_ceil(8) * 8 {
        return m.fail(Code::BadArguments as u32);
    }
    m.state[AT] = home(m.args[1] >> 8, m.args[0]);
    m.state[SLOT] = 1;
    m.state[ENTRY] = 0;
    read_bucket(m)
}

#[inline(always)]
fn read_bucket(m: &mut Msg) -> Step {
    if m.step >= STEPS_MAX - 1 {
        return m.done(Code::Retry as u32, 0);
    }
    m.state[PHASE] = BUCKET;
    m.read(REGION, m.state[AT], LINE_BYTES as u32)
}

/// Looks for an entry with the key's tag, from the slot on that was judged last.
#[inline(always)]
fn bucket(m: &mut Msg, v: &View1k) -> Step {
    let tag = Entry::tag_of(m.args[0]);
    let first = m.state[SLOT];
    let judged = m.state[ENTRY];
    let mut slot = 1;
    while slot <= SLOTS {
        let entry = v.w[slot as usize];
        if entry & (Entry::TAG | Entry::TENTATIVE) == tag && slot >= first && entry != judged {
            m.state[SLOT] = slot;
            m.state[ENTRY] = entry;
            return read_item(m, Entry(entry).block());
        }
        slot += 1;
    }
    let next = Block(v.w[0]).offset();
    if next == 0 {
        return m.done(Code::NotFound as u32, 0);
    }
    m.state[AT] = next;
    m.state[SLOT] = 1;
    m.state[ENTRY] = 0;
    read_bucket(m)
}

#[inline(always)]
fn read_item(m: &mut Msg, block: Block) -> Step {
    if m.step >= STEPS_MAX - 1 {
        return m.done(Code::Retry as u32, 0);
    }
    let bytes = block.class() * LINE_BYTES;
    let len = if bytes > VIEW_LARGE as u64 { VIEW_LARGE as u64 } else { bytes };
    m.state[PHASE] = ITEM;
    m.read(REGION, block.offset(), len as u32)
}

/// Copies the value to the reply while the checksum is computed, then compares.
#[inline(always)]
fn item(m: &mut Msg, v: &View1k) -> Step {
    let block = Entry(m.state[ENTRY]).block();
    let header = ItemHeader(v.w[0]);
    let words = item_words(header.key_len(), header.value_len());
    if header.generation() != block.generation() || !header.is_possible() || words > block.class() * 8 {
        return read_bucket(m);
    }
    let is_whole = words <= VIEW_WORDS;
    let here = if is_whole { words } else { TAIL_WORD };

    let mut lanes = Lanes::START;
    lanes.take([v.w[0], v.w[1], 0, v.w[3]]);
    m.reply[0] = v.w[1];
    m.reply[1] = v.w[3];
    let mut at = CHUNK;
    while at < VIEW_WORDS as usize && (at as u64) < here {
        let words = [opaque(v.w[at]), opaque(v.w[at + 1]), opaque(v.w[at + 2]), opaque(v.w[at + 3])];
        lanes.take(words);
        m.reply[at - 2] = words[0];
        m.reply[at - 1] = words[1];
        m.reply[at] = words[2];
        m.reply[at + 1] = words[3];
        at += CHUNK;
    }
    if !is_whole {
        if m.step >= STEPS_MAX - 1 {
            return m.done(Code::Retry as u32, 0);
        }
        m.state[WORDS] = v.w[0];
        m.state[CHECKSUM] = v.w[2];
        m.state[LANES] = lanes.0[0];
        m.state[LANES + 1] = lanes.0[1];
        m.state[LANES + 2] = lanes.0[2];
        m.state[LANES + 3] = lanes.0[3];
        m.state[PHASE] = TAIL;
        // A cut message keeps its reply so far, and no more.
        m.reply_len = ((TAIL_WORD - 2) * 8) as u32;
        return m.read(REGION, block.offset() + TAIL_WORD * 8, (TAIL_WORDS * 8) as u32);
    }
    if lanes.checksum() != v.w[2] {
        return read_bucket(m);
    }
    finish(m, v, header, 0)
}

/// The rest of an item that is longer than the view.
#[inline(always)]
fn tail(m: &mut Msg, v: &View1k) -> Step {
    let header = ItemHeader(m.state[WORDS]);
    let words = item_words(header.key_len(), header.value_len());
    let mut lanes = Lanes([m.state[LANES], m.state[LANES + 1], m.state[LANES + 2], m.state[LANES + 3]]);
    let mut at = 0;
    while at < TAIL_WORDS as usize && (at as u64) + TAIL_WORD < words {
        lanes.take([v.w[at], v.w[at + 1], v.w[at + 2], v.w[at + 3]]);
        at += CHUNK;
    }
    if lanes.checksum() != m.state[CHECKSUM] {
        return read_bucket(m);
    }
    let mut at = 0;
    while at < (VIEW_WORDS - TAIL_WORD) as usize {
        m.reply[TAIL_WORD as usize - 2 + at] = opaque(v.w[at]);
        at += 1;
    }
    finish(m, v, header, TAIL_WORD)
}

/// Compares the key of an item that stands in the view from its word `skipped` on.
#[inline(always)]
fn finish(m: &mut Msg, v: &View1k, header: ItemHeader, skipped: u64) -> Step {
    if header.key_len() != m.args[1] & 0xff {
        return read_bucket(m);
    }
    let key = item_words(0, header.value_len()).wrapping_sub(skipped);
    let words = key_words(m);
    let mut i = 0;
    while i < KEY_MAX / 8 && (i as u64) < words {
        match bounded::<{ VIEW_WORDS as usize }>(key.wrapping_add(i as u64)) {
            Some(at) if v.w[at] == m.args[2 + i] => {}
            _ => return read_bucket(m),
        }
        i += 1;
    }
    m.done(Code::Ok as u32, 8 + header.value_len() as u32)
}
