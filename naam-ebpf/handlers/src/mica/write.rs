//! SET, CAS and DELETE: one machine. A phase says what the last op was; it looks at the outcome and
//! decides on the next [`Op`], which [`issue`] asks for.

use naam_abi::limits::{ARGS_BYTES, STEPS_MAX, VIEW_LARGE};
use naam_handler::{Msg, Step, View1k, bounded, opaque};

use super::{
    Code, KEY_MAX, VALUE_MAX, block,
    hash::{Lanes, round},
    layout::{
        BUCKETS, Block, CLASS_MAX, Entry, Geometry, ItemHeader, LINE_BYTES, LINES, REGION, SLOTS, class_of, item_words,
        line, list_of,
    },
    scan,
};

/// Bytes of state in use between steps.
pub const STATE_LEN: usize = 16 * 8;

/// One step of `mica_set`: stores a value, whatever was there.
#[inline(always)]
pub fn set(m: &mut Msg, v: &View1k) -> Step {
    step::<SET>(m, v)
}

/// One step of `mica_cas`: stores a value if the item still has the expected version.
#[inline(always)]
pub fn cas(m: &mut Msg, v: &View1k) -> Step {
    step::<CAS>(m, v)
}

/// One step of `mica_delete`.
#[inline(always)]
pub fn delete(m: &mut Msg, v: &View1k) -> Step {
    step::<DELETE>(m, v)
}

pub(super) const SET: u32 = 0;
pub(super) const CAS: u32 = 1;
pub(super) const DELETE: u32 = 2;

/// What is in `m.state`.
pub(super) mod state {
    /// The op that was asked for last.
    pub const PHASE: usize = 0;
    /// The key's hash.
    pub const HASH: usize = 1;
    /// The store's geometry word; 0 until it has been read.
    pub const GEOMETRY: usize = 2;
    /// Offset of the slot that the scan has come to, and so of its bucket.
    pub const CURSOR: usize = 3;
    /// The entry found there: a candidate, or one that has been judged.
    pub const ENTRY: usize = 4;
    /// Offset of the first empty slot seen; 0 if none.
    pub const EMPTY_AT: usize = 5;
    /// The block for the item; 0 until one is taken.
    pub const BLOCK: usize = 6;
    /// What the list of free blocks at `HEAD_AT` begins with, as far as known.
    pub const HEAD: usize = 7;
    /// Offset of the list's head.
    pub const HEAD_AT: usize = 8;
    /// What comes after the first block of that list; later the entry whose slot is taken, or 0.
    pub const NEXT: usize = 9;
    /// Offset of this message's tentative entry; 0 if there is none.
    pub const MINE_AT: usize = 10;
    /// The block for a bucket, until it is linked.
    pub const SPARE: usize = 11;
    /// The version to write; or to reply with.
    pub const VERSION: usize = 12;
    /// CAS: the version that the item must have.
    pub const EXPECT: usize = 13;
    /// The block to free before the end.
    pub const LOOSE: usize = 14;
    /// The [counts](super::Count).
    pub const COUNTS: usize = 15;
}

/// Small numbers that share a word: the bit at which each begins; each has 8.
#[derive(Clone, Copy)]
pub(super) enum Count {
    /// 1 + the code to end with; 0 as long as there is none.
    Result = 0,
    /// Buckets of the chain so far.
    Chain = 8,
    /// Lines searched for a free block since the heap was found used up.
    Lines = 16,
    /// How often this message has yielded to another's tentative entry.
    Yields = 24,
    /// 1 while a block for a bucket is wanted.
    Bucket = 32,
    /// How often another message was faster to free a block to the same list.
    Crowded = 40,
}

#[inline(always)]
pub(super) fn count(m: &Msg, which: Count) -> u64 {
    m.state[state::COUNTS] >> which as u32 & 0xff
}

#[inline(always)]
pub(super) fn set_count(m: &mut Msg, which: Count, number: u64) {
    let others = m.state[state::COUNTS] & !(0xff << which as u32);
    m.state[state::COUNTS] = others | (number & 0xff) << which as u32;
}

