//! Carried messages, in the programs for Continues: taken in where they were cut elsewhere, and cut here for the client to go on with.
//!
//! What a carried message brings is the client's word, however it came about. Its handler may find a state here that
//! no run of it could have led to, so more is taken from it than from a fresh one: its ops need the session's raw
//! rights as well as those through handlers, and nothing that other messages have left in this scratch is before its
//! eyes, in the arguments, the reply or the view.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use naam_abi::{
    handler::{NaamMsg, NaamView1k, Step},
    limits::{ARGS_BYTES, HOPS_MAX, REPLY_BYTES, STATE_BYTES, STEPS_TOTAL_MAX, VIEW_LARGE},
    tables::{PROGRAM_WRITES, RIGHT_READ},
    wire::{Kind, MESSAGE_BYTES, MESSAGE_CARRIED, OP_BYTES, Status, padded},
};

use naam_shell::{
    frame::Frame,
    opaque::{is_zero, opaque, set},
    visit::Visit,
};

use crate::{
    config::{constant, has},
    run::Running,
    scratch::{BEGUN, Lane},
    slot,
};

/// READ of every region.
const READS: u64 = u64::from_le_bytes([RIGHT_READ; 8]);

/// Whether messages may be carried to the client: what a state tells of memory, the session could have read by itself,
/// and home takes the message back.
#[inline(always)]
fn may_carry(visit: &Visit) -> bool {
    let counts = if has(PROGRAM_WRITES) { u64::MAX } else { READS };
    visit.rights & !visit.carried_rights & counts == 0
}

impl<F: Frame, const CONTINUES: bool> Running<F, CONTINUES> {
    /// Takes in what a carried message brings besides its arguments, which [`begin`](Self::begin) takes in; false if its
    /// lengths lie. `header` is the message's, at `frame_at`.
    #[inline(always)]
    pub fn take_carried(&self, header: *const u8, frame_at: u64, lane: &mut Lane, message: &mut NaamMsg) -> bool {
        // SAFETY: this CPU's scratch and visit.
        let (scratch, visit) = unsafe { (&*self.scratch, &*self.visit) };
        clear_leftovers(message, &raw const scratch.zero);
        // SAFETY: MESSAGE_BYTES bytes were checked.
        let (code, step, steps, reply_len, state_len, reply_max): (u32, u8, u8, u16, u8, u8) = unsafe {
            (
                header.add(4).cast::<u32>().read_unaligned(),
                header.add(16).read(),
                header.add(18).read(),
                header.add(22).cast::<u16>().read_unaligned(),
                header.add(26).read(),
                header.add(27).read(),
            )
        };
        let (reply_len, reply_max) = (u64::from(reply_len), u64::from(reply_max) * 8);
        let (room, state_len) = (u64::from(lane.room), u64::from(state_len) * 8);
        let op_at = padded(message.arg_len as usize) as u64;
        let parts = op_at + OP_BYTES as u64 + state_len + padded(reply_len as usize) as u64;
        if state_len > STATE_BYTES as u64
            || reply_max > REPLY_BYTES as u64
            || reply_len > reply_max
            || parts > room
            || reply_max > room
        {
            return false;
        }
        let at = frame_at + MESSAGE_BYTES as u64 + op_at;
        let state_at = at + OP_BYTES as u64;
        if !self.load::<OP_BYTES>(at, (&raw mut *message).cast(), OP_BYTES as u64)
            || !self.load::<STATE_BYTES>(state_at, message.state.as_mut_ptr().cast(), state_len)
            || !self.load::<REPLY_BYTES>(state_at + state_len, message.reply.as_mut_ptr().cast(), reply_len)
        {
            return false;
        }
        message.op_done = 1;
        message.code = code;
        message.reply_len = reply_len as u32;
        message.reply_max = reply_max as u32;
        set(&mut lane.reply_max, reply_max as u32);
        set(&mut lane.rights, visit.carried_rights);
        set(&mut lane.steps, u32::from(steps));
        set(&mut lane.steps_end, u32::from(steps) + constant!(steps_max));
        set(&mut lane.pending, u32::from(step));
        let op = Step::Read as u8 <= step && step <= Step::Faa as u8;
        let fits = reply_max <= u64::from(constant!(reply_max)) && state_len <= u64::from(constant!(state_len));
        if !op || !fits {
            lane.fail(if op { Status::TooLong } else { Status::BadStep });
        }
        true
    }

    /// Copies `len` bytes, at most `MAX`, of the frame.
    #[inline(always)]
    fn load<const MAX: usize>(&self, at: u64, to: *mut u8, len: u64) -> bool {
        let len = opaque(len);
        if is_zero(len) {
            return true;
        }
        // SAFETY: the callers' places have MAX bytes.
        len <= MAX as u64 && unsafe { self.frame.load(at as u32, to, len as u32) }
    }

