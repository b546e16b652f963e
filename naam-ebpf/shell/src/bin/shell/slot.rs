//! Request slots: a writing message runs exactly once, however often it arrives.

use naam_abi::{
    handler::NaamMsg,
    limits::{REPLY_BYTES, SESSIONS_MAX, SLOT_REPLY_BYTES, SLOTS_MAX},
    tables::{SlotEntry, SlotPhase, SlotWord},
    wire::Status,
};

use naam_shell::opaque::compare_exchange;

use crate::maps::SLOTS;

/// What a slot says to a message.
pub enum Claim {
    /// It is this CPU's to run.
    Run,
    /// It has run; here is its end.
    Duplicate(&'static SlotEntry),
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
    if seen.phase != SlotPhase::Idle as u8 && seen.generation == mine.generation {
        let ahead = sequence.wrapping_sub(seen.sequence) as i32;
        if ahead < 0 {
            return Claim::Refused(Status::Stale);
        }
        if seen.phase == SlotPhase::Running as u8 {
            return Claim::Refused(Status::Running);
        }
        if ahead == 0 {
            // SAFETY: a slot that is Done under our own sequence changes only when the client
            // itself moves on to the next.
            return Claim::Duplicate(unsafe { &*entry });
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

/// Takes the cached reply over into the message.
#[inline(always)]
pub fn recall(entry: &SlotEntry, message: &mut NaamMsg) {
    const { assert!(SLOT_REPLY_BYTES <= REPLY_BYTES) };
    message.code = entry.code;
    for i in 0..SLOT_REPLY_BYTES / 8 {
        if i as u32 * 8 >= u32::from(entry.reply_len) {
            break;
        }
        message.reply[i] = entry.reply[i];
    }
}