/// The next op, or the end. The numbers are what `PHASE` holds at the step after it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Op {
    /// Read a line of heads of free blocks.
    ReadLine = 1,
    /// Read the bucket at the cursor.
    ReadBucket,
    /// Read the candidate's item.
    ReadItem,
    /// Read the key of an item that is longer than the view.
    ReadKey,
    /// Read the candidate's slot again.
    ReadEntry,
    /// Read the bucket of a cache to find the oldest entry.
    ReadVictim,
    /// Read which block follows the first of a list.
    ReadNext,
    /// Take the first block of the list.
    Take,
    /// Take a block from the heap's unused part.
    Mark,
    /// Write the item.
    WriteItem,
    /// Write a bucket with this message's tentative entry.
    WriteBucket,
    /// Exchange the candidate.
    Replace,
    /// Put the tentative entry into the empty slot, or in place of the oldest entry.
    Place,
    /// Link the new bucket to the chain.
    Link,
    /// Make the own entry count.
    Commit,
    /// Take the own entry back.
    Withdraw,
    /// Remove another's tentative entry, or a dead one of a cache.
    Remove,
    /// Write into a block to be freed which is next.
    WriteNext,
    /// Make it the first of its list.
    Free,
    /// Scan from the home bucket.
    Scan,
    /// Free what is loose, then end, or scan if there is no result.
    Settle,
    /// Fail: bad arguments.
    Refuse,
    /// Fail: no store.
    NoStore,
}

/// From this step on a message only cleans up after itself.
pub(super) const LATE: u32 = STEPS_MAX - 9;

#[inline(always)]
fn step<const KIND: u32>(m: &mut Msg, v: &View1k) -> Step {
    const READ_LINE: u64 = Op::ReadLine as u64;
    const READ_BUCKET: u64 = Op::ReadBucket as u64;
    const READ_ITEM: u64 = Op::ReadItem as u64;
    const READ_KEY: u64 = Op::ReadKey as u64;
    const READ_ENTRY: u64 = Op::ReadEntry as u64;
    const READ_VICTIM: u64 = Op::ReadVictim as u64;
    const READ_NEXT: u64 = Op::ReadNext as u64;
    const TAKE: u64 = Op::Take as u64;
    const MARK: u64 = Op::Mark as u64;
    const WRITE_ITEM: u64 = Op::WriteItem as u64;
    const WRITE_BUCKET: u64 = Op::WriteBucket as u64;
    const REPLACE: u64 = Op::Replace as u64;
    const PLACE: u64 = Op::Place as u64;
    const LINK: u64 = Op::Link as u64;
    const COMMIT: u64 = Op::Commit as u64;
    const WITHDRAW: u64 = Op::Withdraw as u64;
    const REMOVE: u64 = Op::Remove as u64;
    const WRITE_NEXT: u64 = Op::WriteNext as u64;
    const FREE: u64 = Op::Free as u64;
    let op = match m.state[state::PHASE] {
        0 => start::<KIND>(m),
        READ_LINE => block::line_read(m, v),
        READ_BUCKET => scan::bucket_read::<KIND>(m, v),
        READ_ITEM => scan::item_read::<KIND>(m, v),
        READ_KEY => scan::key_read::<KIND>(m, v),
        READ_ENTRY => entry_read(m, v),
        READ_VICTIM => victim_read(m, v),
        READ_NEXT => block::next_read(m, v),
        TAKE => block::taken(m),
        MARK => block::marked(m),
        WRITE_ITEM => item_written(m),
        WRITE_BUCKET => Op::Link,
        REPLACE => replaced(m),
        PLACE => placed(m),
        LINK => linked(m),
        COMMIT => committed(m),
        WITHDRAW => withdrawn(m),
        REMOVE => {
            m.state[state::ENTRY] = 0;
            Op::ReadBucket
        }
        WRITE_NEXT => Op::Free,
        FREE => block::freed(m),
        _ => Op::Refuse,
    };
    issue::<KIND>(m, op)
}