    /// Ends the visit of a message whose steps or time are used up: where it can go on at the client it is carried there,
    /// otherwise it ends with BUDGET. `op` is what it waits for.
    #[inline(always)]
    pub fn give_back(&self, op: u32, lane: &mut Lane, message: &NaamMsg) {
        // SAFETY: this CPU's visit.
        let visit = unsafe { &*self.visit };
        let (arg_len, reply_len) = (u64::from(message.arg_len), u64::from(message.reply_len));
        let parts = ((arg_len + 7) & !7) + OP_BYTES as u64 + u64::from(constant!(state_len)) + ((reply_len + 7) & !7);
        // One that came carried and has not begun leaves as it came.
        let op = if op == BEGUN { lane.pending } else { op };
        let carried = lane.effects == 0
            && op != 0
            && lane.steps <= STEPS_TOTAL_MAX
            && lane.hops < u32::from(HOPS_MAX) - 1
            && arg_len <= ARGS_BYTES as u64
            && reply_len <= u64::from(lane.reply_max)
            && parts <= u64::from(lane.room)
            && may_carry(visit);
        if carried {
            set(&mut lane.pending, op);
            lane.end(Status::Ok as u16, MESSAGE_CARRIED, 0);
        } else {
            lane.fail(Status::Budget);
        }
    }

    /// Writes a message that [`give_back`](Self::give_back) has found fit into the datagram, with its slot free for whoever
    /// comes back with it.
    #[inline(always)]
    pub fn push_back(&self, lane: &mut Lane, message: &NaamMsg) {
        // SAFETY: this CPU's scratch and visit, the app's counters on this CPU.
        let (scratch, visit, stats) = unsafe { (&mut *self.scratch, &*self.visit, &mut *self.stats) };
        if has(PROGRAM_WRITES) && lane.claimed != 0 {
            slot::release(visit.session, lane.slot, lane.sequence);
        }
        set(&mut scratch.kind, Kind::Pushback as u32);
        stats.pushbacks += 1;
        let frame_at = u64::from(visit.datagram) + u64::from(lane.at);
        let Some(header) = self.frame.bytes(frame_at, MESSAGE_BYTES) else { return };
        let state_len = u64::from(constant!(state_len));
        // SAFETY: MESSAGE_BYTES bytes were checked.
        unsafe {
            header.add(4).cast::<u32>().write_unaligned(message.code);
            header.add(14).cast::<u16>().write_unaligned(Status::Ok as u16);
            header.add(16).write(lane.pending as u8);
            header.add(17).write(MESSAGE_CARRIED);
            header.add(18).write(lane.steps as u8);
            header.add(19).write(lane.hops as u8 + 1);
            header.add(20).cast::<u16>().write_unaligned(message.arg_len as u16);
            header.add(22).cast::<u16>().write_unaligned(message.reply_len as u16);
            header.add(26).write((state_len / 8) as u8);
            header.add(27).write((lane.reply_max / 8) as u8);
        }
        let at = frame_at + MESSAGE_BYTES as u64;
        let op_at = at + ((u64::from(message.arg_len) + 7) & !7);
        let state_at = op_at + OP_BYTES as u64;
        self.put::<ARGS_BYTES>(at, message.args.as_ptr(), message.arg_len);
        self.put::<OP_BYTES>(op_at, (&raw const *message).cast(), OP_BYTES as u32);
        self.put::<STATE_BYTES>(state_at, message.state.as_ptr(), state_len as u32);
        self.put::<REPLY_BYTES>(state_at + state_len, message.reply.as_ptr(), message.reply_len);
    }

    /// Copies `len` bytes, at most `MAX`, and what pads them to whole words, into the frame.
    #[inline(always)]
    fn put<const MAX: usize>(&self, at: u64, from: *const u64, len: u32) {
        let len = opaque((u64::from(len) + 7) & !7);
        if is_zero(len) || len > MAX as u64 {
            return;
        }
        // SAFETY: the callers' places have MAX bytes, whole words.
        unsafe { self.frame.store(at as u32, from.cast(), len as u32) };
    }
}

/// Clears what earlier messages may have left where a carried message's handler can see it: all of the arguments and the
/// reply.
#[inline(always)]
fn clear_leftovers(message: &mut NaamMsg, zero: *const NaamView1k) {
    const { assert!(VIEW_LARGE >= REPLY_BYTES && 2 * VIEW_LARGE >= ARGS_BYTES) };
    const REST: usize = ARGS_BYTES - VIEW_LARGE;
    // SAFETY: the places and the zero page are as long as the copies.
    unsafe {
        bpf_probe_read_kernel(message.args.as_mut_ptr().cast(), VIEW_LARGE as u32, zero.cast());
        bpf_probe_read_kernel(message.args.as_mut_ptr().add(VIEW_LARGE / 8).cast(), REST as u32, zero.cast());
        bpf_probe_read_kernel(message.reply.as_mut_ptr().cast(), REPLY_BYTES as u32, zero.cast());
    }
}

/// Clears the view of the handler call at hand before a carried message's READ: the READ may be shorter than the handler
/// takes it for.
#[inline(always)]
pub fn clear_view(view: *mut NaamView1k, zero: *const NaamView1k) {
    // SAFETY: both have VIEW_LARGE bytes.
    unsafe { bpf_probe_read_kernel(view.cast(), VIEW_LARGE as u32, zero.cast()) };
}
