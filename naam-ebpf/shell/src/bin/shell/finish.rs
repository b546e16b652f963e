//! Finish: a message's end is written into its datagram.

use naam_abi::{
    handler::NaamMsg,
    limits::{REPLY_BYTES, STEPS_TOTAL_MAX},
    tables::{PROGRAM_REPEATABLE, PROGRAM_WRITES},
    wire::{MESSAGE_BYTES, MESSAGE_CARRIED, MESSAGE_DUPLICATE, Status},
};

use naam_shell::{count, frame::Frame, opaque::opaque};

use crate::{
    config::has,
    run::Running,
    scratch::{Lane, SERVED},
    slot,
};

impl<F: Frame, const CONTINUES: bool> Running<F, CONTINUES> {
    /// Writes the message's end into the datagram.
    #[inline(always)]
    pub fn finish(&mut self, lane: &mut Lane, message: &mut NaamMsg) {
        // SAFETY: this CPU's scratch and visit, the app's counters on this CPU.
        let (scratch, visit, stats) = unsafe { (&mut *self.scratch, &*self.visit, &mut *self.stats) };
        lane.op = SERVED;
        scratch.active = scratch.active.wrapping_sub(1);
        // SAFETY: the lane's fields; volatile, because they went through memory on purpose.
        let (end, reply_len) =
            unsafe { ((&raw const lane.end).read_volatile(), (&raw const lane.reply_len).read_volatile()) };
        let (status, flags) = (end as u16, (end >> 16) as u8);
        if CONTINUES && flags & MESSAGE_CARRIED != 0 {
            self.push_back(lane, message);
            return;
        }
        if has(PROGRAM_WRITES) && lane.claimed != 0 {
            if status == Status::Budget as u16 && lane.effects == 0 {
                slot::release(visit.session, lane.slot, lane.sequence);
            } else {
                slot::complete(visit.session, lane.slot, lane.sequence, status, message, reply_len);
            }
        }
        let reply_len = if reply_len > lane.room { 0 } else { reply_len };
        if has(PROGRAM_WRITES) {
            stats.duplicates += u64::from(flags & MESSAGE_DUPLICATE != 0);
        }
        count::status(stats, status);
        let frame_at = u64::from(visit.datagram) + u64::from(lane.at);
        let Some(header) = self.frame.bytes(frame_at, MESSAGE_BYTES) else { return };
        // SAFETY: MESSAGE_BYTES bytes were checked.
        unsafe {
            header.add(4).cast::<u32>().write_unaligned(message.code);
            header.add(14).cast::<u16>().write_unaligned(status);
            header.add(17).write(if has(PROGRAM_REPEATABLE) { 0 } else { flags });
            let more = CONTINUES && lane.steps > STEPS_TOTAL_MAX;
            header.add(18).write(if more { STEPS_TOTAL_MAX as u8 } else { lane.steps as u8 });
            // One site more; the benches' repetition would use the hops up.
            if !has(PROGRAM_REPEATABLE) {
                header.add(19).write(header.add(19).read().saturating_add(1));
            }
            header.add(22).cast::<u16>().write_unaligned(reply_len as u16);
        }
        let mut reply_at = frame_at + MESSAGE_BYTES as u64;
        if has(PROGRAM_REPEATABLE) {
            // The next run needs the arguments.
            reply_at += u64::from(message.arg_len.next_multiple_of(8) & 0x7f8);
        }
        self.give_reply(reply_at, reply_len, message);
    }

    /// Copies the reply: word by word while that is quicker than the helper. The last word may hold
    /// bytes behind the reply: zeros, or what the handler put there.
    #[inline(always)]
    fn give_reply(&self, frame_at: u64, len: u32, message: &NaamMsg) {
        const QUICK: u32 = 64;
        if len <= QUICK {
            let words = self.frame.words(frame_at);
            for i in 0..QUICK as usize / 8 {
                if i as u32 * 8 >= len {
                    break;
                }
                let Some(word) = words.word(i) else { return };
                // SAFETY: the frame has the word; rooms are whole words.
                unsafe { word.write_unaligned(message.reply[i]) };
            }
            return;
        }
        let len = opaque(u64::from(len));
        if len == 0 || len > REPLY_BYTES as u64 {
            return;
        }
        // SAFETY: `reply` has REPLY_BYTES bytes.
        unsafe { self.frame.store(frame_at as u32, message.reply.as_ptr().cast(), len as u32) };
    }
}