/// Checks the arguments and hashes the key.
#[inline(always)]
fn start<const KIND: u32>(m: &mut Msg) -> Op {
    let (key_len, value_len) = lengths(m);
    let value_max = if KIND == DELETE { 0 } else { VALUE_MAX as u64 };
    let is_exact = u64::from(m.arg_len) == item_words(key_len, value_len) * 8;
    if key_len == 0 || key_len > KEY_MAX as u64 || value_len > value_max || m.args[0] >> 32 != 0 || !is_exact {
        return Op::Refuse;
    }
    let mut hash = key_len;
    let mut last = 0;
    let mut i = 0;
    while i < KEY_MAX as u64 / 8 && i < key_len.div_ceil(8) {
        last = m.arg(item_words(0, value_len) + i);
        hash = round(hash, last);
        i += 1;
    }
    // One key, one encoding.
    if !key_len.is_multiple_of(8) && last >> (key_len % 8 * 8) != 0 {
        return Op::Refuse;
    }
    m.state[state::HASH] = round(hash, 0);
    m.state[state::EXPECT] = m.args[1];
    Op::ReadLine
}

/// Lengths of key and value. The words they stand in become the item's header later.
#[inline(always)]
pub(super) fn lengths(m: &Msg) -> (u64, u64) {
    let header = ItemHeader(m.args[0]);
    (header.key_len(), header.value_len())
}

/// Class of the block that is wanted.
#[inline(always)]
pub(super) fn class_wanted(m: &Msg) -> u64 {
    if count(m, Count::Bucket) != 0 {
        return 1;
    }
    let (key_len, value_len) = lengths(m);
    class_of(item_words(key_len, value_len))
}

#[inline(always)]
pub(super) fn geometry(m: &Msg) -> Geometry {
    Geometry(m.state[state::GEOMETRY])
}

/// The entry that this message makes, without the tentative bit.
#[inline(always)]
fn mine(m: &Msg) -> u64 {
    m.state[state::BLOCK] | Entry::tag_of(m.state[state::HASH])
}

/// Ends with `code` once all is cleaned up. The item's block was not used.
#[inline(always)]
pub(super) fn end_without_effect(m: &mut Msg, code: Code) -> Op {
    set_count(m, Count::Result, code as u64 + 1);
    m.state[state::LOOSE] = m.state[state::BLOCK];
    Op::Settle
}

/// A key that is there, or the end of its chain: goes on to the item's block.
#[inline(always)]
pub(super) fn store(m: &mut Msg) -> Op {
    if m.state[state::BLOCK] == 0 { block::take(m) } else { Op::WriteItem }
}

/// A CAS whose version differs: does the entry still hold that item?
#[inline(always)]
fn entry_read(m: &mut Msg, v: &View1k) -> Op {
    if v.w[0] == m.state[state::ENTRY] { end_without_effect(m, Code::VersionDiffers) } else { Op::Scan }
}

#[inline(always)]
fn item_written(m: &mut Msg) -> Op {
    if m.state[state::ENTRY] != 0 {
        return Op::Replace;
    }
    if m.state[state::EMPTY_AT] != 0 {
        m.state[state::NEXT] = 0;
        return Op::Place;
    }
    if geometry(m).is_cache() {
        return Op::ReadVictim;
    }
    set_count(m, Count::Bucket, 1);
    set_count(m, Count::Lines, 0);
    Op::ReadLine
}

/// Takes the oldest entry's place, in a cache whose bucket was full.
#[inline(always)]
fn victim_read(m: &mut Msg, v: &View1k) -> Op {
    let mine = Block(m.state[state::BLOCK]);
    let mut oldest = 0;
    let mut slot = 1;
    while slot <= SLOTS {
        let entry = v.w[slot as usize];
        let age = if entry == 0 { u64::MAX } else { mine.lines_behind(Entry(entry).block()) };
        if slot == 1 || age > oldest {
            oldest = age;
            m.state[state::NEXT] = entry;
            m.state[state::EMPTY_AT] = m.op_offset + slot * 8;
        }
        slot += 1;
    }
    Op::Place
}

#[inline(always)]
fn replaced(m: &mut Msg) -> Op {
    if !m.exchanged() {
        return Op::Scan;
    }
    m.state[state::LOOSE] = Entry(m.state[state::ENTRY]).block().0;
    set_count(m, Count::Result, Code::Ok as u64 + 1);
    Op::Settle
}

#[inline(always)]
fn placed(m: &mut Msg) -> Op {
    if m.exchanged() {
        m.state[state::MINE_AT] = m.state[state::EMPTY_AT];
    }
    Op::Scan
}

