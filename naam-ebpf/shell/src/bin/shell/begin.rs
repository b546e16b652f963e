//! Begin: a message is checked and taken in, before any message has an effect.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use naam_abi::{
    handler::{NaamMsg, NaamView1k},
    limits::{ARGS_BYTES, HOPS_MAX, REPLY_BYTES, VIEW_LARGE},
    tables::PROGRAM_WRITES,
    wire::{MESSAGE_BYTES, MESSAGE_CARRIED, MESSAGE_SERVED, Status},
};

use naam_shell::{
    frame::Frame,
    opaque::{is_zero, opaque, set},
};

use crate::{
    config::{constant, has},
    run::Running,
    scratch::{BEGUN, at},
};

impl<F: Frame, const CONTINUES: bool> Running<F, CONTINUES> {
    /// Checks message `index` and takes it in; false if its lengths lie. Nothing has run yet then.
    #[inline(always)]
    pub fn begin(&mut self, index: u64) -> bool {
        // SAFETY: this CPU's scratch and visit.
        let (scratch, visit) = unsafe { (&mut *self.scratch, &*self.visit) };
        let start = scratch.at;
        let frame_at = u64::from(visit.datagram) + u64::from(start);
        let Some(header) = self.frame.bytes(frame_at, MESSAGE_BYTES) else { return false };
        // SAFETY: MESSAGE_BYTES bytes were checked.
        let (sequence, slot, flags, hops, arg_len, room): (u32, u16, u8, u8, u16, u16) = unsafe {
            (
                header.add(8).cast::<u32>().read_unaligned(),
                header.add(12).cast::<u16>().read_unaligned(),
                header.add(17).read(),
                header.add(19).read(),
                header.add(20).cast::<u16>().read_unaligned(),
                header.add(24).cast::<u16>().read_unaligned(),
            )
        };
        let (arg_len, room) = (u32::from(arg_len), u32::from(room));
        let next = start + MESSAGE_BYTES as u32 + room;
        let allowed = if CONTINUES { MESSAGE_CARRIED } else { 0 };
        if !room.is_multiple_of(8)
            || arg_len > room
            || arg_len > ARGS_BYTES as u32
            || flags & !allowed != 0
            || next > visit.length
        {
            return false;
        }
        scratch.at = next;
        let most = constant!(reply_max);
        let mut reply_max = if room < most { room } else { most };
        if CONTINUES {
            // The room is for what a carried message takes; how long a reply the caller allows is said apart.
            // SAFETY: MESSAGE_BYTES bytes were checked.
            let said = u32::from(unsafe { header.add(27).read() }) * 8;
            if said != 0 && said < reply_max {
                reply_max = said;
            }
        }
        let (lane, message) = at(self.scratch, index);
        // Without a branch: one more way through here multiplies what the verifier walks through.
        let tired = opaque(u64::from(HOPS_MAX - 1).wrapping_sub(u64::from(hops))) >> 63;
        set(&mut lane.op, BEGUN + tired as u32);
        set(&mut lane.end, Status::Hops as u32 | u32::from(MESSAGE_SERVED) << 16);
        set(&mut lane.reply_len, 0);
        set(&mut lane.steps, 0);
        if CONTINUES {
            set(&mut lane.steps_end, constant!(steps_max));
            set(&mut lane.pending, 0);
            set(&mut lane.hops, u32::from(hops));
            set(&mut lane.rights, visit.rights);
        }
        set(&mut lane.at, start);
        set(&mut lane.room, room);
        set(&mut lane.reply_max, reply_max);
        if has(PROGRAM_WRITES) {
            set(&mut lane.slot, u32::from(slot));
            set(&mut lane.sequence, sequence);
            set(&mut lane.claimed, 0);
        }
        set(&mut lane.effects, 0);
        clear(message, reply_max, &raw const scratch.zero);
        message.arg_len = arg_len;
        message.reply_max = reply_max;
        message.shard = visit.shard;
        if CONTINUES && flags != 0 && !self.take_carried(header, frame_at, lane, message) {
            return false;
        }
        self.take_arguments(frame_at + MESSAGE_BYTES as u64, arg_len, message)
    }

    /// Copies the arguments: word by word while that is quicker than the helper.
    #[inline(always)]
    fn take_arguments(&self, frame_at: u64, len: u32, message: &mut NaamMsg) -> bool {
        const QUICK: u32 = 64;
        if len == 0 {
            return true;
        }
        if len <= QUICK {
            let words = self.frame.words(frame_at);
            for i in 0..QUICK as usize / 8 {
                if i as u32 * 8 >= len {
                    break;
                }
                let Some(word) = words.word(i) else { return false };
                // SAFETY: the frame has the word.
                message.args[i] = unsafe { word.read_unaligned() };
            }
            return true;
        }
        // What may travel on is taken in by whole words, as the room has them: behind the arguments nothing of another
        // session's is left that would travel as their padding. By shifts: a mask would leave the verifier a range that ends
        // behind ARGS_BYTES, and the branch below that cannot be taken (kernel-notes/verifier-invariants.md).
        let len = opaque(if CONTINUES { opaque(u64::from(len + 7) / 8) * 8 } else { u64::from(len) });
        if is_zero(len) || len > ARGS_BYTES as u64 {
            return false;
        }
        // SAFETY: `args` has ARGS_BYTES bytes.
        unsafe { self.frame.load(frame_at as u32, message.args.as_mut_ptr().cast(), len as u32) }
    }
}

/// Clears what a handler may read without having written: ops, state, and the reply up to its
/// longest. What lies in `args` behind the arguments stays: it was this app's already.
#[inline(always)]
fn clear(message: &mut NaamMsg, reply_max: u32, zero: *const NaamView1k) {
    const { assert!(VIEW_LARGE >= REPLY_BYTES) };
    const QUICK: u32 = 64;
    let head: *mut u64 = (&raw mut *message).cast();
    for i in 0..core::mem::offset_of!(NaamMsg, args) / 8 {
        // SAFETY: everything before `args` is plain words.
        unsafe { head.add(i).write_volatile(0) };
    }
    if reply_max <= QUICK {
        for i in 0..QUICK as usize / 8 {
            // SAFETY: `reply` is longer than QUICK bytes.
            unsafe { message.reply.as_mut_ptr().add(i).write_volatile(0) };
        }
        return;
    }
    let len = opaque(u64::from(reply_max));
    if len > REPLY_BYTES as u64 {
        return;
    }
    // SAFETY: `reply` and the zero page have REPLY_BYTES bytes.
    unsafe { bpf_probe_read_kernel(message.reply.as_mut_ptr().cast(), len as u32, zero.cast()) };
}
