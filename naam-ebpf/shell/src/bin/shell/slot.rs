//! Request slots: a writing message runs exactly once, however often it arrives.

use naam_abi::{
    handler::NaamMsg,
    limits::{REPLY_BYTES, SESSIONS_MAX, SLOT_REPLY_BYTES, SLOTS_MAX},
    tables::{PROGRAM_WEAKLY_ORDERED, SlotEntry, SlotPhase, SlotWord},
    wire::Status,
};

use naam_shell::opaque::{compare_exchange, fetch_add};

use crate::{config::has, maps::SLOTS};

/// What a slot says to a message.
pub enum Claim {
    /// It is this CPU's to run.
    Run,
    /// It has run; here is its end, and the word that says so.
    Duplicate(*mut SlotEntry, u64),
    /// It is not run; the status says why.
    Refused(Status),
}

/// The slot's entry, if its number is in range.
#[inline(always)]
pub fn entry(session: u32, slot: u32) -> Option<*mut SlotEntry> {
    if slot >= SLOTS_MAX as u32 {
        return None;
    }
    SLOTS.get_ptr_mut(session % SESSIONS_MAX as u32 * SLOTS_MAX as u32 + slot)
}

#[inline(always)]
fn word(session: u32, sequence: u32, phase: SlotPhase) -> SlotWord {
    SlotWord { sequence, generation: (session / SESSIONS_MAX as u32) as u16, phase: phase as u8 }
}

/// Claims the slot for (session, sequence).
#[inline(always)]
pub fn claim(session: u32, slot: u32, sequence: u32) -> Claim {
    let Some(entry) = entry(session, slot) else { return Claim::Refused(Status::NoSlot) };
    let mine = word(session, sequence, SlotPhase::Running);
    // SAFETY: a live map value; the word is only ever read and exchanged whole.
    let found = unsafe { (&raw const (*entry).word).read_volatile() };
    let seen = SlotWord::from_word(found);
    // An idle slot has no sequence; its word is zero, which generation 0 must not take for its own.
    let used = seen.phase != SlotPhase::Idle as u8;
    if used && (mine.generation.wrapping_sub(seen.generation) as i16) < 0 {
        // A datagram of an ended session, still on its way while the next one already wrote.
        return Claim::Refused(Status::Session);
    }
    if used && seen.generation == mine.generation {
        let ahead = sequence.wrapping_sub(seen.sequence) as i32;
        if ahead < 0 {
            return Claim::Refused(Status::Stale);
        }
        if seen.phase == SlotPhase::Running as u8 {
            return Claim::Refused(Status::Running);
        }
        if ahead == 0 && seen.phase == SlotPhase::Done as u8 {
            return Claim::Duplicate(entry, found);
        }
    }
    // SAFETY: an aligned word of a live map value.
    let before = unsafe { compare_exchange(&raw mut (*entry).word, found, mine.to_word()) };
    if before == found { Claim::Run } else { Claim::Refused(Status::Running) }
}

/// Keeps the end of a claimed message, then marks it done.
#[inline(always)]
pub fn complete(session: u32, slot: u32, sequence: u32, status: u16, message: &NaamMsg, reply_len: u32) {
    let Some(entry) = entry(session, slot) else { return };
    // SAFETY: the claim makes the entry this CPU's until the word changes.
    unsafe {
        (*entry).code = message.code;
        (*entry).status = status;
        (*entry).reply_len = reply_len as u16;
        let cached: *mut u64 = (&raw mut (*entry).reply).cast();
        for i in 0..SLOT_REPLY_BYTES / 8 {
            if i as u32 * 8 >= reply_len {
                break;
            }
            cached.add(i).write_volatile(message.reply[i]);
        }
        let running = word(session, sequence, SlotPhase::Running).to_word();
        // The exchange is the barrier that publishes the reply.
        compare_exchange(&raw mut (*entry).word, running, word(session, sequence, SlotPhase::Done).to_word());
    }
}

/// Gives a claimed slot back: the message had no effect and may be sent again.
#[inline(always)]
pub fn release(session: u32, slot: u32, sequence: u32) {
    let Some(entry) = entry(session, slot) else { return };
    let running = word(session, sequence, SlotPhase::Running).to_word();
    // Not "the one before is done": that one may never have run here, and the cached reply would be
    // a stranger's.
    let released = word(session, sequence, SlotPhase::Released).to_word();
    // SAFETY: an aligned word of a live map value.
    unsafe { compare_exchange(&raw mut (*entry).word, running, released) };
}

/// Takes a cached end over into the message: status and reply length. `None` if the slot moved on
/// meanwhile.
#[inline(always)]
pub fn recall(entry: *mut SlotEntry, word: u64, message: &mut NaamMsg, fence: *mut u64) -> Option<(u16, u32)> {
    const { assert!(SLOT_REPLY_BYTES <= REPLY_BYTES) };
    // SAFETY: a live map value. Its fields may change under us: each is read
    // once, and what was read counts only if the word is still the same afterwards.
    let (code, status, reply_len) = unsafe {
        if has(PROGRAM_WEAKLY_ORDERED) {
            fetch_add(fence, 0);
        }
        (
            (&raw const (*entry).code).read_volatile(),
            (&raw const (*entry).status).read_volatile(),
            u32::from((&raw const (*entry).reply_len).read_volatile()),
        )
    };
    message.code = code;
    for i in 0..SLOT_REPLY_BYTES / 8 {
        if i as u32 * 8 >= reply_len {
            break;
        }
        // SAFETY: see above.
        message.reply[i] = unsafe { (&raw const (*entry).reply).cast::<u64>().add(i).read_volatile() };
    }
    // SAFETY: see above.
    let unchanged = unsafe {
        if has(PROGRAM_WEAKLY_ORDERED) {
            fetch_add(fence, 0);
        }
        (&raw const (*entry).word).read_volatile() == word
    };
    unchanged.then_some((status, reply_len))
}