#[inline(always)]
fn linked(m: &mut Msg) -> Op {
    set_count(m, Count::Bucket, 0);
    if m.exchanged() {
        m.state[state::MINE_AT] = Block(m.state[state::SPARE]).offset() + 8;
        m.state[state::SPARE] = 0;
    }
    Op::Settle
}

#[inline(always)]
fn committed(m: &mut Msg) -> Op {
    m.state[state::MINE_AT] = 0;
    if !m.exchanged() {
        return Op::Scan;
    }
    set_count(m, Count::Result, Code::Ok as u64 + 1);
    Op::Settle
}

#[inline(always)]
fn withdrawn(m: &mut Msg) -> Op {
    m.state[state::MINE_AT] = 0;
    if count(m, Count::Result) == 0 {
        return Op::Scan;
    }
    m.state[state::LOOSE] = m.state[state::BLOCK];
    Op::Settle
}

/// Whether the message must not begin anything any more that it may have to clean up.
#[inline(always)]
fn is_late(m: &Msg, op: Op) -> bool {
    let cleans = matches!(
        op,
        Op::Replace | Op::Commit | Op::Withdraw | Op::WriteNext | Op::Free | Op::Settle | Op::Refuse | Op::NoStore
    );
    m.step >= LATE && !cleans
}

#[inline(always)]
fn issue<const KIND: u32>(m: &mut Msg, op: Op) -> Step {
    let mut op = op;
    if op == Op::Settle {
        op = block::settle(m);
    }
    if is_late(m, op) {
        set_count(m, Count::Result, Code::Retry as u64 + 1);
        m.state[state::LOOSE] = m.state[state::BLOCK];
        op = if m.state[state::MINE_AT] != 0 { Op::Withdraw } else { block::settle(m) };
    }
    if op == Op::Scan {
        op = scan::begin(m);
    }
    if KIND == DELETE && matches!(op, Op::Mark | Op::WriteItem | Op::WriteBucket | Op::Place | Op::Link | Op::Commit) {
        // Only a state of somebody else's making leads here.
        op = Op::Refuse;
    }
    m.state[state::PHASE] = op as u64;
    let mine = mine(m);
    let step = match op {
        Op::ReadLine => {
            let (first, _) = list_of(m.state[state::HASH]);
            let at = line(class_wanted(m), first + count(m, Count::Lines));
            m.read(REGION, at, LINE_BYTES as u32)
        }
        Op::ReadBucket | Op::ReadVictim => {
            m.read(REGION, m.state[state::CURSOR] & !(LINE_BYTES - 1), LINE_BYTES as u32)
        }
        Op::ReadItem => {
            let block = Entry(m.state[state::ENTRY]).block();
            let bytes = block.class() * LINE_BYTES;
            let len = if bytes > VIEW_LARGE as u64 { VIEW_LARGE as u64 } else { bytes };
            m.read(REGION, block.offset(), len as u32)
        }
        Op::ReadKey => {
            let (key_len, _) = lengths(m);
            // `NEXT` is not in use during a scan.
            let at = Entry(m.state[state::ENTRY]).block().offset() + m.state[state::NEXT] * 8;
            m.read(REGION, at, key_len.div_ceil(8) as u32 * 8)
        }
        Op::ReadEntry => m.read(REGION, m.state[state::CURSOR], 8),
        Op::ReadNext => m.read(REGION, Block(m.state[state::HEAD]).offset() + 8, 8),
        Op::Take => m.cas(REGION, m.state[state::HEAD_AT], m.state[state::HEAD], m.state[state::NEXT]),
        Op::Mark => m.faa(REGION, super::layout::MARK, class_wanted(m) * LINE_BYTES),
        Op::WriteItem => write_item(m),
        Op::WriteBucket => {
            m.reply[0] = 0;
            m.reply[1] = mine | Entry::TENTATIVE;
            let mut i = 2;
            while i < 8 {
                m.reply[i] = opaque(0);
                i += 1;
            }
            m.write_reply(REGION, Block(m.state[state::SPARE]).offset(), 0, LINE_BYTES as u32)
        }
        Op::Replace => {
            let new = if KIND == DELETE { 0 } else { mine };
            m.cas(REGION, m.state[state::CURSOR], m.state[state::ENTRY], new)
        }
        Op::Place => m.cas(REGION, m.state[state::EMPTY_AT], m.state[state::NEXT], mine | Entry::TENTATIVE),
        Op::Link => {
            let bucket = m.state[state::CURSOR] & !(LINE_BYTES - 1);
            m.cas(REGION, bucket, 0, Block(m.state[state::SPARE]).number())
        }
        Op::Commit => m.cas(REGION, m.state[state::MINE_AT], mine | Entry::TENTATIVE, mine),
        Op::Withdraw => m.cas(REGION, m.state[state::MINE_AT], mine | Entry::TENTATIVE, 0),
        Op::Remove => m.cas(REGION, m.state[state::CURSOR], m.state[state::ENTRY], 0),
        Op::WriteNext => {
            m.reply[1] = m.state[state::HEAD];
            m.write_reply(REGION, block::loose(m).offset() + 8, 8, 8)
        }
        Op::Free => {
            let has_next = if m.state[state::HEAD] == 0 { 0 } else { Block::HAS_NEXT };
            m.cas(REGION, m.state[state::HEAD_AT], m.state[state::HEAD], block::loose(m).0 | has_next)
        }
        Op::Refuse => m.fail(Code::BadArguments as u32),
        Op::NoStore => m.fail(Code::NoStore as u32),
        Op::Scan | Op::Settle => finish::<KIND>(m),
    };
    // State that came with a message may be anybody's.
    if step.writes() && !is_confined(m, op) {
        return m.fail(Code::NoStore as u32);
    }
    step
}

/// Whether an op that writes stays clear of the geometry words, and in the part of the store that it
/// is meant for.
#[inline(always)]
fn is_confined(m: &Msg, op: Op) -> bool {
    let at = m.op_offset;
    match op {
        Op::Mark => m.op_value <= CLASS_MAX * LINE_BYTES,
        Op::Take | Op::Free => at >= line(1, 0) && at < BUCKETS && !at.is_multiple_of(LINE_BYTES),
        _ => at >= BUCKETS,
    }
}

/// Makes the item of the arguments, in their place, and writes it to its block.
#[inline(always)]
fn write_item(m: &mut Msg) -> Step {
    const WORDS: u64 = ARGS_BYTES as u64 / 8;
    const CHUNK: u64 = 4;
    let (key_len, value_len) = lengths(m);
    let words = item_words(key_len, value_len);
    let block = Block(m.state[state::BLOCK]);
    if words > WORDS || class_of(words) > block.class() {
        return m.fail(Code::BadArguments as u32);
    }
    let mut i = 0;
    while i < CHUNK - 1 {
        if !(words + i).is_multiple_of(CHUNK)
            && let Some(at) = bounded::<{ WORDS as usize }>(words + i)
        {
            m.args[at] = 0;
        } else {
            break;
        }
        i += 1;
    }
    // The version of a new key is unlike any that the key had before.
    let version =
        if m.state[state::ENTRY] == 0 { round(m.state[state::HASH], block.0) } else { m.state[state::VERSION] };
    let version = if version == 0 { 1 } else { version };
    m.state[state::VERSION] = version;
    m.args[0] = ItemHeader::new(block.generation(), key_len, value_len).0;
    m.args[1] = version;
    m.args[2] = 0;
    let mut lanes = Lanes::START;
    let mut at = 0;
    while at <= (WORDS - CHUNK) as usize && (at as u64) < words {
        lanes.take([m.args[at], m.args[at + 1], m.args[at + 2], m.args[at + 3]]);
        at = opaque(at as u64 + CHUNK) as usize;
    }
    m.args[2] = lanes.checksum();
    m.write(REGION, block.offset(), 0, (words.next_multiple_of(CHUNK) * 8) as u32)
}

/// Ends the message.
#[inline(always)]
fn finish<const KIND: u32>(m: &mut Msg) -> Step {
    let code = (count(m, Count::Result) as u32).wrapping_sub(1);
    let has_version = code == Code::VersionDiffers as u32 || (KIND != DELETE && code == Code::Ok as u32);
    m.reply[0] = m.state[state::VERSION];
    m.done(code, if has_version { 8 } else { 0 })
}

const _: () = {
    assert!(CLASS_MAX < 32 && LINES.is_power_of_two());
    assert!(ARGS_BYTES as u64 / 8 >= super::layout::ITEM_WORDS_MAX);
};
